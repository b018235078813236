/**
 * Length extrapolation on real text (PaTH, figure 3):
 *
 *     anneal run claims/length
 *     anneal run claims/length seeds=1 arms='["RoPE","PaTH-FoX"]'
 *
 * Small language models with each kind of attention learn Moby Dick in rows of 256 tokens and then read its last tenth in
 * rows of up to 4,096. All lengths score the same tokens, so a model that can use more context gets better from
 * column to column, one that merely stands it stays flat, and one that cannot gets worse.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { sequentialBatches, TokenBatches } from '../../data/index.js';
import { AnnealError, adamW, cosine, type Feed, float32, int32, program, Rng, warmup } from '../../index.js';
import { type LanguageModelConfig, llamaConfig, Transformer } from '../../models/index.js';
import { languageModelLoss } from '../../models/lm/loss.js';
import { train } from '../../train/index.js';
import { lineChart } from '../../train/svg.js';
import { recipe } from '../recipe.js';
import { encodeNovel, type Novel } from './small-gpt.js';
import { runTrainings, type Trainings, workersSetting } from './trainings.js';

const schema = z.strictObject({
  steps: z.int().min(10).default(800).describe('training steps'),
  batch: z.int().min(1).default(16).describe('rows a step'),
  context: z.int().min(8).default(256).describe('tokens in a row of training'),
  longest: z
    .int()
    .min(8)
    .default(4096)
    .describe('tokens in a row of the longest test, a multiple of context'),
  lr: z.number().positive().default(2e-3).describe('peak learning rate; it falls to a tenth'),
  layers: z.int().min(1).default(2).describe('layers'),
  dim: z.int().min(2).default(128).describe('width of the model'),
  heads: z.int().min(1).default(2).describe('attention heads'),
  vocabulary: z.int().min(257).default(1024).describe('tokens of the byte-pair encoding'),
  seeds: z.int().min(1).default(3).describe('trainings of each arm'),
  arms: z.array(z.string()).default([]).describe('names of the arms to run; none: all'),
  workers: workersSetting,
});
type Config = z.output<typeof schema>;

const arms = {
  RoPE: { attention: 'softmax' },
  ALiBi: { attention: 'alibi' },
  FoX: { attention: 'fox' },
  'stick-breaking': { attention: 'stick-breaking' },
  PaTH: { attention: 'path' },
  'PaTH-FoX': { attention: 'path-fox' },
} as const satisfies Record<string, Partial<LanguageModelConfig>>;
type ArmName = keyof typeof arms;

/** One training and its tests. */
interface Cell {
  arm: ArmName;
  seed: number;
  /** Mean loss of the tested tokens in nats, by length of the rows. */
  losses: Record<string, number>;
  seconds: number;
}

/** Lengths of the test: the training's, doubled until the longest. */
function lengthsOf({ context, longest }: Config): number[] {
  const lengths = [];
  for (let length = context; length <= longest; length *= 2) lengths.push(length);
  return lengths;
}

function armsOf(config: Config): ArmName[] {
  const names = Object.keys(arms) as ArmName[];
  const isName = (name: string): name is ArmName => Object.hasOwn(arms, name);
  return config.arms.length === 0
    ? names
    : config.arms.map((name) => {
        if (isName(name)) return name;
        throw new AnnealError(`there is no arm "${name}"; there are ${names.join(', ')}`);
      });
}

async function trainArm(
  config: Config,
  { training, vocabulary }: Novel,
  arm: ArmName,
  seed: number,
  signal: AbortSignal,
): Promise<Transformer | undefined> {
  const { steps, batch, context, longest, lr, layers, dim, heads } = config;
  const shape = llamaConfig({ vocabulary, dim, layers, heads, context: longest, ...arms[arm] });
  const model = new Transformer(shape, { rng: new Rng(seed).split('weights') });
  const rows = int32([batch, context]);
  const { step } = await train({
    parameters: model,
    inputs: { tokens: rows, targets: rows, weights: float32([batch, context]) },
    // Random windows are full: all their weights are 1.
    loss: ({ tokens, targets }) => languageModelLoss(model, { tokens, targets }),
    data: new TokenBatches(training, { batch, context, mode: 'random', seed }),
    optimizer: adamW({
      lr: warmup(Math.round(steps / 10), cosine(lr, steps, lr / 10)),
      weightDecay: 0.1,
      clipNorm: 1,
    }),
    steps,
    keepPrevious: false,
    progress: false,
    handleSignals: false,
    signal,
  });
  return step < steps ? undefined : model;
}

