/**
 * Recipes that measure papers' claims on synthetic tasks:
 *
 *     anneal run claims/flip-flop             # PaTH, Table 1
 *     anneal run claims/cups                  # one reflection a token is enough
 *     anneal run claims/recall                # PaTH, figure 2, top
 *     anneal run claims/a5                    # PaTH, figure 2, bottom
 *
 * What has been trained is kept in cells.jsonl of the run directory, one line a training: a stopped run goes on
 * behind it. The tables go to the terminal and to report.md.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { alternatingGroup, cups, flipFlop, repeatedRecall } from '../../data/synthetic.js';
import { AnnealError } from '../../index.js';
import type { LanguageModelConfig } from '../../models/index.js';
import { recipe } from '../recipe.js';
import { type Arm, type Cell, type Experiment, runCell, type Setting, sequencesOf } from './experiment.js';
import { experimentTables } from './table.js';
import { runTrainings, type Trainings, workersSetting } from './trainings.js';

const budgetSettings = {
  steps: z.int().min(10).describe('training steps'),
  tokens: z.int().min(1).describe('tokens a step: the longer the sequences, the fewer they are'),
  lr: z.number().positive().default(1e-3).describe('peak learning rate; it falls to 0'),
  embedding: z
    .number()
    .positive()
    .default(0.02)
    .describe('standard deviation of the embedding table at the start; that of other weights is 1/√inputs'),
  seeds: z.int().min(1).default(3).describe('trainings of each cell'),
  answers: z.int().min(1).describe('answers that are checked in each evaluation of a training'),
  layers: z.int().min(1).describe('layers of the model'),
  dim: z.int().min(2).default(64).describe('width of the model'),
  heads: z.int().min(1).default(2).describe('heads of the model'),
  arms: z.array(z.string()).default([]).describe('names of the arms to run; none: all'),
  settings: z.array(z.string()).default([]).describe('names of the settings to run; none: all'),
  workers: workersSetting,
};
const schema = z.strictObject(budgetSettings);
type Config = z.output<typeof schema>;

/** The members of a list whose names were asked for. */
function chosen<T extends { name: string }>(
  list: readonly T[],
  names: readonly string[],
  what: string,
): readonly T[] {
  for (const name of names)
    if (!list.some((one) => one.name === name))
      throw new AnnealError(
        `there is no ${what} "${name}"; there are ${list.map((one) => one.name).join(', ')}`,
      );
  return names.length === 0 ? list : list.filter((one) => names.includes(one.name));
}

/** A recipe that fills the tables of an experiment. */
function claim(options: {
  name: string;
  summary: string;
  defaults: Partial<Config>;
  experiment: (config: Config) => Experiment;
}) {
  const { name, summary, defaults, experiment } = options;
  const planOf = (config: Config): Experiment => {
    const { settings, arms, published } = experiment(config);
    return {
      settings: chosen(settings, config.settings, 'setting'),
      arms: chosen(arms, config.arms, 'arm'),
      published,
    };
  };
  const spec = recipe({
    name,
    summary,
    config: schema,
    defaults,
    prepare: (config) => planOf(config),
    derive: (config, { settings, arms }) => [
      { name: 'trainings', value: settings.length * arms.length * config.seeds, unit: '' },
      {
        name: 'trainingTokens',
        value:
          settings.reduce((n, one) => n + one.length * sequencesOf(config, one), 0) *
          arms.length *
          config.seeds *
          config.steps,
        unit: 'tokens',
      },
    ],
    run: (context) => runTrainings(context, trainings),
  });
  // Processes that train find the trainings by the recipe's name.
  return { ...spec, trainings };
}

interface Job {
  setting: Setting;
  arm: Arm;
  seed: number;
}

const trainings: Trainings<Config, Experiment, Job, Cell> = {
  // One seed of everything first: a table without gaps is there early.
  jobs: ({ seeds }, { settings, arms }) =>
    Array.from({ length: seeds }, (_, seed) =>
      settings.flatMap((setting) => arms.map((arm) => ({ setting, arm, seed }))),
    ).flat(),
  isOf: (cell, { setting, arm, seed }) =>
    cell.setting === setting.name && cell.arm === arm.name && cell.seed === seed,
  train: ({ setting, arm, seed }, config, _plan, signal) =>
    runCell(setting, arm, seed, modelShape(config), config, signal),
  nameOf: ({ setting, arm, seed }) => `${setting.name}, ${arm.name}, seed ${seed}`,
  found: ({ errors }) =>
    Object.entries(errors)
      .map(([what, { wrong, answers }]) => `${what} ${((100 * wrong) / answers).toFixed(2)} %`)
      .join(', '),
  report({ prepared: plan, directory, recipe: name, print }, cells) {
    const tables = experimentTables(plan, cells);
    print(`\n${tables}\n`);
    writeFileSync(path.join(directory, 'report.md'), `# ${name}\n\n${tables}\n`);
  },
};

