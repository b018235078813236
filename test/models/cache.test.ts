import { describe, expect, it } from 'vitest';
import { int32, program, Rng, zeros } from '../../src/index.js';
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
    { tokens: int32([cache.rows, length]), lengths: int32([cache.rows]), counts: int32([cache.rows]) },
    ({ tokens, lengths, counts }) => ({ y: model.forward(tokens, { cache: { cache, lengths, counts } }) }),
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
  ALiBi: { attention: 'alibi' },
  'forget gates': { attention: 'fox' },
  'stick-breaking': { attention: 'stick-breaking' },
  PaTH: { attention: 'path' },
  'PaTH with as many key heads, QK norm': { attention: 'path', kvHeads: 4, qkNorm: true },
  'PaTH-FoX': { attention: 'path-fox' },
  'a convolution on the keys': { keyConvolution: 3 },
  'forget gates and a convolution': { attention: 'fox', keyConvolution: 4 },
  'no positions, untied': { positions: 'none', tied: false, mlp: 'relu2' },
};

describe('a pass with a KV cache equals one without', () => {
  it.each(Object.keys(variants))('ragged prompts in chunks, then steps: %s', async (name) => {
    const model = modelOf({ ...base, ...variants[name] });
    const rows = sequences([19, 11, 16], new Rng(1));
    const want = await uncached(model, rows);
    const cache = new KVCache(model.cacheShape(), 3, 24);
    // Stale numbers must not be seen.
    for (const { keys, values, extras } of cache.layers)
      for (const v of [keys, values, ...Object.values(extras)]) v.data.fill(7);
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
      const y = (await chunk({ tokens, lengths, counts: Int32Array.from(count) })).y.data;
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
      const y = (await step({ tokens, lengths, counts: Int32Array.of(1, 1, 1) })).y.data;
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

describe('rows of a cache', () => {
  it.each(['softmax', 'path-fox'] as const)(
    'move to a cache of another capacity, and fork: %s',
    async (attention) => {
      const model = modelOf({ ...base, attention });
      const [prompt] = sequences([9], new Rng(3)) as [Int32Array];
      const staging = new KVCache(model.cacheShape(), 1, 12);
      const chunk = continuation(model, staging, 9);
      await chunk({ tokens: prompt, lengths: Int32Array.of(0), counts: Int32Array.of(9) });
      const decoding = new KVCache(model.cacheShape(), 3, 24);
      decoding.copyRow(staging, 0, 2, 9);
      decoding.copyRow(decoding, 2, 0, 9);
      const step = continuation(model, decoding, 1);
      const tokens = Int32Array.of(4, 7, 5);
      const y = (await step({ tokens, lengths: Int32Array.of(9, 0, 9), counts: Int32Array.of(1, 1, 1) })).y
        .data;
      const rows = [Int32Array.of(...prompt, 4), Int32Array.of(7), Int32Array.of(...prompt, 5)];
      const want = await uncached(model, rows);
      const v = base.vocabulary;
      for (const [b, row] of rows.entries()) {
        expectClose(y.subarray(b * v, (b + 1) * v), want[b]!.subarray((row.length - 1) * v), `row ${b}`);
      }
      chunk.dispose();
      step.dispose();
    },
  );

  it('know their size, and refuse what does not fit', () => {
    const cache = new KVCache({ layers: 2, kvHeads: 3, headDim: 4 }, 2, 5);
    expect(cache.bytes).toBe(2 * 2 * 4 * (2 * 3 * 5 * 4));
    expect(cache.rowSize).toBe(60);
    expect(cache.layers[1]!.values.name).toBe('cache.1.values');
    expect(cache.layers[0]!.keys.trainable).toBe(false);
    const other = new KVCache({ layers: 2, kvHeads: 3, headDim: 6 }, 2, 5);
    expect(() => cache.copyRow(other, 0, 0, 1)).toThrow(/models of different shapes/);
    expect(() => cache.copyRow(cache, 0, 2, 1)).toThrow(
      /1 tokens from row 0 .* to row 2 \(of 2, capacity 5\)/,
    );
    expect(() => cache.copyRow(cache, 0, 1, 6)).toThrow(/6 tokens/);
    expect(() => new KVCache({ layers: 2, kvHeads: 0, headDim: 4 }, 1, 1)).toThrow(/kvHeads is 0/);
  });

  it.each(['softmax', 'fox', 'stick-breaking', 'path-fox'] as const)(
    'are written in place by a pass: %s',
    async (attention) => {
      const model = modelOf({ ...base, attention });
      const cache = new KVCache(model.cacheShape(), 2, 8);
      const variables = cache.layers.flatMap(({ keys, values, extras }) => [
        keys,
        values,
        ...Object.values(extras),
      ]);
      const arrays = variables.map((v) => v.data);
      for (const length of [1, 3]) {
        const run = continuation(model, cache, length);
        await run({
          tokens: new Int32Array(2 * length),
          lengths: Int32Array.of(1, 4),
          counts: Int32Array.of(length, length),
        });
        run.dispose();
      }
      variables.forEach((v, i) => {
        expect(v.data).toBe(arrays[i]);
        expect(v.spare).toBe(undefined);
      });
    },
  );

  it('go with causal attention only, and with as many rows', () => {
    const model = modelOf(base);
    const cache = new KVCache(model.cacheShape(), 2, 8);
    const [tokens, lengths] = [zeros([2, 1], 'int32'), zeros([2], 'int32')];
    const pass = { cache, lengths };
    expect(() => model.hidden(tokens, { cache: pass, causal: false })).toThrow(/with a KV cache is causal/);
    expect(() => model.hidden(tokens, { cache: pass, documents: tokens })).toThrow(
      /with a KV cache is causal/,
    );
    expect(() => model.hidden(zeros([3, 1], 'int32'), { cache: pass })).toThrow(/has 2 rows, the tokens 3/);
  });
});
