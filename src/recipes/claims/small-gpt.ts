/** A small GPT on Moby Dick: what the claims about optimisers train. */
import { z } from 'zod';
import { sequentialBatches, TokenBatches, type TokenDataset, tokenize, trainBpe } from '../../data/index.js';
import { float32, int32, Rng } from '../../index.js';
import { type LanguageModelConfig, llamaConfig, Transformer } from '../../models/index.js';
import { languageModelLoss } from '../../models/lm/loss.js';
import type { Optimizer } from '../../optim/index.js';
import { train } from '../../train/index.js';
import { readNovel } from '../moby-dick.js';

const positive = (value: number) => z.int().min(1).default(value);

/** Settings of the model and its batches. */
export const gptSettings = {
  layers: positive(2).describe('layers'),
  dim: positive(128).describe('width of the model'),
  heads: positive(4).describe('attention heads'),
  context: positive(128).describe('tokens in a row'),
  batch: positive(8).describe('rows of a batch'),
  vocabulary: z.int().min(257).default(1024).describe('tokens of the byte-pair encoding'),
  validationBatches: z.int().min(1).optional().describe('batches of validation text (default: all of it)'),
};
const schema = z.strictObject(gptSettings);

/** A resolved config of the model. */
export type GptConfig = z.output<typeof schema>;

/** The novel as tokens: the first nine tenths of it, and the rest. */
export interface Novel {
  training: TokenDataset;
  validation: TokenDataset;
  vocabulary: number;
}

/** Reads and encodes the novel; the encoding is trained on the training text. */
export async function encodeNovel(vocabulary: number): Promise<Novel> {
  const text = readNovel();
  const cut = Math.floor(0.9 * text.length);
  const tokenizer = await trainBpe([text.slice(0, cut)], { vocabularySize: vocabulary });
  const encode = (part: string) => tokenize([part], tokenizer, { delimit: 'none' });
  return {
    training: await encode(text.slice(0, cut)),
    validation: await encode(text.slice(cut)),
    vocabulary: tokenizer.size,
  };
}

/** The model's shape: Llama's layers. */
export const shapeOf = ({ layers, dim, heads, context }: GptConfig, { vocabulary }: Novel) =>
  llamaConfig({ vocabulary, dim, layers, heads, context }) satisfies LanguageModelConfig;

/** The validation text in full batches. */
function batchesOf({ validation }: Novel, { batch, context, validationBatches }: GptConfig) {
  const all = [...sequentialBatches(validation, { batch, context })];
  const full = all.filter((one) => one.counted === batch * context);
  return (full.length > 0 ? full : all).slice(0, validationBatches).map((one) => one.batch);
}

/** What a training left. */
export interface Trained {
  model: Transformer;
  /** Mean loss over the validation text, nats a token; NaN if the training diverged. */
  loss: number;
  seconds: number;
}

/**
 * Trains a model whose weights and batches follow from the seed alone, so that optimisers can be compared in pairs.
 * @returns undefined if the signal came first
 */
export async function trainGpt(options: {
  config: GptConfig;
  novel: Novel;
  optimizer: Optimizer;
  steps: number;
  seed: number;
  signal: AbortSignal;
}): Promise<Trained | undefined> {
  const { config, novel, optimizer, steps, seed, signal } = options;
  const { batch, context } = config;
  const started = performance.now();
  const model = new Transformer(shapeOf(config, novel), { rng: new Rng(seed).split('weights') });
  const row = [batch, context];
  const result = await train({
    parameters: model,
    inputs: { tokens: int32(row), targets: int32(row), weights: float32(row) },
    // Random windows are full: their weights are 1 and need not be multiplied.
    loss: ({ tokens, targets }) => languageModelLoss(model, { tokens, targets }),
    data: new TokenBatches(novel.training, { batch, context, mode: 'random', seed }),
    optimizer,
    steps,
    evaluate: { every: steps, batches: batchesOf(novel, config) },
    keepPrevious: false,
    progress: false,
    handleSignals: false,
    signal,
  });
  if (result.step < steps) return undefined;
  return { model, loss: result.metrics.loss ?? Number.NaN, seconds: (performance.now() - started) / 1000 };
}