/** Mean loss in nats when the validation text is read in rows of `length`; a pass has `longest` tokens. */
async function lossAt(
  model: Transformer,
  { validation }: Novel,
  length: number,
  longest: number,
): Promise<number> {
  const batch = longest / length;
  const rows = int32([batch, length]);
  const measure = program({ tokens: rows, targets: rows }, (inputs) => ({
    loss: languageModelLoss(model, inputs),
  }));
  let [sum, count] = [0, 0];
  for (const { batch: one, counted } of sequentialBatches(validation, { batch, context: length })) {
    // What is left over at the end fills no row of the longest test, and all lengths are to score the same tokens.
    if (counted < longest) break;
    const { loss } = await measure({ tokens: one.tokens as Feed, targets: one.targets as Feed });
    sum += loss.item();
    count++;
  }
  measure.dispose();
  if (count === 0)
    throw new AnnealError(`the validation text has fewer than longest=${longest} tokens; lower it`);
  return sum / count;
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** Perplexities by length with the range of the seeds, and the last as a multiple of the first. */
function table(config: Config, cells: readonly Cell[]): string {
  const lengths = lengthsOf(config);
  const rows = armsOf(config).flatMap((arm) => {
    const own = cells.filter((cell) => cell.arm === arm);
    if (own.length === 0) return [];
    const perplexities = lengths.map((length) => own.map((cell) => Math.exp(cell.losses[length]!)));
    const entries = perplexities.map((values) => {
      const spread =
        values.length > 1 ? ` (${Math.min(...values).toFixed(1)}–${Math.max(...values).toFixed(1)})` : '';
      return `${mean(values).toFixed(1)}${spread}`;
    });
    const eightfold = lengths.indexOf(8 * config.context);
    const ratio = eightfold < 0 ? '–' : (mean(perplexities[eightfold]!) / mean(perplexities[0]!)).toFixed(3);
    const seconds = mean(own.map((cell) => cell.seconds)).toFixed(0);
    return [`| ${arm} | ${entries.join(' | ')} | ${ratio} | ${seconds} |`];
  });
  return [
    `| attention | ${lengths.join(' | ')} | at 8x / at 1x | s a run |`,
    `| --- | ${lengths.map(() => '---').join(' | ')} | --- | --- |`,
    ...rows,
  ].join('\n');
}

function chart(config: Config, cells: readonly Cell[]): string {
  const lengths = lengthsOf(config);
  const lines = armsOf(config).flatMap((arm) => {
    const own = cells.filter((cell) => cell.arm === arm);
    if (own.length === 0) return [];
    const values = lengths.map((length) => mean(own.map((cell) => cell.losses[length]!)));
    return [{ name: arm, steps: lengths.map((length) => Math.log2(length)), values, hasDots: true }];
  });
  return lineChart({
    title: `Trained on rows of ${config.context} tokens`,
    xLabel: 'log2 of the length of a row',
    yLabel: 'loss, nats a token',
    lines,
  });
}

interface Job {
  arm: ArmName;
  seed: number;
}

const trainings: Trainings<Config, Novel, Job, Cell> = {
  jobs: (config) =>
    Array.from({ length: config.seeds }, (_, seed) => armsOf(config).map((arm) => ({ arm, seed }))).flat(),
  isOf: (cell, { arm, seed }) => cell.arm === arm && cell.seed === seed,
  async train({ arm, seed }, config, novel, signal) {
    const begun = performance.now();
    const model = await trainArm(config, novel, arm, seed, signal);
    if (!model) return undefined;
    const losses: Cell['losses'] = {};
    for (const length of lengthsOf(config))
      losses[length] = await lossAt(model, novel, length, config.longest);
    return { arm, seed, losses, seconds: (performance.now() - begun) / 1000 };
  },
  nameOf: ({ arm, seed }) => `${arm}, seed ${seed}`,
  found: ({ losses }) => {
    const shown = Object.entries(losses).map(([length, loss]) => `${length}: ${loss.toFixed(3)}`);
    return `${shown.join(', ')} nats`;
  },
  report({ config, directory, recipe: name, print }, cells) {
    writeFileSync(path.join(directory, 'length.svg'), chart(config, cells));
    const report = `Perplexity a token on the same text, read in rows of that many tokens; in parentheses the range of the seeds.\n\n${table(config, cells)}\n`;
    print(`\n${report}\n`);
    writeFileSync(
      path.join(directory, 'report.md'),
      `# ${name}\n\n${report}\n![loss by length](length.svg)\n`,
    );
  },
};

const spec = recipe({
  name: 'claims/length',
  summary: 'PaTH, figure 3: language models trained on rows of 256 tokens read rows of up to 4,096',
  config: schema,
  prepare: (config) => {
    armsOf(config);
    if (config.longest % config.context !== 0 || !lengthsOf(config).includes(config.longest))
      throw new AnnealError(
        `longest=${config.longest} must be context=${config.context} times a power of two, such as ${16 * config.context}`,
      );
    return encodeNovel(config.vocabulary);
  },
  derive: (config, { training, validation }) => [
    { name: 'trainings', value: armsOf(config).length * config.seeds, unit: '' },
    { name: 'trainingTokens', value: training.length, unit: 'tokens' },
    { name: 'validationTokens', value: validation.length, unit: 'tokens' },
    { name: 'tokensPerTraining', value: config.steps * config.batch * config.context, unit: 'tokens' },
  ],
  run: (context) => runTrainings(context, trainings),
});

/** Processes that train find the trainings by the recipe's name. */
export const lengthClaim = { ...spec, trainings };
