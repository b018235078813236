import { z } from 'zod';
import { type MixerKind, mixers } from '../nn/mixers.js';
import { section } from './settings.js';

const positive = (initial: number) => z.int().min(1).default(initial);
const share = () => z.number().min(0).lt(1);

/** How text becomes tokens. */
const tokenizer = section({
  kind: z
    .enum(['char', 'byte', 'bpe', 'file'])
    .default('char')
    .describe(
      'characters, bytes, byte-pair encoding trained on the training text, or read from tokenizer.file',
    ),
  vocabulary: z.int().min(257).default(4096).describe('tokens of a BPE vocabulary'),
  minCount: positive(1).describe('characters that occur less often become one unknown token'),
  file: z.string().optional().describe('tokenizer.json, for kind=file'),
});

const kinds = Object.keys(mixers) as [MixerKind, ...MixerKind[]];

/** A Llama-style transformer; see LanguageModelConfig. */
const model = section({
  layers: positive(4).describe('layers'),
  dim: positive(128).describe('width of the residual stream'),
  heads: z.int().min(1).optional().describe('attention heads (default: of 32 or 64 features each)'),
  kvHeads: z.int().min(1).optional().describe('key and value heads (default: heads)'),
  hidden: z
    .int()
    .min(1)
    .optional()
    .describe('inner width of the MLP (default: 8/3 of dim for swiglu, else 4)'),
  context: positive(128).describe('tokens in a row'),
  mlp: z.enum(['swiglu', 'gelu', 'relu2']).default('swiglu').describe('kind of MLP'),
  norm: z.enum(['rms', 'layer']).default('rms').describe('kind of normalisation'),
  attention: z.enum(kinds).default('softmax').describe('how positions exchange information'),
  keyConvolution: z
    .int()
    .min(1)
    .optional()
    .describe(
      'width of a causal convolution on the keys, 1: none (default: 3 for path and path-fox, else 1)',
    ),
  positions: z
    .enum(['rope', 'none', 'learned'])
    .optional()
    .describe('how positions enter (default: rope for softmax, else none)'),
  ropeBase: z.number().gt(1).default(10000).describe('base of the rotary angles'),
  qkNorm: z.boolean().default(false).describe('normalise queries and keys'),
  tied: z.boolean().default(true).describe('the output head is the embedding'),
});

const optimizer = section({
  name: z
    .enum(['adamw', 'muon'])
    .default('adamw')
    .describe('muon: Muon for the matrices inside the layers, AdamW for the rest'),
  lr: z.number().positive().default(1e-3).describe('peak learning rate of AdamW'),
  muonLr: z.number().positive().default(0.02).describe('peak learning rate of Muon'),
  beta1: share().default(0.9).describe("AdamW's decay of the gradients' mean"),
  beta2: share().default(0.99).describe("AdamW's decay of their squares' mean"),
  weightDecay: z.number().min(0).default(0.1).describe('decoupled weight decay of weights with two axes'),
  clipNorm: z.number().positive().default(1).describe('largest norm of the gradients'),
});

const schedule = section({
  kind: z
    .enum(['cosine', 'linear', 'wsd', 'constant'])
    .default('cosine')
    .describe('how the learning rate falls; wsd: it stays, and falls straight at the end'),
  warmup: z.int().min(0).default(100).describe('steps of a linear rise'),
  final: z.number().min(0).max(1).default(0.1).describe('last learning rate as a share of the peak'),
  decay: z.number().min(0).max(1).default(0.2).describe('share of the steps in which wsd falls'),
});

const evaluate = section({
  every: positive(250).describe('steps from one evaluation to the next'),
  batches: z.int().min(1).optional().describe('batches of validation text (default: all of it)'),
  patience: z.int().min(1).optional().describe('evaluations without improvement that end the run'),
});

const sample = section({
  every: positive(500).describe('steps from one sample to the next'),
  prompt: z
    .string()
    .min(1)
    .optional()
    .describe('text that samples continue (default: how the validation text begins)'),
  tokens: positive(200).describe('tokens of a sample (at most the context)'),
  temperature: z.number().min(0).default(0.8).describe('divides the logits'),
  topP: z.number().gt(0).max(1).default(1).describe('keeps the likeliest tokens that reach this probability'),
});

const save = section({
  every: positive(250).describe('steps from one checkpoint to the next'),
  keep: positive(2).describe('last checkpoints that stay, beside the best'),
});

/** Settings of every recipe that trains a language model on text, but where the text comes from. */
export const lmSettings = {
  validation: z.number().gt(0).lt(1).default(0.1).describe('last share of the text, kept for validation'),
  steps: positive(1000).describe('training steps'),
  batch: positive(16).describe('rows of a batch'),
  rows: z
    .enum(['random', 'windows', 'packed'])
    .default('random')
    .describe('windows at random places, each window once an epoch, or whole documents side by side'),
  microBatches: z
    .union([z.literal('auto'), z.int().min(1)])
    .default('auto')
    .describe('parts that a batch is cut into; auto takes the fastest'),
  seed: z.int().min(0).default(0).describe('of weights, batches and samples'),
  average: share()
    .default(0)
    .describe('decay of the average of the weights that is evaluated and kept; 0: none'),
  tokenizer,
  model,
  optimizer,
  schedule,
  evaluate,
  sample,
  save,
};

const schema = z.strictObject(lmSettings);

/** A resolved config. */
export type LmConfig = z.output<typeof schema>;
