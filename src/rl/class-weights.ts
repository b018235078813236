import { AnnealError } from '../core/errors.js';
import type { Json } from '../data/batch-source.js';

/** Settings of `ClassWeights`. */
export interface ClassWeightOptions {
  /** `sqrt-inverse` (default): 1 / (√n + 1e-6). `inverse`: 1 / (n + 1e-6). `none`: all weights 1. */
  kind?: 'sqrt-inverse' | 'inverse' | 'none';
  /** Share of the average counts that stays at each batch. Default 0.8. */
  decay?: number;
}

/** Weights of a batch. */
export interface WeightedLabels {
  /** One weight per label; their mean is 1. */
  weights: Float32Array;
  /** Weight of a positive and of a negative label. */
  positive: number;
  negative: number;
}

/**
 * Balances two classes whose shares drift (RL Tango, Zha et al. 2025, as its released code does): counts of both are
 * averaged exponentially over batches, beginning with those of the first; a batch is counted before it is weighted.
 * Weights are s_i = B c_i / Σ_j c_j with c as `kind` says, so that their mean over a batch is 1.
 *
 * A verifier whose solutions are mostly wrong otherwise learns to call everything wrong.
 */
export class ClassWeights {
  /** Averages of the counts; null before the first batch. */
  private counts: { positive: number; negative: number } | null = null;
  private readonly kind: NonNullable<ClassWeightOptions['kind']>;
  private readonly decay: number;

  /** @throws AnnealError if the decay is outside [0, 1). */
  constructor({ kind = 'sqrt-inverse', decay = 0.8 }: ClassWeightOptions = {}) {
    if (!(decay >= 0 && decay < 1))
      throw new AnnealError(`ClassWeights: decay is ${decay}; pass a number in [0, 1), such as 0.8`);
    this.kind = kind;
    this.decay = decay;
  }

  /** Averages of the counts so far. */
  get averages(): { positive: number; negative: number } {
    return this.counts ?? { positive: 0, negative: 0 };
  }

  private coefficient(count: number): number {
    if (this.kind === 'none') return 1;
    return 1 / ((this.kind === 'inverse' ? count : Math.sqrt(count)) + 1e-6);
  }

  /** Counts a batch and weighs it. */
  weigh(labels: readonly boolean[]): WeightedLabels {
    const positives = labels.filter(Boolean).length;
    const negatives = labels.length - positives;
    const { decay, counts } = this;
    const average = (old: number, n: number) => decay * old + (1 - decay) * n;
    this.counts = counts
      ? { positive: average(counts.positive, positives), negative: average(counts.negative, negatives) }
      : { positive: positives, negative: negatives };
    const positive = this.coefficient(this.counts.positive);
    const negative = this.coefficient(this.counts.negative);
    const total = positives * positive + negatives * negative;
    const scale = total > 0 ? labels.length / total : 0;
    return {
      weights: Float32Array.from(labels, (label) => scale * (label ? positive : negative)),
      positive: scale * positive,
      negative: scale * negative,
    };
  }

  /** For a checkpoint: a resumed run weighs as if it had never stopped. */
  save(): Json {
    return this.counts && { ...this.counts };
  }

  /** @throws AnnealError if the state is not one that `save` gave. */
  restore(state: Json): void {
    const { positive, negative } = (state ?? { positive: 0, negative: 0 }) as Record<string, Json>;
    if (typeof positive !== 'number' || typeof negative !== 'number')
      throw new AnnealError(`ClassWeights: ${JSON.stringify(state)} is no state of class weights`);
    this.counts = state === null ? null : { positive, negative };
  }
}
