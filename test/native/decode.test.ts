import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { allocate } from '../../src/core/dtype.js';
import { decodeAttention } from '../../src/core/ops/decode-attention.js';
import { configure, program, Rng, Variable } from '../../src/index.js';
import { detectSupport } from '../../src/native/cpu.js';
import { compileDecode } from '../../src/native/decode-kernel.js';
import { decodeOperator } from '../../src/native/decode-operator.js';
import type { InstructionSet } from '../../src/native/instructions.js';
import { replaceKernels } from '../../src/native/kernels.js';
import type { KernelRequest } from '../../src/runtime/backend.js';
import { pointerArray } from '../../src/runtime/node/ort-api.js';

const support = detectSupport();
const sets: readonly InstructionSet[] = support.sets;

beforeAll(() => configure({ threads: 2 }));
afterEach(() => {
  replaceKernels({});
  configure({ native: true });
});

interface Step {
  heads: number;
  kvHeads: number;
  size: number;
  capacity: number;
  lengths: readonly number[];
  /** More positions in the tables than in the caches. */
  positions?: number;
  scale?: number;
}

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

function requestOf({ heads, kvHeads, size, capacity, lengths, positions, scale = 0.3 }: Step): KernelRequest {
  const rows = lengths.length;
  const type = (...shape: number[]) => ({ dtype: 'float32' as const, shape });
  const cache = type(rows, kvHeads, capacity, size);
  const table = type(positions ?? capacity, size / 2);
  const projections = type(rows, (heads + 2 * kvHeads) * size);
  return {
    kind: 'decodeAttention',
    attributes: { heads, scale },
    inputs: [projections, cache, cache, { dtype: 'int32', shape: [rows] }, table, table],
    outputs: [type(rows, heads * size), cache, cache],
  };
}

/** Inputs with numbers everywhere, also where a row has no tokens: those must not matter. */
function inputsOf(step: Step): (Float32Array | Int32Array)[] {
  const rng = new Rng(step.heads + 10 * step.size + step.capacity);
  return requestOf(step).inputs.map(({ dtype, shape }, i) => {
    const data = allocate(dtype, sizeOf(shape)) as Float32Array | Int32Array;
    if (i === 3) data.set(step.lengths);
    else data.set(rng.normal(data.length));
    if (i < 4) return data;
    return (data as Float32Array).map((angle) => (i === 4 ? Math.cos(angle) : Math.sin(angle)));
  });
}

/** In float64, with the new keys and values. */
function exact(step: Step, inputs: readonly ArrayLike<number>[]) {
  const { heads, kvHeads, size, capacity, lengths, scale = 0.3 } = step;
  const [projections, keys, values, , cos, sin] = inputs;
  const [nextKeys, nextValues] = [Float64Array.from(keys!), Float64Array.from(values!)];
  const y = new Float64Array(lengths.length * heads * size);
  lengths.forEach((length, row) => {
    const start = row * (heads + 2 * kvHeads) * size;
    const head = (n: number) => Array.from({ length: size }, (_, i) => projections![start + n * size + i]!);
    const rotated = (x: readonly number[]) =>
      x.map((v, i) => {
        const at = length * (size / 2) + (i % (size / 2));
        const other = i < size / 2 ? -x[i + size / 2]! : x[i - size / 2]!;
        return v * cos![at]! + other * sin![at]!;
      });
    for (let h = 0; h < kvHeads; h++) {
      const at = (j: number) => ((row * kvHeads + h) * capacity + j) * size;
      nextKeys.set(rotated(head(heads + h)), at(length));
      nextValues.set(head(heads + kvHeads + h), at(length));
      for (let g = (h * heads) / kvHeads; g < ((h + 1) * heads) / kvHeads; g++) {
        const q = rotated(head(g));
        const scores = Array.from({ length: length + 1 }, (_, j) =>
          q.reduce((sum, v, i) => sum + v * nextKeys[at(j) + i]! * scale, 0),
        );
        const largest = Math.max(...scores);
        const weights = scores.map((s) => Math.exp(s - largest));
        const total = weights.reduce((a, b) => a + b);
        for (let i = 0; i < size; i++) {
          const sum = weights.reduce((s, w, j) => s + w * nextValues[at(j) + i]!, 0);
          y[(row * heads + g) * size + i] = sum / total;
        }
      }
    }
  });
  return { y, keys: nextKeys, values: nextValues };
}

const worst = (actual: ArrayLike<number>, expected: Float64Array) =>
  expected.reduce((most, v, i) => Math.max(most, Math.abs(v - actual[i]!)), 0);

