import { AnnealError } from '../../core/errors.js';
import type { Json } from '../../data/batch-source.js';

/** Settings of `EntropyWatch`. */
export interface EntropyWatchOptions {
  /** Below this share of the entropy at the beginning a policy has collapsed. Default 0.5. */
  low?: number;
  /** Above this multiple it has lost its way. Default 3. */
  high?: number;
  /** Share of the average that stays at each update. Default 0.9. */
  decay?: number;
  /** Updates whose mean is the beginning. Default 5. */
  baseline?: number;
}

/** What an entropy is beside those before. */
export interface EntropyState {
  /** Exponential average, in nats. */
  average: number;
  /** By that at the beginning; 1 until it is known. */
  ratio: number;
  status: 'ok' | 'collapsed' | 'exploded';
}

/**
 * Watches a policy's mean token entropy. With one update a rollout it stays, with several it collapses within about a
 * hundred (AceReason, 2505.16400, section 4.7), and a policy without entropy finds nothing new.
 */
export class EntropyWatch {
  readonly #options: Required<EntropyWatchOptions>;
  #first: number[] = [];
  #average: number | null = null;

  /** @throws AnnealError for limits that do not lie around 1, or a decay outside [0, 1) */
  constructor({ low = 0.5, high = 3, decay = 0.9, baseline = 5 }: EntropyWatchOptions = {}) {
    const isValid = low >= 0 && low < 1 && high > 1 && decay >= 0 && decay < 1;
    if (!isValid || !(Number.isInteger(baseline) && baseline >= 1)) {
      throw new AnnealError(
        `EntropyWatch: low ${low}, high ${high}, decay ${decay}, baseline ${baseline}; pass low < 1 < high, a decay below 1, and a baseline of 1 or more updates`,
      );
    }
    this.#options = { low, high, decay, baseline };
  }

  /** Takes the entropy of one update. A non-finite one is left out. */
  observe(entropy: number): EntropyState {
    const { low, high, decay, baseline } = this.#options;
    if (Number.isFinite(entropy)) {
      this.#average = this.#average === null ? entropy : decay * this.#average + (1 - decay) * entropy;
      if (this.#first.length < baseline) this.#first.push(entropy);
    }
    const average = this.#average ?? 0;
    const start = this.#first.reduce((a, b) => a + b, 0) / this.#first.length;
    if (this.#first.length < baseline || start <= 0) return { average, ratio: 1, status: 'ok' };
    const ratio = average / start;
    return { average, ratio, status: ratio < low ? 'collapsed' : ratio > high ? 'exploded' : 'ok' };
  }

  save(): Json {
    return { first: [...this.#first], average: this.#average };
  }

  /** @throws AnnealError if the state is not one that `save` gave */
  restore(state: Json): void {
    const { first, average } = (state ?? {}) as { first?: number[]; average?: number | null };
    if (!Array.isArray(first) || !(average === null || typeof average === 'number'))
      throw new AnnealError(`EntropyWatch: ${JSON.stringify(state)} is no state of it`);
    this.#first = [...first];
    this.#average = average;
  }
}
