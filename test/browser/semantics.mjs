/** What the browser's backend promises, observed in the page; browser.test.ts states what must come out. */

const port = (name, shape, dtype = 'float32') => ({ name, shape, dtype });

/** Values that survive JSON. */
const plain = (arrays) => arrays.map((array) => [array.constructor.name, ...array]);

async function messageOf(body) {
  try {
    await body();
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
  return 'nothing was thrown';
}

/** A spec of a graph whose constants are scalars. */
function specOf(
  encodeModel,
  label,
  nodes,
  { inputs = [], outputs = [], slots = [], constants = {}, weights = [] },
) {
  const initializers = Object.entries(constants).map(([name, value]) => ({
    name,
    dtype: 'float32',
    dims: [],
    raw: new Uint8Array(Float32Array.of(value).buffer),
  }));
  for (const { name, slot } of weights) {
    const raw = { location: name, length: slot.data.byteLength };
    initializers.push({ name, dtype: slot.dtype, dims: slot.shape, raw });
  }
  const type = (name, { shape, dtype }) => port(name, shape, dtype);
  const read = slots.filter((s) => s.input).map((s) => type(s.input, s.slot));
  const assigned = slots.filter((s) => s.output).map((s) => type(s.output, s.slot));
  const graph = {
    name: 'test',
    nodes: nodes.map(([op, inputs, out, attributes = {}]) => ({
      op,
      name: out,
      inputs,
      outputs: [out],
      attributes,
    })),
    inputs: [...inputs, ...read],
    outputs: [...outputs, ...assigned],
    initializers,
  };
  const model = encodeModel({ irVersion: 10, opsets: { '': 21 }, graph });
  return { label, model, inputs, outputs, slots, weights };
}

const slotOf = (data, shape) => ({ dtype: 'float32', shape, data, spare: undefined });

/** Results of an identity program for each storage type and for the odd shapes. */
async function storage(backend, encodeModel) {
  const cases = [
    ['float32', Float32Array.of(1.5, -2), [2]],
    ['float32', Float32Array.of(7), []],
    ['float32', new Float32Array(0), [0, 3]],
    ['int32', Int32Array.of(-5, 6), [1, 2]],
    ['bool', Uint8Array.of(1, 0, 1), [3]],
    ['float16', Uint16Array.of(0x3c00, 0xc000), [2]],
    ['float64', Float64Array.of(0.1, 0.2), [2]],
  ];
  const results = [];
  for (const [dtype, data, shape] of cases) {
    const io = { inputs: [port('x', shape, dtype)], outputs: [port('y', shape, dtype)] };
    const program = await backend.compile(
      specOf(encodeModel, `copy ${dtype}`, [['Identity', ['x'], 'y']], io),
    );
    const [y] = await program.run([data]);
    results.push({ sent: plain([data])[0], got: plain([y])[0], isFresh: y.buffer !== data.buffer });
    program.release();
  }
  return results;
}

/** x + w - k with weights whose bytes lie outside the model. */
async function outside(backend, encodeModel) {
  const nodes = [
    ['Add', ['x', 'weight.0.w'], 's'],
    ['Sub', ['s', 'weight.1.k'], 'y'],
  ];
  const weights = [
    { name: 'weight.0.w', slot: slotOf(Float32Array.of(10, 20), [2]) },
    { name: 'weight.1.k', slot: slotOf(Float32Array.of(0.5), []) },
  ];
  const io = { inputs: [port('x', [2])], outputs: [port('y', [2])], weights };
  const program = await backend.compile(specOf(encodeModel, 'outside', nodes, io));
  const [y] = await program.run([Float32Array.of(1, 2)]);
  program.release();
  return [...y];
}

/** Two programs on one variable, started together: w <- 2 w and w <- w + x. They do not commute. */
async function order(backend, encodeModel) {
  const slot = slotOf(Float32Array.of(1, 2), [2]);
  const first = slot.data;
  const binding = { slot, input: 'w', output: 'next' };
  const double = await backend.compile(
    specOf(encodeModel, 'double', [['Mul', ['w', 'k'], 'next']], {
      slots: [{ ...binding, inPlace: true }],
      constants: { k: 2 },
    }),
  );
  const add = await backend.compile(
    specOf(encodeModel, 'add', [['Add', ['w', 'x'], 'next']], {
      inputs: [port('x', [2])],
      slots: [{ ...binding, inPlace: false }],
    }),
  );
  const x = Float32Array.of(1, 1);
  await double.run([]);
  const isInPlace = slot.data === first;
  for (const program of [add, double, double, add]) program.run(program === add ? [x] : []);
  await backend.idle();
  return { isInPlace, value: [...slot.data] };
}

/**
 * w <- w + x, after x was given a length at run time: one that differs from x's fails on every device.
 * (An index out of bounds would not do: on WebGPU it is no error.)
 */
async function failure(backend, encodeModel) {
  const slot = slotOf(Float32Array.of(1, 2), [2]);
  const io = {
    inputs: [port('x', [2]), port('length', [1], 'int32')],
    slots: [{ slot, input: 'w', output: 'next', inPlace: false }],
  };
  const nodes = [
    ['Cast', ['length'], 'shape', { to: { kind: 'int', value: 7 } }],
    ['Reshape', ['x', 'shape'], 'y'],
    ['Add', ['w', 'y'], 'next'],
  ];
  const add = await backend.compile(specOf(encodeModel, 'reshape', nodes, io));
  const feeds = (length) => [Float32Array.of(1, 1), Int32Array.of(length)];
  const wrong = await messageOf(() => add.run(feeds(3)));
  const after = [...slot.data];
  const short = await messageOf(() => add.run([Float32Array.of(1), Int32Array.of(2)]));
  await add.run(feeds(2));
  const sync = await messageOf(() => add.runSync(feeds(2)));
  const profile = await messageOf(() => add.profile(feeds(2), 1));
  const pending = add.run(feeds(2));
  add.release();
  add.release();
  const released = await messageOf(() => add.run(feeds(2)));
  await pending;
  const unknown = [['NoSuchOperator', ['x'], 'y']];
  const invalid = await messageOf(() =>
    backend.compile(
      specOf(encodeModel, 'nonsense', unknown, { inputs: [port('x', [1])], outputs: [port('y', [1])] }),
    ),
  );
  return { wrong, after, short, sync, profile, released, invalid, value: [...slot.data] };
}

/**
 * @param {(runtime: string, options?: object) => Promise<import('../../src/runtime/backend.js').Backend>} createWebBackend
 * @param {typeof import('../../src/onnx/model.js').encodeModel} encodeModel
 * @param {'wasm' | 'webgpu'} runtime
 */
export async function observe(createWebBackend, encodeModel, runtime) {
  const backend = await createWebBackend(runtime, { threads: 2 });
  const result = {
    device: backend.device,
    storage: await storage(backend, encodeModel),
    outside: await outside(backend, encodeModel),
    order: await order(backend, encodeModel),
    failure: await failure(backend, encodeModel),
    otherThreads: await messageOf(() => createWebBackend(runtime, { threads: 1 })),
  };
  await backend.idle();
  return { ...result, stats: backend.stats() };
}
