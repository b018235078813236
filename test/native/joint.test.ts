import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { allocate } from '../../src/core/dtype.js';
import { configure, mul, program, Rng, sgd, silu, sum, type Tensor, Variable } from '../../src/index.js';
import { detectSupport } from '../../src/native/cpu.js';
import { compileJoint } from '../../src/native/joint-kernel.js';
import { jointOperator } from '../../src/native/joint-operator.js';
import { replaceKernels } from '../../src/native/kernels.js';
import { joint, Linear } from '../../src/nn/linear.js';
import type { KernelRequest } from '../../src/runtime/backend.js';
import { pointerArray } from '../../src/runtime/node/ort-api.js';

const support = detectSupport();
const sets: readonly string[] = support.sets;
const hasAvx512 = sets[0] === 'avx512';

beforeAll(() => configure({ threads: 2 }));
afterEach(() => {
  replaceKernels({});
  configure({ native: true });
});

const type = (...shape: number[]) => ({ dtype: 'float32' as const, shape });
const sumOf = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

function requestOf(m: number, k: number, columns: readonly number[], isGated: boolean): KernelRequest {
  return {
    kind: isGated ? 'swiglu' : 'jointMatmul',
    attributes: {},
    inputs: [type(m, k), ...columns.map((n) => type(k, n))],
    outputs: [type(m, isGated ? columns[0]! : sumOf(columns))],
  };
}

const numbers = (rng: Rng, n: number, scale = 1) => {
  const data = allocate('float32', n) as Float32Array;
  data.set(Array.from(rng.normal(n), (v) => v * scale));
  return data;
};

/** Runs the tasks in the order that `order` makes of their numbers. */
function run(request: KernelRequest, inputs: readonly Float32Array[], order = (tasks: number[]) => tasks) {
  if (support.reason !== undefined) throw new Error(support.reason);
  const { koffi, install } = support;
  const operator = jointOperator(request)!;
  const task = koffi.decode(
    install(compileJoint(operator.code)),
    koffi.proto('void', ['void *', 'size_t']),
  ) as (frame: BigUint64Array, index: number) => void;
  const [m, n] = request.outputs[0]!.shape as [number, number];
  const y = (allocate('float32', m * n + 50) as Float32Array).fill(7);
  const frame = pointerArray(8);
  [operator.parameters, ...inputs, y].forEach((array, i) => {
    frame[i] = koffi.address(array);
  });
  for (const index of order(Array.from({ length: operator.tasks }, (_, i) => i))) task(frame, index);
  expect(y.subarray(-50).every((v) => v === 7)).toBe(true);
  return { y: y.subarray(0, m * n), operator };
}

/** Largest error against float64, relative to the largest value. */
function worst(y: Float32Array, inputs: readonly Float32Array[], m: number, k: number, isGated: boolean) {
  const [x, ...weights] = inputs;
  const products = weights.map((w) => {
    const n = w.length / k;
    return Array.from({ length: m * n }, (_, i) => {
      let total = 0;
      for (let l = 0; l < k; l++) total += x![Math.floor(i / n) * k + l]! * w[l * n + (i % n)]!;
      return total;
    });
  });
  let most = 0;
  let largest = 0;
  let offset = 0;
  const width = y.length / m;
  const check = (row: number, column: number, value: number) => {
    most = Math.max(most, Math.abs(y[row * width + column]! - value));
    largest = Math.max(largest, Math.abs(value));
  };
  products.forEach((product, part) => {
    const n = product.length / m;
    if (isGated && part === 1) return;
    for (let i = 0; i < product.length; i++) {
      const g = product[i]!;
      check(Math.floor(i / n), offset + (i % n), isGated ? (g / (1 + Math.exp(-g))) * products[1]![i]! : g);
    }
    offset += n;
  });
  return most / largest;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) =>
  Buffer.from(buffer, byteOffset, byteLength);

