import { AnnealError } from '../core/errors.js';
import { Rng } from '../core/random.js';
import { mean, passAtK } from '../evaluate/metrics.js';

/** One sampled answer. */
export interface Answer {
  /** What is voted on: equal keys are one answer. Null: no answer was found; it has no vote. */
  key: string | null;
  isCorrect: boolean;
}

function totals(answers: readonly Answer[], weights?: ArrayLike<number>): Map<string, number> {
  const votes = new Map<string, number>();
  answers.forEach(({ key }, i) => {
    if (key !== null) votes.set(key, (votes.get(key) ?? 0) + (weights?.[i] ?? 1));
  });
  return votes;
}

/**
 * The probability that the answer with most votes is correct (self-consistency, Wang et al. 2023): of answers that tie,
 * each is chosen with the same probability. 0 if nothing has a vote.
 * @param weights votes of each answer, e.g. a verifier's score. Default 1.
 */
export function majorityCorrect(answers: readonly Answer[], weights?: ArrayLike<number>): number {
  const votes = totals(answers, weights);
  const most = Math.max(...votes.values());
  const winners = [...votes].filter(([, n]) => n === most).map(([key]) => key);
  if (winners.length === 0) return 0;
  const right = winners.filter((key) => answers.some((one) => one.key === key && one.isCorrect));
  return right.length / winners.length;
}

/**
 * maj@k from n ≥ k samples of one item: exact for k = n, else the mean over `draws` subsets without replacement.
 * Deterministic in `seed`.
 * @throws AnnealError if k is no integer from 1 to n.
 */
export function majorityAtK(
  answers: readonly Answer[],
  k: number,
  { draws = 1000, seed = 0 }: { draws?: number; seed?: number } = {},
): number {
  const n = answers.length;
  if (!Number.isInteger(k) || k < 1 || k > n)
    throw new AnnealError(`maj@${k} of ${n} samples; draw at least k samples, k ≥ 1`);
  if (k === n) return majorityCorrect(answers);
  const rng = new Rng(seed).split('majority');
  let total = 0;
  for (let d = 0; d < draws; d++) {
    const chosen = rng.permutation(n).subarray(0, k);
    total += majorityCorrect(Array.from(chosen, (i) => answers[i]!));
  }
  return total / draws;
}

/** Results over items, all as means over them. */
export interface AtK {
  /** avg@n: accuracy of a single sample. */
  average: number;
  /** pass@k by k: at least one of k is correct (`passAtK`). */
  pass: Record<number, number>;
  /** maj@k by k: the majority of k is correct. */
  majority: Record<number, number>;
}

/**
 * avg@n, pass@k and maj@k of n sampled answers per item.
 * @param ks each at most the number of samples of every item
 */
export function atK(
  items: readonly (readonly Answer[])[],
  ks: readonly number[],
  options: { draws?: number; seed?: number } = {},
): AtK {
  const correct = items.map((answers) => answers.filter((one) => one.isCorrect).length);
  const byK = (value: (k: number) => number) => Object.fromEntries(ks.map((k) => [k, value(k)]));
  return {
    average: mean(items.map((answers, i) => correct[i]! / answers.length)),
    pass: byK((k) => mean(items.map((answers, i) => passAtK(answers.length, correct[i]!, k)))),
    majority: byK((k) => mean(items.map((answers) => majorityAtK(answers, k, options)))),
  };
}
