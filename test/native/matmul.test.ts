import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { configure, matmul, program, Rng, type Tensor } from '../../src/index.js';
import { detectSupport } from '../../src/native/cpu.js';
import type { InstructionSet } from '../../src/native/instructions.js';
import { replaceKernels } from '../../src/native/kernels.js';
import { compileMatmul } from '../../src/native/matmul-kernel.js';
import type { MatmulCode } from '../../src/native/matmul-layout.js';
import { matmulOperator } from '../../src/native/matmul-operator.js';
import type { KernelRequest } from '../../src/runtime/backend.js';
import { pointerArray } from '../../src/runtime/node/ort-api.js';

const support = detectSupport();
const sets: readonly InstructionSet[] = support.sets;
const hasAvx512 = sets[0] === 'avx512';

beforeAll(() => configure({ threads: 2 }));
afterEach(() => {
  replaceKernels({});
  configure({ native: true });
});

interface Product {
  m: number;
  n: number;
  k: number;
  transA?: boolean;
  transB?: boolean;
  alpha?: number;
  addend?: 'matrix' | 'row';
  batch?: number;
  triangle?: 'result' | 'left';
}

function requestOf(p: Product): KernelRequest {
  const { m, n, k, transA = false, transB = false, alpha = 1, addend, batch } = p;
  const lead = batch === undefined ? [] : [batch];
  const type = (...shape: number[]) => ({ dtype: 'float32' as const, shape: [...lead, ...shape] });
  const inputs = [transA ? type(k, m) : type(m, k), transB ? type(n, k) : type(k, n)];
  if (addend) inputs.push(addend === 'row' ? { dtype: 'float32', shape: [n] } : type(m, n));
  return {
    kind: addend ? 'gemm' : 'matmul',
    attributes: {
      transA: Number(transA),
      transB: Number(transB),
      alpha,
      triangle: p.triangle ? { result: 1, left: 2 }[p.triangle] : 0,
    },
    inputs,
    outputs: [type(m, n)],
  };
}

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** Runs an operator's tasks in the given order, by direct calls; checks that nothing behind the result changes. */
function runTasks(p: Product, data: readonly Float32Array[], order: (tasks: number) => Iterable<number>) {
  if (support.reason !== undefined) throw new Error(support.reason);
  const { koffi, install } = support;
  const request = requestOf(p);
  // Sizes that the runtime computes as fast are tested too: the code must be right for every size.
  const operator = matmulOperator(request, true)!;
  const task = koffi.decode(
    install(compileMatmul(operator.code)),
    koffi.proto('void', ['void *', 'size_t']),
  ) as (frame: BigUint64Array, index: number) => void;
  const size = sizeOf(request.outputs[0]!.shape);
  const result = new Float32Array(new ArrayBuffer(4 * size + 256)).fill(7);
  const frame = pointerArray(8);
  [operator.parameters, ...data, result].forEach((array, i) => {
    frame[i] = koffi.address(array);
  });
  for (const index of order(operator.tasks)) task(frame, index);
  expect(result.subarray(size).every((v) => v === 7)).toBe(true);
  return result.subarray(0, size);
}

function dataOf(p: Product): Float32Array[] {
  const rng = new Rng(p.m * 7 + p.n * 3 + p.k);
  return requestOf(p).inputs.map(({ shape }) => {
    const array = new Float32Array(new ArrayBuffer(Math.max(128, 4 * sizeOf(shape))), 0, sizeOf(shape));
    array.set(rng.normal(array.length));
    return array;
  });
}

/** In float64. */
function exact(p: Product, [a, b, c]: readonly Float32Array[]): Float64Array {
  const { m, n, k, transA, transB, alpha = 1, addend, batch = 1 } = p;
  const y = new Float64Array(batch * m * n);
  for (let t = 0; t < batch; t++) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let l = 0; l < k; l++) {
          const x = a![t * m * k + (transA ? l * m + i : i * k + l)]!;
          sum += x * b![t * k * n + (transB ? j * k + l : l * n + j)]!;
        }
        const at = (t * m + i) * n + j;
        y[at] = alpha * sum + (addend === 'matrix' ? c![at]! : addend === 'row' ? c![j]! : 0);
      }
    }
  }
  return y;
}

const largestError = (y: ArrayLike<number>, expected: Float64Array, k: number) =>
  expected.reduce((worst, v, i) => Math.max(worst, Math.abs(y[i]! - v)), 0) / Math.sqrt(Math.max(1, k));

