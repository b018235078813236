import { describe, expect, it } from 'vitest';
import { Rng } from '../../src/index.js';
import { detectSupport } from '../../src/native/cpu.js';
import { symmetricOperator } from '../../src/native/symmetric-operator.js';
import type { KernelRequest } from '../../src/runtime/backend.js';
import { pointerArray } from '../../src/runtime/node/ort-api.js';

const support = detectSupport();
const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

interface Product {
  m: number;
  k: number;
  batch?: number;
  transA?: boolean;
  transB?: boolean;
  weight?: number;
  scale?: number;
  identity?: number;
  addend?: boolean;
  scaled?: boolean;
}

const type = (...shape: number[]) => ({ dtype: 'float32' as const, shape });

function requestOf(p: Product): KernelRequest {
  const { m, k, batch = 1, transA = false, transB = false, weight = 1, scale = 1, identity = 0 } = p;
  const { addend = false, scaled = false } = p;
  return {
    kind: 'symmetricProduct',
    attributes: {
      ...{ weight, scale, identity, transA: Number(transA), transB: Number(transB) },
      ...{ addend: Number(addend), scaled: Number(scaled) },
    },
    inputs: [
      transA ? type(batch, k, m) : type(batch, m, k),
      transB ? type(batch, m, k) : type(batch, k, m),
      ...(addend ? [type(batch, m, m)] : []),
      ...(scaled ? [type(batch, 1, 1)] : []),
    ],
    outputs: [type(batch, m, m)],
  };
}

/** Runs an operator's tasks in the given order, by direct calls; checks that nothing around the result changes. */
function runTasks(request: KernelRequest, data: readonly Float32Array[], isReversed = false): Float32Array {
  if (support.reason !== undefined) throw new Error(support.reason);
  const { koffi, install } = support;
  const operator = symmetricOperator(request)!;
  const task = koffi.decode(install(operator.compile()), koffi.proto('void', ['void *', 'size_t'])) as (
    frame: BigUint64Array,
    index: number,
  ) => void;
  const size = sizeOf(request.outputs[0]!.shape);
  const guard = 64;
  const result = new Float32Array(new ArrayBuffer(4 * (size + 2 * guard))).fill(7);
  const frame = pointerArray(data.length + 2);
  frame[0] = 0n;
  data.forEach((array, i) => {
    frame[1 + i] = koffi.address(array);
  });
  frame[1 + data.length] = koffi.address(result) + BigInt(4 * guard);
  const order = [...Array(operator.tasks).keys()];
  for (const index of isReversed ? order.reverse() : order) task(frame, index);
  const around = [...result.subarray(0, guard), ...result.subarray(guard + size)];
  expect(around.every((v) => v === 7)).toBe(true);
  return result.slice(guard, guard + size);
}

const rng = new Rng(11);
function random(shape: readonly number[]): Float32Array {
  const array = new Float32Array(new ArrayBuffer(Math.max(128, 4 * sizeOf(shape))), 0, sizeOf(shape));
  array.set(rng.normal(array.length));
  return array;
}

/** Operands with a symmetric product: B = Aᵀ in memory's order, C symmetric. */
function dataOf(p: Product): Float32Array[] {
  const { m, k, batch = 1, transA = false, transB = false } = p;
  const data = requestOf(p).inputs.map(({ shape }) => random(shape));
  const [a, b] = data as [Float32Array, Float32Array];
  const turned = transA === transB;
  for (let t = 0; t < batch; t++)
    for (let i = 0; i < m; i++)
      for (let l = 0; l < k; l++) {
        const at = transA ? l * m + i : i * k + l;
        const to = turned ? (transA ? i * k + l : l * m + i) : at;
        b[t * m * k + to] = a[t * m * k + at]!;
      }
  if (p.addend)
    for (let t = 0; t < batch; t++)
      for (let i = 0; i < m; i++)
        for (let j = 0; j < i; j++) data[2]![(t * m + j) * m + i] = data[2]![(t * m + i) * m + j]!;
  return data;
}

/** In float64. */
function exact(p: Product, data: readonly Float32Array[]): Float64Array {
  const { m, k, batch = 1, transA, weight = 1, scale = 1, identity = 0 } = p;
  const [a, , ...rest] = data;
  const c = p.addend ? rest.shift() : undefined;
  const scales = p.scaled ? rest.shift() : undefined;
  const y = new Float64Array(batch * m * m);
  const rows = new Float64Array(m * k);
  for (let t = 0; t < batch; t++) {
    for (let i = 0; i < m; i++)
      for (let l = 0; l < k; l++) rows[i * k + l] = a![t * m * k + (transA ? l * m + i : i * k + l)]!;
    for (let i = 0; i < m; i++)
      for (let j = 0; j <= i; j++) {
        let sum = 0;
        for (let l = 0; l < k; l++) sum += rows[i * k + l]! * rows[j * k + l]!;
        const at = (t * m + i) * m + j;
        y[at] = scale * (scales?.[t] ?? 1) * (weight * sum + (c?.[at] ?? 0)) + (i === j ? identity : 0);
        y[(t * m + j) * m + i] = y[at]!;
      }
  }
  return y;
}

/** Largest error by the size of sums of k squares. */
const errorOf = (y: ArrayLike<number>, expected: Float64Array, k: number) =>
  expected.reduce((worst, v, i) => Math.max(worst, Math.abs(y[i]! - v)), 0) / k;

