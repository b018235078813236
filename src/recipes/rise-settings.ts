import { z } from 'zod';
import { section } from './settings.js';

const positive = (initial: number) => z.int().min(1).default(initial);
const share = (initial: number) => z.number().min(0).max(1).default(initial);
const range = (low: number, high: number) => z.tuple([z.int().min(1), z.int().min(1)]).default([low, high]);

const task = section({
  kind: z
    .enum(['last-letter', 'chain-arithmetic'])
    .default('last-letter')
    .describe('last letters of English words, or arithmetic in steps'),
  count: range(2, 4).describe('fewest and most steps of a problem'),
  modulus: z.int().min(2).max(1000).default(5).describe('of chain arithmetic'),
  letters: range(5, 5).describe('fewest and most letters of a word, of last letters'),
});

const model = section({
  layers: positive(3).describe('layers'),
  dim: positive(128).describe('width'),
  heads: positive(4).describe('attention heads'),
});

/** Supervised start: both formats, and steps and ratings that are often wrong. */
const warmStart = section({
  steps: positive(500).describe('updates'),
  batch: positive(16).describe('rows of a batch'),
  count: range(1, 2).describe('steps of the short problems, whose solutions are right'),
  accuracy: share(0.7).describe('probability that a step of a long solution is right'),
  restatedAccuracy: share(0.7).describe('probability that a rating restates a step rightly'),
  examples: positive(8000).describe('examples, half of them ratings'),
});

const evaluate = section({
  every: positive(40).describe('updates from one evaluation to the next'),
  problems: positive(200).describe('held-out problems'),
  votes: z
    .array(z.int().min(2))
    .min(1)
    .default([4, 8])
    .describe('numbers of voters; the first is that of the curves'),
  ratings: positive(1).describe('ratings of each voter, averaged'),
});

/** Settings of the recipe. */
export const riseSettings = z.strictObject({
  updates: positive(240).describe('updates of each arm'),
  prompts: positive(16).describe('problems of an update'),
  samples: positive(6).describe('solutions of each'),
  lr: z.number().positive().default(2e-4).describe('learning rate of AdamW'),
  ratio: z
    .number()
    .positive()
    .default(0.5)
    .describe('solutions that are rated, as a share of the problems; the paper has 0.125'),
  ratings: positive(6).describe('ratings of each'),
  selection: z
    .enum(['first', 'spread', 'balanced'])
    .default('spread')
    .describe(
      'which solutions are rated: those of the first problems (as released), of any, as many right as wrong',
    ),
  advantage: z
    .enum(['grpo', 'rloo', 'reinforce++'])
    .default('grpo')
    .describe("of solutions and ratings; reinforce++ is nearest to the paper's PPO"),
  baselines: z
    .array(z.enum(['matched', 'plain']))
    .default(['plain'])
    .describe(
      'RL without ratings, with as many problems (plain; as in the paper) or as many trajectories (matched) as RISE',
    ),
  seed: z.int().min(0).default(0).describe('of weights, problems and samples'),
  task,
  model,
  warmStart,
  evaluate,
});

/** Resolved settings. */
export type RiseConfig = z.output<typeof riseSettings>;
