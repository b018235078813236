import { z } from 'zod';
import { section } from '../settings.js';

/** Names of the experiments, in the order of the run. */
export const experimentNames = [
  'tango',
  'verifier',
  'balance',
  'rise',
  'updates',
  'staged',
  'domains',
  'misleading',
] as const;
export type ExperimentName = (typeof experimentNames)[number];

const positive = (initial: number) => z.int().min(1).default(initial);
const share = (initial: number) => z.number().min(0).max(1).default(initial);

export const rlSettings = z.strictObject({
  experiments: z
    .array(z.enum(experimentNames))
    .default([...experimentNames])
    .describe('which claims to measure, in this order'),
  seeds: positive(5).describe('runs of each arm; arms of one seed share start, prompts and seeds'),
  firstSeed: z.int().min(0).default(0).describe('the first seed'),
  effort: z.number().positive().default(1).describe('multiplies the updates of all arms'),
  threads: positive(1).describe('threads of a run; models this small gain nothing from a second'),
  lr: z.number().positive().default(1e-3).describe('learning rate of AdamW in reinforcement learning'),
  prompts: positive(24).describe('problems of a step'),
  samples: positive(6).describe('responses to each'),
  problems: positive(64).describe('held-out problems of an evaluation'),
  model: section({
    layers: positive(2).describe('layers of every policy'),
    dim: positive(64).describe('width'),
    heads: positive(4).describe('attention heads'),
  }),
  words: section({
    steps: positive(100).describe("Tango's steps of the generator, in the experiment tango"),
    baseline: positive(100).describe("GRPO's steps"),
    warmStart: positive(400).describe('supervised updates of the generator'),
    verifierWarmStart: positive(1000).describe('supervised updates of the verifier'),
    problems: positive(300).describe('held-out problems of an evaluation'),
    layers: positive(3).describe('layers of both policies'),
    dim: positive(128).describe('width of both'),
    heads: positive(4).describe('attention heads of both'),
  }),
  warmStart: section({
    steps: positive(700).describe('supervised updates before reinforcement'),
    batch: positive(16).describe('rows of a batch'),
    examples: positive(15_000).describe('examples'),
    accuracy: share(0.3).describe('share of right steps in the solutions'),
    verifierAccuracy: share(0.75).describe(
      'share of steps of which verifications and ratings say what they should be',
    ),
    weakVerifierAccuracy: share(0.6).describe('the same where a verifier is to get better (verifier)'),
    copies: z.boolean().default(true).describe('whether drills also teach to put letters into an answer'),
    domainAccuracy: share(0.7).describe('share of right steps in arithmetic and programs'),
  }),
});
export type RlConfig = z.output<typeof rlSettings>;