/** What all arms share; the arm adds its attention, the setting its vocabulary and context. */
const modelShape = ({ layers, dim, heads }: Config): LanguageModelConfig => ({
  vocabulary: 1,
  dim,
  layers,
  heads,
  hidden: 4 * dim,
  context: 1,
  mlp: 'gelu',
  tied: false,
});

/** Each kind of attention with and without a short convolution on its keys, which only PaTH has in the paper. */
const kinds: readonly Arm[] = (
  [
    ['RoPE', 'softmax'],
    ['FoX', 'fox'],
    ['stick-breaking', 'stick-breaking'],
    ['PaTH', 'path'],
  ] as const
).flatMap(([name, attention]): Arm[] => [
  { name, model: { attention, keyConvolution: attention === 'path' ? 3 : 1 } },
  attention === 'path'
    ? { name: `${name}, no convolution`, model: { attention, keyConvolution: 1 } }
    : { name: `${name}, convolution`, model: { attention, keyConvolution: 3 } },
]);

/** PaTH, Table 1 (trained and tested at 512 there). */
const table1 = {
  RoPE: [6.9, 40.3, 0.01],
  'stick-breaking': [9.6, 38.9, 0],
  FoX: [8.3, 36.3, 0],
  PaTH: [0, 0.0001, 0],
};
const evaluationNames = ['in-distribution', 'sparse', 'dense'] as const;

export const flipFlopClaim = claim({
  name: 'claims/flip-flop',
  summary: 'PaTH, Table 1: flip-flop language modelling by RoPE, FoX, stick-breaking and PaTH attention',
  defaults: { steps: 2000, tokens: 2048, layers: 1, answers: 34_000 },
  experiment: () => ({
    settings: [128, 512].map((length) => ({
      name: `length ${length}`,
      task: flipFlop(0.8),
      length,
      evaluations: [0.8, 0.98, 0.1].map((ignore, i) => ({
        name: evaluationNames[i]!,
        task: flipFlop(ignore),
        length,
      })),
    })),
    arms: kinds,
    published: Object.fromEntries(
      Object.entries(table1).map(([arm, values]) => [
        arm,
        Object.fromEntries(values.map((value, i) => [`length 512/${evaluationNames[i]}`, value])),
      ]),
    ),
  }),
});

export const cupsClaim = claim({
  name: 'claims/cups',
  summary: 'where the ball is after n swaps of five cups: one layer of PaTH against RoPE',
  defaults: { steps: 1500, tokens: 1024, layers: 1, answers: 34_000 },
  experiment: () => ({
    settings: [
      {
        name: 'length 32',
        task: cups(),
        length: 32,
        evaluations: [
          { name: 'length 32', task: cups(), length: 32 },
          { name: 'length 64', task: cups(), length: 64 },
        ],
      },
    ],
    arms: kinds,
    published: {},
  }),
});

export const recallClaim = claim({
  name: 'claims/recall',
  summary: 'PaTH, figure 2 (top): recall of the value N occurrences ago, N = 1 to 4',
  // Two layers pass on what a token is beside what the first layer adds; in a table of 0.02 it drowns in that.
  defaults: { steps: 2000, tokens: 2048, embedding: 1, layers: 2, answers: 34_000 },
  experiment: () => ({
    settings: [1, 2, 3, 4].map((back) => ({
      name: `N = ${back}`,
      task: repeatedRecall(back),
      length: 64,
      evaluations: [64, 128].map((length) => ({
        name: `length ${length}`,
        task: repeatedRecall(back),
        length,
      })),
    })),
    arms: kinds,
    published: {},
  }),
});

export const a5Claim = claim({
  name: 'claims/a5',
  summary: 'PaTH, figure 2 (bottom): the word problem of A5 by depth',
  // A row of 17 is a start and 16 generators.
  defaults: { steps: 3000, tokens: 1088, lr: 2e-3, embedding: 1, heads: 4, layers: 1, answers: 34_000 },
  experiment: () => ({
    settings: [
      {
        name: '16 factors',
        task: alternatingGroup(),
        length: 17,
        evaluations: [16, 32].map((factors) => ({
          name: `${factors} factors`,
          task: alternatingGroup(),
          length: factors + 1,
        })),
      },
    ],
    arms: [1, 2, 3].flatMap((layers) =>
      kinds.map((arm) => ({
        name: `${arm.name}, ${layers} layer${layers === 1 ? '' : 's'}`,
        model: { ...arm.model, layers },
      })),
    ),
    published: {},
  }),
});