const forwards = (tasks: number) => Array(tasks).keys();

/** Whole tiles, tails in each direction, several chunks and blocks, both shapes of a tile. */
const sizes: readonly [number, number, number][] = [
  [16, 48, 64],
  [17, 65, 33],
  [19, 47, 300],
  [130, 100, 17],
  [24, 64, 90],
  [131, 31, 400],
  [33, 200, 769],
  [257, 129, 5],
  [40, 1, 900],
];
const flags = [false, true];

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) =>
  Buffer.from(buffer, byteOffset, byteLength);

describe.runIf(hasAvx512)('emitted products', () => {
  describe.each(sizes)('of %i x %i by %i', (m, n, k) => {
    for (const transA of flags) {
      for (const transB of flags) {
        it(`against float64${transA ? ', A transposed' : ''}${transB ? ', B transposed' : ''}`, () => {
          for (const addend of [undefined, 'matrix', 'row'] as const) {
            for (const alpha of [1, -0.5]) {
              const p: Product = { m, n, k, transA, transB, alpha, ...(addend ? { addend } : {}) };
              const data = dataOf(p);
              const y = runTasks(p, data, forwards);
              expect(largestError(y, exact(p, data), k)).toBeLessThan(3e-6);
            }
          }
        });
      }
    }
  });

  it.each([1, 5])('of %i matrices at once', (batch) => {
    for (const transA of flags) {
      for (const transB of flags) {
        const p: Product = { m: 35, n: 64, k: 50, transA, transB, alpha: 0.125, batch };
        const data = dataOf(p);
        expect(largestError(runTasks(p, data, forwards), exact(p, data), p.k)).toBeLessThan(3e-6);
      }
    }
  });

  it.each([
    [40, 40],
    [130, 130],
    [200, 231],
    [250, 520],
  ])('below a diagonal, %i queries and %i keys', (queries, keys) => {
    const shift = keys - queries;
    const batch = 2;
    const d = 64;
    const scores: Product = { m: queries, n: keys, k: d, transB: true, batch, triangle: 'result' };
    const data = dataOf(scores);
    const [y, expected] = [runTasks(scores, data, forwards), exact(scores, data)];
    let skipped = 0;
    for (let i = 0; i < y.length; i++) {
      const [row, column] = [Math.floor(i / keys) % queries, i % keys];
      const error = Math.abs(y[i]! - expected[i]!);
      // Above the diagonal a block may be zeros instead.
      if (column > row + shift && y[i] === 0) skipped++;
      else expect(error).toBeLessThan(3e-5);
    }
    if (queries >= 130) expect(skipped).toBeGreaterThan(batch * queries * 16);
    for (const transA of flags) {
      const p: Product = transA
        ? { m: keys, n: d, k: queries, transA, batch, triangle: 'left' }
        : { m: queries, n: d, k: keys, batch, triangle: 'left' };
      const [a, b] = dataOf(p) as [Float32Array, Float32Array];
      for (let i = 0; i < a.length; i++) {
        if (i % keys > (Math.floor(i / keys) % queries) + shift) a[i] = 0;
      }
      expect(largestError(runTasks(p, [a, b], forwards), exact(p, [a, b]), p.k)).toBeLessThan(3e-6);
    }
  });

  it('do not depend on the order of the tasks: any number of threads gives the same bits', () => {
    for (const transA of flags) {
      const p: Product = { m: 300, n: 250, k: 800, transA, transB: !transA, addend: 'matrix' };
      const data = dataOf(p);
      const up = runTasks(p, data, forwards);
      const down = runTasks(p, data, (tasks) => Array.from({ length: tasks }, (_, i) => tasks - 1 - i));
      expect(Buffer.compare(bytesOf(down), bytesOf(up))).toBe(0);
    }
  });

  it('carry NaN and infinities to the rows and columns that they belong to, and no further', () => {
    const p: Product = { m: 20, n: 60, k: 40 };
    const [a, b] = dataOf(p) as [Float32Array, Float32Array];
    a[3 * p.k + 5] = Number.NaN;
    b[7 * p.n + 50] = Infinity;
    const y = runTasks(p, [a, b], forwards);
    for (let i = 0; i < p.m; i++) {
      for (let j = 0; j < p.n; j++) {
        const v = y[i * p.n + j]!;
        if (i === 3) expect(v).toBeNaN();
        else expect(Math.abs(v) === Infinity).toBe(j === 50);
      }
    }
  });
});

