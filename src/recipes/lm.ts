/**
 * Trains a language model on text:
 *
 *     anneal run lm data=book.txt
 *     anneal run lm 'data=["texts/*.txt"]' tokenizer.kind=bpe model.layers=6 model.dim=384 steps=5000
 *
 * `languageModel` makes such a recipe; `lm` takes its text from files, others (moby-dick, shakespeare) bring
 * text and defaults of their own. Rows are windows of the text, or whole documents packed together; the last share of it is never trained on.
 */
import path from 'node:path';
import { z } from 'zod';
import {
  type Feeds,
  sequentialBatches,
  TokenBatches,
  type TokenDataset,
  type Tokenizer,
} from '../data/index.js';
import { Generator } from '../generate/index.js';
import { AnnealError, float32, int32, mul, Rng } from '../index.js';
import {
  flopsPerToken,
  type LanguageModelConfig,
  llamaConfig,
  parameterCount,
  resolveConfig,
  Transformer,
} from '../models/index.js';
import { languageModelLoss } from '../models/lm/loss.js';
import { drawCurve, measurePeak, readEvents, seriesOf, type TrainResult, train } from '../train/index.js';
import { duration } from './format.js';
import { dataSetting, hubSettings } from './hub-data.js';
import { modelFilesOf } from './lm-files.js';
import { optimizerOf } from './lm-optimizer.js';
import { type LmConfig, lmSettings } from './lm-settings.js';
import { type Corpus, makeTokenizer, readDocuments, tokensOf } from './lm-text.js';
import { type Quantity, type RunContext, type RunOutcome, recipe } from './recipe.js';

/** What is known once the text has been read. */
export interface Prepared {
  tokenizer: Tokenizer;
  model: LanguageModelConfig;
  training: TokenDataset;
  validation: TokenDataset;
  /** What samples continue. */
  prompt: Int32Array;
  /** Tokens per character of the validation text: turns nats per token into nats per character. */
  tokensPerCharacter: number;
}

/** A recipe that trains a language model on the documents that `read` returns. */
export function languageModel<Shape extends z.ZodRawShape>(options: {
  name: string;
  summary: string;
  /** Settings that say where the text comes from. */
  data: Shape;
  /** Defaults that differ from those of `lm`. */
  defaults?: Readonly<Record<string, unknown>>;
  read(config: z.output<z.ZodObject<Shape>>): Promise<string[]>;
}) {
  const { name, summary, data, defaults = {}, read } = options;
  return recipe({
    name,
    summary,
    defaults,
    config: z.strictObject({ ...data, ...lmSettings }) as unknown as z.ZodType<
      LmConfig & z.output<z.ZodObject<Shape>>
    >,
    prepare: async (config) => prepare(config, await read(config)),
    derive,
    run,
  });
}

export const lm = languageModel({
  name: 'lm',
  summary: 'train a language model on text files',
  data: {
    data: dataSetting.describe(
      'text, .jsonl or .parquet files, globs among them, or datasets: hf://datasets/owner/name',
    ),
    hub: hubSettings,
    field: z.string().default('text').describe('field of JSONL and Parquet rows that holds the text'),
    separator: z.string().min(1).optional().describe('what stands between the documents of a text file'),
  },
  read: ({ data, hub, field, separator }) => readDocuments(data, { hub, field, separator }),
});

