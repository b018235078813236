import { AnnealError } from '../core/errors.js';
import type { Policy } from './policy.js';
import type { TrainingSample, UpdateReport } from './policy-update.js';
import type { Sample } from './sample.js';
import { type Aggregation, tokenWeights } from './token-weights.js';

/** The part of a policy that learning needs. */
export type LearningPolicy = Pick<Policy, 'logprobs' | 'update' | 'loss'>;

/** How `learnOnPolicy` weighs samples. */
export interface LearnOptions {
  /** Temperature of the samples. Default 1. */
  temperature?: number;
  /** Default `token-mean`. */
  aggregation?: Aggregation;
  /** Of `constant`. */
  constant?: number;
  /**
   * Groups whose advantages are all 0. `keep` (default): their tokens count in the means, with KL and entropy where the
   * loss has them. `drop`: they leave the batch.
   */
  flat?: 'keep' | 'drop';
}

/** Groups in which some token has an advantage. */
function groupsWithSignal(groups: ArrayLike<number>, advantages: readonly Float32Array[]): Set<number> {
  const found = new Set<number>();
  advantages.forEach((row, i) => {
    if (row.some((value) => value !== 0)) found.add(groups[i]!);
  });
  return found;
}

/**
 * One update from samples with the advantages of their tokens, strictly on-policy: the ratio is exactly 1, and a pass of
 * old log-probabilities is not needed. Without any signal, and without KL or entropy bonus, there is nothing to learn:
 * then there is no update (an optimiser with momentum would move all the same), and undefined is returned.
 * @param groups of each sample; equal ones share their prompt
 * @throws AnnealError if the lists differ in length; what the policy throws
 */
export async function learnOnPolicy(
  policy: LearningPolicy,
  samples: readonly Sample[],
  groups: readonly number[],
  advantages: readonly Float32Array[],
  options: LearnOptions = {},
): Promise<UpdateReport | undefined> {
  const { temperature = 1, aggregation = 'token-mean', constant, flat = 'keep' } = options;
  if (samples.length !== groups.length || samples.length !== advantages.length)
    throw new AnnealError(
      `learnOnPolicy: ${samples.length} samples, ${groups.length} groups, ${advantages.length} advantages; pass one of each a sample`,
    );
  const signal = groupsWithSignal(groups, advantages);
  const { kl, entropy } = policy.loss;
  const isRegularised = kl !== undefined || Boolean(entropy);
  if (signal.size === 0 && (flat === 'drop' || !isRegularised)) return undefined;
  const used = samples.flatMap((_, i) => (flat === 'keep' || signal.has(groups[i]!) ? [i] : []));
  const chosen = used.map((i) => samples[i]!);
  const masks = chosen.map(({ mask, tokens }) => mask ?? new Uint8Array(tokens.length).fill(1));
  const weights = tokenWeights(masks, {
    aggregation,
    groups: used.map((i) => groups[i]!),
    ...(constant !== undefined && { constant }),
  });
  const reference = kl ? await policy.logprobs(chosen, { reference: true, temperature }) : undefined;
  const batch = used.map((i, k): TrainingSample => {
    const { prompt, tokens, mask, logprobs } = samples[i]!;
    return {
      prompt,
      tokens,
      advantages: advantages[i]!,
      weights: weights[k]!,
      group: groups[i]!,
      ...(mask && { mask }),
      ...(reference && { referenceLogprobs: reference[k]! }),
      // At temperature 1 the sampler's are the trainer's own: how far they are off is reported.
      ...(temperature === 1 && { sampledLogprobs: logprobs }),
    };
  });
  return policy.update(batch, { temperature });
}
