import { z } from 'zod';
import { dataSetting, hubSettings } from './hub-data.js';
import { section } from './settings.js';
import { tunedModel } from './sft-settings.js';

const positive = (initial: number) => z.int().min(1).default(initial);
const share = (initial: number) => z.number().min(0).max(1).default(initial);
const range = (low: number, high: number, least = 1) =>
  z.tuple([z.int().min(least), z.int().min(least)]).default([low, high]);

/** Generated problems, where there are no data. */
const problems = section({
  operations: range(1, 1).describe('fewest and most operations of a generated problem, at most 3'),
  numbers: range(2, 10, 2).describe('smallest and largest number in it'),
  factors: range(2, 5, 2).describe('smallest and largest number that it multiplies or divides by'),
});

/** How items become problems. */
const fields = section({
  prompt: z
    .string()
    .optional()
    .describe('field of the prompt, or text with {{field}} in it (default: prompt, question or problem)'),
  answer: z
    .string()
    .optional()
    .describe('field of the reference (default: gold, reference, answer, solution or target)'),
});

const zeroVariance = section({
  kind: z
    .enum(['keep', 'drop', 'resample'])
    .default('drop')
    .describe('groups whose rewards are all equal: learnt from as they are, left out, or replaced'),
  rounds: positive(2).describe('most further rollouts of a step with resample'),
});

const overlong = section({
  kind: z
    .enum(['train', 'mask', 'zero', 'penalty'])
    .default('train')
    .describe('completions that reach maxTokens: as any other, out of the loss, reward 0, or a penalty'),
  buffer: positive(16).describe('last tokens, over which the penalty grows to 1'),
});

const kl = section({
  coefficient: z.number().min(0).default(0).describe('weight of the KL to the model as it was; 0: none'),
  estimator: z.enum(['k1', 'k2', 'k3']).default('k3').describe('of the KL'),
  place: z.enum(['loss', 'reward']).default('loss').describe('where it is counted'),
});

const clip = section({
  low: z.number().positive().default(0.2).describe('a ratio counts down to 1 - low'),
  high: z.number().positive().default(0.2).describe('and up to 1 + high'),
});

const optimizer = section({
  lr: z.number().positive().optional().describe('peak learning rate (default: 6e-4 for lora, 2e-6 for full)'),
  beta1: z.number().min(0).lt(1).default(0.9).describe("AdamW's decay of the gradients' mean"),
  beta2: z.number().min(0).lt(1).default(0.99).describe("AdamW's decay of their squares' mean"),
  weightDecay: z.number().min(0).default(0).describe('decoupled weight decay of weights with two axes'),
  clipNorm: z.number().positive().default(1).describe('largest norm of the gradients'),
});

const schedule = section({
  kind: z.enum(['constant', 'cosine', 'linear']).default('constant').describe('how the learning rate falls'),
  warmup: share(0.05).describe('share of the steps in which it rises'),
  final: share(0.1).describe('last learning rate as a share of the peak'),
});

const evaluate = section({
  every: positive(20).describe('steps from one evaluation to the next'),
  problems: positive(200).describe('held-out problems (at most a fifth of data)'),
  samples: positive(1).describe('answers to each; several give pass@k and maj@k'),
  temperature: z
    .number()
    .min(0)
    .optional()
    .describe('of these answers (default: 0, the likeliest one; with several that of training)'),
  select: z
    .enum(['last', 'best'])
    .default('last')
    .describe('weights that are exported; the accuracy of the best ones is biased upwards by the choice'),
});

/** Settings of the recipe `grpo`. */
export const grpoSettings = z.strictObject({
  model: z.string().min(1).describe('chat model to start from: a directory, a .gguf file or a run'),
  data: dataSetting
    .optional()
    .describe(
      '.jsonl or .parquet files of problems with references, or hf://datasets/owner/name (default: generated word problems)',
    ),
  hub: hubSettings,
  heldOutData: dataSetting.optional().describe('the same, to evaluate on (default: a part of data)'),
  limit: z.int().min(2).optional().describe('only the first items of data'),
  fields,
  problems,
  system: z
    .string()
    .optional()
    .describe('message of the system (default: for generated problems, a request to be brief)'),
  shots: z
    .int()
    .min(0)
    .optional()
    .describe('solved problems before each prompt (default: 1 for generated problems, else 0)'),
  promptTokens: positive(160).describe('longest prompt; data with longer ones are left out'),
  reward: z
    .enum(['math', 'number', 'choice', 'text', 'answer', 'code'])
    .default('math')
    .describe('what an answer is verified as; answer: what the reference looks like; code: against tests'),
  ...tunedModel,
  steps: positive(60).describe('rollouts, each with its update'),
  prompts: positive(8).describe('problems of a step'),
  samples: z.int().min(2).default(8).describe('answers to each problem: a group'),
  maxTokens: positive(24).describe('most tokens of an answer'),
  temperature: z.number().positive().default(0.7).describe('at which answers are sampled'),
  advantage: z
    .enum(['grpo', 'dr-grpo', 'rloo', 'reinforce++'])
    .default('grpo')
    .describe('how rewards of a group become advantages'),
  aggregation: z
    .enum([
      ...(['token-mean', 'group-mean-token-mean', 'sequence-mean-token-mean'] as const),
      ...(['sequence-mean-token-sum', 'constant'] as const),
    ])
    .optional()
    .describe('weights of tokens in the loss (default: token-mean; constant for dr-grpo)'),
  zeroVariance,
  overlong,
  kl,
  clip,
  entropy: z.number().min(0).default(0).describe('weight of an entropy bonus'),
  updatesPerRollout: positive(1).describe('passes over each rollout; above 1 the clip works'),
  miniBatches: positive(1).describe('parts of a pass, each an update'),
  optimizer,
  schedule,
  evaluate,
  sample: section({
    every: positive(20).describe('steps from one look at held-out answers to the next'),
    count: positive(2).describe('problems that are shown with their likeliest answer'),
  }),
  save: section({
    every: positive(10).describe('steps from one checkpoint to the next'),
    keep: positive(1).describe('last checkpoints that stay'),
  }),
  rollouts: positive(1).describe('steps from one table of samples to the next'),
  seed: z.int().min(0).default(0).describe('of the adapter, the order of the problems and the samples'),
});

/** Resolved settings. */
export type GrpoConfig = z.output<typeof grpoSettings>;
