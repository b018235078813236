import { AnnealError } from '../../core/errors.js';
import type { Rng } from '../../core/random.js';

/** Which solutions of a batch are verified. */
export interface SelectionOptions {
  /** Number of problems, and solutions of each; solution i belongs to problem floor(i / samples). */
  problems: number;
  samples: number;
  /** How many are chosen; the paper's ratio of 12.5 % is 128 of 1024 problems. */
  count: number;
  /**
   * `first` (the released code): every problem gives floor(count / problems), the first ones one more. `spread`: the
   * same, but those with one more are drawn. `balanced`: as many right as wrong solutions where there are enough,
   * whatever problem they belong to; it needs `isCorrect`.
   */
  policy?: 'first' | 'spread' | 'balanced';
  /** Of every solution, for `balanced`. */
  isCorrect?: readonly boolean[];
}

/** Several of some numbers, drawn without replacement. */
const drawFrom = (rng: Rng, list: readonly number[], count: number): number[] =>
  Array.from(rng.permutation(list.length).subarray(0, count), (i) => list[i]!);

function balanced(rng: Rng, isCorrect: readonly boolean[], count: number): number[] {
  const all = [...isCorrect.keys()];
  const right = all.filter((i) => isCorrect[i]);
  const wrong = all.filter((i) => !isCorrect[i]);
  // An odd one goes to the rarer class; what one class lacks, the other gives.
  const half = right.length <= wrong.length ? Math.ceil(count / 2) : Math.floor(count / 2);
  const ofRight = Math.min(right.length, Math.max(half, count - wrong.length));
  return [...drawFrom(rng, right, ofRight), ...drawFrom(rng, wrong, count - ofRight)];
}

/**
 * Chooses solutions to verify, inside a problem uniformly without replacement (RISE, section 3.2 and its code).
 * @returns ascending indices of solutions
 * @throws AnnealError if there are fewer solutions than are to be chosen
 */
export function selectForVerification(options: SelectionOptions, rng: Rng): number[] {
  const { problems, samples, count, policy = 'first', isCorrect } = options;
  const total = problems * samples;
  if (!Number.isInteger(count) || count < 0 || count > total)
    throw new AnnealError(`verification of ${count} of ${total} solutions; pass a whole number up to that`);
  if (policy === 'balanced') {
    if (isCorrect?.length !== total)
      throw new AnnealError(`selection "balanced" needs isCorrect of all ${total} solutions`);
    return balanced(rng, isCorrect, count).sort((a, b) => a - b);
  }
  const extra = count - Math.floor(count / problems) * problems;
  const all = Array.from({ length: problems }, (_, i) => i);
  const withExtra = new Set(policy === 'first' ? all.slice(0, extra) : drawFrom(rng, all, extra));
  return all.flatMap((problem) => {
    const n = Math.floor(count / problems) + (withExtra.has(problem) ? 1 : 0);
    const chosen = Array.from(rng.permutation(samples).subarray(0, n));
    return chosen.sort((a, b) => a - b).map((i) => problem * samples + i);
  });
}
