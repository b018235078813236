import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import {
  AnnealError,
  adamW,
  add,
  bool,
  cast,
  concat,
  crossEntropy,
  float64,
  gather,
  identity,
  int32,
  log,
  matmul,
  mul,
  type Optimizer,
  program,
  Rng,
  randn,
  runtimeStats,
  sgd,
  sub,
  sum,
  type Tensor,
  tensor,
  type Variable,
  variable,
  zeros,
} from '../../src/index.js';

const floats = (...values: number[]): Float32Array => Float32Array.from(values);
const ramp = (length: number): Float32Array => Float32Array.from({ length }, (_, i) => i + 1);
const named = (name: string, values: readonly number[], shape: readonly number[] = [values.length]) =>
  variable(tensor(Float32Array.from(values), shape), { name });

/** The error that a promise rejects with. */
const rejection = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => Promise.reject(new Error('the promise did not reject')),
    (error: Error) => error,
  );

describe('variables', () => {
  it('are shared by programs', async () => {
    const w = named('w', [1, 2]);
    const grow = program({ x: [2] }, ({ x }) => {
      w.assign(w.add(x));
      return {};
    });
    const twice = program({}, () => ({ y: w.mul(2) }));
    await grow({ x: floats(10, 20) });
    expect((await twice({})).y.toArray()).toEqual([22, 44]);
    await grow({ x: floats(1, 1) });
    expect((await twice({})).y.toArray()).toEqual([24, 46]);
    w.set([0, -1]);
    expect((await twice({})).y.toArray()).toEqual([0, -2]);
    expect(twice.runSync({}).y.toArray()).toEqual([0, -2]);
  });

  it('are read as copies', async () => {
    const w = named('w', [1]);
    const before = w.read();
    await program({}, () => {
      w.assign(w.add(1));
      return {};
    })({});
    expect([before, w.read()]).toEqual([floats(1), floats(2)]);
    expect(() => w.set([1, 2])).toThrow('set: w has 1 elements, the new value 2');
  });

  it('start with any value that constants and variables determine', () => {
    const w = named('w', [1, 2]);
    expect(variable(w.mul(3).add(tensor([1, 1]))).read()).toEqual(floats(4, 7));
    expect(variable(zeros([2, 2])).read()).toEqual(floats(0, 0, 0, 0));
    // Integers divide as they do at run time.
    expect(variable(tensor(Int32Array.of(5, -5)).div(2).mul(2)).read()).toEqual(Int32Array.of(4, -4));
  });

  it('refuse assignments outside of a trace, twice, and of another type', async () => {
    const w = named('w', [1, 2]);
    expect(() => w.assign(w)).toThrow('w can be assigned only while a program is traced; use set()');
    const twice = program({}, () => {
      w.assign(w.add(1));
      w.assign(w.add(2));
      return {};
    });
    await expect(twice.compile({})).rejects.toThrow('assign: w is assigned twice in one program');
    const wrong = program({}, () => {
      w.assign(tensor([[1, 2]]));
      return {};
    });
    await expect(wrong.compile({})).rejects.toThrow('assign: w is float32[2], its new value float32[1,2]');
    expect(w.read()).toEqual(floats(1, 2));
  });
});

/** Small programs over variables a and b of [4, 6] with hand-written models of what they mean. */
interface Semantics {
  body: (a: Variable, b: Variable) => Record<string, Tensor>;
  /** From the old values: the new a and b and the outputs. */
  model: (a: number[], b: number[]) => { a: number[]; b: number[]; outputs?: Record<string, number[]> };
  /** Whether a's new value is written over its old one; undefined: it may or may not. */
  inPlace?: boolean;
}

const [rows, columns] = [4, 6];
const zip = (x: number[], y: number[], f: (x: number, y: number) => number) => x.map((v, i) => f(v, y[i]!));
const plus = (x: number[], y: number[]) => zip(x, y, (p, q) => p + q);
const scale = (x: number[], factor: number) => x.map((v) => v * factor);
/** x as [m, n], transposed. */
const turn = (x: number[], m: number, n: number) => x.map((_, i) => x[(i % m) * n + Math.floor(i / m)]!);
const times = (x: number[], y: number[], m: number, k: number, n: number) =>
  Array.from({ length: m * n }, (_, i) => {
    let total = 0;
    for (let l = 0; l < k; l++) total += x[Math.floor(i / n) * k + l]! * y[l * n + (i % n)]!;
    return total;
  });
const square = Array.from({ length: columns * columns }, (_, i) => ((i * 7) % 11) / 8 - 0.5);
const constantSquare = () => tensor(Float32Array.from(square), [columns, columns]);

