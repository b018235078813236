import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  cachedPathAttention,
  configure,
  grad,
  int32,
  interpret,
  pathAttention,
  program,
  Rng,
  type StickBreakingOptions,
  stickBreakingAttention,
  sum,
  type Tensor,
  variable,
  zeros,
} from '../../src/index.js';
import { detectSupport } from '../../src/native/cpu.js';

const hasKernels = (detectSupport().sets as readonly string[]).includes('avx512');

beforeAll(() => configure({ threads: 2 }));
afterEach(() => configure({ native: true }));

type Shapes = Record<string, number[]>;
const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** Runs result and gradients with kernels, and the same graph in float64; the largest error of each, relative to its largest value. */
async function compare(
  shapes: Shapes,
  data: Record<string, Float32Array>,
  wrt: readonly string[],
  f: (inputs: Record<string, Tensor>) => Tensor,
) {
  let outputs: Tensor[] = [];
  let leaves: Record<string, Tensor> = {};
  const run = program(shapes, (inputs) => {
    leaves = inputs;
    const y = f(inputs);
    const gradients = grad(
      sum(y.mul(inputs.g!)),
      wrt.map((name) => inputs[name]!),
    );
    outputs = [y, ...gradients];
    return Object.fromEntries(outputs.map((t, i) => [`y${i}`, t]));
  });
  const results = await run(data);
  const kernels = run.report().kernels;
  const feeds = new Map(Object.entries(leaves).map(([name, t]) => [t, data[name]!] as const));
  const errors = interpret(outputs, feeds).map((want, i) => {
    const got = results[`y${i}`]!.data;
    let largest = 1e-3;
    let worst = 0;
    want.data.forEach((v, j) => {
      largest = Math.max(largest, Math.abs(v));
      // NaN passes through, and then fails.
      worst = Math.max(worst, Math.abs(got[j]! - v));
    });
    return worst / largest;
  });
  run.dispose();
  return { errors, kernels };
}

const draw = <S extends Shapes>(shapes: S, seed: number) => {
  const rng = new Rng(seed);
  const entries = Object.entries(shapes).map(([name, s]) => [name, rng.normal(sizeOf(s))]);
  return Object.fromEntries(entries) as Record<keyof S, Float32Array<ArrayBuffer>>;
};

describe.skipIf(!hasKernels)('kernels of stick-breaking attention', () => {
  const cases: [number, number, number, number, number, number, StickBreakingOptions][] = [
    [1, 2, 2, 64, 64, 64, {}],
    [2, 2, 2, 128, 64, 32, { scale: 0.5 }],
    [1, 4, 2, 96, 32, 48, { attendCurrent: true }],
    [2, 3, 1, 48, 16, 16, { remainder: false }],
    [1, 1, 1, 16, 48, 16, { attendCurrent: true, remainder: false }],
    [1, 1, 1, 320, 16, 16, {}],
  ];
  it.each(cases)(
    '%i x %i heads (%i of keys), length %i, sizes %i and %i, %o',
    async (b, h, kv, l, d, dv, options) => {
      const shapes = { q: [b, h, l, d], k: [b, kv, l, d], v: [b, kv, l, dv], g: [b, h, l, dv] };
      const { errors, kernels } = await compare(shapes, draw(shapes, l + d), ['q', 'k', 'v'], ({ q, k, v }) =>
        stickBreakingAttention(q!, k!, v!, options),
      );
      expect(kernels).toMatchObject({ stickBreaking: 1, stickBreakingGrad: 1 });
      for (const error of errors) expect(error).toBeLessThan(3e-6);
    },
  );

  it('large scores give all or nothing, and nothing that is not finite', async () => {
    const shapes = { q: [1, 1, 64, 16], k: [1, 1, 64, 16], v: [1, 1, 64, 16], g: [1, 1, 64, 16] };
    const data = draw(shapes, 5);
    for (const name of ['q', 'k'] as const) data[name] = data[name]!.map((x) => 30 * x);
    const { errors } = await compare(shapes, data, ['v'], ({ q, k, v }) =>
      stickBreakingAttention(q!, k!, v!),
    );
    for (const error of errors) expect(error).toBeLessThan(3e-5);
  });

  it('a later token changes no bit before it', async () => {
    const shape = [1, 1, 128, 16];
    const run = program({ q: shape, k: shape, v: shape }, ({ q, k, v }) => ({
      y: stickBreakingAttention(q!, k!, v!),
    }));
    const data = draw({ q: shape, k: shape, v: shape }, 6);
    const before = (await run(data)).y.data.slice(0, 70 * 16);
    for (const name of ['q', 'k', 'v'] as const) data[name]!.fill(1e6, 70 * 16);
    expect((await run(data)).y.data.slice(0, 70 * 16)).toEqual(before);
    run.dispose();
  });
});

/** Directions of length 1, and β around 1 or as given. */
function pathData(
  shapes: Record<'q' | 'k' | 'v' | 'w' | 'beta' | 'g', number[]>,
  seed: number,
  beta?: number,
) {
  const data = draw(shapes, seed);
  const d = shapes.w.at(-1)!;
  for (let i = 0; i < data.w.length; i += d) {
    const norm = Math.hypot(...data.w.subarray(i, i + d));
    for (let j = 0; j < d; j++) data.w[i + j]! /= norm;
  }
  data.beta = data.beta.map((x) => beta ?? 2 / (1 + Math.exp(-x)));
  return data;
}

