import { z } from 'zod';
import { dataSetting, hubSettings } from './hub-data.js';
import { section } from './settings.js';

const positive = (initial: number) => z.int().min(1).default(initial);

/** How items become conversations, where they are not conversations already. */
const fields = section({
  prompt: z
    .string()
    .optional()
    .describe('field of the prompt, or text with {{field}} in it (default: prompt, else question)'),
  completion: z
    .string()
    .optional()
    .describe('field of the answer, or text with {{field}} in it (default: completion, else answer)'),
  system: z.string().optional().describe('a message of the system before each prompt'),
});

/** A LoRA adapter. */
const lora = section({
  rank: positive(16).describe('rank of the updates'),
  alpha: z.number().positive().optional().describe('updates are scaled by alpha / rank (default: 2 · rank)'),
  targets: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe('projections, such as q, v or mlp.up (default: all but the head)'),
  rsLora: z.boolean().default(false).describe('scale by alpha / √rank'),
});

/** How a pretrained chat model is read, trained and written. */
export const tunedModel = {
  template: z.string().optional().describe("chat template, a Jinja file (default: the model's, else ChatML)"),
  method: z.enum(['lora', 'full']).default('lora').describe('train an adapter, or all weights'),
  weights: z
    .enum(['float32', 'packed'])
    .default('float32')
    .describe('packed: a .gguf file stays 4-bit in memory below the adapter'),
  lora,
  export: z
    .enum(['merged', 'adapter'])
    .default('merged')
    .describe('what is written at the end of lora: a whole model, or the adapter'),
};

const optimizer = section({
  lr: z.number().positive().optional().describe('peak learning rate (default: 2e-4 for lora, 2e-5 for full)'),
  beta1: z.number().min(0).lt(1).default(0.9).describe("AdamW's decay of the gradients' mean"),
  beta2: z.number().min(0).lt(1).default(0.999).describe("AdamW's decay of their squares' mean"),
  weightDecay: z.number().min(0).default(0).describe('decoupled weight decay of weights with two axes'),
  clipNorm: z.number().positive().default(1).describe('largest norm of the gradients'),
});

const schedule = section({
  kind: z.enum(['cosine', 'linear', 'constant']).default('cosine').describe('how the learning rate falls'),
  warmup: z.number().min(0).max(1).default(0.03).describe('share of the steps in which it rises'),
  final: z.number().min(0).max(1).default(0.1).describe('last learning rate as a share of the peak'),
});

const evaluate = section({
  every: positive(100).describe('steps from one evaluation to the next'),
  batches: z.int().min(1).optional().describe('batches of validation data (default: all)'),
  patience: z.int().min(1).optional().describe('evaluations without improvement that end the run'),
});

const sample = section({
  every: positive(200).describe('steps from one sample to the next'),
  count: positive(2).describe('prompts of the validation data that are answered'),
  tokens: positive(128).describe('most tokens of an answer'),
  temperature: z.number().min(0).default(0).describe('divides the logits; 0: the most likely token'),
});

const save = section({
  every: positive(200).describe('steps from one checkpoint to the next'),
  keep: positive(1).describe('last checkpoints that stay, beside the best'),
});

/** Settings of the recipe `sft`. */
export const sftSettings = z.strictObject({
  model: z.string().min(1).describe('model to start from: a directory, a .gguf file or a run'),
  data: dataSetting.describe(
    '.jsonl or .parquet files of {messages}, {prompt, completion} or {question, answer}, globs among them, or datasets: hf://datasets/owner/name',
  ),
  hub: hubSettings,
  validationData: dataSetting.optional().describe('the same, kept for validation (default: a share of data)'),
  validation: z.number().gt(0).lt(1).default(0.05).describe('share of data that is kept for validation'),
  limit: z.int().min(2).optional().describe('only the first items of data'),
  fields,
  ...tunedModel,
  packing: z.boolean().default(true).describe('several conversations in a row, which do not see each other'),
  context: positive(512).describe('tokens in a row'),
  batch: positive(8).describe('rows in a batch'),
  microBatches: z
    .union([z.literal('auto'), z.int().min(1)])
    .default('auto')
    .describe('parts that a batch is cut into; auto takes the fastest'),
  epochs: z.number().positive().default(1).describe('passes over the data'),
  steps: z.int().min(1).optional().describe('training steps (default: what epochs says)'),
  seed: z.int().min(0).default(0).describe('of the adapter, the order of the data and the samples'),
  optimizer,
  schedule,
  evaluate,
  sample,
  save,
});

/** A resolved config. */
export type SftConfig = z.output<typeof sftSettings>;
