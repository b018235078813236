import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { adamwUpdate } from '../../src/core/ops/adamw.js';
import {
  adamW,
  attention,
  configure,
  crossEntropy,
  gather,
  gelu,
  int32,
  interpret,
  type Program,
  program,
  Rng,
  rearrange,
  rmsNorm,
  runtimeStats,
  silu,
  softmax,
  split,
  type Tensor,
  tensor,
  type Value,
  variable,
  vjp,
} from '../../src/index.js';
import { detectSupport, instructionSets } from '../../src/native/cpu.js';
import type { InstructionSet } from '../../src/native/instructions.js';
import { replaceKernels } from '../../src/native/kernels.js';
import { collectGarbage } from '../runtime/models.js';

const support = detectSupport();
const sets: readonly InstructionSet[] = support.sets;

beforeAll(() => configure({ threads: 2 }));
afterEach(() => {
  replaceKernels({});
  configure({ native: true });
});

type Named = Record<string, Tensor>;
type Data = Record<string, Float32Array>;

/** Results by the plain operators, by machine code, and by the reference interpreter in float64. */
async function threeWays(shapes: Record<string, readonly number[]>, body: (x: Named) => Named, seed = 3) {
  const rng = new Rng(seed);
  const data: Data = Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [
      name,
      Float32Array.from(rng.normal(shape.reduce((a, b) => a * b, 1))),
    ]),
  );
  const run = async (native: boolean) => {
    configure({ native });
    const p = program(shapes as Record<string, number[]>, body) as Program<string, string>;
    const results = await p(data);
    const { kernels } = p.report();
    p.dispose();
    return { results, kernels };
  };
  const [native, plain] = [await run(true), await run(false)];
  let exact: Record<string, Float64Array> = {};
  configure({ native: false });
  const traced = program(shapes as Record<string, number[]>, (inputs) => {
    const outputs = body(inputs);
    const feeds = new Map(Object.entries(inputs).map(([name, t]) => [t, data[name]!]));
    const values = interpret(Object.values(outputs), feeds);
    exact = Object.fromEntries(Object.keys(outputs).map((name, i) => [name, values[i]!.data]));
    return outputs;
  });
  await traced.compile(data);
  traced.dispose();
  return { native, plain, exact };
}

function expectSame(a: Value, b: ArrayLike<number>, tolerance: number): void {
  const scale = Math.max(1e-30, ...Array.from(b, Math.abs));
  let worst = 0;
  for (let i = 0; i < b.length; i++) worst = Math.max(worst, Math.abs(a.data[i]! - b[i]!) / scale);
  expect(worst).toBeLessThan(tolerance);
}

const gradientOf =
  (f: (x: Named) => Tensor) =>
  (x: Named): { y: Tensor } & Named => {
    const names = Object.keys(x).filter((name) => name !== 'g');
    const y = f(x);
    const grads = vjp(
      [y],
      names.map((name) => x[name]!),
      [x.g!],
    );
    return { y, ...Object.fromEntries(names.map((name, i) => [`d${name}`, grads[i]!])) };
  };