/** Every length that ends a block or begins one, an empty cache and a full one. */
const steps: readonly Step[] = [
  { heads: 1, kvHeads: 1, size: 16, capacity: 1, lengths: [0] },
  { heads: 2, kvHeads: 1, size: 16, capacity: 600, lengths: [0, 255, 256, 599] },
  { heads: 4, kvHeads: 4, size: 32, capacity: 300, lengths: [127, 128, 129, 299] },
  {
    heads: 9,
    kvHeads: 3,
    size: 64,
    capacity: 150,
    lengths: [0, 1, 15, 16, 63, 64, 127, 149],
    positions: 200,
  },
  { heads: 3, kvHeads: 3, size: 48, capacity: 97, lengths: [96, 79, 80] },
  { heads: 2, kvHeads: 2, size: 80, capacity: 60, lengths: [47, 48, 59] },
  { heads: 8, kvHeads: 1, size: 128, capacity: 70, lengths: [31, 32, 33, 69] },
  { heads: 2, kvHeads: 1, size: 256, capacity: 40, lengths: [15, 16, 39] },
  { heads: 2, kvHeads: 2, size: 272, capacity: 33, lengths: [32, 5] },
  { heads: 4, kvHeads: 4, size: 64, capacity: 20, lengths: Array.from({ length: 40 }, (_, i) => i % 20) },
];
const label = ({ heads, kvHeads, size, capacity }: Step) =>
  `${heads} heads, ${kvHeads} of keys, of ${size}, room for ${capacity}`;

describe.each(sets)('a step of decoding in %s', (set) => {
  /** Runs the tasks from the last to the first, in place or into other caches. */
  function run(step: Step, isInPlace: boolean, inputs = inputsOf(step)) {
    if (support.reason !== undefined) throw new Error(support.reason);
    const { koffi, install } = support;
    const request = requestOf(step);
    const operator = decodeOperator(request)!;
    const task = koffi.decode(
      install(compileDecode(operator.code, set)),
      koffi.proto('void', ['void *', 'size_t']),
    ) as (frame: BigUint64Array, index: number) => void;
    const guard = 50;
    const [y, ...others] = request.outputs.map(({ shape }) =>
      (allocate('float32', sizeOf(shape) + guard) as Float32Array).fill(7),
    ) as [Float32Array, Float32Array, Float32Array];
    const caches = isInPlace ? (inputs.slice(1, 3) as Float32Array[]) : others;
    const frame = pointerArray(16);
    [operator.parameters, ...inputs, y, ...caches].forEach((array, i) => {
      frame[i] = koffi.address(array);
    });
    for (let i = operator.tasks - 1; i >= 0; i--) task(frame, i);
    expect([y, ...others].every((array) => array.subarray(-guard).every((v) => v === 7))).toBe(true);
    const size = sizeOf(request.outputs[1]!.shape);
    return { y, keys: caches[0]!.subarray(0, size), values: caches[1]!.subarray(0, size) };
  }

  it.each(steps.map((step) => [label(step), step] as const))('%s', (_, step) => {
    const inputs = inputsOf(step);
    const expected = exact(step, inputs);
    for (const isInPlace of [false, true]) {
      const { y, keys, values } = run(step, isInPlace, inputs.map((x) => x.slice()) as Float32Array[]);
      expect(worst(y, expected.y)).toBeLessThan(3e-6);
      expect(worst(keys, expected.keys)).toBeLessThan(1e-6);
      expect(worst(values, expected.values)).toBe(0);
    }
  });

  it('survives scores of any size, and keeps a NaN to its row', () => {
    const step: Step = { heads: 2, kvHeads: 1, size: 32, capacity: 200, lengths: [199, 150, 3], scale: 40 };
    const inputs = inputsOf(step);
    const expected = exact(step, inputs);
    expect(worst(run(step, false, inputs).y, expected.y)).toBeLessThan(1e-4);
    // The second row's newest key.
    inputs[0]![4 * 32 + 2 * 32] = Number.NaN;
    const { y } = run(step, false, inputs);
    const isBroken = (row: number) => Array.from(y.subarray(row * 64, row * 64 + 64), Number.isNaN);
    expect(isBroken(1).every(Boolean)).toBe(true);
    expect([0, 2].flatMap(isBroken).some(Boolean)).toBe(false);
  });

  it('stays inside the caches whatever the lengths are', () => {
    const step: Step = { heads: 1, kvHeads: 1, size: 16, capacity: 5, lengths: [5, -1, 2 ** 31 - 1, 2] };
    const inputs = inputsOf({ ...step, positions: 5 });
    const clamped = { ...step, lengths: [4, 4, 4, 2] };
    const { y, keys } = run(step, false, inputs);
    const expected = exact(clamped, inputs);
    expect(worst(y, expected.y)).toBeLessThan(3e-6);
    expect(worst(keys, expected.keys)).toBeLessThan(1e-6);
  });

  it('does not depend on other rows or the order of tasks', () => {
    const step = steps.at(-1)!;
    const inputs = inputsOf(step);
    const all = run(step, false, inputs);
    const { heads, kvHeads, size, capacity } = step;
    const own = kvHeads * capacity * size;
    for (const row of [0, 7, 39]) {
      const part = (x: Float32Array | Int32Array, n: number) => {
        const data = allocate(x instanceof Int32Array ? 'int32' : 'float32', n) as Float32Array;
        data.set(x.subarray(row * n, row * n + n));
        return data;
      };
      const width = (heads + 2 * kvHeads) * size;
      const alone = [
        part(inputs[0]!, width),
        part(inputs[1]!, own),
        part(inputs[2]!, own),
        part(inputs[3]!, 1),
      ];
      const { y } = run({ ...step, lengths: [step.lengths[row]!] }, false, [...alone, ...inputs.slice(4)]);
      const n = heads * size;
      expect(Array.from(y.subarray(0, n))).toEqual(Array.from(all.y.subarray(row * n, row * n + n)));
    }
  });

  it('serves programs that write their caches in place, as the runtime would', async () => {
    const step = steps[3]!;
    const { heads, capacity } = step;
    const inputs = inputsOf(step);
    const results = async (native: boolean) => {
      configure({ native });
      replaceKernels({ set });
      const [qkv, keys, values, lengths, cos, sin] = requestOf(step).inputs.map(({ dtype, shape }, i) => {
        const data = allocate(dtype, sizeOf(shape));
        data.set(inputs[i]!);
        return new Variable(data, dtype, shape, { name: `x${i}`, trainable: false });
      }) as Variable[];
      const p = program({ shift: [] }, ({ shift }) => {
        const options = { heads, scale: 0.3 };
        const tables = { cos: cos!, sin: sin! };
        const [y, k, v] = decodeAttention(qkv!.add(shift), keys!, values!, lengths!, tables, options);
        keys!.assign(k);
        values!.assign(v);
        return { y };
      });
      const memory = keys!.data;
      const { y } = await p({ shift: 0 });
      expect(keys!.data).toBe(memory);
      return { y: y.data, keys: keys!.data, values: values!.data, kernels: p.report().kernels };
    };
    const [mine, plain] = [await results(true), await results(false)];
    expect(mine.kernels).toEqual({ decodeAttention: 1 });
    expect(plain.kernels).toEqual({});
    expect(capacity).toBe(150);
    for (const name of ['y', 'keys', 'values'] as const) {
      expect(worst(mine[name], Float64Array.from(plain[name])), name).toBeLessThan(3e-6);
    }
  });
});

