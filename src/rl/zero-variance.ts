import { AnnealError } from '../core/errors.js';
import { membersOf } from './advantages.js';

/**
 * What happens to groups whose rewards are all equal, and so teach nothing but KL and entropy.
 * `keep`: they stay, also in the loss's denominator. `drop`: all their tokens leave the loss, KL and entropy included.
 * `resample`: new prompts replace them, at most `rounds` times (DAPO's dynamic sampling, with a cap).
 */
export type ZeroVariancePolicy = 'keep' | 'drop' | { resample: number };

/**
 * Groups without a signal: fewer than two rewards that apply, or all of them equal.
 * @param tolerance rewards closer than this are equal. Default 1e-9: sums of weighted components round differently.
 */
export function zeroVarianceGroups(
  rewards: ArrayLike<number | null>,
  groups: ArrayLike<number>,
  { tolerance = 1e-9 }: { tolerance?: number } = {},
): Set<number> {
  const flat = new Set<number>();
  for (const [group, members] of membersOf(groups)) {
    const values = members.flatMap((i) => (rewards[i] === null ? [] : [rewards[i]!]));
    if (values.length < 2 || Math.max(...values) - Math.min(...values) <= tolerance) flat.add(group);
  }
  return flat;
}

/** @throws AnnealError if the number of rounds is no positive integer. */
export function resampleRounds(policy: ZeroVariancePolicy): number {
  if (typeof policy === 'string') return 0;
  const { resample } = policy;
  if (Number.isInteger(resample) && resample >= 1) return resample;
  throw new AnnealError(
    `zeroVariance: resample is ${resample}; pass how many more rounds there may be, 1 or more`,
  );
}
