import { AnnealError } from '../../core/errors.js';
import { type AnswerOptions, answerVerifier } from '../answer.js';
import { type ChoiceOptions, choiceVerifier } from '../choice.js';
import { type MathVerifierOptions, mathVerifier } from '../math/verify-math.js';
import { type TextOptions, textVerifier } from '../text.js';
import type { Limits, Verdict, Verifier, VerifyItem } from '../verdict.js';
import {
  completionOf,
  exampleOf,
  type FieldOf,
  fieldOf,
  type RewardExample,
  type SampleReward,
} from './sample.js';

/** Where a reward finds its texts, and what verdicts are worth. */
export interface AnswerRewardOptions {
  /** The reference of an example. Default: the first of `gold`, `reference`, `answer`, `solution`, `target` that it has. */
  reference?: FieldOf;
  /** What was asked, for choices and judges. Default: `question`, `prompt` or `problem`, where the example has one. */
  question?: FieldOf;
  /** Score of a right answer; default 1. */
  correct?: number;
  /** Score of a wrong one; default 0. An abstention has no score: it is null. */
  incorrect?: number;
}

const references = ['gold', 'reference', 'answer', 'solution', 'target'];
const questions = ['question', 'prompt', 'problem'];

function referenceOf(example: RewardExample, field: FieldOf | undefined): string {
  const found = fieldOf(example, field, references);
  if (typeof found === 'string') return found;
  if (typeof found === 'number' || typeof found === 'boolean') return String(found);
  throw new AnnealError(
    `the reference of an example is ${JSON.stringify(found)}; it must be a text or a number`,
  );
}

/** The question, where there is one: rewards do without it. */
function questionOf(example: RewardExample, field: FieldOf | undefined): string | undefined {
  const named = typeof field === 'string' ? [field] : questions;
  const found =
    typeof field === 'function'
      ? field(example)
      : named.map((name) => example[name]).find((one) => one !== undefined);
  return typeof found === 'string' ? found : undefined;
}

/**
 * A reward from any verifier, a judge or an ensemble included. A judge that cannot be reached rejects; `tolerant` makes
 * null scores of such failures.
 */
export function verifierReward(verifier: Verifier, options: AnswerRewardOptions = {}): SampleReward {
  const { correct = 1, incorrect = 0 } = options;
  const signalled = verifier as {
    verify(item: VerifyItem, options: { signal?: AbortSignal }): Verdict | Promise<Verdict>;
  };
  return async (sample) => {
    const example = exampleOf(sample);
    const question = questionOf(example, options.question);
    const item: VerifyItem = {
      answer: completionOf(sample),
      reference: referenceOf(example, options.reference),
      ...(question !== undefined && { question }),
    };
    const verdict = await signalled.verify(item, sample.signal ? { signal: sample.signal } : {});
    const scores = { correct, incorrect, abstain: null };
    return { score: scores[verdict.verdict], verdict };
  };
}

/** Rewards answers of any kind: the reference decides which rules apply; see `answerVerifier`. */
export const answerReward = (options: AnswerRewardOptions & AnswerOptions = {}): SampleReward =>
  verifierReward(answerVerifier(options), options);

/** Rewards mathematical answers; see `mathVerifier`. */
export const mathReward = (options: AnswerRewardOptions & MathVerifierOptions = {}): SampleReward =>
  verifierReward(mathVerifier(options), options);

/** Rewards the letters of options; see `choiceVerifier`. */
export const choiceReward = (options: AnswerRewardOptions & ChoiceOptions = {}): SampleReward =>
  verifierReward(choiceVerifier(options), options);

/** Rewards short texts; see `textVerifier`. */
export const textReward = (options: AnswerRewardOptions & TextOptions & Limits = {}): SampleReward =>
  verifierReward(textVerifier(options), options);
