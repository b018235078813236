import { AnnealError } from '../core/errors.js';

/** What happens to completions that reached the limit of their length. */
export type OverlongPolicy =
  /** They are trained on with the reward that they got (AceReason v1.0: it is 0, for the answer is missing). */
  | { kind: 'train' }
  /**
   * Their tokens leave the loss and its denominator (AceReason 1.1 at short limits). Their reward stays in the group's
   * baseline, as in TRL, unless `baseline` is `leave`.
   */
  | { kind: 'mask'; baseline?: 'keep' | 'leave' }
  /** Their reward is 0, whatever the reward functions said. */
  | { kind: 'zero' }
  /** DAPO's soft penalty: see `softOverlongPenalty`. Applies to all completions by their length. */
  | { kind: 'penalty'; buffer: number; factor?: number };

/**
 * What DAPO adds to the reward (Yu et al. 2025, equation 13), times `factor`: 0 up to `limit − buffer` tokens, then
 * falling in a line, −1 at the limit and beyond.
 */
export function softOverlongPenalty(
  length: number,
  { limit, buffer, factor = 1 }: { limit: number; buffer: number; factor?: number },
): number {
  if (!(buffer > 0 && buffer <= limit))
    throw new AnnealError(`softOverlongPenalty: buffer is ${buffer}; pass 1 to the limit, ${limit}`);
  const over = Math.min(1, Math.max(0, (length - (limit - buffer)) / buffer));
  // Not −0: a table of rewards would show it.
  return over === 0 ? 0 : -factor * over;
}

/** Rewards after the policy, and which completions leave the loss. */
export interface OverlongResult {
  rewards: (number | null)[];
  /** True: none of its tokens count. */
  isLeftOut: boolean[];
}

/**
 * Applies a policy to a batch.
 * @param rewards null stays null, except that a truncated sample's becomes 0 with `zero`
 * @param isTruncated whether the completion ended at its limit
 * @param limit of the completions' length, for `penalty`
 */
export function applyOverlong(
  policy: OverlongPolicy,
  rewards: readonly (number | null)[],
  isTruncated: readonly boolean[],
  lengths: ArrayLike<number>,
  limit: number,
): OverlongResult {
  const keep = rewards.map(() => false);
  switch (policy.kind) {
    case 'train':
      return { rewards: [...rewards], isLeftOut: keep };
    case 'mask': {
      const leaves = policy.baseline === 'leave';
      return {
        rewards: rewards.map((reward, i) => (leaves && isTruncated[i] ? null : reward)),
        isLeftOut: [...isTruncated],
      };
    }
    case 'zero':
      return { rewards: rewards.map((reward, i) => (isTruncated[i] ? 0 : reward)), isLeftOut: keep };
    case 'penalty':
      return {
        rewards: rewards.map((reward, i) =>
          reward === null ? null : reward + softOverlongPenalty(lengths[i]!, { limit, ...policy }),
        ),
        isLeftOut: keep,
      };
  }
}
