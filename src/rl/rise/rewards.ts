import { boxesOf } from '../tango/solution-format.js';

/** Rewards of RISE's outcome verifier (2505.13445, section 3.1). */
export const riseScores = { correct: 1, incorrect: -0.5, noAnswer: -1 } as const;

/** A score as the policy is to write it: "1.0", "-0.5", "-1.0". */
export const formatScore = (score: number): string => score.toFixed(1);

/** The final answer of a text: what its last box holds. */
export const boxedAnswer = (text: string): string | undefined => boxesOf(text).at(-1)?.text;

/**
 * Reward of a solution: +1 boxed and right, −0.5 boxed and wrong, −1 without a box.
 * @param isEqual whether the boxed answer is the reference's
 */
export function solutionReward(text: string, isEqual: (answer: string) => boolean): number {
  const answer = boxedAnswer(text);
  if (answer === undefined) return riseScores.noAnswer;
  return isEqual(answer) ? riseScores.correct : riseScores.incorrect;
}

/** The number that a box states: an optional sign, digits, an optional fraction, and nothing else. */
export function statedScore(text: string): number | undefined {
  const answer = boxedAnswer(text)?.trim().replace('−', '-');
  if (answer === undefined || !/^[+-]?(\d+(\.\d*)?|\.\d+)$/.test(answer)) return undefined;
  return Number(answer);
}

/**
 * Reward of a verification whose gold label is the solution's own score: +1 if the box states just that number, −0.5 if
 * anything else is boxed, −1 without a box.
 *
 * Equal means numerically equal. The released grader also takes percentages, so that 100 and 0.01 count as 1.0, and
 * -50 as -0.5.
 */
export function verificationReward(text: string, label: number): number {
  if (boxedAnswer(text) === undefined) return riseScores.noAnswer;
  return statedScore(text) === label ? riseScores.correct : riseScores.incorrect;
}
