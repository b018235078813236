import { AnnealError } from '../core/errors.js';
import type { KlEstimator } from './losses.js';

/** A KL penalty in the reward, as in RLOO and PPO, instead of the loss. */
export interface KlReward {
  coefficient: number;
  /** Default k1, whose sum over a completion is the log-ratio of the whole. */
  estimator?: KlEstimator;
}

/** One token's estimate of KL(policy ‖ reference); see `KlEstimator`. */
export function klOf(logprob: number, referenceLogprob: number, estimator: KlEstimator): number {
  const d = Math.max(-20, Math.min(20, referenceLogprob - logprob));
  if (estimator === 'k1') return -d;
  if (estimator === 'k2') return (d * d) / 2;
  return Math.min(10, Math.exp(d) - d - 1);
}

/**
 * −coefficient · KL of each token, to add to its reward (Ziegler et al. 2019, equation 2; Ouyang et al. 2022). For
 * methods with one reward a completion, add the sum. Tokens with mask 0 get none.
 * @param logprobs under the policy that sampled; `referenceLogprobs` of the same tokens
 */
export function klPenaltyInReward(
  logprobs: readonly ArrayLike<number>[],
  referenceLogprobs: readonly ArrayLike<number>[],
  { coefficient, estimator = 'k1' }: KlReward,
  masks?: readonly (ArrayLike<number> | undefined)[],
): Float32Array[] {
  return logprobs.map((row, i) => {
    const reference = referenceLogprobs[i];
    if (reference?.length !== row.length) {
      throw new AnnealError(
        `klPenaltyInReward: sample ${i} has ${row.length} log-probabilities and ${reference?.length ?? 0} of the reference`,
      );
    }
    return Float32Array.from(row, (logprob, t) =>
      masks?.[i]?.[t] === 0 ? 0 : -coefficient * klOf(logprob, reference[t]!, estimator),
    );
  });
}
