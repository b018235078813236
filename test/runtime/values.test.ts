import { beforeAll, describe, expect, it } from 'vitest';
import { allocate, type DType, type TypedArray } from '../../src/core/dtype.js';
import type { Backend } from '../../src/runtime/backend.js';
import { createNodeBackend } from '../../src/runtime/node/backend.js';
import { collectGarbage, constant, floats, node, port, ramp, rejection, spec } from './models.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createNodeBackend('cpu', { threads: 2 });
});

const negate = (shape: readonly number[], dtype: DType = 'float32') =>
  backend.compile(
    spec('negate', [node('Neg', ['x'], ['y'])], [port('x', shape, dtype)], [port('y', shape, dtype)]),
  );

describe('values', () => {
  it('multiplies matrices', async () => {
    const product = await backend.compile(
      spec(
        'product',
        [node('MatMul', ['a', 'b'], ['c'])],
        [port('a', [2, 3]), port('b', [3, 2])],
        [port('c', [2, 2])],
      ),
    );
    const feeds = [floats(1, 2, 3, 4, 5, 6), floats(1, 0, 0, 1, 1, 1)];
    expect(await product.run(feeds)).toEqual([floats(4, 5, 10, 11)]);
    expect(product.runSync(feeds)).toEqual([floats(4, 5, 10, 11)]);
  });

  it.each([1, 16, 1024, 1025, 100_000])('carries %i elements each way', async (length) => {
    const program = await negate([length]);
    const [first] = await program.run([ramp(length)]);
    const [second] = program.runSync([ramp(length, 2)]);
    expect(first).toEqual(ramp(length, -1));
    expect(second).toEqual(ramp(length, -2));
    // The second run has not written into the first one's result.
    expect(first).toEqual(ramp(length, -1));
  });

  it.each([16, 5000])('sees new values in an array of %i that was fed before', async (length) => {
    const program = await negate([length]);
    const feed = ramp(length);
    await program.run([feed]);
    feed.fill(7);
    expect((await program.run([feed]))[0]).toEqual(new Float32Array(length).fill(-7));
    const other = new Float32Array(length).fill(3);
    expect((await program.run([other]))[0]).toEqual(new Float32Array(length).fill(-3));
    expect((await program.run([feed]))[0]).toEqual(new Float32Array(length).fill(-7));
  });

  it('takes views into larger buffers, shared ones too', async () => {
    const program = await negate([2000]);
    const whole = ramp(6000);
    expect((await program.run([whole.subarray(1001, 3001)]))[0]![0]).toBe(-1001);
    const shared = new Float32Array(new SharedArrayBuffer(8000)).fill(4);
    expect((await program.run([shared]))[0]).toEqual(new Float32Array(2000).fill(-4));
  });

  it.each<[DType, TypedArray, TypedArray]>([
    ['float32', floats(1, -2), floats(-1, 2)],
    ['float64', Float64Array.of(1e-300, 2), Float64Array.of(-1e-300, -2)],
    ['int32', Int32Array.of(2 ** 30, -5), Int32Array.of(-(2 ** 30), 5)],
    ['float16', Uint16Array.of(0x3c00, 0xc000), Uint16Array.of(0xbc00, 0x4000)],
  ])('carries %s', async (dtype, feed, expected) => {
    const program = await negate([2], dtype);
    expect(await program.run([feed])).toEqual([expected]);
  });

  it('carries booleans', async () => {
    const type = [port('x', [3], 'bool'), port('y', [3], 'bool')] as const;
    const program = await backend.compile(spec('not', [node('Not', ['x'], ['y'])], [type[0]], [type[1]]));
    expect(await program.run([Uint8Array.of(1, 0, 1)])).toEqual([Uint8Array.of(0, 1, 0)]);
  });

  it('carries scalars and tensors without elements', async () => {
    expect(await (await negate([])).run([floats(5)])).toEqual([floats(-5)]);
    expect(await (await negate([3, 0, 2])).run([new Float32Array(0)])).toEqual([new Float32Array(0)]);
    expect((await negate([0])).runSync([allocate('float32', 0)])).toEqual([new Float32Array(0)]);
  });

  it('mixes staged and direct tensors in one program', async () => {
    const program = await backend.compile(
      spec(
        'mixed',
        [
          node('Add', ['small', 'large'], ['sum']),
          node('ReduceSum', ['sum'], ['total'], {
            attributes: { keepdims: { kind: 'int', value: 0 } },
          }),
          node('Neg', ['small'], ['minus']),
        ],
        [port('small', []), port('large', [3000])],
        [port('minus', []), port('sum', [3000]), port('total', [])],
      ),
    );
    const [minus, sum, total] = await program.run([floats(2), new Float32Array(3000).fill(1)]);
    expect(minus).toEqual(floats(-2));
    expect(sum).toEqual(new Float32Array(3000).fill(3));
    expect(total).toEqual(floats(9000));
  });

  it('runs programs without inputs', async () => {
    const three = constant('k', [1], [3]);
    const program = await backend.compile(
      spec('const', [node('Neg', ['k'], ['y'])], [], [port('y', [1])], [three]),
    );
    expect(await program.run([])).toEqual([floats(-3)]);
  });

  it('keeps deliberate duplicates apart', async () => {
    const nodes = [
      node('Sin', ['x'], ['a']),
      node('Sin', ['x'], ['again']),
      node('Cos', ['a'], ['c']),
      node('Tan', ['again'], ['d']),
      node('Mul', ['c', 'd'], ['y']),
    ];
    const program = await backend.compile(spec('twice', nodes, [port('x', [4])], [port('y', [4])]));
    const times = await program.profile([ramp(4)], 1);
    expect(times.map((time) => time.op).sort()).toEqual(['Cos', 'Mul', 'Sin', 'Sin', 'Tan']);
  });
});