describe('requests that do not fit', () => {
  const good = requestOf({ m: 64, n: 64, k: 64, addend: 'row' });
  const type = (...shape: number[]) => ({ dtype: 'float32' as const, shape });
  it.each<[string, Partial<KernelRequest>]>([
    ['another kind', { kind: 'convolution' }],
    ['an operand too few', { inputs: good.inputs.slice(0, 2) }],
    ['inner sizes that differ', { inputs: [type(64, 63), type(64, 64), type(64)] }],
    ['a result of another shape', { outputs: [type(64, 65)] }],
    ['an addend of another length', { inputs: [type(64, 64), type(64, 64), type(63)] }],
    ['an addend by columns', { inputs: [type(64, 64), type(64, 64), type(64, 1)] }],
    ['float64', { outputs: [{ dtype: 'float64', shape: [64, 64] }] }],
    [
      'batches that would broadcast',
      { kind: 'matmul', inputs: [type(2, 64, 64), type(1, 64, 64)], outputs: [type(2, 64, 64)] },
    ],
    ['too few rows', { kind: 'matmul', inputs: [type(4, 640), type(640, 640)], outputs: [type(4, 640)] }],
    [
      'few of the columns that a tile has',
      { kind: 'matmul', inputs: [type(640, 64), type(64, 65)], outputs: [type(640, 65)] },
    ],
    ['no work', { kind: 'matmul', inputs: [type(64, 0), type(0, 64)], outputs: [type(64, 64)] }],
  ])('have no operator: %s', (_, change) => {
    expect(matmulOperator(good)).toBeDefined();
    expect(matmulOperator({ ...good, ...change })).toBeUndefined();
  });

  it('but rows of many matrices by one matrix are a single product', () => {
    const many = { inputs: [type(3, 5, 40), type(40, 96)], outputs: [type(3, 5, 96)], kind: 'matmul' };
    expect(
      matmulOperator({
        ...good,
        ...many,
        inputs: [type(3, 32, 40), type(40, 96)],
        outputs: [type(3, 32, 96)],
      }),
    ).toMatchObject({ tasks: 2 });
    // 15 rows are too few.
    expect(matmulOperator({ ...good, ...many })).toBeUndefined();
  });
});

describe('in programs', () => {
  const body = ({ a, b, c, d }: Record<string, Tensor>) => ({
    plain: a!.matmul(b!),
    sum: matmul(a!, b!, { transposeA: false, scale: 0.5 }).add(c!),
    gradient: matmul(a!, c!, { transposeA: true }),
    turned: matmul(c!, b!, { transposeB: true }),
    batched: matmul(d!, d!, { transposeB: true, scale: 2 }),
  });
  const shapes = { a: [70, 46], b: [46, 90], c: [70, 90], d: [2, 3, 96, 20] };

  it('agree with the plain operators', async () => {
    const rng = new Rng(1);
    const data = Object.fromEntries(Object.entries(shapes).map(([k, s]) => [k, rng.normal(sizeOf(s))]));
    const run = async (native: boolean) => {
      configure({ native });
      const p = program(shapes, body);
      return { values: await p(data as never), kernels: p.report().kernels };
    };
    const [native, plain] = [await run(true), await run(false)];
    if (hasAvx512) expect(native.kernels).toEqual({ matmul: 4, gemm: 1 });
    for (const [name, { data: y }] of Object.entries(native.values)) {
      const other = Float64Array.from(plain.values[name as keyof typeof plain.values].data);
      expect(largestError(y, other, 1), name).toBeLessThan(3e-5);
    }
  });

  it.runIf(sets.includes('avx2'))('are left to the runtime in AVX2', async () => {
    replaceKernels({ set: 'avx2' });
    const p = program(shapes, body);
    await p.compile(
      Object.fromEntries(Object.entries(shapes).map(([k, s]) => [k, new Float32Array(sizeOf(s))])) as never,
    );
    expect(p.report().kernels).toEqual({});
  });
});

it('the code of a product lies in one page or a few', () => {
  const code: MatmulCode = { transA: false, transB: true, scaled: true, addend: true, vectors: 3 };
  expect(compileMatmul(code).length).toBeLessThan(16384);
});
