import { describe, expect, it } from 'vitest';
import { allocate } from '../../src/core/dtype.js';
import { Rng } from '../../src/index.js';
import { type Asking, blockOperator } from '../../src/native/block-operator.js';
import { compileBlockProduct } from '../../src/native/block-product.js';
import { detectSupport } from '../../src/native/cpu.js';
import type { KernelRequest } from '../../src/runtime/backend.js';
import { pointerArray } from '../../src/runtime/node/ort-api.js';

const support = detectSupport();
const sets: readonly string[] = support.sets;
const hasAvx512 = sets[0] === 'avx512';

const type = (...shape: number[]) => ({ dtype: 'float32' as const, shape });
const sumOf = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

/** What is multiplied: m rows of k, right operands of these widths, and what is added. */
interface Case {
  kind: 'jointMatmul' | 'swiglu' | 'gemm';
  m: number;
  k: number;
  columns: readonly number[];
  addend?: 'matrix' | 'row';
}

function requestOf({ kind, m, k, columns, addend }: Case): KernelRequest {
  const n = kind === 'swiglu' ? columns[0]! : sumOf(columns);
  const added = addend === 'matrix' ? [type(m, n)] : addend === 'row' ? [type(n)] : [];
  const inputs = [type(m, k), ...columns.map((width) => type(k, width)), ...added];
  return { kind, attributes: {}, inputs, outputs: [type(m, n)] };
}

const numbers = (rng: Rng, n: number) => {
  const data = allocate('float32', n) as Float32Array;
  data.set(rng.normal(n));
  return data;
};

/** Caches of 5 rows with 2 key heads of 300 tokens, and lengths beyond what there is time to ask for, or senseless. */
const others = { rows: 5, kvHeads: 2, capacity: 300, size: 32 };
const caches = Array.from({ length: 2 }, () =>
  allocate('float32', others.rows * others.kvHeads * others.capacity * others.size),
);
const lengths = Int32Array.from({ length: 64 }, (_, i) => [0, 70, 299, -5, 2 ** 31 - 1][i % 5]!);

/** Runs all tasks; behind the result must remain what was there. */
function run(request: KernelRequest, inputs: readonly Float32Array[], asking?: Asking) {
  if (support.reason !== undefined) throw new Error(support.reason);
  const { koffi, install } = support;
  const operator = blockOperator(request, asking)!;
  const task = koffi.decode(
    install(compileBlockProduct(operator.code)),
    koffi.proto('void', ['void *', 'size_t']),
  ) as (frame: BigUint64Array, index: number) => void;
  const [m, n] = request.outputs[0]!.shape as [number, number];
  const y = (allocate('float32', m * n + 50) as Float32Array).fill(7);
  const frame = pointerArray(16);
  [operator.parameters, ...inputs, y, ...(asking ? [...caches, lengths] : [])].forEach((array, i) => {
    frame[i] = koffi.address(array);
  });
  for (let index = 0; index < operator.tasks; index++) task(frame, index);
  expect(y.subarray(-50).every((v) => v === 7)).toBe(true);
  return { y: Array.from(y.subarray(0, m * n)), operator };
}

/** In double precision. */
function expected({ kind, m, k, columns, addend }: Case, [x, ...rest]: readonly Float32Array[]): number[] {
  const products = columns.map((n, part) =>
    Array.from({ length: m * n }, (_, i) => {
      let total = 0;
      for (let l = 0; l < k; l++) total += x![Math.floor(i / n) * k + l]! * rest[part]![l * n + (i % n)]!;
      return total;
    }),
  );
  if (kind === 'swiglu') return products[0]!.map((g, i) => (g / (1 + Math.exp(-g))) * products[1]![i]!);
  const total = sumOf(columns);
  const added = rest[columns.length];
  return Array.from({ length: m * total }, (_, i) => {
    let [part, column] = [0, i % total];
    while (column >= columns[part]!) column -= columns[part++]!;
    const value = products[part]![Math.floor(i / total) * columns[part]! + column]!;
    return value + (addend ? added![addend === 'row' ? i % total : i]! : 0);
  });
}