describe('requests that do not fit', () => {
  const good = requestOf(steps[3]!);
  const type = (...shape: number[]) => ({ dtype: 'float32' as const, shape });
  const replaced = (at: number, input: KernelRequest['inputs'][number]) => ({
    inputs: good.inputs.map((one, i) => (i === at ? input : one)),
  });
  it.each<[string, Partial<KernelRequest>]>([
    ['another kind', { kind: 'cachedAttention' }],
    ['an operand too few', { inputs: good.inputs.slice(0, 5) }],
    ['a result too few', { outputs: good.outputs.slice(0, 2) }],
    ['lengths of another type', replaced(3, type(8))],
    ['lengths of other rows', replaced(3, { dtype: 'int32', shape: [7] })],
    ['narrow projections', replaced(0, type(8, 14 * 64))],
    ['caches that differ', replaced(2, type(8, 3, 151, 64))],
    [
      'tables that end before the caches do',
      { inputs: [...good.inputs.slice(0, 4), type(149, 32), type(149, 32)] },
    ],
    ['heads that do not divide', { attributes: { heads: 8, scale: 1 } }],
    ['float64', replaced(0, { dtype: 'float64', shape: good.inputs[0]!.shape })],
    ['too many queries of a key', requestOf({ ...steps[3]!, heads: 390 })],
    ['heads of 24', requestOf({ ...steps[3]!, size: 24 })],
  ])('have no operator: %s', (_, change) => {
    expect(decodeOperator(good)).toBeDefined();
    expect(decodeOperator({ ...good, ...change })).toBeUndefined();
  });
});