describe.each(sets)('nodes by machine code in %s', (set) => {
  beforeAll(() => replaceKernels({ set }));

  it.each([[[1]], [[3, 5]], [[4, 16]], [[257, 65]], [[33, 1024]]])(
    'activations of %j and their gradients',
    async (shape) => {
      replaceKernels({ set });
      const { native, plain, exact } = await threeWays({ x: shape, g: shape }, (x) => {
        const tanh = gradientOf(({ x }) => gelu(x!))(x);
        const sigmoid = gradientOf(({ x }) => silu(x!))(x);
        return { a: tanh.y, b: tanh.dx!, c: sigmoid.y, d: sigmoid.dx! };
      });
      expect(Object.keys(native.kernels).sort()).toEqual(['geluTanh', 'geluTanhGrad', 'silu', 'siluGrad']);
      expect(plain.kernels).toEqual({});
      for (const [name, value] of Object.entries(native.results)) {
        expectSame(value, exact[name]!, 1e-6);
        expectSame(value, plain.results[name]!.data, 2e-6);
      }
    },
  );

  it.each([[[1, 3]], [[5, 8]], [[2, 33, 33]], [[128, 256]]])(
    'RMSNorm of %j without a gradient',
    async (shape) => {
      replaceKernels({ set });
      const { native, plain, exact } = await threeWays({ x: shape, w: shape.slice(-1) }, ({ x, w }) => ({
        y: rmsNorm(x!, w!, 1e-5),
      }));
      expect(native.kernels).toEqual({ rmsNorm: 1 });
      expectSame(native.results.y!, exact.y!, 1e-6);
      expectSame(native.results.y!, plain.results.y!.data, 2e-6);
    },
  );

  it.each([
    [1, 3],
    [5, 8],
    [64, 33],
    [130, 48],
    [257, 384],
  ])('RMSNorm backward of [%i, %i]', async (rows, columns) => {
    replaceKernels({ set });
    const shapes = { x: [rows, columns], w: [columns], g: [rows, columns] };
    const { native, plain, exact } = await threeWays(
      shapes,
      gradientOf(({ x, w }) => rmsNorm(x!, w!)),
    );
    expect(native.kernels).toEqual({ rmsNormGrad: 1 });
    for (const [name, value] of Object.entries(native.results)) {
      expectSame(value, exact[name]!, 2e-6);
      expectSame(value, plain.results[name]!.data, 3e-6);
    }
  });

  it.each([
    [1, 1, 2, 2, 4],
    [2, 3, 5, 7, 8],
    [1, 2, 33, 33, 16],
    [2, 4, 64, 64, 32],
  ])('causal attention of %j', async (b, h, t, s, d) => {
    replaceKernels({ set });
    const shapes = { q: [b, h, t, d], k: [b, h, s, d], v: [b, h, s, d], g: [b, h, t, d] };
    const { native, exact } = await threeWays(
      shapes,
      gradientOf(({ q, k, v }) => attention(q!, k!, v!, { causal: true })),
    );
    expect(native.kernels).toMatchObject({ softmax: 1, scoresGrad: 1 });
    for (const [name, value] of Object.entries(native.results)) expectSame(value, exact[name]!, 3e-6);
  });

  it('softmax gradients along the last axis; along another by the plain operators', async () => {
    replaceKernels({ set });
    const shapes = { x: [9, 21], g: [9, 21] };
    const last = await threeWays(
      shapes,
      gradientOf(({ x }) => softmax(x!, 1)),
    );
    expect(last.native.kernels).toEqual({ softmaxGrad: 1 });
    for (const [name, v] of Object.entries(last.native.results)) expectSame(v, last.exact[name]!, 2e-6);
    const first = await threeWays(
      shapes,
      gradientOf(({ x }) => softmax(x!, 0)),
    );
    expect(first.native.kernels).toEqual({});
  });

  it('an update of AdamW', async () => {
    replaceKernels({ set });
    const shape = [37, 11];
    const shapes = { p: shape, m: shape, r: shape, g: shape, k: [], l: [], e: [], f: [] };
    const { native, exact } = await threeWays(shapes, (x) => {
      const state = { parameter: x.p!, m: x.m!, v: x.r!.mul(x.r!) };
      const epsilon = x.e!.mul(x.e!).add(0.1);
      const scalars = { keep: x.k!, rate: x.l!, epsilon, factor: x.f! };
      return adamwUpdate(state, x.g!, scalars, { beta1: 0.9, beta2: 0.99 });
    });
    expect(native.kernels).toEqual({ adamw: 1 });
    for (const [name, value] of Object.entries(native.results)) expectSame(value, exact[name]!, 1e-6);
  });

  it('of no elements', async () => {
    replaceKernels({ set });
    const { native } = await threeWays(
      { x: [0, 4], g: [0, 4] },
      gradientOf(({ x }) => gelu(x!)),
    );
    expect(native.results.dx!.data.length).toBe(0);
  });

  it('NaN and infinities come through as from the plain operators', async () => {
    replaceKernels({ set });
    const x = Float32Array.of(Number.NaN, Infinity, -Infinity, 0, -0, 1e30, -1e30, 3e38);
    const run = async (native: boolean) => {
      configure({ native });
      const p = program({ x: [8] }, ({ x }) => ({ y: gelu(x), z: silu(x) }));
      return p({ x });
    };
    const [native, plain] = [await run(true), await run(false)];
    for (const name of ['y', 'z'] as const) {
      for (let i = 0; i < 8; i++) expect(native[name].data[i], `${name}[${i}]`).toEqual(plain[name].data[i]);
    }
  });
});