const semantics: Record<string, Semantics> = {
  'a ← a + b': {
    body: (a, b) => {
      a.assign(a.add(b));
      return {};
    },
    model: (a, b) => ({ a: plus(a, b), b }),
    inPlace: true,
  },
  'a ← a + b, and a returned': {
    body: (a, b) => {
      a.assign(a.add(b));
      return { old: a };
    },
    model: (a, b) => ({ a: plus(a, b), b, outputs: { old: a } }),
    inPlace: false,
  },
  'a ← a + b, and 2a returned': {
    body: (a, b) => {
      a.assign(a.add(b));
      return { double: a.mul(2) };
    },
    model: (a, b) => ({ a: plus(a, b), b, outputs: { double: scale(a, 2) } }),
    inPlace: false,
  },
  'a ← a + b, and the new value returned': {
    body: (a, b) => {
      const next = a.add(b);
      a.assign(next);
      return { next };
    },
    model: (a, b) => ({ a: plus(a, b), b, outputs: { next: plus(a, b) } }),
  },
  'a ← 2a + b - a': {
    body: (a, b) => {
      a.assign(a.mul(2).add(b).sub(a));
      return {};
    },
    model: (a, b) => ({ a: plus(a, b), b }),
    inPlace: true,
  },
  swap: {
    body: (a, b) => {
      a.assign(b);
      b.assign(a);
      return {};
    },
    model: (a, b) => ({ a: b, b: a }),
    inPlace: false,
  },
  'swap with arithmetic': {
    body: (a, b) => {
      a.assign(b.add(1));
      b.assign(a.mul(2));
      return {};
    },
    model: (a, b) => ({ a: b.map((v) => v + 1), b: scale(a, 2) }),
  },
  'Fibonacci: a ← b, b ← a + b': {
    body: (a, b) => {
      a.assign(b);
      b.assign(a.add(b));
      return {};
    },
    model: (a, b) => ({ a: b, b: plus(a, b) }),
  },
  'a ← a + b, b ← a - b': {
    body: (a, b) => {
      a.assign(a.add(b));
      b.assign(a.sub(b));
      return {};
    },
    model: (a, b) => ({ a: plus(a, b), b: zip(a, b, (x, y) => x - y) }),
  },
  'b ← a + b read through the new a': {
    body: (a, b) => {
      const next = a.add(b);
      a.assign(next);
      b.assign(next.mul(b));
      return {};
    },
    model: (a, b) => ({ a: plus(a, b), b: zip(plus(a, b), b, (x, y) => x * y) }),
  },
  'one value for both': {
    body: (a, b) => {
      const next = a.add(b);
      a.assign(next);
      b.assign(next);
      return { next };
    },
    model: (a, b) => ({ a: plus(a, b), b: plus(a, b), outputs: { next: plus(a, b) } }),
    inPlace: false,
  },
  'a ← a': {
    body: (a) => {
      a.assign(a);
      return {};
    },
    model: (a, b) => ({ a, b }),
    inPlace: false,
  },
  'a ← constant': {
    body: (a) => {
      a.assign(zeros([rows, columns]).add(3));
      return { old: a };
    },
    model: (a, b) => ({ a: a.map(() => 3), b, outputs: { old: a } }),
    inPlace: false,
  },
  'a ← identity of identity of b': {
    body: (a, b) => {
      a.assign(identity(identity(b)));
      return {};
    },
    model: (_, b) => ({ a: b, b }),
  },
  'a reshaped is returned': {
    body: (a, b) => {
      a.assign(a.add(b));
      return { flat: a.reshape([rows * columns]) };
    },
    model: (a, b) => ({ a: plus(a, b), b, outputs: { flat: a } }),
    inPlace: false,
  },
  'a transposed is returned': {
    body: (a, b) => {
      a.assign(a.add(b));
      return { turned: a.transpose() };
    },
    model: (a, b) => ({ a: plus(a, b), b, outputs: { turned: turn(a, rows, columns) } }),
    inPlace: false,
  },
  'a view of a view of a is read after': {
    body: (a, b) => {
      const view = a.reshape([columns, rows]).reshape([2, 12]).transpose();
      a.assign(a.sub(b));
      return { y: view.mul(3).exp().log() };
    },
    model: (a, b) => ({
      a: zip(a, b, (x, y) => x - y),
      b,
      outputs: { y: scale(turn(a, 2, 12), 3) },
    }),
    inPlace: false,
  },
  'a ← a + b with b a view of a': {
    body: (a, b) => {
      a.assign(a.add(a.reshape([columns, rows]).transpose()));
      return { b };
    },
    model: (a, b) => ({ a: plus(a, turn(a, columns, rows)), b, outputs: { b } }),
  },
  'a ← a · its column sums': {
    body: (a) => {
      a.assign(a.mul(a.sum(0)));
      return {};
    },
    model: (a, b) => {
      const sums = a
        .slice(0, columns)
        .map((_, j) => a.reduce((s, v, i) => (i % columns === j ? s + v : s), 0));
      return { a: a.map((v, i) => v * sums[i % columns]!), b };
    },
    inPlace: true,
  },
  'a ← b·S + a': {
    body: (a, b) => {
      a.assign(b.matmul(constantSquare()).add(a));
      return {};
    },
    model: (a, b) => ({ a: plus(times(b, square, rows, columns, columns), a), b }),
    inPlace: true,
  },
  'a ← a·S + a': {
    body: (a) => {
      a.assign(a.matmul(constantSquare()).add(a));
      return {};
    },
    model: (a, b) => ({ a: plus(times(a, square, rows, columns, columns), a), b }),
    inPlace: false,
  },
  'a ← (reshaped a)ᵀ·S + a': {
    body: (a) => {
      a.assign(a.reshape([columns, rows]).transpose().matmul(constantSquare()).add(a));
      return {};
    },
    model: (a, b) => ({ a: plus(times(turn(a, columns, rows), square, rows, columns, columns), a), b }),
    inPlace: false,
  },
  'momentum: b ← b/2 + a, a ← a - b': {
    body: (a, b) => {
      const next = b.mul(0.5).add(a);
      b.assign(next);
      a.assign(a.sub(next));
      return { norm: sum(mul(next, next)) };
    },
    model: (a, b) => {
      const next = plus(scale(b, 0.5), a);
      return {
        a: zip(a, next, (x, y) => x - y),
        b: next,
        outputs: { norm: [next.reduce((s, v) => s + v * v, 0)] },
      };
    },
  },
};

