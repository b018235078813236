import {
  adamW,
  constantRate,
  cosine,
  groups,
  linear,
  muon,
  type Schedule,
  warmup,
  warmupStableDecay,
} from '../index.js';
import type { Optimizer } from '../optim/index.js';
import type { LmConfig } from './lm-settings.js';

/** The learning rate over the steps of a run, from its peak. */
function scheduleOf({ schedule, steps }: LmConfig, peak: number): Schedule {
  const end = peak * schedule.final;
  const falls = Math.round(steps * schedule.decay);
  const kinds = {
    constant: () => constantRate(peak),
    cosine: () => cosine(peak, steps, end),
    linear: () => linear(peak, end, steps),
    wsd: () => warmupStableDecay(peak, steps - falls, falls, end),
  };
  return warmup(Math.min(schedule.warmup, steps), kinds[schedule.kind]());
}

/**
 * AdamW for all parameters, or Muon for the matrices inside the layers and AdamW for embeddings, head and gains
 * (Jordan 2024). Gradients are clipped by their norm over all parameters.
 */
export function optimizerOf(config: LmConfig): Optimizer {
  const { name, lr, muonLr, beta1, beta2, weightDecay, clipNorm } = config.optimizer;
  const adam = { lr: scheduleOf(config, lr), beta1, beta2, weightDecay };
  if (name === 'adamw') return adamW({ ...adam, clipNorm });
  const matrices = muon({ lr: scheduleOf(config, muonLr) });
  return groups(
    [
      { name: 'matrices', match: ({ role }) => role === 'matrix', optimizer: matrices },
      { name: 'rest', optimizer: adamW(adam) },
    ],
    { clipNorm },
  );
}
