import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allocate } from '../../src/core/dtype.js';
import { detectSupport } from '../../src/native/cpu.js';
import { Formula } from '../../src/native/formula.js';
import * as formulas from '../../src/native/formulas.js';
import { compileRows, type RowOptions, rowParameters } from '../../src/native/row-kernel.js';
import { type Pointer, pointerArray } from '../../src/runtime/node/ort-api.js';

const support = detectSupport();
const sets = support.sets;
const floats = (values: ArrayLike<number>) => {
  const array = allocate('float32', values.length) as Float32Array;
  array.set(Array.from(values));
  return array;
};

/** A kernel that can be called: tasks in the order given. */
function callable(formula: Formula, set: (typeof sets)[number], options?: RowOptions) {
  if (support.reason !== undefined) throw new Error(support.reason);
  const { install, koffi } = support;
  const f = koffi.decode(
    install(compileRows(formula, set, options)),
    koffi.proto('void', ['void *', 'size_t']),
  ) as (frame: BigUint64Array, index: number) => void;
  return (tensors: readonly Float32Array[], parameters: BigInt64Array, tasks: Iterable<number>) => {
    const frame = pointerArray(1 + tensors.length);
    frame[0] = koffi.address(parameters) as Pointer;
    tensors.forEach((t, i) => {
      frame[i + 1] = koffi.address(t);
    });
    for (const task of tasks) f(frame, task);
  };
}

/** Numbers that look random but are always the same. */
const noise = (n: number, scale = 2, seed = 1) =>
  floats(Array.from({ length: n }, (_, i) => scale * Math.sin((i + 1) * 12.9898 * seed)));

/** Largest error relative to the largest expected value. */
function expectClose(actual: Float32Array, expected: readonly number[], tolerance: number): void {
  const scale = Math.max(1e-30, ...expected.map(Math.abs).filter(Number.isFinite));
  expected.forEach((value, i) => {
    if (Number.isNaN(value)) expect(actual[i], `[${i}]`).toBeNaN();
    else if (!Number.isFinite(value)) expect(actual[i], `[${i}]`).toBe(value);
    else
      expect(Math.abs(actual[i]! - value) / scale, `[${i}]: ${actual[i]} against ${value}`).toBeLessThan(
        tolerance,
      );
  });
}

const gelu = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
function geluSlope(x: number): number {
  const u = Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
  const t = Math.tanh(u);
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x * x);
}
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

it('emitted code runs here', (context) => {
  if (support.reason !== undefined) context.skip(`no machine code: ${support.reason}`);
  expect(sets.length).toBeGreaterThan(0);
});