describe('assignments: reads see the values from before the run', () => {
  it.each(Object.keys(semantics))('%s', async (name) => {
    const { body, model, inPlace } = semantics[name]!;
    const start = (offset: number) =>
      Array.from({ length: rows * columns }, (_, i) => ((i * 5 + offset) % 13) / 8 - 0.5);
    let [a, b] = [start(1), start(4)];
    const [va, vb] = [named('a', a, [rows, columns]), named('b', b, [rows, columns])];
    const { data } = va;
    const run = program({}, () => body(va, vb), { name });
    const close = (got: ArrayLike<number>, want: number[], what: string) => {
      expect(got.length, what).toBe(want.length);
      const largest = Math.max(1, ...want.map(Math.abs));
      want.forEach((v, i) => {
        expect(Math.abs(got[i]! - v), `${what}[${i}]: ${got[i]} against ${v}`).toBeLessThan(4e-6 * largest);
      });
    };
    // Asynchronous and synchronous runs in turn; three, so that swapped buffers come round.
    for (let i = 0; i < 3; i++) {
      const want = model(a, b);
      const got: Record<string, { data: ArrayLike<number> }> = i === 1 ? run.runSync({}) : await run({});
      if (i === 0 && inPlace !== undefined) expect(va.data === data, 'written in place').toBe(inPlace);
      expect(Object.keys(got)).toEqual(Object.keys(want.outputs ?? {}));
      for (const [key, values] of Object.entries(want.outputs ?? {})) close(got[key]!.data, values, key);
      [a, b] = [want.a, want.b];
      close(va.read(), a, 'a');
      close(vb.read(), b, 'b');
    }
    run.dispose();
  });

  it('keeps the result of an earlier run as it was', async () => {
    const w = named('w', [1, 2]);
    const run = program({}, () => {
      const next = w.add(1);
      w.assign(next);
      return { w, next };
    });
    const first = await run({});
    await run({});
    expect([first.w.toArray(), first.next.toArray()]).toEqual([
      [1, 2],
      [2, 3],
    ]);
  });

  it('copies what is fed', async () => {
    const w = named('w', [0, 0]);
    const run = program({ x: [2] }, ({ x }) => {
      w.assign(x);
      return { x };
    });
    const feed = floats(1, 2);
    const { x } = await run({ x: feed });
    feed.fill(9);
    expect([w.read(), x.data]).toEqual([floats(1, 2), floats(1, 2)]);
  });
});