function expectSymmetric(y: Float32Array, m: number): void {
  let differences = 0;
  for (let at = 0; at < y.length; at += m * m)
    for (let i = 0; i < m; i++)
      for (let j = 0; j < i; j++) if (y[at + i * m + j] !== y[at + j * m + i]) differences++;
  expect(differences).toBe(0);
}

describe.runIf(support.sets[0] === 'avx512')('products with symmetric results', () => {
  // Panels of 48, 32 and 16 columns, whole and last; one chunk and several; blocks of rows that a panel is cut into.
  describe.each([32, 48, 64, 112, 240])('of %i rows', (m) => {
    it.each([
      { k: 32, transB: true },
      { k: 400, transA: true, weight: -0.5 },
      { k: 416, transB: true, addend: true, scale: 3, weight: 0.25 },
      { k: 48, batch: 3, transA: true, addend: true, scaled: true, identity: 2 },
      { k: 48, batch: 2, transB: true, addend: true, scaled: true, scale: -1, weight: 2, identity: 1 },
      { k: 16, batch: 18, transB: true, addend: true },
      // Three chunks, of which the last alone is scaled.
      { k: 1008, transB: true, addend: true, scaled: true, scale: 0.5, identity: -1 },
      { k: 448, transA: true, scaled: true, identity: -1 },
    ] as Omit<Product, 'm'>[])('%j', (rest) => {
      const p: Product = { m, ...rest };
      const data = dataOf(p);
      const y = runTasks(requestOf(p), data);
      expect(errorOf(y, exact(p, data), p.k)).toBeLessThan(1.5e-6);
      expectSymmetric(y, m);
      // Tasks write apart: their order changes nothing, so neither does the number of threads.
      expect(runTasks(requestOf(p), data, true)).toEqual(y);
    });
  });

  it('multiply symmetric matrices that commute', () => {
    const m = 96;
    const base = dataOf({ m, k: m, transB: true });
    const square = runTasks(requestOf({ m, k: m, transB: true }), base);
    const p: Product = { m, k: m };
    // R·R² = R²·R, in float64 from the same float32 operands.
    const cube = runTasks(requestOf(p), [square, runTasks(requestOf(p), [square, square])]);
    const exactSquare = new Float64Array(m * m);
    const times = (a: ArrayLike<number>, b: ArrayLike<number>, to: Float64Array) => {
      for (let i = 0; i < m; i++)
        for (let j = 0; j < m; j++)
          for (let l = 0; l < m; l++) to[i * m + j]! += a[i * m + l]! * b[l * m + j]!;
    };
    times(square, square, exactSquare);
    const exactCube = new Float64Array(m * m);
    times(square, exactSquare, exactCube);
    const largest = Math.max(...exactCube.map(Math.abs));
    expect(errorOf(cube, exactCube, 1) / largest).toBeLessThan(2e-6);
    // Apart from the squares of 16 on the diagonal, whose halves are rounded apart, it is symmetric to the bit.
    for (let i = 0; i < m; i++)
      for (let j = 0; j < i; j++) {
        const difference = Math.abs(cube[i * m + j]! - cube[j * m + i]!);
        expect(difference).toBeLessThanOrEqual(
          Math.floor(i / 16) === Math.floor(j / 16) ? 1e-6 * largest : 0,
        );
      }
  });

  it('take what is below the diagonal for both, and compute less', () => {
    const p: Product = { m: 192, k: 64, transB: true };
    const [a, b] = dataOf(p) as [Float32Array, Float32Array];
    // Rows of A that end in NaN make rows of the result NaN, which the copies carry into columns.
    a.fill(Number.NaN, 64 * 100);
    const y = runTasks(requestOf(p), [a, b]);
    const isNaNAt = (i: number, j: number) => Number.isNaN(y[i * 192 + j]!);
    expect([isNaNAt(150, 10), isNaNAt(10, 150), isNaNAt(50, 10), isNaNAt(10, 50)]).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });

  it('make the Gram matrices of several matrices, wide, tall and square', () => {
    const m = 80;
    const shapes = [
      [80, 240],
      [80, 240],
      [480, 80],
      [80, 80],
      [1152, 80],
    ] as const;
    const data = shapes.map(random);
    const request: KernelRequest = {
      kind: 'gramMatrices',
      attributes: {},
      inputs: shapes.map((shape) => type(...shape)),
      outputs: [type(shapes.length, m, m)],
    };
    const y = runTasks(request, data);
    shapes.forEach(([rows, columns], t) => {
      const isTall = rows > columns;
      const k = Math.max(rows, columns);
      const p: Product = { m, k, transA: isTall, transB: !isTall };
      const part = y.subarray(t * m * m, (t + 1) * m * m);
      expect(errorOf(part, exact(p, [data[t]!, data[t]!]), k)).toBeLessThan(1.5e-6);
    });
    expectSymmetric(y, m);
    expect(runTasks(request, data, true)).toEqual(y);
  });

  it('leave sizes alone that do not fit their tiles', () => {
    const find = (p: Product) => symmetricOperator(requestOf(p));
    expect(find({ m: 64, k: 64 })).toBeDefined();
    expect(find({ m: 60, k: 64 })).toBeUndefined();
    expect(find({ m: 16, k: 64 })).toBeUndefined();
    expect(find({ m: 64, k: 40 })).toBeUndefined();
    // No chunk of 64 to 384 steps divides 16 · 29.
    expect(find({ m: 64, k: 464 })).toBeUndefined();
    const request = requestOf({ m: 64, k: 64, addend: true });
    expect(symmetricOperator({ ...request, inputs: request.inputs.slice(0, 2) })).toBeUndefined();
  });
});