const pathShapes = (b: number, h: number, l: number, d: number, dv: number) => ({
  q: [b, h, l, d],
  k: [b, h, l, d],
  v: [b, h, l, dv],
  w: [b, h, l, d],
  beta: [b, h, l],
  g: [b, h, l, dv],
});

const path = ({ q, k, v, w, beta }: Record<string, Tensor>) => pathAttention(q!, k!, v!, w!, beta!);
const inputs = ['q', 'k', 'v', 'w', 'beta'] as const;

describe.skipIf(!hasKernels)('kernels of PaTH attention', () => {
  // One block, two, trees that are full and that are not, each block size, and padding.
  it.each([
    [1, 2, 64, 64, 64],
    [2, 1, 128, 32, 16],
    [1, 1, 192, 16, 32],
    [1, 1, 256, 32, 32],
    [1, 1, 448, 16, 16],
    [1, 2, 96, 16, 16],
    [2, 1, 48, 48, 16],
    [1, 1, 77, 16, 16],
  ])('%i x %i heads, length %i, sizes %i and %i', async (b, h, l, d, dv) => {
    const shapes = pathShapes(b, h, l, d, dv);
    const { errors, kernels } = await compare(shapes, pathData(shapes, l + d), inputs, path);
    expect(kernels).toMatchObject({ pathPrepare: 1, pathAttend: 1, pathGrad: 1 });
    for (const error of errors) expect(error).toBeLessThan(2e-5);
  });

  it('equal directions with β near 2 stay finite and right', async () => {
    const shapes = pathShapes(1, 1, 256, 16, 16);
    const data = pathData(shapes, 3, 1.99);
    for (let i = 16; i < data.w.length; i++) data.w[i] = data.w[i % 16]!;
    const { errors } = await compare(shapes, data, inputs, path);
    expect(errors[0]).toBeLessThan(1e-3);
    for (const error of errors) expect(error).toBeLessThan(2e-2);
  });

  it('without reflections it is attention without positions', async () => {
    const shapes = pathShapes(1, 1, 128, 16, 16);
    const { errors } = await compare(shapes, pathData(shapes, 4, 0), inputs, path);
    for (const error of errors) expect(error).toBeLessThan(1e-5);
  });

  it('a later token changes no bit before it', async () => {
    const shapes = pathShapes(1, 1, 256, 16, 16);
    const { g: _g, ...five } = shapes;
    const run = program(five, (leaves) => ({ y: path(leaves) }));
    const { g: _, ...data } = pathData(shapes, 6);
    const before = (await run(data)).y.data.slice(0, 70 * 16);
    for (const name of ['q', 'k', 'v'] as const) data[name].fill(1e3, 70 * 16);
    expect((await run(data)).y.data.slice(0, 70 * 16)).toEqual(before);
    run.dispose();
  });

  it('two runs give the same bits', async () => {
    const shapes = pathShapes(1, 3, 128, 32, 32);
    const data = pathData(shapes, 8);
    const { g: _g, ...five } = shapes;
    const { g: _, ...feeds } = data;
    const run = program(five, (leaves) => ({ y: path(leaves) }));
    const [first, second] = [await run(feeds), await run(feeds)];
    expect(first.y.data).toEqual(second.y.data);
    run.dispose();
  });
});

describe.skipIf(!hasKernels)('kernel of a decoding step of PaTH attention', () => {
  it.each([
    [2, 2, 2, 16, 16],
    [1, 4, 1, 64, 64],
    [3, 2, 1, 32, 48],
  ])(
    '%i rows, %i heads (%i of keys), sizes %i and %i: steps equal those without kernels',
    async (b, h, kv, d, dv) => {
      const capacity = 23;
      const steps = 20;
      const shapes = {
        q: [b, h, 1, d],
        k: [b, kv, 1, d],
        v: [b, kv, 1, dv],
        w: [b, kv, 1, d],
        beta: [b, kv, 1],
      };
      const open = () => {
        const keys = variable(zeros([b, kv, capacity, d]));
        const values = variable(zeros([b, kv, capacity, dv]));
        const run = program({ ...shapes, lengths: int32([b]) }, ({ q, k, v, w, beta, lengths }) => {
          const [y, nextKeys, nextValues] = cachedPathAttention(q, k, v, w, beta, keys, values, lengths);
          keys.assign(nextKeys);
          values.assign(nextValues);
          return { y };
        });
        return { run, keys, values };
      };
      configure({ native: false });
      const plain = open();
      configure({ native: true });
      const native = open();
      for (let i = 0; i < steps; i++) {
        const data = pathData({ ...shapes, g: [1] }, 10 + i);
        const { g: _, ...feeds } = data;
        // Rows are of different lengths: the last one starts late, and until then its token is written over.
        const lengths = Int32Array.from({ length: b }, (_x, row) =>
          row === b - 1 && b > 1 ? Math.max(0, i - 3) : i,
        );
        configure({ native: false });
        const want = (await plain.run({ ...feeds, lengths })).y.data;
        configure({ native: true });
        const got = (await native.run({ ...feeds, lengths })).y.data;
        want.forEach((x, j) => {
          expect(Math.abs(got[j]! - x), `step ${i}, ${j}`).toBeLessThan(1e-5);
        });
      }
      expect(native.run.report().kernels).toMatchObject({ pathStep: 1 });
      const written = (steps - 1) * d;
      const theirs = plain.keys.data.subarray(0, written);
      native.keys.data.subarray(0, written).forEach((x, j) => {
        expect(Math.abs(Number(x) - Number(theirs[j]!))).toBeLessThan(1e-5);
      });
    },
  );
});
