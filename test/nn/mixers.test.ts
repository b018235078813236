import { describe, expect, it } from 'vitest';
import { adamW, crossEntropy, groups, int32, muon, ones, program, Rng, zeros } from '../../src/index.js';
import { type LanguageModelConfig, Transformer } from '../../src/models/lm/index.js';
import { alibiSlopes, initialize, type MixerKind, mixers, parametersOf } from '../../src/nn/index.js';

const kinds = Object.keys(mixers) as MixerKind[];
const base: LanguageModelConfig = {
  vocabulary: 23,
  dim: 16,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  hidden: 24,
  context: 40,
};

function modelOf(config: Partial<LanguageModelConfig>): Transformer {
  const model = new Transformer({ ...base, ...config }, { initialize: false });
  initialize(model, { rng: new Rng(5), std: 0.3 });
  return model;
}

const worst = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((max, x, i) => Math.max(max, Math.abs(x - b[i]!)), 0);

async function logits(
  model: Transformer,
  rows: number,
  tokens: Int32Array,
  documents?: Int32Array,
): Promise<Float32Array> {
  const shape = int32([rows, tokens.length / rows]);
  const run = program({ tokens: shape, documents: shape }, (x) => ({
    y: model.forward(x.tokens, documents ? { documents: x.documents } : {}),
  }));
  const { y } = await run({ tokens, documents: documents ?? new Int32Array(tokens.length) });
  run.dispose();
  return y.data as Float32Array;
}

describe('ALiBi', () => {
  it('has the published slopes', () => {
    expect(alibiSlopes(8)).toEqual([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]);
    // Between powers of two: those of 4 heads, then every second of 8.
    expect(alibiSlopes(6)).toEqual([1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]);
  });
});

describe.each(kinds)('%s', (attention) => {
  const rng = new Rng(7);

  it('is causal: later tokens change no earlier row', async () => {
    const model = modelOf({ attention, keyConvolution: 3 });
    const a = rng.integers(20, 0, 23);
    const b = Int32Array.from(a);
    b[13] = (b[13]! + 1) % 23;
    const [ya, yb] = [await logits(model, 1, a), await logits(model, 1, b)];
    expect(worst(ya.subarray(0, 13 * 23), yb.subarray(0, 13 * 23))).toBeLessThan(1e-6);
    expect(worst(ya.subarray(13 * 23), yb.subarray(13 * 23))).toBeGreaterThan(1e-3);
  });

  it('keeps packed documents apart, the convolution included', async () => {
    const model = modelOf({ attention, keyConvolution: 3 });
    const parts = [7, 5, 8].map((n) => rng.integers(n, 0, 23));
    const packed = Int32Array.from(parts.flatMap((part) => [...part]));
    const documents = Int32Array.from(parts.flatMap((part, i) => [...part].map(() => i)));
    const all = await logits(model, 1, packed, documents);
    // Rotations see distances only, so documents need no positions of their own here.
    let at = 0;
    for (const part of parts) {
      const alone = await logits(model, 1, part);
      expect(worst(all.subarray(at * 23, (at + part.length) * 23), alone)).toBeLessThan(3e-5);
      at += part.length;
    }
  });

  it('learns: all its parameters get gradients, matrices under Muon', async () => {
    const model = modelOf({ attention, keyConvolution: 3, qkNorm: true });
    const before = new Map([...parametersOf(model)].map(([name, p]) => [name, p.read()]));
    const optimizer = groups([
      { name: 'matrices', match: (p) => p.role === 'matrix', optimizer: muon({ lr: 0.02 }) },
      { name: 'rest', optimizer: adamW({ lr: 3e-3 }) },
    ]);
    const shape = int32([4, 12]);
    const step = program({ tokens: shape, targets: shape }, ({ tokens, targets }) => {
      const loss = crossEntropy(model.forward(tokens).reshape([-1, 23]), targets.reshape([-1]));
      optimizer.minimize(loss, [...parametersOf(model).values()]);
      return { loss };
    });
    const tokens = rng.integers(48, 0, 23);
    const targets = tokens.map((t) => (t * 5 + 3) % 23);
    const first = (await step({ tokens, targets })).loss.item();
    for (const [name, p] of parametersOf(model))
      expect(worst(p.read(), before.get(name)!), name).toBeGreaterThan(0);
    for (let i = 0; i < 40; i++) await step({ tokens, targets });
    expect((await step({ tokens, targets })).loss.item()).toBeLessThan(first / 3);
    step.dispose();
  });
});

describe('kinds that act on what came before only', () => {
  it.each(['path', 'path-fox', 'stick-breaking'] as const)('%s refuses to look ahead', (attention) => {
    const model = modelOf({ attention });
    const tokens = zeros([1, 4], 'int32');
    expect(() => model.hidden(tokens, { causal: false })).toThrow(/is causal/);
    expect(() => model.hidden(tokens, { prefix: ones([1], 'int32'), documents: tokens })).toThrow(
      /is causal/,
    );
  });
});