/** Tokenizer, tokens and model config that follow from the text. */
async function prepare(config: LmConfig, documents: string[]): Promise<Prepared> {
  const corpus: Corpus = splitCorpus(documents, config.validation);
  const tokenizer = await makeTokenizer(config.tokenizer, corpus);
  const training = await tokensOf(corpus.training, tokenizer);
  const validation = await tokensOf(corpus.validation, tokenizer);
  const characters = corpus.validation.reduce((n, text) => n + text.length, 0);
  const { context, dim, mlp, ...rest } = config.model;
  for (const [what, tokens] of [
    ['training', training],
    ['validation', validation],
  ] as const) {
    if (tokens.length > context) continue;
    throw new AnnealError(
      `the ${what} text has ${tokens.length} tokens, less than one window of model.context + 1 = ${context + 1}; give more text, or a smaller context`,
    );
  }
  const defaults = mlp === 'swiglu' ? {} : { hidden: 4 * dim };
  const model = llamaConfig({ vocabulary: tokenizer.size, dim, context, mlp, ...defaults, ...defined(rest) });
  resolveConfig(model);
  const { prompt: text } = config.sample;
  const prompt =
    text === undefined ? Int32Array.from(validation.tokens.subarray(0, 8)) : tokenizer.encode(text);
  if (prompt.length >= context) {
    throw new AnnealError(
      `sample.prompt has ${prompt.length} tokens; the context of ${context} leaves no room`,
    );
  }
  return {
    tokenizer,
    model,
    training,
    validation,
    prompt,
    tokensPerCharacter: validation.length / characters,
  };
}

/** The first share of the text, and the rest; the document at the border is cut. */
function splitCorpus(documents: readonly string[], share: number): Corpus {
  const total = documents.reduce((n, text) => n + text.length, 0);
  let left = Math.floor(total * (1 - share));
  const corpus: Corpus = { training: [], validation: [] };
  for (const text of documents) {
    const cut = Math.min(left, text.length);
    if (cut > 0) corpus.training.push(text.slice(0, cut));
    if (cut < text.length) corpus.validation.push(text.slice(cut));
    left -= cut;
  }
  return corpus;
}

/** Share of the runtime's best product rate that training steps reach, for the estimate of their time. */
const usualShare = 0.5;

async function derive(config: LmConfig, { model, training }: Prepared): Promise<Quantity[]> {
  const { steps, batch } = config;
  const { layers, dim, heads, hidden, context, vocabulary } = resolveConfig(model);
  const parameters = parameterCount(model);
  const tokensPerStep = batch * context;
  const flopsPerStep = tokensPerStep * flopsPerToken(model, { training: true });
  // Weights, gradients and AdamW's moments, the latter twice so that a step can be taken back; then what the
  // backward pass needs of each layer and of the logits.
  const states = 4 * parameters * (6 + (config.average > 0 ? 1 : 0));
  const activations =
    4 * tokensPerStep * (layers * (12 * dim + 4 * hidden + heads * context) + 3 * vocabulary);
  return [
    { name: 'parameters', value: parameters, unit: '' },
    { name: 'vocabulary', value: vocabulary, unit: '' },
    { name: 'trainingTokens', value: training.length, unit: '' },
    { name: 'tokensPerStep', value: tokensPerStep, unit: '' },
    { name: 'epochs', value: (steps * tokensPerStep) / training.length, unit: '' },
    { name: 'flopsPerStep', value: flopsPerStep, unit: 'FLOP' },
    { name: 'flops', value: steps * flopsPerStep, unit: 'FLOP' },
    { name: 'memoryAtMost', value: states + activations, unit: 'bytes' },
    {
      name: 'estimatedTime',
      value: (steps * flopsPerStep) / (usualShare * (await measurePeak())),
      unit: 'seconds',
    },
  ];
}

async function run(context: RunContext<LmConfig, Prepared>): Promise<RunOutcome> {
  const { config, prepared, directory } = context;
  const { tokenizer, training, validation, tokensPerCharacter } = prepared;
  const { batch, steps, average } = config;
  const rng = new Rng(config.seed);
  const model = new Transformer(prepared.model, { rng: rng.split('weights') });
  const length = model.config.context;
  const generator = new Generator(model, { slots: 1, tokenizer });
  const result = await train({
    parameters: model,
    inputs: inputsOf(length, config.rows === 'packed'),
    loss: (rows, mode) => {
      const { weights: _, ...unweighted } = rows;
      // Random windows are full: their weights are 1 and need not be multiplied.
      const loss = languageModelLoss(model, mode === 'train' && config.rows === 'random' ? unweighted : rows);
      return mode === 'train' ? loss : { loss, perCharacter: mul(loss, tokensPerCharacter) };
    },
    data: new TokenBatches(training, { batch, context: length, mode: config.rows, seed: config.seed }),
    optimizer: optimizerOf(config),
    steps,
    microBatches: config.microBatches,
    ...(average > 0 && { average: { decay: average } }),
    evaluate: {
      every: config.evaluate.every,
      batches: evaluationBatches(validation, config),
      ...defined({ patience: config.evaluate.patience }),
    },
    sample: { every: config.sample.every, run: () => continuation(generator, prepared, config) },
    save: config.save,
    directory,
    config: context.record,
    modelFiles: modelFilesOf(model, tokenizer),
    units: { name: 'tokens', perStep: batch * length },
    peakFlops: 'measure',
    progress: context.stream ? { stream: context.stream } : false,
    tensorBoard: context.tensorboard,
    signal: context.signal,
    handleSignals: false,
  });
  await generator.close();
  return conclude(context, result);
}

