import { AnnealError } from '../core/errors.js';
import {
  add,
  cast,
  clip,
  div,
  exp,
  greater,
  less,
  maximum,
  minimum,
  mul,
  neg,
  square,
  stopGradient,
  sub,
  where,
} from '../core/ops/elementwise.js';
import { scalar } from '../core/ops/leaf.js';
import { mean, sum } from '../core/ops/reduce.js';
import { formatShape, sameShape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';

/** How far KL(policy ‖ reference) is estimated from tokens that the policy sampled. d = log p_reference − log p. */
export type KlEstimator =
  /** −d: unbiased; in the loss its gradient is 0 on average, so it belongs into the reward. */
  | 'k1'
  /** d² / 2: low variance; its gradient in the loss is that of the KL. */
  | 'k2'
  /** e^d − d − 1: unbiased and never negative; GRPO's choice. */
  | 'k3';

/** Settings of `policyLoss`. */
export interface PolicyLossOptions {
  /**
   * Limits of the ratio: it counts up to 1 + high where that raises the objective, down to 1 − low where it lowers it;
   * `dual` bounds the loss of negative advantages by −A · dual (Ye et al. 2020), e.g. 3. Default 0.2 on both sides.
   */
  clip?: { low: number; high: number; dual?: number } | 'none';
  /**
   * `token`: the ratio of each token (PPO, GRPO). `sequence`: the geometric mean of a sequence's ratios, the same for
   * all its tokens (GSPO, Zheng et al. 2025, equations 5 and 7).
   */
  ratio?: 'token' | 'sequence';
  /**
   * `clip`: PPO's clipped surrogate. `cispo`: the clipped ratio is a constant factor of A · log p, so that a clipped
   * token keeps its gradient (MiniMax-M1 2025). Default `clip`.
   */
  surrogate?: 'clip' | 'cispo';
  /** Adds coefficient · KL to the reference. Default: none, and then no reference is needed. */
  kl?: { coefficient: number; estimator: KlEstimator };
  /** Subtracts this times the mean entropy. Default 0. */
  entropy?: number;
}

/** Tensors of `policyLoss`, all float32 [B, T]. */
export interface PolicyLossInputs {
  /** Log-probabilities of the sampled tokens under the weights that learn. */
  logprobs: Tensor;
  /** The same under the weights that sampled; constants. Absent: they are equal, and the ratio is exactly 1. */
  oldLogprobs?: Tensor;
  advantages: Tensor;
  /**
   * `tokenWeights` times B · T of the whole batch, so that the mean of weights · term over the batch, which equal
   * micro-batches average to, is the wanted sum. 0 where a token does not count.
   */
  weights: Tensor;
  /** As `weights`, with mean 1 over the whole batch and equal for all tokens that count: metrics are means by it. Default `weights`. */
  counts?: Tensor;
  /** Log-probabilities under the reference; needed for `kl`. */
  referenceLogprobs?: Tensor;
  /** Entropies of the distributions that the tokens came from; needed for an `entropy` coefficient. */
  entropies?: Tensor;
  /** Mean of x [B, T] over the tokens of each sequence that count, at each of its positions. Default: rows are sequences. */
  sequenceMean?: (x: Tensor) => Tensor;
}

/** Scalars: means over the whole batch where micro-batches are equal parts. */
export interface PolicyLosses {
  /** What to minimise: surrogate + KL − entropy bonus. */
  loss: Tensor;
  /** −objective alone. Its value is about 0 on-policy with centred advantages; its gradient is not. */
  surrogate: Tensor;
  /** Share of the tokens whose ratio was clipped. */
  clipFraction: Tensor;
  /** KL(old ‖ new), estimated by k3. */
  approximateKl: Tensor;
  /** Of the reference, by the estimator of the options. */
  kl?: Tensor;
  entropy?: Tensor;
}

/** Log-ratios beyond this say that something is wrong; their exponentials must not overflow. */
const logRatioLimit = 20;
const klLimit = 10;

/**
 * The KL of each token by an estimator (Schulman 2020, "Approximating KL Divergence"), differentiable in `logprobs`.
 * Log-ratios are limited to ±20 and k3 to 10, as in verl.
 */
export function klTerms(logprobs: Tensor, referenceLogprobs: Tensor, estimator: KlEstimator): Tensor {
  const d = clip(sub(referenceLogprobs, logprobs), -logRatioLimit, logRatioLimit);
  if (estimator === 'k1') return neg(d);
  if (estimator === 'k2') return mul(square(d), 0.5);
  return minimum(sub(sub(exp(d), d), 1), klLimit);
}

/** log(new / old) of each token, or of its sequence. */
function logRatios(inputs: PolicyLossInputs, old: Tensor, ratio: 'token' | 'sequence'): Tensor {
  const difference = sub(inputs.logprobs, old);
  if (ratio === 'token') return clip(difference, -logRatioLimit, logRatioLimit);
  const { sequenceMean } = inputs;
  if (sequenceMean) return sequenceMean(difference);
  const counts = cast(greater(inputs.weights, 0), 'float32');
  return div(sum(mul(difference, counts), -1, true), maximum(sum(counts, -1, true), 1));
}

/** Loss of each token, and whether its ratio was clipped (1) or not (0). */
function surrogateTerms(
  { logprobs, advantages }: PolicyLossInputs,
  ratio: Tensor,
  options: PolicyLossOptions,
): { terms: Tensor; clipped: Tensor } {
  const { clip: limits = { low: 0.2, high: 0.2 }, surrogate = 'clip' } = options;
  const free = neg(mul(advantages, ratio));
  const limited = limits === 'none' ? ratio : clip(ratio, 1 - limits.low, 1 + limits.high);
  if (surrogate === 'cispo') {
    const terms = neg(mul(mul(stopGradient(limited), advantages), logprobs));
    return { terms, clipped: cast(greater(square(sub(limited, ratio)), 0), 'float32') };
  }
  const bounded = neg(mul(advantages, limited));
  const terms = maximum(free, bounded);
  const clipped = cast(less(free, bounded), 'float32');
  if (limits === 'none' || limits.dual === undefined) return { terms, clipped };
  const floor = neg(mul(advantages, limits.dual));
  const isNegative = less(advantages, 0);
  const isCut = mul(cast(isNegative, 'float32'), cast(greater(terms, floor), 'float32'));
  return { terms: where(isNegative, minimum(terms, floor), terms), clipped: maximum(clipped, isCut) };
}

function check(inputs: PolicyLossInputs, options: PolicyLossOptions): void {
  const { logprobs, sequenceMean: _, ...others } = inputs;
  for (const [name, t] of Object.entries(others) as [string, Tensor | undefined][]) {
    if (t && !sameShape(t.shape, logprobs.shape)) {
      throw new AnnealError(
        `policyLoss: ${name} ${formatShape(t.shape)} and logprobs ${formatShape(logprobs.shape)} differ in shape`,
      );
    }
  }
  if (options.kl && !inputs.referenceLogprobs)
    throw new AnnealError('policyLoss: a KL needs referenceLogprobs; pass them, or leave kl out');
  if (options.entropy && !inputs.entropies)
    throw new AnnealError('policyLoss: an entropy bonus needs entropies; pass them, or leave entropy out');
  const { clip: limits } = options;
  if (typeof limits === 'object') {
    const { low, high, dual = 2 } = limits;
    if (!(low >= 0 && high >= 0 && dual > 1))
      throw new AnnealError(
        `policyLoss: clip low ${low}, high ${high}, dual ${dual}; low and high are 0 or more, dual above 1`,
      );
  }
}

/**
 * The loss of a policy on sampled tokens:
 *
 *     mean(weights · (surrogate(ratio, A) + coefficient · KL − entropy bonus))
 *
 * with max(−A·ρ, −A·clip(ρ, 1 − low, 1 + high)) as the surrogate of each token, ρ = p / p_old (Schulman et al. 2017,
 * equation 7; asymmetric limits: DAPO, Yu et al. 2025, equation 10). Every normalisation is in `weights`, which the
 * host computes over the whole batch (`tokenWeights`): no split into micro-batches changes the result.
 * At ρ = 1 the gradient is REINFORCE's, −A ∇log p.
 * @throws AnnealError if shapes differ, or what the options need is missing.
 */
export function policyLoss(inputs: PolicyLossInputs, options: PolicyLossOptions = {}): PolicyLosses {
  check(inputs, options);
  const { logprobs, oldLogprobs, weights, counts = weights, referenceLogprobs, entropies } = inputs;
  const logRatio = logRatios(inputs, oldLogprobs ?? stopGradient(logprobs), options.ratio ?? 'token');
  const ratio = exp(logRatio);
  const { terms, clipped } = surrogateTerms(inputs, ratio, options);
  const surrogate = mean(mul(weights, terms));
  // k3 from the other side: samples are of the old policy here.
  const drift = sub(sub(ratio, logRatio), 1);
  const isOnPolicy = oldLogprobs === undefined;
  const result: PolicyLosses = {
    loss: surrogate,
    surrogate,
    clipFraction: isOnPolicy ? scalar(0) : mean(mul(counts, clipped)),
    approximateKl: isOnPolicy ? scalar(0) : mean(mul(counts, drift)),
  };
  if (options.kl) {
    const kl = klTerms(logprobs, referenceLogprobs!, options.kl.estimator);
    result.loss = add(result.loss, mul(mean(mul(weights, kl)), options.kl.coefficient));
    result.kl = mean(mul(counts, kl));
  }
  if (entropies) {
    if (options.entropy) result.loss = sub(result.loss, mul(mean(mul(weights, entropies)), options.entropy));
    result.entropy = mean(mul(counts, entropies));
  }
  return result;
}
