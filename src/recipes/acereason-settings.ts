import { z } from 'zod';
import { dataSetting, hubSettings } from './hub-data.js';
import { section } from './settings.js';

const positive = (initial: number) => z.int().min(1).default(initial);
const share = (initial: number) => z.number().min(0).max(1).default(initial);
const range = (low: number, high: number) => z.tuple([z.int().min(1), z.int().min(1)]).default([low, high]);

/** A number, or one that goes evenly from a stage's first epoch to its last. */
const perEpoch = z.union([
  z.number().positive(),
  z.strictObject({ from: z.number().positive(), to: z.number().positive() }),
]);
const passes = {
  atLeast: z.int().min(0).optional(),
  atMost: z.int().min(0).optional(),
  of: z.int().min(1),
};

/** A stage as `Curriculum` takes it. */
const stage = z.strictObject({
  name: z.string().min(1),
  domain: z.enum(['math', 'code']),
  maxTokens: z.int().min(1),
  prompts: z.union([z.literal('all'), z.strictObject(passes)]).default('all'),
  rescore: z.boolean().default(false),
  groupSize: perEpoch,
  temperature: perEpoch.default(1),
  lr: z.number().positive(),
  batch: z.int().min(1),
  length: z.union([z.strictObject({ steps: z.int().min(1) }), z.strictObject({ epochs: z.int().min(1) })]),
  overlong: z.strictObject({ kind: z.enum(['train', 'mask', 'zero']) }).optional(),
  epochFilter: z
    .strictObject({ ...passes, scores: z.enum(['rollouts', 'fresh']).default('rollouts') })
    .optional(),
});

const hard = { atMost: 4, of: 8 };
const math = { domain: 'math', batch: 24, lr: 1e-4, temperature: 1 } as const;
const code = { domain: 'code', batch: 24, lr: 1e-4 } as const;

/** The paper's six stages in small: lengths that the longest chains do not fit into at first, hard prompts, code, hard prompts. */
const smallStages: z.input<typeof stage>[] = [
  { name: 'math-1', ...math, maxTokens: 36, groupSize: 6, length: { steps: 30 } },
  { name: 'math-2', ...math, maxTokens: 48, groupSize: 8, length: { steps: 30 } },
  {
    ...{ name: 'math-3', ...math, maxTokens: 60, groupSize: 8, length: { steps: 30 } },
    ...{ prompts: hard, rescore: true },
  },
  {
    ...{ name: 'code-1', ...code, maxTokens: 60, groupSize: 8, temperature: 0.8, length: { steps: 30 } },
    prompts: { atLeast: 1, of: 8 },
  },
  {
    ...{ name: 'code-2', ...code, maxTokens: 72, length: { epochs: 2 } },
    ...{ groupSize: { from: 8, to: 10 }, temperature: { from: 0.8, to: 1 } },
    epochFilter: { atMost: 7, of: 8, scores: 'fresh' },
  },
  {
    ...{ name: 'math-4', ...math, maxTokens: 72, groupSize: 8, length: { steps: 10 } },
    ...{ prompts: hard, rescore: true },
  },
];

/** Problems of mathematics: arithmetic in steps for a small model, question and answer of real ones for another. */
const mathSettings = section({
  count: range(2, 6).describe('fewest and most operations of a chain'),
  modulus: z.int().min(2).max(1000).default(3).describe('of the chains'),
  problems: positive(1200).describe('training problems'),
  data: dataSetting.optional().describe('questions with answers, for a pretrained model: files or hf://'),
});

const programs = section({
  length: range(2, 3).describe('fewest and most instructions of a stack program'),
  shown: z.int().min(1).max(5).default(3).describe('tests that a prompt shows; five more are hidden'),
  problems: positive(600).describe('training problems'),
  data: dataSetting
    .optional()
    .describe("problems with tests for code=python: rows of HumanEval, MBPP, or this project's own"),
  workers: positive(2).describe('sandboxes at a time'),
});

const model = section({
  path: z.string().min(1).optional().describe('a pretrained model; without one a small one is made'),
  rank: positive(16).describe("of the pretrained model's adapter"),
  layers: positive(3).describe('layers of the small model'),
  dim: positive(128).describe('its width'),
  heads: positive(4).describe('its attention heads'),
});

/** Supervised start of the small model. */
const warmStart = section({
  steps: positive(800).describe('updates'),
  batch: positive(16).describe('rows of a batch'),
  examples: positive(8000).describe('solutions, half of them programs'),
  accuracy: share(0.8).describe('probability that a step of a chain is right'),
  programAccuracy: share(1).describe('probability that an instruction of a program is'),
});

const evaluate = section({
  every: positive(10).describe('updates from one evaluation of both domains to the next'),
  problems: positive(100).describe('held-out problems of each'),
  samples: positive(4).describe('answers to each'),
  temperature: z.number().positive().default(1).describe('of these answers'),
});

/** Settings of the recipe. */
export const aceReasonSettings = z.strictObject({
  stages: z.array(stage).min(1).prefault(smallStages).describe('the curriculum, in order'),
  code: z
    .enum(['stack', 'python'])
    .default('stack')
    .describe('stack programs in an interpreter of their own, or Python in a sandbox'),
  updatesPerRollout: positive(1).describe('1 is strictly on-policy; more collapse the entropy'),
  entropyLow: share(0.3).describe('share of its first entropy below which a policy counts as collapsed'),
  ngrams: section({
    math: positive(9).describe('words in a row that no training question shares with an evaluated one'),
    code: positive(14).describe('the same for programs'),
  }),
  seed: z.int().min(0).default(0).describe('of weights, problems and samples'),
  slots: positive(128).describe('completions that are sampled at a time'),
  math: mathSettings,
  programs,
  model,
  warmStart,
  evaluate,
  hub: hubSettings,
});

/** Resolved settings. */
export type AceReasonConfig = z.output<typeof aceReasonSettings>;