describe('memory that native code reaches', () => {
  it('outlives collections while runs are in flight', async () => {
    const small = await negate([8]);
    const large = await negate([40_000]);
    for (let round = 0; round < 20; round++) {
      const runs = [small.run([floats(1, 2, 3, 4, 5, 6, 7, round)]), large.run([ramp(40_000, round)])];
      await collectGarbage();
      const [a, b] = await Promise.all(runs);
      expect(a![0]![7]).toBe(-round);
      expect(b![0]![39_999]).toBe(-39_999 * round);
    }
  });
});

describe('errors', () => {
  it('start with the label of the program', async () => {
    const unknown = spec('my step', [node('Nonsense', ['x'], ['y'])], [port('x', [1])], [port('y', [1])]);
    const error = await rejection(backend.compile(unknown));
    expect(error.message).toMatch(/^my step: .*No Op registered for Nonsense/);

    const wrongName = { ...spec('other', [node('Neg', ['x'], ['y'])], [port('x', [1])], [port('y', [1])]) };
    const program = await backend.compile({ ...wrongName, inputs: [port('z', [1])] });
    expect((await rejection(program.run([floats(1)]))).message).toBe('other: Invalid input name: z');
    expect(() => program.runSync([floats(1)])).toThrow('other: Invalid input name: z');
  });

  it('catch feeds of the wrong size before native code reads them', async () => {
    const program = await negate([5000]);
    expect((await rejection(program.run([ramp(4999)]))).message).toBe(
      'negate: feed x has 19996 bytes, not 20000',
    );
    expect((await rejection(program.run([]))).message).toBe('negate: got 0 feeds for 1 inputs');
    const moved = ramp(5000);
    await program.run([moved]);
    structuredClone(moved, { transfer: [moved.buffer] });
    expect((await rejection(program.run([moved]))).message).toBe('negate: feed x has 0 bytes, not 20000');
  });

  it('report files that are not models', async () => {
    const junk = { label: 'junk', model: Uint8Array.of(1, 2, 3), inputs: [], outputs: [], slots: [] };
    expect((await rejection(backend.compile(junk))).message).toMatch(/^junk: .*protobuf parsing failed/);
  });
});
