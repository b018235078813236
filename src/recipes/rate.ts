import { constantRate, cosine, linear, type Schedule, warmup } from '../index.js';

/** How a learning rate goes, as settings: shares are of the steps and of the peak. */
export interface RateSettings {
  kind: 'constant' | 'cosine' | 'linear';
  warmup: number;
  final: number;
}

/** The learning rate of a run of `steps` updates: a linear rise, then as the settings say. */
export function rateOf(settings: RateSettings, peak: number, steps: number): Schedule {
  const end = peak * settings.final;
  const kinds = {
    constant: () => constantRate(peak),
    cosine: () => cosine(peak, steps, end),
    linear: () => linear(peak, end, steps),
  };
  return warmup(Math.round(settings.warmup * steps), kinds[settings.kind]());
}
