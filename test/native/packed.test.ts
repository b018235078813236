import fc from 'fast-check';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { allocate, type TypedArray } from '../../src/core/dtype.js';
import { fromFloat16, toFloat16 } from '../../src/core/float16.js';
import { packedMatmul } from '../../src/core/ops/packed-matmul.js';
import { configure, program, Rng, Variable } from '../../src/index.js';
import { detectSupport } from '../../src/native/cpu.js';
import type { InstructionSet } from '../../src/native/instructions.js';
import { replaceKernels } from '../../src/native/kernels.js';
import { compilePacked } from '../../src/native/packed-kernel.js';
import { packedOperator } from '../../src/native/packed-operator.js';
import type { KernelRequest } from '../../src/runtime/backend.js';
import { pointerArray } from '../../src/runtime/node/ort-api.js';

const support = detectSupport();
/** AVX-512 needs VNNI here; without it, its processors take the AVX2 code. */
const sets: readonly InstructionSet[] = support.sets.filter(
  (set) => set === 'avx2' || (support.reason === undefined && support.hasVnni),
);

beforeAll(() => configure({ threads: 2 }));
afterEach(() => {
  replaceKernels({});
  configure({ native: true });
});

interface Product {
  bits: 4 | 8;
  block: 16 | 32;
  rows: number;
  inputs: number;
  outputs: number;
  hasMinima?: boolean;
  isHalf?: boolean;
}

interface Operands {
  x: Float32Array;
  values: Uint8Array;
  scales: TypedArray;
  minima: TypedArray | undefined;
}

function requestOf({ bits, block, rows, inputs, outputs, hasMinima, isHalf }: Product): KernelRequest {
  const blocks = inputs / block;
  const factors = { dtype: isHalf ? 'float16' : 'float32', shape: [outputs, blocks] } as const;
  return {
    kind: 'packedMatmul',
    attributes: { bits, block },
    inputs: [
      { dtype: 'float32', shape: [rows, inputs] },
      { dtype: 'uint8', shape: [outputs, blocks, (block * bits) / 8] },
      factors,
      ...(hasMinima ? [factors] : []),
    ],
    outputs: [{ dtype: 'float32', shape: [rows, outputs] }],
  };
}

/** Copies that end where their memory ends, as far as that is possible. */
function filled<T extends TypedArray>(dtype: 'float32' | 'float16' | 'uint8', values: ArrayLike<number>): T {
  const array = allocate(dtype, values.length) as T;
  for (let i = 0; i < values.length; i++) array[i] = values[i]!;
  return array;
}

const factorsOf = (numbers: readonly number[], isHalf = false): TypedArray =>
  isHalf ? filled('float16', toFloat16(Float32Array.from(numbers))) : filled('float32', numbers);

/** Integers that 8 bits hold exactly, with scales that are powers of two: every sum is exact in float32. */
function exactOperands(p: Product, seed: number): Operands {
  const rng = new Rng(seed);
  const integers = (n: number, low: number, high: number) => Array.from(rng.integers(n, low, high), Number);
  const count = (p.outputs * p.inputs) / p.block;
  const x = integers(p.rows * p.inputs, -127, 128);
  const exponents = integers(x.length / 32, 0, 2);
  for (let g = 0; g < x.length / 32; g++) {
    x[32 * g + (g % 32)] = g % 3 ? 127 : -127;
    for (let i = 0; i < 32; i++) x[32 * g + i]! *= 2 ** exponents[g]!;
  }
  const bytes = integers((p.outputs * p.inputs * p.bits) / 8, 0, 256);
  const powers = (n: number) => integers(n, -1, 2).map((e) => 2 ** e);
  return {
    x: filled('float32', x),
    values: filled('uint8', bytes),
    scales: factorsOf(powers(count), p.isHalf),
    minima: p.hasMinima ? factorsOf(integers(count, -3, 4), p.isHalf) : undefined,
  };
}

function randomOperands(p: Product, seed: number): Operands {
  const rng = new Rng(seed);
  const count = (p.outputs * p.inputs) / p.block;
  const numbers = (n: number, size: number) => Array.from(rng.normal(n), (v) => size * v);
  return {
    x: filled('float32', numbers(p.rows * p.inputs, 3)),
    values: filled('uint8', Array.from(rng.integers((p.outputs * p.inputs * p.bits) / 8, 0, 256), Number)),
    scales: factorsOf(numbers(count, 0.1), p.isHalf),
    minima: p.hasMinima ? factorsOf(numbers(count, 0.3), p.isHalf) : undefined,
  };
}

