import { z } from 'zod';
import { section } from './settings.js';

const positive = (initial: number) => z.int().min(1).default(initial);
const range = (low: number, high: number) => z.tuple([z.int().min(1), z.int().min(1)]).default([low, high]);

/** The problems: last letters of English words. */
const task = section({
  words: range(5, 5).describe('fewest and most words of a problem'),
  letters: range(3, 6).describe('fewest and most letters of a word'),
  states: z
    .enum(['letter', 'status'])
    .default('letter')
    .describe("what step k says: the letter of word k, or all letters so far (the paper's)"),
});

const model = section({
  layers: positive(3).describe('layers of both policies'),
  dim: positive(128).describe('width of both'),
  heads: positive(4).describe('attention heads of both'),
});

/** Supervised start: the format, and little of the task. */
const warmStart = section({
  steps: positive(400).describe('updates of the generator'),
  verifierSteps: positive(1000).describe(
    'updates of the verifier, which has to know more from the beginning',
  ),
  batch: positive(16).describe('rows of a batch'),
  words: range(2, 4).describe('words of the short problems, whose solutions are right'),
  accuracy: z
    .number()
    .min(0)
    .max(1)
    .default(0.3)
    .describe("probability that a step of the generator's long examples is right"),
  verifierAccuracy: z
    .number()
    .min(0)
    .max(1)
    .default(1)
    .describe("probability that a step of the verifier's long examples is restated rightly"),
  examples: positive(6000).describe('examples of each policy'),
});

const generator = section({
  lr: z.number().positive().default(1e-4).describe('learning rate of AdamW'),
  prompts: positive(12).describe('problems of a step'),
  samples: positive(6).describe('responses to each'),
});

const verifier = section({
  lr: z.number().positive().default(3e-5).describe('learning rate of AdamW'),
  prompts: positive(24).describe('solutions of a step'),
  samples: positive(6).describe('verifications of each'),
  oversample: positive(2).describe(
    'solutions sampled for each that is verified: right and wrong ones balance',
  ),
  words: range(2, 5).describe(
    'words of the problems that it learns from: short enough that both verdicts occur',
  ),
});

const alpha = section({
  kind: z
    .enum(['exponential', 'linear', 'cosine', 'constant'])
    .default('exponential')
    .describe('how the weight of step rewards falls'),
  start: z.number().min(0).max(1).default(0.5).describe('its first value'),
  end: z.number().min(0).max(1).default(1e-3).describe('its last'),
});

const evaluate = section({
  every: positive(10).describe('generator steps from one evaluation to the next'),
  problems: positive(300).describe('held-out problems, answered greedily'),
});

/** Settings of the recipe. */
export const tangoSettings = z.strictObject({
  steps: positive(100).describe('steps of the generator, or of the verifier where the generator is fixed'),
  warmUp: z.int().min(0).default(8).describe('verifier steps before the first of the generator'),
  cycle: z
    .tuple([z.int().min(1), z.int().min(1)])
    .default([3, 1])
    .describe('generator steps, then verifier steps'),
  advantage: z.enum(['grpo', 'rloo', 'reinforce++']).default('grpo').describe('advantages of both policies'),
  gate: z.boolean().default(true).describe('every step of a malformed response is wrong'),
  balance: z
    .enum(['sqrt-inverse', 'inverse', 'none'])
    .default('sqrt-inverse')
    .describe("weights of the verifier's two classes"),
  normalisation: z.enum(['separate', 'merged']).default('separate').describe('of outcome and step rewards'),
  fixed: z.enum(['none', 'generator', 'verifier']).default('none').describe('a policy that never learns'),
  baseline: z
    .int()
    .min(0)
    .default(100)
    .describe('steps of GRPO with outcomes alone from the same start, for comparison; 0: none'),
  seed: z.int().min(0).default(0).describe('of weights, problems and samples'),
  task,
  model,
  warmStart,
  generator,
  verifier,
  alpha,
  evaluate,
});

/** Resolved settings. */
export type TangoConfig = z.output<typeof tangoSettings>;
