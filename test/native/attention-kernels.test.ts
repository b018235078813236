import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  configure,
  grad,
  interpret,
  program,
  Rng,
  type StickBreakingOptions,
  stickBreakingAttention,
  sum,
  type Tensor,
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
