import { AnnealError } from '../../core/errors.js';

/** One candidate of a vote. */
export interface Candidate {
  /** Equal keys are one answer; null: none was found, it has no vote. */
  readonly key: string | null;
  /** What the policy's own verification says: 1 right, 0 wrong; anything between for a mean of several. */
  readonly score: number;
}

/**
 * Votes weighted by self-verification (RISE, section 4.4): the answer a with the largest
 * count(a) · (alpha + Σ scores of its candidates) / (N + alpha · d). The printed index of the sum is ambiguous; it is
 * read as the candidates that give a, and N as the number of all candidates. The denominator is the same for all
 * answers, so that it never decides.
 * @returns the weight of each answer, heaviest first; of equals, the one that came first
 */
export function selfWeightedVote(
  candidates: readonly Candidate[],
  { alpha = 2, d = 2 }: { alpha?: number; d?: number } = {},
): { key: string; weight: number }[] {
  if (!(alpha >= 0 && d >= 0))
    throw new AnnealError(`selfWeightedVote: alpha is ${alpha} and d ${d}; pass numbers of 0 or more`);
  const answers = new Map<string, { count: number; sum: number }>();
  for (const { key, score } of candidates) {
    if (key === null) continue;
    const { count, sum } = answers.get(key) ?? { count: 0, sum: 0 };
    answers.set(key, { count: count + 1, sum: sum + score });
  }
  const denominator = candidates.length + alpha * d;
  return [...answers]
    .map(([key, { count, sum }]) => ({ key, weight: (count * (alpha + sum)) / denominator }))
    .sort((a, b) => b.weight - a.weight);
}