const roundEven = (v: number) => {
  const r = Math.round(v);
  return r - v === 0.5 && r % 2 !== 0 ? r - 1 : r;
};

/** What the machine code is to compute: activations rounded in groups of 32, then sums in float64. */
function oracle(p: Product, { x, values, scales, minima }: Operands): Float64Array {
  const { bits, block, rows, inputs, outputs, isHalf } = p;
  const floats = (array: TypedArray) => (isHalf ? fromFloat16(array as Uint16Array) : array);
  const [scaleOf, minimumOf] = [floats(scales), minima && floats(minima)];
  const rounded = new Int32Array(x.length);
  const units = new Float64Array(x.length / 32);
  for (let g = 0; g < units.length; g++) {
    const group = x.subarray(32 * g, 32 * g + 32);
    const largest = group.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    units[g] = Math.fround(largest / 127);
    const inverse = Math.fround(127 / Math.max(largest, Math.fround(1e-30)));
    for (let i = 0; i < 32; i++) rounded[32 * g + i] = roundEven(Math.fround(group[i]! * inverse));
  }
  const blocks = inputs / block;
  const zero = minima ? 0 : 2 ** (bits - 1);
  const y = new Float64Array(rows * outputs);
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outputs; o++) {
      for (let b = 0; b < blocks; b++) {
        let dot = 0;
        let sum = 0;
        for (let i = 0; i < block; i++) {
          const at = (o * blocks + b) * block + i;
          const q = bits === 8 ? values[at]! : (values[at >> 1]! >> (4 * (at & 1))) & 15;
          const a = rounded[r * inputs + b * block + i]!;
          dot += (q - zero) * a;
          sum += a;
        }
        const unit = units[Math.floor((r * inputs + b * block) / 32)]!;
        y[r * outputs + o]! += unit * scaleOf[o * blocks + b]! * dot;
        if (minimumOf) y[r * outputs + o]! += unit * minimumOf[o * blocks + b]! * sum;
      }
    }
  }
  return y;
}

const guard = 64;

/** Runs the tasks by direct calls, in the given order; checks that nothing behind the result changes. */
function runTasks(p: Product, set: InstructionSet, operands: Operands, isReversed = false): Float32Array {
  if (support.reason !== undefined) throw new Error(support.reason);
  const { koffi, install } = support;
  // Sizes that the runtime computes as fast are tested too: the code must be right for every size.
  const operator = packedOperator(requestOf(p), set, true)!;
  const code = compilePacked(operator.code, set, operator.rowBlock);
  const task = koffi.decode(install(code), koffi.proto('void', ['void *', 'size_t'])) as (
    frame: BigUint64Array,
    index: number,
  ) => void;
  const size = p.rows * p.outputs;
  const result = (allocate('float32', size + guard) as Float32Array).fill(7);
  const frame = pointerArray(8);
  const { x, values, scales, minima } = operands;
  [operator.parameters, x, values, scales, ...(minima ? [minima] : []), result].forEach((array, i) => {
    frame[i] = koffi.address(array);
  });
  const order = [...Array(operator.tasks).keys()];
  for (const index of isReversed ? order.reverse() : order) task(frame, index);
  expect(result.subarray(size).every((v) => v === 7)).toBe(true);
  return result.subarray(0, size);
}

/** Kinds of blocks that files have: Q4_0, Q4_1 and Q4_K, Q8_0, Q6_K. */
const kinds: readonly Pick<Product, 'bits' | 'block' | 'hasMinima' | 'isHalf'>[] = [
  { bits: 4, block: 32, isHalf: true },
  { bits: 4, block: 32, hasMinima: true, isHalf: true },
  { bits: 4, block: 32, hasMinima: true },
  { bits: 8, block: 32, isHalf: true },
  { bits: 8, block: 32 },
  { bits: 8, block: 16 },
];
const nameOf = (k: (typeof kinds)[number]) =>
  `${k.bits} bits, blocks of ${k.block}${k.hasMinima ? ', minima' : ''}${k.isHalf ? ', float16' : ''}`;