describe.runIf(hasAvx512)('products of one matrix with several', () => {
  // Rows: whole tiles, a last tile that starts early, several blocks; both shapes of a tile.
  const sizes: [m: number, k: number, columns: number[]][] = [
    [64, 32, [64, 64]],
    [67, 33, [48, 96, 48]],
    [128, 256, [256, 256, 256]],
    [128, 100, [192, 64, 64]],
    [131, 40, [576, 192, 192]],
    [400, 50, [64, 128]],
    [70, 1024, [48, 48]],
  ];
  it.each(sizes)('%i x %i by %j', (m, k, columns) => {
    const rng = new Rng(m + k);
    const inputs = [numbers(rng, m * k), ...columns.map((n) => numbers(rng, k * n))];
    const request = requestOf(m, k, columns, false);
    const { y, operator } = run(request, inputs);
    expect(worst(y, inputs, m, k, false)).toBeLessThan(2e-6);
    const down = run(request, inputs, (tasks) => tasks.reverse()).y;
    expect(Buffer.compare(bytesOf(down), bytesOf(y))).toBe(0);
    expect(operator.code.gated).toBe(false);
  });

  it.each([
    [64, 32, 32],
    [67, 33, 96],
    [128, 256, 704],
    [400, 70, 64],
    [65, 1024, 32],
  ])('%i x %i by two of %i columns, one of them a gate', (m, k, n) => {
    const rng = new Rng(m + k);
    const inputs = [numbers(rng, m * k), numbers(rng, k * n, 0.3), numbers(rng, k * n, 0.3)];
    expect(worst(run(requestOf(m, k, [n, n], true), inputs).y, inputs, m, k, true)).toBeLessThan(2e-6);
  });

  it('gates of any size: exact at the ends, NaN in its row only', () => {
    const [m, k, n] = [64, 32, 32];
    const rng = new Rng(1);
    const x = numbers(rng, m * k, 200);
    x[5 * k + 3] = Number.NaN;
    const inputs = [x, numbers(rng, k * n), numbers(rng, k * n)];
    const { y } = run(requestOf(m, k, [n, n], true), inputs);
    for (let row = 0; row < m; row++) {
      const isBroken = Array.from(y.subarray(row * n, row * n + n), Number.isNaN);
      expect(isBroken.every((b) => b === (row === 5))).toBe(true);
    }
    expect(y.some((v) => v === 0)).toBe(true);
  });
});

describe('requests that do not fit', () => {
  const good = requestOf(64, 64, [64, 64], false);
  it.each<[string, Partial<KernelRequest>]>([
    ['another kind', { kind: 'matmul' }],
    ['one weight', { inputs: good.inputs.slice(0, 2), outputs: [type(64, 64)] }],
    ['a gate and two to be gated', { ...requestOf(64, 64, [64, 64, 64], true) }],
    ['a gate of another width', { ...requestOf(64, 64, [64, 32], true) }],
    ['few rows', requestOf(63, 64, [64, 64], false)],
    ['few steps', requestOf(64, 31, [64, 64], false)],
    ['too many steps for a panel', requestOf(64, 1025, [64, 64], false)],
    ['columns that are no whole panels', requestOf(64, 64, [64, 48], false)],
    ['half panels of gates', requestOf(64, 64, [48, 48], true)],
    ['a result of another width', { outputs: [type(64, 129)] }],
    ['a weight of another height', { inputs: [type(64, 64), type(64, 64), type(63, 64)] }],
    ['float64', { outputs: [{ dtype: 'float64', shape: [64, 128] }] }],
  ])('have no operator: %s', (_, change) => {
    expect(jointOperator(good)).toBeDefined();
    expect(jointOperator({ ...good, ...change })).toBeUndefined();
  });
});

describe('in programs', () => {
  const weights = () => {
    const rng = new Rng(8);
    return Array.from({ length: 3 }, (_, i) => {
      const linear = new Linear(48, 64);
      linear.weight.data.set(numbers(rng, 48 * 64, 0.2 + i / 10));
      return linear;
    }) as [Linear, Linear, Linear];
  };
  const [q, k, v] = weights();
  const body = ({ x }: Record<string, Tensor>) => ({
    joint: joint([q, k, v], x!),
    gated: mul(silu(q.apply(x!)), k.apply(x!)),
    // The gate's product is needed besides.
    kept: mul(silu(v.apply(x!)), v.apply(x!)),
  });
  const x = numbers(new Rng(2), 90 * 48);

  it.each([
    ['many rows', 90, { jointMatmul: 1, swiglu: 1 }],
    ['few rows', 3, {}],
  ] as const)('%s: as without kernels', async (_, rows, expected) => {
    const results = async (native: boolean) => {
      configure({ native });
      const p = program({ x: [rows, 48] }, body);
      return { values: await p({ x: x.slice(0, rows * 48) }), kernels: p.report().kernels };
    };
    const [mine, plain] = [await results(true), await results(false)];
    if (hasAvx512) expect(mine.kernels).toMatchObject(expected);
    if (rows === 3) expect(Object.keys(mine.kernels)).not.toContain('swiglu');
    expect(plain.kernels).toEqual({});
    for (const name of ['joint', 'gated', 'kept'] as const) {
      const other = plain.values[name].data;
      expect(Math.max(...mine.values[name].data.map((y, i) => Math.abs(y - other[i]!)))).toBeLessThan(2e-5);
    }
  });

  it('training keeps the parts of a gated product, for its gradient', async () => {
    const w = new Variable(numbers(new Rng(3), 48 * 64, 0.2), 'float32', [48, 64], { name: 'w' });
    const p = program({ x: [90, 48] }, ({ x }) => {
      const y = mul(silu(x!.matmul(w)), k.apply(x!));
      const loss = sum(mul(y, y));
      sgd(1e-4).minimize(loss, [w]);
      return { loss };
    });
    await p({ x });
    expect(Object.keys(p.report().kernels)).not.toContain('swiglu');
  });
});