/** Inputs of a step; the leading axis is open because the last evaluation may have fewer rows. */
function inputsOf(length: number, isPacked: boolean) {
  const row = [null, length];
  const common = { tokens: int32(row), targets: int32(row), weights: float32(row) };
  return isPacked ? { ...common, documents: int32(row), positions: int32(row) } : common;
}

/** Mean cross-entropy in nats over the tokens that count; weights have the mean 1. */

/** The validation text in order, in batches like those of the training; a last one that is not full is left out. */
function evaluationBatches(
  validation: TokenDataset,
  { batch, rows, evaluate, model: { context } }: LmConfig,
): Feeds[] {
  const windows = Math.ceil((validation.length - 1) / context);
  const all = [
    ...sequentialBatches(validation, {
      batch: Math.min(batch, windows),
      context,
      documents: rows === 'packed',
    }),
  ];
  // With padding no batch is full; then the mean over batches, of almost as many targets each, has to do.
  const full =
    rows === 'packed' ? all : all.filter(({ batch: { tokens }, counted }) => counted === tokens.data.length);
  const used = (full.length > 0 ? full : all).map((one) => one.batch);
  const limit = Math.min(used.length, evaluate.batches ?? used.length);
  return Array.from({ length: limit }, (_, i) => used[Math.floor((i * used.length) / limit)]!);
}

/** A sample: the prompt and what the model makes of it. */
async function continuation(
  generator: Generator,
  { tokenizer, prompt }: Prepared,
  { sample, seed }: LmConfig,
) {
  const { temperature, topP } = sample;
  const maxTokens = Math.min(sample.tokens, generator.context - prompt.length);
  const stopTokens = tokenizer.endOfText === undefined ? [] : [tokenizer.endOfText];
  const [completion] = await generator.generate([{ prompt, maxTokens, temperature, topP, seed, stopTokens }]);
  return tokenizer.decode(prompt) + completion!.text;
}

/** Draws the curve and says where the report is. */
async function conclude(context: RunContext<LmConfig, Prepared>, result: TrainResult): Promise<RunOutcome> {
  const { directory, print, config } = context;
  const { step, metrics, seconds, best } = result;
  const status = result.reason === 'aborted' || result.reason === 'interrupted' ? 'stopped' : 'finished';
  const { events } = await readEvents(directory);
  const losses = seriesOf(events, 'train', 'loss');
  if (status === 'finished') {
    const width = Math.min((context.stream?.columns ?? 100) - 12, 72);
    print(
      `\ntraining loss, nats per token\n${drawCurve(losses.steps, losses.values, { width, height: 10 })}\n`,
    );
    if (result.resumedFrom === config.steps) print('This run was finished before; --restart begins it anew.');
  }
  const summary = {
    ...(metrics.loss !== undefined && { loss: round(metrics.loss) }),
    ...(metrics.perCharacter !== undefined && { perCharacter: round(metrics.perCharacter) }),
    ...(best && { best: round(best.value), bestStep: best.step }),
    time: duration(seconds),
    report: path.join(directory, 'report.md'),
  };
  return { status, step, summary };
}

const round = (value: number) => Number(value.toFixed(4));

/** The entries of an object that are not undefined. */
function defined<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as never;
}
