import { describe, expect, it } from 'vitest';
import { int32, program, Rng } from '../../src/index.js';
import { type LanguageModelConfig, Transformer } from '../../src/models/lm/index.js';
import { initialize, KVCache } from '../../src/nn/index.js';

const base: LanguageModelConfig = {
  vocabulary: 37,
  dim: 32,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  hidden: 48,
  context: 24,
};

/** A model with weights that are large enough for every part to matter. */
function modelOf(config: LanguageModelConfig): Transformer {
  const model = new Transformer(config, { initialize: false });
  initialize(model, { rng: new Rng(5), std: 0.2 });
  return model;
}

/** Logits of whole rows, without a cache. */
async function uncached(model: Transformer, rows: Int32Array[]): Promise<Float32Array[]> {
  const out: Float32Array[] = [];
  for (const row of rows) {
    const run = program({ tokens: int32([1, row.length]) }, ({ tokens }) => ({ y: model.forward(tokens) }));
    out.push((await run({ tokens: row })).y.data as Float32Array);
    run.dispose();
  }
  return out;
}

/** A program that continues the rows of a cache by `length` tokens. */
function continuation(model: Transformer, cache: KVCache, length: number) {
  return program(
    { tokens: int32([cache.rows, length]), lengths: int32([cache.rows]) },
    ({ tokens, lengths }) => ({ y: model.forward(tokens, { cache: { cache, lengths } }) }),
  );
}

function expectClose(got: ArrayLike<number>, want: ArrayLike<number>, label: string): void {
  expect(got.length, label).toBe(want.length);
  let worst = 0;
  for (let i = 0; i < want.length; i++) worst = Math.max(worst, Math.abs(got[i]! - want[i]!));
  expect(worst, label).toBeLessThan(1e-5);
}

const sequences = (lengths: readonly number[], rng: Rng) =>
  lengths.map((n) => rng.integers(n, 0, base.vocabulary));

const variants: Record<string, Partial<LanguageModelConfig>> = {
  'grouped heads': {},
  'as many key heads': { kvHeads: 4 },
  'a head size that no fused kernel takes': { headDim: 6 },
  'QK norm and biases': { qkNorm: true, qkvBias: true },
  'learned positions, LayerNorm, GELU': { positions: 'learned', norm: 'layer', mlp: 'gelu' },
  'no positions, untied': { positions: 'none', tied: false, mlp: 'relu2' },
};

describe('a pass with a KV cache equals one without', () => {
  it.each(Object.keys(variants))('ragged prompts in chunks, then steps: %s', async (name) => {
    const model = modelOf({ ...base, ...variants[name] });
    const rows = sequences([19, 11, 16], new Rng(1));
    const want = await uncached(model, rows);
    const cache = new KVCache(model.cacheShape(), 3, 24);
    // Stale numbers must not be seen.
    for (const { keys, values } of cache.layers) for (const v of [keys, values]) v.data.fill(7);
    const lengths = new Int32Array(3);
    const prompts = [11, 3, 8];
    const chunk = continuation(model, cache, 4);
    while (prompts.some((n, b) => lengths[b]! < n)) {
      // Rows that are through run along on padding, as do the ends of the others.
      const tokens = new Int32Array(3 * 4);
      const count = prompts.map((n, b) => Math.min(4, n - lengths[b]!));
      rows.forEach((row, b) => {
        tokens.set(row.subarray(lengths[b]!, lengths[b]! + count[b]!), b * 4);
      });
      const y = (await chunk({ tokens, lengths })).y.data;
      for (const [b, n] of count.entries()) {
        const v = base.vocabulary;
        expectClose(
          y.subarray(b * 4 * v, (b * 4 + n) * v),
          want[b]!.subarray(lengths[b]! * v, (lengths[b]! + n) * v),
          `prompt of row ${b} at ${lengths[b]}`,
        );
        lengths[b] = lengths[b]! + n;
      }
    }
    const step = continuation(model, cache, 1);
    for (let i = 0; i < 8; i++) {
      const tokens = Int32Array.from(rows, (row, b) => row[lengths[b]!]!);
      const y = (await step({ tokens, lengths })).y.data;
      for (let b = 0; b < 3; b++) {
        const v = base.vocabulary;
        const at = lengths[b]!;
        expectClose(
          y.subarray(b * v, (b + 1) * v),
          want[b]!.subarray(at * v, (at + 1) * v),
          `row ${b}, token ${at}`,
        );
        lengths[b] = at + 1;
      }
    }
    chunk.dispose();
    step.dispose();
  });
});