describe.runIf(hasAvx512)('products of a block of rows', () => {
  // Rows: one tile, tails of every length, groups of two tiles with and without a tail.
  const cases: Case[] = [
    { kind: 'jointMatmul', m: 6, k: 32, columns: [64, 64] },
    { kind: 'jointMatmul', m: 32, k: 256, columns: [128, 64, 64] },
    { kind: 'jointMatmul', m: 13, k: 35, columns: [192, 64, 128] },
    { kind: 'swiglu', m: 20, k: 40, columns: [96, 96] },
    { kind: 'swiglu', m: 27, k: 130, columns: [32, 32] },
    { kind: 'gemm', m: 22, k: 100, columns: [128], addend: 'matrix' },
    { kind: 'gemm', m: 35, k: 704, columns: [64], addend: 'matrix' },
    { kind: 'gemm', m: 12, k: 33, columns: [64], addend: 'row' },
    { kind: 'gemm', m: 10, k: 2048, columns: [64], addend: 'row' },
  ];
  it.each(cases)('$kind of $m x $k by $columns, plus a $addend', (one) => {
    const rng = new Rng(one.m + one.k);
    const request = requestOf(one);
    const inputs = request.inputs.map(({ shape }) =>
      numbers(
        rng,
        shape.reduce((a, b) => a * b, 1),
      ),
    );
    const { y, operator } = run(request, inputs);
    const exact = expected(one, inputs);
    const largest = Math.max(...exact.map(Math.abs));
    const worst = Math.max(...exact.map((v, i) => Math.abs(v - y[i]!)));
    expect(worst / largest).toBeLessThan(3e-6);
    // Whatever is asked for meanwhile, not a bit is another.
    const asking = { firstRun: 3, runsOfTask: 2, runs: 20, ...others };
    const { y: same, operator: asks } = run(request, inputs, asking);
    expect(same).toEqual(y);
    expect(asks.tasks).toBe(operator.tasks * Math.ceil(one.m / 12));
  });

  it('gives a row the same bits wherever it lies in a block', () => {
    const rng = new Rng(5);
    const [m, k, n] = [17, 64, 64];
    const [x, w, c] = [numbers(rng, m * k), numbers(rng, k * n), numbers(rng, m * n)] as const;
    const whole = run(requestOf({ kind: 'gemm', m, k, columns: [n], addend: 'matrix' }), [x, w, c]).y;
    const part = requestOf({ kind: 'gemm', m: 9, k, columns: [n], addend: 'matrix' });
    expect(run(part, [x.slice(8 * k), w, c.slice(8 * n)]).y).toEqual(whole.slice(8 * n));
  });

  const base: Case = { kind: 'gemm', m: 12, k: 64, columns: [64], addend: 'matrix' };
  it.each<[string, KernelRequest]>([
    ['fewer rows than a tile has', requestOf({ ...base, m: 5 })],
    ['few steps', requestOf({ ...base, k: 31 })],
    ['too many steps', requestOf({ ...base, k: 2049 })],
    ['columns that are no whole panels', requestOf({ ...base, columns: [48] })],
    ['half panels of gates', requestOf({ kind: 'swiglu', m: 12, k: 64, columns: [16, 16] })],
    ['gates of another width', requestOf({ kind: 'swiglu', m: 12, k: 64, columns: [64, 32] })],
    ['a transposed operand', { ...requestOf(base), attributes: { transB: 1 } }],
    ['a factor', { ...requestOf(base), attributes: { alpha: 2 } }],
    ['another kind', { ...requestOf(base), kind: 'rmsNorm' }],
    ['an addend of another shape', { ...requestOf(base), inputs: [type(12, 64), type(64, 64), type(12)] }],
    [
      'a weight of another height',
      { ...requestOf(base), inputs: [type(12, 64), type(60, 64), type(12, 64)] },
    ],
  ])('have no operator: %s', (_, request) => {
    expect(blockOperator(request)).toBeUndefined();
  });
});
