import type { StreamDecoder, Tokenizer } from '../../src/data/tokenizer.js';
import { int32, program, Rng } from '../../src/index.js';
import { Transformer } from '../../src/models/lm/transformer.js';
import { parametersOf } from '../../src/nn/module.js';

/**
 * A model small enough for thousands of steps. Its weights are large, so that what comes next depends on all that
 * came before, and near ties, in which rounding would decide, are rare.
 */
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
      tied: false,
      ...overrides,
    },
    { rng: new Rng(seed) },
  );
  const rng = new Rng(seed).split('large weights');
  for (const [name, parameter] of parametersOf(model)) {
    if (parameter.shape.length !== 2) continue;
    const std =
      name.startsWith('embedding') || name.startsWith('positions') ? 1 : 1.4 / Math.sqrt(parameter.shape[0]!);
    parameter.set(rng.split(name).normal(parameter.size, 0, std));
  }
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