/** Rows, inputs and outputs: whole vectors and what is left of one, four outputs and a few more, several tasks. */
const sizes: readonly [number, number, number][] = [
  [1, 32, 4],
  [1, 64, 5],
  [2, 96, 7],
  [3, 128, 8],
  [5, 160, 13],
  [7, 576, 42],
  [9, 224, 130],
  [70, 64, 6],
  [1, 512, 1203],
];

describe.each(sets)('products with packed weights in %s', (set) => {
  describe.each(kinds.map((kind) => [nameOf(kind), kind] as const))('%s', (_, kind) => {
    it.each(sizes)('%i rows, %i inputs, %i outputs: exact integers', (rows, inputs, outputs) => {
      const p = { ...kind, rows, inputs, outputs };
      const operands = exactOperands(p, rows + inputs + outputs);
      expect(runTasks(p, set, operands)).toEqual(Float32Array.from(oracle(p, operands)));
    });
  });

  it('round any activations as the oracle does', () => {
    const shape = fc.record({
      kind: fc.constantFrom(...kinds),
      rows: fc.integer({ min: 1, max: 40 }),
      groups: fc.integer({ min: 1, max: 12 }),
      outputs: fc.integer({ min: 4, max: 40 }),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(shape, ({ kind, rows, groups, outputs, seed }) => {
        const p = { ...kind, rows, inputs: 32 * groups, outputs };
        const operands = randomOperands(p, seed);
        const want = oracle(p, operands);
        const scale = Math.max(...want.map(Math.abs));
        runTasks(p, set, operands).forEach((v, i) => {
          expect(Math.abs(v - want[i]!) / scale).toBeLessThan(2e-6);
        });
      }),
      { numRuns: 40, seed: 4 },
    );
  });

  it('give the same bits in any order of the tasks', () => {
    const p: Product = { bits: 4, block: 32, hasMinima: true, rows: 3, inputs: 1536, outputs: 402 };
    const operands = randomOperands(p, 1);
    expect(packedOperator(requestOf(p), set)!.tasks).toBeGreaterThan(2);
    expect(runTasks(p, set, operands, true)).toEqual(runTasks(p, set, operands));
  });

  it('rows of zeros, denormals and huge numbers stay finite; what is not finite stays in its row', () => {
    for (const kind of kinds) {
      const p: Product = { ...kind, rows: 5, inputs: 64, outputs: 9 };
      const operands = exactOperands(p, 3);
      const row = (r: number) => operands.x.subarray(64 * r, 64 * (r + 1));
      row(0).fill(0);
      row(1).fill(1e-42);
      row(2).fill(1e30);
      row(3)[40] = Number.NaN;
      const y = runTasks(p, set, operands);
      const part = (r: number) => y.subarray(9 * r, 9 * (r + 1));
      expect([...part(0)].every((v) => v === 0)).toBe(true);
      for (const r of [1, 2]) expect([...part(r)].every(Number.isFinite)).toBe(true);
      expect([...part(3)].every(Number.isNaN)).toBe(true);
      const want = oracle({ ...p, rows: 1 }, { ...operands, x: row(4) });
      expect(part(4)).toEqual(Float32Array.from(want));
      row(3)[40] = -Infinity;
      const infinite = runTasks(p, set, operands).subarray(27, 36);
      expect([...infinite].some(Number.isFinite)).toBe(false);
    }
  });
});

describe('in programs', () => {
  const variableOf = (data: TypedArray, dtype: 'float32' | 'float16' | 'uint8', shape: readonly number[]) =>
    new Variable(data, dtype, shape, { fixed: true });

  /** The same product by machine code and by the runtime's own nodes. */
  async function bothWays(p: Product, coarse: boolean, set?: InstructionSet) {
    const { x, values, scales, minima } = randomOperands(p, 5);
    const [, second, third] = requestOf(p).inputs;
    const dtype = p.isHalf ? 'float16' : 'float32';
    const weights = {
      bits: p.bits,
      block: p.block,
      values: variableOf(values, 'uint8', second!.shape),
      scales: variableOf(scales, dtype, third!.shape),
      minima: minima && variableOf(minima, dtype, third!.shape),
    };
    const run = async (native: boolean) => {
      configure({ native });
      const f = program({ x: [p.rows, p.inputs] }, (feeds) => ({
        y: packedMatmul(feeds.x, weights, coarse),
      }));
      const { y } = await f({ x });
      const { kernels } = f.report();
      f.dispose();
      return { y: y.data as Float32Array, kernels };
    };
    if (set) replaceKernels({ set });
    return [await run(true), await run(false)] as const;
  }
  const relative = (a: Float32Array, b: Float32Array) => {
    const size = (v: (i: number) => number) => Math.sqrt(a.reduce((sum, _, i) => sum + v(i) ** 2, 0));
    return size((i) => a[i]! - b[i]!) / size((i) => b[i]!);
  };

  it.each(sets.flatMap((set) => kinds.map((kind) => [set, nameOf(kind), kind] as const)))(
    '%s, %s: near the nodes that stand in for it',
    async (set, _, kind) => {
      for (const rows of [1, 6]) {
        const p = { ...kind, rows, inputs: 160, outputs: 70 };
        const [native, plain] = await bothWays(p, true, set);
        expect(native.kernels).toEqual({ packedMatmul: 1 });
        expect(plain.kernels).toEqual({});
        // Both round activations to 8 bits, over other groups of them.
        expect(relative(native.y, plain.y)).toBeLessThan(2.5e-2);
      }
    },
  );

  it('an exact product has no kernel', async () => {
    const p: Product = { bits: 4, block: 32, rows: 2, inputs: 96, outputs: 8, hasMinima: true, isHalf: true };
    const [native, plain] = await bothWays(p, false);
    expect(native.kernels).toEqual({});
    expect(relative(native.y, plain.y)).toBeLessThan(1e-6);
    const want = oracle(p, randomOperands(p, 5));
    expect(relative(native.y, Float32Array.from(want))).toBeLessThan(2e-2);
  });
});

describe('requests that do not fit', () => {
  const good = requestOf({ bits: 4, block: 32, rows: 2, inputs: 64, outputs: 8, hasMinima: true });
  const [x, values, scales] = good.inputs as [
    KernelRequest['inputs'][0],
    KernelRequest['inputs'][0],
    KernelRequest['inputs'][0],
  ];
  it.each<[string, Partial<KernelRequest>]>([
    ['another kind', { kind: 'matmul' }],
    ['no scales', { inputs: [x, values] }],
    ['blocks of 64', { attributes: { bits: 4, block: 64 } }],
    ['4 bits in blocks of 16', { attributes: { bits: 4, block: 16 } }],
    ['2 bits', { attributes: { bits: 2, block: 32 } }],
    ['float64', { inputs: [{ ...x, dtype: 'float64' }, values, scales] }],
    ['signed values', { inputs: [x, { ...values, dtype: 'int32' }, scales] }],
    ['an input of another width', { inputs: [{ ...x, shape: [2, 96] }, values, scales] }],
    ['scales by columns', { inputs: [x, values, { ...scales, shape: [2, 8] }] }],
    ['minima of another type', { inputs: [x, values, scales, { ...scales, dtype: 'float16' }] }],
    ['a result of another shape', { outputs: [{ dtype: 'float32', shape: [2, 9] }] }],
    [
      'no rows',
      { inputs: [{ ...x, shape: [0, 64] }, values, scales], outputs: [{ dtype: 'float32', shape: [0, 8] }] },
    ],
  ])('have no operator: %s', (_, change) => {
    expect(packedOperator(good, 'avx512')).toBeDefined();
    expect(packedOperator({ ...good, ...change }, 'avx512')).toBeUndefined();
  });

  it('nor have fewer than four outputs, or rows too long for the stack', () => {
    const of = (p: Partial<Product>) =>
      packedOperator(requestOf({ bits: 4, block: 32, rows: 1, inputs: 64, outputs: 8, ...p }), 'avx2');
    expect(of({})).toBeDefined();
    expect(of({ outputs: 3 })).toBeUndefined();
    expect(of({ inputs: 2 ** 20 })).toBeUndefined();
  });

  it('nor, in AVX2, have many rows', () => {
    const many = requestOf({ bits: 4, block: 32, rows: 64, inputs: 64, outputs: 8 });
    expect(packedOperator(many, 'avx2')).toBeUndefined();
    expect(packedOperator(many, 'avx512')).toBeDefined();
  });
});
