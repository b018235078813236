import { AnnealError } from '../../core/errors.js';
import { Rng } from '../../core/random.js';
import { wordsOf } from './overlap.js';

/** Why a problem is unfit for a reward by rule. */
export type ProblemFlaw =
  | 'multi-part'
  | 'multiple-choice'
  | 'true-false'
  | 'proof'
  | 'figure'
  | 'not-english'
  | 'too-short'
  | 'long-answer';

const patterns: readonly (readonly [ProblemFlaw, RegExp])[] = [
  ['multi-part', /(?:^|\s)\(?(?:a|i|1)\)[\s\S]*(?:^|\s)\(?(?:b|ii|2)\)/m],
  ['multiple-choice', /(?:^|[\s$(])\(?A[).:][\s\S]*[\s$(]\(?B[).:][\s\S]*[\s$(]\(?C[).:]/],
  ['true-false', /\btrue or false\b|\bis (?:it|this|the statement) (?:true|false)\b/i],
  ['proof', /\b(?:prove|show|demonstrate|verify) (?:that|the|why)\b|\bprove:/i],
  [
    'figure',
    /\b(?:figure|diagram|picture|image|graph|table) (?:below|above|shown|at (?:the )?(?:left|right))|\b(?:in|see) the (?:figure|diagram|picture|image)\b|\bas shown\b|!\[|\[asy\]/i,
  ],
];

/** Share of the letters that are Latin; 1 where there are none, as in a formula. */
function latinShare(text: string): number {
  const letters = text.match(/\p{L}/gu) ?? [];
  return letters.length === 0 ? 1 : letters.filter((one) => /[a-z]/i.test(one)).length / letters.length;
}

/**
 * Flaws of a problem for which AceReason drops it (section 3.2), by rules of thumb on its text and answer: the paper names
 * the kinds, not the rules. English is judged by its script alone.
 * @param options.minWords shorter problems are too short; default 5
 * @param options.maxAnswer longer answers, in characters, are hard to compare; default 100
 */
export function problemFlaws(
  problem: string,
  answer: string,
  { minWords = 5, maxAnswer = 100 }: { minWords?: number; maxAnswer?: number } = {},
): ProblemFlaw[] {
  const flaws = patterns.filter(([, pattern]) => pattern.test(problem)).map(([flaw]) => flaw);
  if (latinShare(problem) < 0.9) flaws.push('not-english');
  if (wordsOf(problem).length < minWords) flaws.push('too-short');
  if (answer.length > maxAnswer) flaws.push('long-answer');
  return flaws;
}

/** What a strong model's attempts agree on, beside the reference. */
export interface MajorityVote {
  /** Most frequent answer; undefined if no attempt has one, or the first place is shared. */
  readonly answer: string | undefined;
  readonly votes: number;
  readonly attempts: number;
  /** Whether it is the reference: then the reference can be trusted, and the problem is kept. */
  readonly agrees: boolean;
}

/**
 * Votes of up to 8 attempts against the given answer (AceReason, section 3.2: only problems whose majority is the given
 * answer are kept). Answers count as one if the verifier says that they are equal.
 * @param answers final answer of each attempt, null where none was found
 * @param isEqual a rule verifier's word
 */
export function majorityVote(
  answers: readonly (string | null)[],
  reference: string,
  isEqual: (answer: string, other: string) => boolean,
): MajorityVote {
  const clusters: { answer: string; votes: number }[] = [];
  for (const answer of answers) {
    if (answer === null) continue;
    const cluster = clusters.find((one) => isEqual(answer, one.answer));
    if (cluster) cluster.votes++;
    else clusters.push({ answer, votes: 1 });
  }
  const [first, second] = clusters.sort((a, b) => b.votes - a.votes);
  const isDecided = first !== undefined && first.votes > (second?.votes ?? 0);
  return {
    answer: isDecided ? first.answer : undefined,
    votes: first?.votes ?? 0,
    attempts: answers.length,
    agrees: isDecided && isEqual(first.answer, reference),
  };
}

/** How often a problem was solved. */
export interface PassCount {
  readonly passes: number;
  readonly of: number;
}

/** Difficulty 0 … n of n attempts; n says that it was never solved, and such problems are dropped (section 3.2). */
export const difficultyOf = ({ passes, of }: PassCount): number => of - passes;

/** Which problems stay, by how often they were solved of so many attempts; both limits included. */
export interface PassFilter {
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly of: number;
}

/**
 * Whether a problem was solved as often as a filter says, by the share of its attempts: "at most 6 of 16" are 3 of 8 as
 * well.
 */
export function passesFilter({ passes, of }: PassCount, filter: PassFilter): boolean {
  const { atLeast = 0, atMost = filter.of } = filter;
  return passes * filter.of >= atLeast * of && passes * filter.of <= atMost * of;
}

/**
 * Drops problems that a strong model solves in few tokens, and thins those just above (section 3.2: below 2,000 dropped,
 * 2,000 to 4,000 down-sampled; the rate is not stated).
 * @param options.keep share of the problems between `drop` and `thin` that stays
 */
export function filterByLength<Item>(
  items: readonly Item[],
  options: { tokens: (item: Item) => number; drop?: number; thin?: number; keep: number; seed: number },
): Item[] {
  const { tokens, drop = 2000, thin = 4000, keep, seed } = options;
  if (!(keep >= 0 && keep <= 1)) throw new AnnealError(`filterByLength: keep is ${keep}; pass 0 to 1`);
  const rng = new Rng(seed, 'length filter');
  return items.filter((item, i) => {
    const length = tokens(item);
    return length >= thin || (length >= drop && rng.split(i).next() < keep);
  });
}
