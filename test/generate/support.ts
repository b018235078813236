import type { StreamDecoder, Tokenizer } from '../../src/data/tokenizer.js';
import { int32, program, Rng } from '../../src/index.js';
import { Transformer } from '../../src/models/lm/transformer.js';

/** A model small enough for thousands of steps, with weights large enough for varied text. */
export function tinyModel(overrides: Partial<Transformer['config']> = {}, seed = 1): Transformer {
  const model = new Transformer(
    {
      vocabulary: 33,
      dim: 32,
      layers: 2,
      heads: 4,
      kvHeads: 2,
      headDim: 8,
      hidden: 48,
      context: 96,
      ...overrides,
    },
    { rng: new Rng(seed) },
  );
  // Flat distributions would make near ties, and then rounding would decide.
  const table = model.embedding as unknown as { weight: { data: Float32Array } };
  for (const [i, value] of table.weight.data.entries()) table.weight.data[i] = 12 * value;
  return model;
}

/** Greedy continuation by whole forward passes over the growing sequence, padded to the model's context. */
export async function naiveGreedy(model: Transformer, prompt: readonly number[], count: number) {
  const { context, vocabulary } = model.config;
  const forward = program({ tokens: int32([1, context]) }, ({ tokens }) => ({
    logits: model.forward(tokens),
  }));
  const tokens = [...prompt];
  for (let i = 0; i < count && tokens.length < context; i++) {
    const padded = new Int32Array(context);
    padded.set(tokens);
    const { logits } = await forward({ tokens: padded });
    const row = logits.data.subarray((tokens.length - 1) * vocabulary, tokens.length * vocabulary);
    tokens.push(row.indexOf(Math.max(...row)));
  }
  forward.dispose();
  return tokens.slice(prompt.length);
}

/** Spells token i as the i-th of these strings; some hold several characters or a part of one. */
export class SpellingTokenizer implements Tokenizer {
  readonly endOfText = undefined;
  readonly #bytes: readonly Uint8Array[];

  constructor(readonly spellings: readonly (string | Uint8Array)[]) {
    this.#bytes = spellings.map((one) => (typeof one === 'string' ? new TextEncoder().encode(one) : one));
  }

  get size(): number {
    return this.spellings.length;
  }

  encode(text: string): Int32Array {
    return Int32Array.from(text, (character) => this.spellings.indexOf(character));
  }

  decode(tokens: ArrayLike<number>): string {
    const decoder = this.decoder();
    return Array.from(tokens, (token) => decoder.push(token)).join('') + decoder.end();
  }

  decoder(): StreamDecoder {
    const decoder = new TextDecoder();
    return {
      push: (token) => decoder.decode(this.#bytes[token]!, { stream: true }),
      end: () => decoder.decode(),
    };
  }

  idOf(token: string): number | undefined {
    const id = this.spellings.indexOf(token);
    return id < 0 ? undefined : id;
  }

  toJSON(): Record<string, unknown> {
    return {};
  }
}

/** `n` random token ids below `vocabulary`. */
export const randomTokens = (rng: Rng, n: number, vocabulary = 33): number[] => [
  ...rng.integers(n, 0, vocabulary),
];
