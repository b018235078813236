/**
 * nanoGPT's example for a processor (config/train_shakespeare_char.py with the flags of its README for "i only have
 * a macbook"): characters of tiny Shakespeare, 4 layers, d 128, context 64, batch 12, 2,000 steps, no dropout.
 * Its README reports a validation loss of 1.88, on 20 random batches. nanoGPT's own positions and learning rate
 * (model.positions=learned optimizer.lr=1e-3) reach 1.91 here, on all of the validation text; rotary positions and twice
 * the rate are the defaults because they learn faster.
 *
 *     anneal run shakespeare data=input.txt
 */
import { z } from 'zod';
import { languageModel } from './lm.js';
import { readDocuments } from './lm-text.js';

export const shakespeare = languageModel({
  name: 'shakespeare',
  summary: "nanoGPT's example for a processor, on a copy of tiny Shakespeare",
  data: { data: z.string().min(1).describe('input.txt of tiny Shakespeare') },
  defaults: {
    steps: 2000,
    batch: 12,
    seed: 1337,
    tokenizer: { kind: 'char' },
    model: {
      layers: 4,
      dim: 128,
      heads: 4,
      hidden: 512,
      context: 64,
      mlp: 'gelu',
      norm: 'layer',
      positions: 'rope',
      tied: true,
    },
    // nanoGPT's but for the rate: betas 0.9 and 0.99, weight decay 0.1, clipping at 1, a tenth of the peak at the end.
    optimizer: { name: 'adamw', lr: 2e-3, beta2: 0.99, weightDecay: 0.1, clipNorm: 1 },
    schedule: { kind: 'cosine', warmup: 100, final: 0.1 },
    evaluate: { every: 250 },
    sample: { every: 1000, tokens: 55 },
  },
  read: ({ data }) => readDocuments(data),
});