describe('micro-batches', () => {
  const x = new Rng(1).normal(12 * 4);
  const y = Int32Array.from({ length: 12 }, (_, i) => (i * 7) % 3);

  async function train(make: () => Optimizer, microBatches: number) {
    const rng = new Rng(2);
    const w = variable(randn([4, 8], { rng }), { name: 'w' });
    const bias = variable(randn([8], { rng }), { name: 'bias' });
    const head = variable(randn([8, 3], { rng }), { name: 'head' });
    const optimizer = make();
    const step = program(
      { x: [null, 4], y: int32([null]) },
      (inputs) => {
        const h = add(matmul(inputs.x, w), bias).tanh();
        const loss = crossEntropy(matmul(h, head), inputs.y);
        const { gradNorm, rate } = optimizer.minimize(loss, [w, bias, head]);
        return { loss, gradNorm, rate };
      },
      { microBatches },
    );
    const losses: number[] = [];
    for (let i = 0; i < 4; i++) {
      const { loss, gradNorm, rate } = await step({ x, y });
      losses.push(loss.item(), gradNorm.item(), rate.item());
    }
    const text = step.text();
    step.dispose();
    return { losses, weights: [w, bias, head].flatMap((v) => [...v.read()]), text };
  }

  it.each<[string, number, () => Optimizer]>([
    ['SGD', 1e-6, () => sgd(0.5)],
    // Adam divides by the size of the gradient, so that it enlarges the rounding of small ones; a larger
    // epsilon bounds that, and the weights of size 1 still differ by some units of the last place.
    ['AdamW with clipped gradients', 4e-6, () => adamW({ lr: 0.05, clipNorm: 0.3, epsilon: 1e-4 })],
  ])('of any number give the same losses and weights with %s', async (_, bound, make) => {
    const whole = await train(make, 1);
    expect(whole.losses[9]).toBeLessThan(whole.losses[0]!);
    for (const parts of [2, 3, 6]) {
      const { losses, weights } = await train(make, parts);
      losses.forEach((v, i) => {
        expect(Math.abs(v - whole.losses[i]!), `${parts} parts, result ${i}`).toBeLessThan(bound);
      });
      weights.forEach((v, i) => {
        expect(Math.abs(v - whole.weights[i]!), `${parts} parts, weight ${i}`).toBeLessThan(bound);
      });
    }
  });

  it('leave nothing behind when one of them fails', async () => {
    const results = [];
    for (const sync of [undefined, false, true]) {
      const w = named('w', [1, 2, 3, 4]);
      const step = program(
        { index: int32([4]) },
        ({ index }) => {
          const loss = sum(gather(w, index));
          sgd(0.5).minimize(loss, [w]);
          return { loss };
        },
        { microBatches: 2 },
      );
      const good = { index: Int32Array.of(0, 1, 2, 2) };
      await step.compile(good);
      // The second half names a row that does not exist: the first half has been added by then.
      const bad = { index: Int32Array.of(0, 1, 2, 99) };
      if (sync === true) expect(() => step.runSync(bad)).toThrow(/index|indices/i);
      if (sync === false) await expect(step(bad)).rejects.toThrow(/index|indices/i);
      const { loss } = await step(good);
      results.push([loss.item(), ...w.read()]);
      step.dispose();
    }
    // Mean of 1+2 and 3+3; gradients 1/2, 1/2, 1 and 0, times the rate.
    expect(results).toEqual(Array(3).fill([4.5, 0.75, 1.75, 2.5, 4]));
  });

  it('appear as two graphs', async () => {
    const w = named('w', [1, 1]);
    const step = program(
      { x: [4, 2] },
      (inputs) => {
        const loss = sum(mul(inputs.x, w));
        const { rate } = sgd(0.5).minimize(loss, [w]);
        return { loss, rate };
      },
      { microBatches: 2 },
    );
    const { loss, rate } = await step({ x: ramp(8) });
    // Sums of the parts are 10 and 26; gradients [4, 6] and [12, 14].
    expect([loss.item(), rate.item(), w.read()]).toEqual([18, 0.5, floats(1 - 4, 1 - 5)]);
    expect(step.text()).toMatchInlineSnapshot(`
      "# each micro-batch
      %0: f32[2,2] = mul(x, w)
      %1: f32[] = sum(%0) {axes: [0,1]}
      %2: f32[] = add(sum0, %1)
      %3: f32[1,2] = sum(x) {axes: [0], keepDims: true}
      %4: f32[2] = reshape(%3) {shape: [2]}
      %5: f32[2] = add(sum1, %4)
      sum0' = %2
      sum1' = %5

      # update
      %0: f32[] = mul(sum0, 0.5)
      %1: f32[2] = mul(sum1, 0.25)
      %2: f32[2] = sub(w, %1)
      %3: f32[2] = broadcastTo(0) {shape: [2]}
      %4: f32[] = add(sgd.step, 1)
      loss = %0
      rate = 0.5
      sum0' = 0
      w' = %2
      sum1' = %3
      sgd.step' = %4"
    `);
  });

  it('refuse what does not divide, and results of single parts', async () => {
    const w = named('w', [1, 2]);
    const step = program({ x: [null, 2] }, ({ x }) => ({ y: sum(x) }), { name: 'step', microBatches: 4 });
    await expect(step.compile({ x: ramp(6) })).rejects.toThrow(
      'step: input "x" [3,2] does not divide into 4 micro-batches',
    );
    const rowsOut = program({ x: [4, 2] }, ({ x }) => ({ y: x.mul(2) }), { microBatches: 2 });
    await expect(rowsOut.compile({ x: ramp(8) })).rejects.toThrow(
      'output "y" float32[2,2] belongs to a single micro-batch; return a scalar, or run without microBatches',
    );
    const assigns = program(
      { x: [4, 2] },
      ({ x }) => {
        w.assign(x.sum(0));
        return {};
      },
      { microBatches: 2 },
    );
    await expect(assigns.compile({ x: ramp(8) })).rejects.toThrow(
      /^w is assigned a value of a single micro-batch; pass it through accumulate\(\) \(at .*program\.test\.ts/,
    );
    expect(() => program({}, () => ({}), { microBatches: 0 })).toThrow(
      'microBatches must be a positive integer, not 0',
    );
  });
});

const dist = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
const hasBuild = existsSync(dist);
if (!hasBuild) console.log(`skipped: tests in a child process need ${dist}; run npm run build`);

/** Runs a module against the built library in a fresh process; what it prints, as JSON. */
async function child(source: string): Promise<unknown> {
  const code = `import * as anneal from ${JSON.stringify(dist)};\n${source}`;
  const flags = ['--expose-gc', '--input-type=module', '-e', code];
  const { stdout } = await promisify(execFile)(process.execPath, flags, { maxBuffer: 2 ** 24 });
  return JSON.parse(stdout);
}

/** Trains a small network and returns every loss and the final weights, bit for bit. */
async function trainSeeded(anneal: typeof import('../../src/index.js')): Promise<string[]> {
  const { adamW, crossEntropy, int32, layerNorm, ones, program, Rng, randn, seed, softmax, variable, zeros } =
    anneal;
  seed(42);
  const w = variable(randn([16, 32]), { name: 'w' });
  const v = variable(randn([32, 10], { std: 0.3 }), { name: 'v' });
  const [gain, bias] = [variable(ones([32]), { name: 'gain' }), variable(zeros([32]), { name: 'bias' })];
  const optimizer = adamW({ lr: 0.01, clipNorm: 1 });
  const step = program({ x: [64, 16], y: int32([64]) }, ({ x, y }) => {
    const h = layerNorm(x.matmul(w), gain, bias).tanh();
    const loss = crossEntropy(h.mul(softmax(h)).matmul(v), y);
    optimizer.minimize(loss, [w, v, gain, bias]);
    return { loss };
  });
  const rng = new Rng(7);
  const results: string[] = [];
  const bits = (data: ArrayBufferView) =>
    Array.from(new Uint32Array(data.buffer, data.byteOffset, data.byteLength / 4), (u) =>
      u.toString(16),
    ).join('');
  for (let i = 0; i < 20; i++) {
    const y = Int32Array.from({ length: 64 }, (_, k) => (k + i) % 10);
    results.push(bits((await step({ x: rng.normal(64 * 16), y })).loss.data));
  }
  results.push(...[w, v, gain, bias].map((p) => bits(p.read())));
  step.dispose();
  return results;
}

describe('a seed', () => {
  it('determines every bit, twice in one process', async () => {
    const anneal = await import('../../src/index.js');
    const first = await trainSeeded(anneal);
    expect(await trainSeeded(anneal)).toEqual(first);
    expect(new Set(first).size).toBeGreaterThan(20);
  });

  it.skipIf(!hasBuild)('determines every bit in a fresh process', async () => {
    const source = `${trainSeeded.toString()}\nconsole.log(JSON.stringify(await trainSeeded(anneal)));`;
    const [here, there] = await Promise.all([trainSeeded(await import('../../src/index.js')), child(source)]);
    expect(there).toEqual(here);
  });
});

describe('inputs', () => {
  it('learn open sizes from the data', async () => {
    const run = program({ x: [null, 3] }, ({ x }) => ({ y: x.sum(1) }));
    expect((await run({ x: ramp(6) })).y.toArray()).toEqual([6, 15]);
    expect((await run({ x: ramp(3) })).y.toArray()).toEqual([6]);
    expect(run.runSync({ x: ramp(6) }).y.shape).toEqual([2]);
    expect((await run({ x: new Float32Array(0) })).y.shape).toEqual([0]);
  });

  it('take values of other programs, whose shape is known', async () => {
    const make = program({ x: [4, 3] }, ({ x }) => ({ y: x.mul(2) }));
    const use = program({ a: [null, null] }, ({ a }) => ({ s: a.sum(0) }));
    const { y } = await make({ x: ramp(12) });
    expect((await use({ a: y })).s.toArray()).toEqual([44, 52, 60]);
    expect((await rejection(use.compile({ a: ramp(12) }))).message).toBe(
      'input "a": expected f32[?,?], got data whose shape is not known; pass a Value, or leave one size open',
    );
  });

  it('take numbers for scalars of every dtype', async () => {
    const run = program({ f: [], d: float64([]), i: int32([]), b: bool([]) }, ({ f, d, i, b }) => ({
      f: f.mul(2),
      d: d.mul(2),
      i: i.mul(2),
      b: cast(b, 'float32'),
    }));
    const { f, d, i, b } = await run({ f: 0.5, d: 0.1, i: 7, b: 1 });
    expect([f.item(), d.item(), i.item(), b.item()]).toEqual([1, 0.2, 14, 1]);
    expect([f.shape, f.dtype, d.dtype, i.dtype]).toEqual([[], 'float32', 'float64', 'int32']);
  });

  const run = program({ x: [2, 3], y: int32([null]) }, ({ x, y }) => ({ s: sum(x), t: sum(y) }), {
    name: 'run',
  });
  const y = Int32Array.of(1);
  it.each<[string, Record<string, unknown>, string]>([
    ['that are unknown', { x: ramp(6), y, z: y }, 'run: unknown input "z"; it has: x, y'],
    ['that are missing', { x: ramp(6) }, 'input "y": expected i32[?], got nothing'],
    ['of a wrong length', { x: ramp(5), y }, 'input "x": expected f32[2,3], got 5 elements'],
    ['of a wrong dtype', { x: new Float64Array(6), y }, 'input "x": expected f32[2,3], got Float64Array'],
    ['of a wrong integer type', { x: ramp(6), y: ramp(1) }, 'input "y": expected i32[?], got Float32Array'],
    ['that are a number', { x: 1, y }, 'input "x": expected f32[2,3], got 1 elements'],
  ])('%s are refused, as a rejection', async (_, feeds, message) => {
    const call = run(feeds as never);
    const error = await rejection(call);
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toBe(message);
    expect((await rejection(run.compile(feeds as never))).message).toBe(message);
  });

  it('refuse values of another shape or dtype', async () => {
    const { v } = await program({ x: [3, 2] }, ({ x }) => ({ v: x }))({ x: ramp(6) });
    expect((await rejection(run.compile({ x: v, y }))).message).toBe(
      'input "x": expected f32[2,3], got f32[3,2]',
    );
    expect((await rejection(run.compile({ x: ramp(6), y: v }))).message).toBe(
      'input "y": expected i32[?], got f32[3,2]',
    );
  });

  it('may be scalars and have no elements', async () => {
    const w = variable(zeros([0, 3]), { name: 'w' });
    const empty = program({ s: [], x: [2, 3], z: [0, 3] }, ({ s, x, z }) => {
      w.assign(w.mul(s));
      return {
        s,
        joined: concat([x, z, w]),
        none: z.add(s),
        total: sum(z),
        product: matmul(z, x.transpose()),
      };
    });
    const { s, joined, none, total, product } = await empty({ s: 2, x: ramp(6), z: new Float32Array(0) });
    expect([s.item(), s.shape]).toEqual([2, []]);
    expect(joined.toArray()).toEqual([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect([none.shape, none.data, total.item(), product.shape]).toEqual([[0, 3], floats(), 0, [0, 2]]);
    expect(w.read()).toEqual(floats());
  });
});

describe('calls', () => {
  it('can be synchronous once compiled', async () => {
    const run = program({ x: [null] }, ({ x }) => ({ y: x.add(1) }), { name: 'inc' });
    expect(() => run.runSync({ x: floats(1) })).toThrow(
      'inc: not compiled for these shapes; await compile() or a call first',
    );
    expect(() => run.text()).toThrow('inc: not compiled yet; await compile() or a call first');
    expect(() => run.report()).toThrow('inc: not compiled yet; await compile() or a call first');
    await run.compile({ x: floats(1) });
    expect(run.runSync({ x: floats(1) }).y.item()).toBe(2);
    expect(() => run.runSync({ x: floats(1, 2) })).toThrow('inc: not compiled for these shapes');
    const pending = run({ x: floats(5) });
    expect(() => run.runSync({ x: floats(1) })).toThrow('inc: runSync while a program runs; await it first');
    expect((await pending).y.item()).toBe(6);
  });

  it('take effect in their order, across programs and their compilations', async () => {
    const w = named('w', [1]);
    const double = program({ x: [null] }, ({ x }) => {
      w.assign(w.mul(2).add(sum(x)));
      return { w };
    });
    const minus = program({}, () => {
      w.assign(sub(0, w));
      return { w };
    });
    // Each call with a new length compiles first; the others must still wait for it.
    const results = await Promise.all([
      double({ x: floats(1) }),
      minus({}),
      double({ x: floats(1, 1) }),
      double({ x: floats(3) }),
      minus({}),
      double({ x: floats(1, 1, 1) }),
    ]);
    expect(results.map((r) => r.w.item())).toEqual([1, 3, -3, -4, -5, 5]);
    expect(w.read()).toEqual(floats(13));
  });

  it('go on after one that fails', async () => {
    const w = named('w', [1]);
    const good = program({}, () => {
      w.assign(w.add(1));
      return {};
    });
    const bad = program({}, () => ({ y: matmul(w, tensor([1, 2])) }));
    const outcomes = await Promise.allSettled([good({}), bad({}), good({})]);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(w.read()).toEqual(floats(3));
  });

  it('compile once for equal shapes', async () => {
    let traces = 0;
    const run = program({ x: [null] }, ({ x }) => {
      traces++;
      return { y: x.neg() };
    });
    await Promise.all([run({ x: ramp(2) }), run({ x: ramp(2) }), run.compile({ x: ramp(2) })]);
    await run({ x: ramp(2) });
    expect(traces).toBe(1);
    await run({ x: ramp(3) });
    expect(traces).toBe(2);
  });
});

describe('errors of the body', () => {
  it('name the op, both shapes and the line', async () => {
    const run = program({ x: [2, 3] }, ({ x }) => ({ y: matmul(x, tensor([[1, 2]])) }));
    const error = await rejection(run.compile({ x: ramp(6) }));
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toMatch(
      /^matmul\(float32\[2,3\], float32\[1,2\]\): inner sizes 3 and 1 differ \(\[2,3\] times \[1,2\]\) \(at .*test\/core\/program\.test\.ts:\d+:\d+\)$/,
    );
  });

  it('name the line of elementwise ops, through methods and functions', () => {
    const place = /shapes \[2\] and \[3\] do not broadcast.* \(at .*test\/core\/program\.test\.ts:\d+:\d+\)$/;
    expect(() => tensor([1, 2]).add(tensor([1, 2, 3]))).toThrow(place);
    expect(() => mul(tensor([1, 2]), tensor([1, 2, 3]))).toThrow(place);
  });

  it('refuse async bodies and results that are no tensors', async () => {
    const later = program({}, (async () => ({ y: tensor(1) })) as never, { name: 'later' });
    await expect(later.compile({})).rejects.toThrow(
      'later: the body is async; tracing needs a plain function',
    );
    const number = program({}, (() => ({ y: 3 })) as never, { name: 'number' });
    await expect(number.compile({})).rejects.toThrow('number: output "y" is no tensor');
  });

  it('refuse programs that do nothing', async () => {
    const nothing = program({ x: [1] }, () => ({}), { name: 'nothing' });
    const error = await rejection(nothing.compile({ x: floats(1) }));
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toMatch(/^nothing: /);
  });

  it('are thrown again by the next call, which traces again', async () => {
    let traces = 0;
    const run = program({}, () => {
      if (traces++ === 0) throw new Error('at first');
      return { y: tensor(1) };
    });
    await expect(run({})).rejects.toThrow('at first');
    expect((await run({})).y.item()).toBe(1);
  });
});

describe("check: 'finite'", () => {
  it('names the op that made the first bad value, and changes nothing', async () => {
    const w = named('w', [1, 2]);
    const optimizer = sgd(0.1, { momentum: 0.9 });
    const step = program(
      { x: [2] },
      ({ x }) => {
        const loss = sum(log(x.mul(w)).exp());
        optimizer.minimize(loss, [w]);
        return { loss };
      },
      { check: 'finite' },
    );
    const { loss } = await step({ x: floats(1, 1) });
    expect(Math.abs(loss.item() - 3)).toBeLessThan(1e-6);
    const before = [w, ...optimizer.state().values()].map((v) => v.read());
    expect(before[0]).not.toEqual(floats(1, 2));
    const error = await rejection(step({ x: floats(-1, 1) }));
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toMatch(
      /^non-finite value first made by log float32\[2\] \(at .*test\/core\/program\.test\.ts:\d+:\d+\)$/,
    );
    expect([w, ...optimizer.state().values()].map((v) => v.read())).toEqual(before);
    // A good batch afterwards goes on from there.
    await step({ x: floats(1, 1) });
    expect(w.read()).not.toEqual(before[0]);
  });

  it.each([
    ['input "x"', [Number.NaN, 1], [1, 1]],
    ['input "x"', [1, Number.POSITIVE_INFINITY], [1, 1]],
    ['variable w', [1, 1], [Number.NaN, 1]],
    ['div', [0, 1], [1, 1]],
  ])('names %s', async (what, x, start) => {
    const w = named('w', start);
    const step = program({ x: [2] }, (inputs) => ({ y: w.div(inputs.x) }), { check: 'finite' });
    await expect(step({ x: Float32Array.from(x) })).rejects.toThrow(
      `non-finite value first made by ${what} float32[2]`,
    );
  });

  it('lets large finite values pass, and returns only what the body returns', async () => {
    const step = program({ x: [2] }, ({ x }) => ({ y: x.mul(1) }), { check: 'finite' });
    const result = await step({ x: floats(3e38, -3e38) });
    expect(Object.keys(result)).toEqual(['y']);
    expect(result.y.data).toEqual(floats(3e38, -3e38));
  });
});

describe('text and report', () => {
  it('describe the optimised program', async () => {
    const w = variable(randn([16, 4]), { name: 'w' });
    const b = variable(zeros([4]), { name: 'b' });
    const run = program({ x: [8, 16] }, ({ x }) => {
      const y = matmul(x, w).add(b);
      b.assign(b.add(y.mean(0)));
      return { y };
    });
    const report = await run.compile({ x: new Float32Array(128) });
    expect(run.text()).toMatchInlineSnapshot(`
      "%0: f32[8,4] = gemm(x, w, b) {alpha: 1}
      %1: f32[4] = mean(%0) {axes: [0]}
      %2: f32[4] = add(b, %1)
      y = %0
      b' = %2"
    `);
    expect(run.report()).toBe(report);
    // The product 2·8·4·16, the mean 8·4, the addition 4.
    expect(report.flops).toBe(1024 + 32 + 4);
    expect(report.nodes).toBe(3);
    // gemm reads x, w, b and writes y; mean reads y and writes 4; add reads 2·4 and writes 4.
    expect(report.bytesMoved).toBe(4 * (128 + 64 + 4 + 32 + (32 + 4) + (8 + 4)));
    expect(report.peakBytes).toBe(4 * (32 + 4 + 4));
    expect(report.modelBytes).toBeGreaterThan(100);
    expect(Object.values(report.times).every((ms) => ms >= 0)).toBe(true);
    expect(Object.fromEntries(report.savings.map(({ pass, nodes }) => [pass, nodes]))).toMatchObject({
      gemm: 1,
    });
  });

  it('count multiply-adds of products twice, batches and transposes included', async () => {
    const of = (shape: number[]) => variable(zeros(shape));
    const flops = async (a: Variable, b: Variable, options = {}) =>
      (await program({}, () => ({ y: matmul(a, b, options) })).compile({})).flops;
    expect(await flops(of([40, 30]), of([30, 20]))).toBe(2 * 40 * 30 * 20);
    expect(await flops(of([3, 40, 30]), of([30, 20]))).toBe(3 * 2 * 40 * 30 * 20);
    const turned = { transposeA: true, transposeB: true };
    expect(await flops(of([30, 40]), of([20, 30]), turned)).toBe(2 * 40 * 30 * 20);
  });

  it('profile counts runs like any others', async () => {
    const w = named('w', [0, 0]);
    const run = program({}, () => {
      w.assign(w.add(1));
      return {};
    });
    const times = await run.profile({}, 3);
    expect(times.map(({ op }) => op)).toContain('Add');
    // Three runs and the warm-up.
    expect(w.read()).toEqual(floats(4, 4));
  });
});

describe('t.value()', () => {
  it('computes from constants and variables, now', async () => {
    const w = named('w', [1, 2]);
    const y = w.mul(tensor([[3], [4]]));
    expect((await y.value()).toArray()).toEqual([
      [3, 6],
      [4, 8],
    ]);
    w.set([0, 1]);
    expect((await y.sum().value()).item()).toBe(7);
    expect((await tensor(5).value()).toArray()).toBe(5);
    expect((await w.value()).toArray()).toEqual([0, 1]);
  });

  it('has numbers that take part in arithmetic', async () => {
    const value = await tensor(2).value();
    expect(Number(value) + 1).toBe(3);
    expect(`${value}`).toBe('2');
    expect(String(await tensor([1, 2]).value())).toBe('float32[2]');
    await expect(
      tensor([1, 2])
        .value()
        .then((v) => v.item()),
    ).rejects.toThrow('item: the value has shape [2], not one element; read .data');
  });

  it('refuses tensors that depend on an input', async () => {
    let kept: Tensor | undefined;
    await program({ x: [1] }, ({ x }) => {
      kept = x.add(1);
      return { kept };
    })({ x: 1 });
    const error = await rejection(kept!.value());
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toContain('input "x"');
  });
});

describe('a thousand programs', () => {
  it('leave nothing behind when disposed of', async () => {
    await tensor([1]).value();
    const before = runtimeStats().cpu!;
    for (let i = 0; i < 300; i++) {
      const run = program({ x: [1] }, ({ x }) => ({ y: x.add(i) }));
      expect((await run({ x: 1 })).y.item()).toBe(i + 1);
      run.dispose();
    }
    // Programs of earlier tests may be collected meanwhile, so that there are even fewer than before.
    expect(runtimeStats().cpu!.executables).toBeLessThanOrEqual(before.executables);
  });

  it.skipIf(!hasBuild)('are collected when dropped', { timeout: 60_000 }, async () => {
    // Each holds 64 KB of constants and a variable of its own: a leak of all would be 128 MB.
    const result = (await child(`
      const { program, randn, variable, runtimeStats } = anneal;
      const collect = async () => { gc(); await new Promise((done) => setImmediate(done)); };
      let start = 0;
      let most = 0;
      const constant = randn([128, 128]);
      for (let i = 0; i < 1000; i++) {
        const w = variable(constant);
        const run = program({ x: [1] }, ({ x }) => { const y = constant.add(x); w.assign(w.add(y)); return { s: y.sum() }; });
        await run({ x: 1 });
        if (i % 25 === 0) await collect();
        most = Math.max(most, runtimeStats().cpu.executables);
        if (i === 200) start = process.memoryUsage().rss;
      }
      for (let i = 0; i < 20 && runtimeStats().cpu.executables > 0; i++) await collect();
      console.log(JSON.stringify({
        grown: process.memoryUsage().rss - start, most, left: runtimeStats().cpu.executables,
      }));
    `)) as { grown: number; most: number; left: number };
    expect(result.left).toBeLessThanOrEqual(1);
    expect(result.most).toBeLessThan(120);
    expect(result.grown).toBeLessThan(50 * 2 ** 20);
  });
});