/** A small GPT with its optimiser. */
function trainer(seed: number, microBatches: number) {
  const rng = new Rng(seed);
  const [dim, vocabulary, t, batch] = [48, 17, 24, 8];
  const weight = (name: string, ...shape: number[]) =>
    variable(
      tensor(
        rng.normal(
          shape.reduce((a, b) => a * b, 1),
          0,
          0.1,
        ),
        shape,
      ),
      { name },
    );
  const w = {
    embedding: weight('embedding', vocabulary, dim),
    norm1: weight('norm1', dim),
    qkv: weight('qkv', dim, 3 * dim),
    norm2: weight('norm2', dim),
    up: weight('up', dim, 4 * dim),
    down: weight('down', 4 * dim, dim),
    head: weight('head', dim, vocabulary),
  };
  const optimizer = adamW({ lr: 3e-3, weightDecay: 0.1, clipNorm: 1 });
  const step = program(
    { x: int32([batch, t]), y: int32([batch, t]) },
    ({ x, y }) => {
      let s = gather(w.embedding, x).reshape([-1, dim]);
      const qkv = rmsNorm(s, w.norm1).matmul(w.qkv);
      const heads = rearrange(qkv, '(b t) (three h d) -> three b h t d', { t, three: 3, h: 4 });
      const [q, k, v] = split(heads, 3, 0).map((part) => part.reshape(heads.shape.slice(1)));
      const mixed = attention(q!, k!, v!, { causal: true });
      s = s.add(rearrange(mixed, 'b h t d -> (b t) (h d)'));
      s = s.add(gelu(rmsNorm(s, w.norm2).matmul(w.up)).matmul(w.down));
      const loss = crossEntropy(s.matmul(w.head), y.reshape([-1]));
      optimizer.minimize(loss, Object.values(w));
      return { loss };
    },
    { microBatches },
  );
  const tokens = Int32Array.from(rng.integers(batch * t, 0, vocabulary));
  const targets = Int32Array.from(tokens, (v) => (v * 5 + 3) % vocabulary);
  return { run: async () => (await step({ x: tokens, y: targets })).loss.item(), step };
}

describe('a model that trains', () => {
  it.each([1, 2])('has the same losses with and without machine code, %i micro-batches', async (parts) => {
    const native = trainer(5, parts);
    await native.run();
    configure({ native: false });
    const plain = trainer(5, parts);
    await plain.run();
    for (let i = 1; i < 20; i++) {
      const [a, b] = [await native.run(), await plain.run()];
      expect(Math.abs(a - b)).toBeLessThan(1e-5);
    }
    if (sets.length > 0) {
      expect(native.step.report().kernels).toMatchObject({ adamw: 7, geluTanhGrad: 1, rmsNormGrad: 2 });
      expect(native.step.text()).toBe(plain.step.text());
    }
    expect(plain.step.report().kernels).toEqual({});
  });

  it('can be made and dropped 300 times', async () => {
    const run = async () => {
      const p = program(
        { x: [64], g: [64] },
        gradientOf(({ x }) => gelu(x!)),
      );
      await p({ x: new Float32Array(64), g: new Float32Array(64) });
      p.dispose();
    };
    for (let i = 0; i < 100; i++) await run();
    await collectGarbage();
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 300; i++) await run();
    await collectGarbage();
    expect(process.memoryUsage().rss - before).toBeLessThan(40e6);
  });
});

describe('where machine code cannot run', () => {
  it('the plain operators take its place, and the statistics say why', async () => {
    replaceKernels({ support: { sets: [], reason: 'the system refuses executable memory' } });
    const p = program({ x: [4] }, ({ x }) => ({ y: gelu(x) }));
    const { y } = await p({ x: Float32Array.of(-1, 0, 1, 2) });
    expect(y.data[2]).toBeCloseTo(0.841192, 5);
    expect(p.report().kernels).toEqual({});
    expect(runtimeStats().cpu!.native).toBe('the system refuses executable memory');
  });

  it.each([
    [
      'refuses memory',
      () => () => {
        throw new Error('the system refuses executable memory');
      },
      'refuses executable',
    ],
    [
      'cannot be set up',
      () => {
        throw new Error('no code generator for sparc');
      },
      'no code generator',
    ],
  ] as const)('the probe of a machine that %s ends in a reason', (_, installer, reason) => {
    const found = detectSupport(installer as never);
    expect(found.sets).toEqual([]);
    expect(found.reason).toContain(reason);
  });

  it('the probe notices a function that returns something else', () => {
    if (support.reason !== undefined) return;
    // `mov eax, 41; ret`, whatever is asked for.
    const found = detectSupport(() => () => support.install(Uint8Array.of(0xb8, 41, 0, 0, 0, 0xc3)));
    expect(found.reason).toBe('a test function returned 41 instead of 42');
  });

  it('and where it is switched off', async () => {
    configure({ native: false });
    const p = program({ x: [4] }, ({ x }) => ({ y: gelu(x) }));
    await p.compile({ x: new Float32Array(4) });
    expect(p.report().kernels).toEqual({});
    expect(runtimeStats().cpu!.native).toBe('off by configure()');
  });

  it('instruction sets need the processor and the system', () => {
    const fma = 1 << 12;
    const avx2 = 1 << 5;
    const avx512 = ((1 << 16) | (1 << 17) | (1 << 30) | (1 << 31) | avx2) >>> 0;
    expect(instructionSets(avx512, fma, 0xe7)).toEqual(['avx512', 'avx2']);
    expect(instructionSets(avx512, fma, 0x07)).toEqual(['avx2']);
    expect(instructionSets(avx2, fma, 0xe7)).toEqual(['avx2']);
    expect(instructionSets(avx2, 0, 0xe7)).toEqual([]);
    expect(instructionSets(avx512, fma, 0)).toEqual([]);
  });
});
