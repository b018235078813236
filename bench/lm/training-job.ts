/**
 * A training run that two sides do alike: sizes, AdamW with its schedule, initial weights, and every batch. It is
 * written to a folder once; nanogpt_torch.py reads all of it, our side all but the batches, which it makes itself, as
 * a run does.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Rng } from 'anneal';
import { characterTokenizer, sequentialBatches, TokenBatches, TokenDataset } from 'anneal/data';
import { type LanguageModelConfig, Transformer } from 'anneal/models';
import { parametersOf } from 'anneal/nn';

/** What is trained, and how. */
export interface TrainingSetup {
  layers: number;
  dim: number;
  heads: number;
  context: number;
  batch: number;
  steps: number;
  seed: number;
  optimizer: {
    lr: number;
    /** At the end of a cosine over all steps. */
    finalLr: number;
    /** Steps of a linear rise, a factor of the cosine. */
    warmup: number;
    beta1: number;
    beta2: number;
    weightDecay: number;
    clipNorm: number;
  };
}

/** nanoGPT's optimiser for characters (config/train_shakespeare_char.py). */
const optimizer = {
  lr: 1e-3,
  finalLr: 1e-4,
  warmup: 100,
  beta1: 0.9,
  beta2: 0.99,
  weightDecay: 0.1,
  clipNorm: 1,
};

/** nanoGPT's example for a processor, as its README gives it. */
export const NANOGPT: TrainingSetup = {
  layers: 4,
  dim: 128,
  heads: 4,
  context: 64,
  batch: 12,
  steps: 2000,
  seed: 1337,
  optimizer,
};

/** nanoGPT's example for a graphics card, 10.7 M parameters, for a few steps. */
export const GPT6: TrainingSetup = {
  ...NANOGPT,
  layers: 6,
  dim: 384,
  heads: 6,
  context: 256,
  batch: 16,
  steps: 60,
  optimizer: { ...optimizer, warmup: 10 },
};

/** A setup with what follows from the text. */
export interface TrainingJob extends TrainingSetup {
  text: string;
  threads: number;
  /** Steps between which our side can be held up. */
  gate: number;
  /** The model, for nanogpt_torch.py. */
  config: { vocabulary: number; layers: number; dim: number; heads: number; context: number; batch: number };
  /** Weights in the order of weights.bin; linear layers are [in, out]. */
  parameters: { name: string; shape: readonly number[] }[];
}

/** The first nine tenths of a text to learn from, and the rest; each character is a token. */
export function readCorpus(file: string): { training: TokenDataset; validation: TokenDataset } {
  const text = readFileSync(file, 'utf8');
  const tokenizer = characterTokenizer(text);
  const tokens = Uint16Array.from(tokenizer.encode(text));
  const border = Math.floor(tokens.length * 0.9);
  return {
    training: new TokenDataset(tokens.slice(0, border), tokenizer.size),
    validation: new TokenDataset(tokens.slice(border), tokenizer.size),
  };
}

/** Our model: nanoGPT's, but that norms have a bias and GELU is the tanh form. */
export function modelConfig(
  { layers, dim, heads, context }: TrainingSetup,
  vocabulary: number,
): LanguageModelConfig {
  const kinds = { mlp: 'gelu', norm: 'layer', positions: 'learned', tied: true } as const;
  return { vocabulary, layers, dim, heads, hidden: 4 * dim, context, ...kinds };
}

/** The batches of a run. */
export const trainingBatches = (training: TokenDataset, { batch, context, seed }: TrainingSetup) =>
  new TokenBatches(training, { batch, context, mode: 'random', seed });

type Pair = { tokens: { data: ArrayLike<number> }; targets: { data: ArrayLike<number> } };

/** Inputs and targets of batches, one after another. */
function* alternating(batches: Iterable<Pair>): Generator<ArrayLike<number>> {
  for (const { tokens, targets } of batches) {
    yield tokens.data;
    yield targets.data;
  }
}

function writeArrays(
  file: string,
  arrays: Iterable<ArrayLike<number>>,
  Kind: typeof Int32Array | typeof Float32Array,
) {
  const parts = [...arrays].map((array) => Buffer.from(Kind.from(array).buffer));
  writeFileSync(file, Buffer.concat(parts));
}

/** Writes job.json, weights.bin (float32), batches.bin and validation.bin (int32, inputs then targets per batch). */
export function writeTrainingJob(
  folder: string,
  setup: TrainingSetup,
  options: { text: string; threads: number; gate: number },
): TrainingJob {
  const { training, validation } = readCorpus(options.text);
  const { layers, dim, heads, context, batch, steps } = setup;
  const vocabulary = training.vocabularySize;
  const model = new Transformer(modelConfig(setup, vocabulary), { rng: new Rng(setup.seed) });
  const parameters = [...parametersOf(model)];
  const job: TrainingJob = {
    ...setup,
    ...options,
    config: { vocabulary, layers, dim, heads, context, batch },
    parameters: parameters.map(([name, { shape }]) => ({ name, shape })),
  };
  const write = (
    name: string,
    arrays: Iterable<ArrayLike<number>>,
    kind: typeof Int32Array | typeof Float32Array,
  ) => writeArrays(path.join(folder, name), arrays, kind);
  write(
    'weights.bin',
    parameters.map(([, { data }]) => data as Float32Array),
    Float32Array,
  );
  const source = trainingBatches(training, setup);
  write('batches.bin', alternating(Array.from({ length: steps }, () => source.next())), Int32Array);
  write('validation.bin', alternating(fullBatches(validation, setup)), Int32Array);
  writeFileSync(path.join(folder, 'job.json'), JSON.stringify(job));
  return job;
}

/** The validation text in order, without what does not fill a batch. */
export function fullBatches(validation: TokenDataset, { batch, context }: TrainingSetup) {
  const all = [...sequentialBatches(validation, { batch, context })];
  return all.filter(({ counted }) => counted === batch * context).map((one) => one.batch);
}