describe.each(sets)('row kernels in %s', (set) => {
  const lengths = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100, 1000];

  it.each(lengths)('elementwise over %i elements, in uneven tasks, touching nothing else', (n) => {
    const run = callable(formulas.geluTanh(), set);
    const x = noise(n, 6);
    const y = floats(Array(n + 20).fill(7));
    const cut = 24;
    run([x, y], rowParameters(n, 1, cut), Array(Math.ceil(n / cut)).keys());
    expectClose(y.subarray(0, n), Array.from(x, gelu), 3e-7);
    expect(Array.from(y.subarray(n))).toEqual(Array(20).fill(7));
  });

  it('exponentials from denormals to infinity, and NaN', () => {
    const f = new Formula();
    f.write(1, f.exp(f.matrix(0)));
    const x = floats([
      0,
      -0,
      1,
      -1,
      88.7,
      89,
      100,
      -87,
      -90,
      -100,
      -104,
      -1e9,
      Infinity,
      -Infinity,
      NaN,
      0.3466,
    ]);
    const y = floats(Array(x.length).fill(7));
    callable(f, set)([x, y], rowParameters(x.length, 1, 64), [0]);
    for (const [i, value] of x.entries()) {
      const exact = Math.fround(Math.exp(value));
      if (!Number.isFinite(exact)) {
        expect(y[i]).toEqual(exact);
        continue;
      }
      // Half a unit in the last place of a denormal is more than a relative error would allow.
      expect(Math.abs(y[i]! - exact)).toBeLessThanOrEqual(2.5e-7 * exact + 1.5e-45);
    }
    expect(y[11]).toBe(0);
  });

  it('gradients of activations, also far out', () => {
    const far = [-100, -30, -12, -5, -1e-4, 0, 1e-4, 5, 12, 30, 100, NaN];
    const x = floats([...far, ...noise(50, 5)]);
    const g = noise(x.length, 3, 2);
    const y = floats(Array(x.length).fill(7));
    const forward = floats(Array.from(x, gelu));
    callable(formulas.geluTanhGrad(), set)([x, forward, g, y], rowParameters(x.length, 1, 4096), [0]);
    expectClose(
      y,
      Array.from(x, (v, i) => g[i]! * geluSlope(v)),
      4e-7,
    );
    callable(formulas.siluGrad(), set)([x, g, y], rowParameters(x.length, 1, 4096), [0]);
    expectClose(
      y,
      Array.from(x, (v, i) => g[i]! * (sigmoid(v) + v * sigmoid(v) * (1 - sigmoid(v)))),
      4e-7,
    );
    callable(formulas.silu(), set)([x, y], rowParameters(x.length, 1, 4096), [0]);
    expectClose(
      y,
      Array.from(x, (v) => v * sigmoid(v)),
      4e-7,
    );
  });

  it('AdamW in place', () => {
    const n = 77;
    const [p, m, g] = [noise(n, 1), noise(n, 0.1, 2), noise(n, 3, 3)];
    const v = floats(Array.from(noise(n, 0.2, 4), Math.abs));
    const before = [p, m, v, g].map((t) => Array.from(t));
    const [keep, rate, epsilon, factor] = [0.99, 0.01, 1e-6, 0.25];
    const scalars = [keep, rate, epsilon, factor].map((s) => floats([s]));
    callable(formulas.adamw({ beta1: 0.9, beta2: 0.99 }), set)(
      [p, m, v, g, ...scalars, p, m, v],
      rowParameters(n, 1, 32),
      [2, 0, 1],
    );
    const nextM = before[1]!.map((old, i) => 0.9 * old + 0.1 * factor * before[3]![i]!);
    const nextV = before[2]!.map((old, i) => 0.99 * old + 0.01 * (factor * before[3]![i]!) ** 2);
    expectClose(m, nextM, 3e-7);
    expectClose(v, nextV, 3e-7);
    expectClose(
      p,
      before[0]!.map((old, i) => old * keep - (rate * nextM[i]!) / (Math.sqrt(nextV[i]!) + epsilon)),
      3e-7,
    );
  });

  it('momentum and Nesterov’s direction in place', () => {
    const n = 77;
    const [b, g] = [noise(n, 1), noise(n, 3, 3)];
    const [oldB, oldG] = [Array.from(b), Array.from(g)];
    callable(formulas.momentum({ decay: 0.9, fresh: 0.25 }), set)(
      [b, g, b, g],
      rowParameters(n, 1, 32),
      [2, 0, 1],
    );
    const next = oldB.map((old, i) => 0.9 * old + 0.25 * oldG[i]!);
    expectClose(b, next, 3e-7);
    expectClose(
      g,
      next.map((value, i) => 0.9 * value + 0.25 * oldG[i]!),
      3e-7,
    );
  });

  it.each([1, 3, 8, 17, 40, 256])('RMSNorm of %i columns', (columns) => {
    const rows = 7;
    const epsilon = 1e-5;
    const [x, w] = [noise(rows * columns, 3), noise(columns, 1, 5)];
    // A row of zeros, a small one that epsilon counts for, and one that is no number.
    x.fill(0, columns, 2 * columns);
    for (let j = 0; j < columns; j++) x[2 * columns + j]! *= 1e-4;
    x[4 * columns] = Number.NaN;
    const y = floats(Array(rows * columns + 8).fill(7));
    const run = callable(formulas.rmsNorm({ columns, epsilon }), set);
    run([x, w, y], rowParameters(rows * columns, 3, columns), [2, 0, 1]);
    const expected = Array.from({ length: rows }, (_, i) => {
      const row = [...x.subarray(i * columns, (i + 1) * columns)];
      const scale = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / columns + epsilon);
      return row.map((v, j) => v * scale * w[j]!);
    });
    for (const [i, row] of expected.entries()) {
      const mine = y.subarray(i * columns, (i + 1) * columns);
      if (i === 4) expect(mine.every(Number.isNaN)).toBe(true);
      else expectClose(mine, row, 5e-7);
    }
    expect(y.subarray(-8).every((v) => v === 7)).toBe(true);
  });

  it.each([1, 3, 8, 17, 40])('RMSNorm backward with %i columns, sums by task', (columns) => {
    const rows = 7;
    const perTask = 3;
    const tasks = 3;
    const [x, w, g] = [noise(rows * columns), noise(columns, 1, 5), noise(rows * columns, 1, 7)];
    const r = floats(Array.from({ length: rows }, (_, i) => 0.5 + i / 10));
    const dx = floats(Array(rows * columns).fill(7));
    const sums = floats(Array(tasks * columns).fill(7));
    const run = callable(formulas.rmsNormGrad({ columns }), set);
    run([x, w, r, g, dx, sums], rowParameters(rows * columns, perTask, columns), [1, 0, 2]);
    const at = (t: Float32Array, i: number, j: number) => t[i * columns + j]!;
    const t = (i: number, j: number) => at(g, i, j) * at(x, i, j) * r[i]!;
    const over = Array.from({ length: columns }, (_, j) => j);
    const expected = Array.from({ length: rows }, (_, i) => {
      const mean = over.reduce((s, j) => s + t(i, j) * w[j]!, 0) / columns;
      return over.map((j) => r[i]! * (at(g, i, j) * w[j]! - at(x, i, j) * r[i]! * mean));
    }).flat();
    expectClose(dx, expected, 1e-6);
    const taskRows = [[0, 1, 2], [3, 4, 5], [6]];
    expectClose(
      sums,
      taskRows.flatMap((list) => over.map((j) => list.reduce((s, i) => s + t(i, j), 0))),
      1e-6,
    );
  });

  it('softmax of whole rows and below the diagonal, against float64', () => {
    const runs = [false, true].map((causal) => callable(formulas.softmax(), set, { causal }));
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 0, max: 9 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 1000 }),
        (queries, shift, causal, seed) => {
          const keys = queries + shift;
          const rows = 2 * queries;
          const x = noise(rows * keys, 20, seed / 100);
          const y = floats(Array(rows * keys + 8).fill(7));
          const perTask = 3;
          runs[Number(causal)]!(
            [x, y],
            rowParameters(rows * keys, perTask, keys, queries, shift),
            Array(Math.ceil(rows / perTask)).keys(),
          );
          const expected = Array.from({ length: rows }, (_, i) => {
            const visible = causal ? (i % queries) + shift + 1 : keys;
            const row = Array.from(x.subarray(i * keys, i * keys + visible));
            const top = Math.max(...row);
            const e = row.map((v) => Math.exp(v - top));
            const total = e.reduce((a, b) => a + b);
            return [...e.map((v) => v / total), ...Array(keys - visible).fill(0)];
          }).flat();
          expectClose(y.subarray(0, rows * keys), expected, 5e-7);
          expect(Array.from(y.subarray(rows * keys))).toEqual(Array(8).fill(7));
        },
      ),
      { numRuns: 40 },
    );
  });

  it('gradients of softmax rows and of causal scores', () => {
    const [rows, columns] = [5, 19];
    const [y, g] = [noise(rows * columns, 1), noise(rows * columns, 1, 3)];
    const out = floats(Array(rows * columns).fill(7));
    callable(formulas.softmaxGrad(), set)([y, g, out], rowParameters(95, 2, columns), [0, 1, 2]);
    const dot = (i: number) =>
      y.subarray(i * columns, (i + 1) * columns).reduce((s, v, j) => s + v * g[i * columns + j]!, 0);
    const row = (k: number) => Math.floor(k / columns);
    expectClose(
      out,
      Array.from(y, (v, k) => v * (g[k]! - dot(row(k)))),
      1e-6,
    );
    const delta = noise(rows, 1, 5);
    callable(formulas.scoresGrad(), set, { causal: true })(
      [y, g, delta, out],
      rowParameters(95, 2, columns, rows, columns - rows),
      [0, 1, 2],
    );
    const visible = (k: number) => k % columns <= row(k) + columns - rows;
    expectClose(
      out,
      Array.from(y, (v, k) => (visible(k) ? v * (g[k]! - delta[row(k)]!) : 0)),
      1e-6,
    );
  });

  it('a formula with more values than registers is refused when it is compiled', () => {
    const f = new Formula();
    const inputs = Array.from({ length: 9 }, (_, i) => f.matrix(i % 8));
    let all = inputs.flatMap((a, i) => inputs.map((b, j) => f.mul(f.add(a, i + 2), f.add(b, j + 0.5))));
    const squares = all.map((v) => f.sqrt(v));
    // Every square root is needed twice, the second time after all the others.
    all = [...squares, ...squares.map((v) => f.div(1, v))];
    f.write(
      8,
      all.reduce((a, b) => f.maximum(b, a)),
    );
    expect(() => compileRows(f, set)).toThrow('too many values at once');
  });
});
