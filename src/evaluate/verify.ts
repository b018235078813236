import { numberVerifier } from '../verify/number.js';
import type { Verifier } from '../verify/verdict.js';

/** What a verifier found: `abstain` where it cannot tell, which counts as neither right nor wrong. */
export interface Verdict {
  verdict: 'correct' | 'incorrect' | 'abstain';
  /** What was read out of the answer, for reports. */
  extracted?: string;
}

/**
 * Judges an answer of a model against the item's reference. Any verifier plugs in wherever one is asked for;
 * `item` is the whole item, for verifiers that need more than the reference.
 */
export type Verify = (answer: string, reference: string, item: unknown) => Verdict | Promise<Verdict>;

/** How texts are made comparable before `exactMatch` and `contains`. */
export interface NormalizeOptions {
  /** Default true: case counts for nothing. */
  ignoreCase?: boolean;
  /** Default false: punctuation (Unicode category P) is removed, except inside words and numbers. */
  ignorePunctuation?: boolean;
}

/** Unicode NFC, runs of white space as one space, trimmed, and what the options say. */
export function normalizeText(text: string, options: NormalizeOptions = {}): string {
  const { ignoreCase = true, ignorePunctuation = false } = options;
  let result = text.normalize('NFC');
  if (ignoreCase) result = result.toLowerCase();
  // A sign between two letters or digits belongs to them: "3.5", "don't", "x-ray".
  if (ignorePunctuation) result = result.replace(/(?<![\p{L}\p{N}])\p{P}+|\p{P}+(?![\p{L}\p{N}])/gu, ' ');
  return result.replace(/\s+/g, ' ').trim();
}

/** Correct where the normalised answer equals the normalised reference. */
export const exactMatch =
  (options: NormalizeOptions = {}): Verify =>
  (answer, reference) => {
    const extracted = normalizeText(answer, options);
    return { verdict: extracted === normalizeText(reference, options) ? 'correct' : 'incorrect', extracted };
  };

/** Correct where the normalised reference occurs in the normalised answer; abstains on an empty reference. */
export const contains =
  (options: NormalizeOptions = {}): Verify =>
  (answer, reference) => {
    const wanted = normalizeText(reference, options);
    if (wanted === '') return { verdict: 'abstain' };
    const found = normalizeText(answer, options).includes(wanted);
    return found ? { verdict: 'correct', extracted: wanted } : { verdict: 'incorrect' };
  };

/** What is recorded of a verdict; times would make two runs of one evaluation differ. */
const brief = ({ verdict, extracted }: Verdict): Verdict => ({
  verdict,
  ...(extracted !== undefined && { extracted }),
});

/**
 * Lets a verifier of `anneal/verify` judge a task's answers.
 *
 * @param question What was asked, of an item; for verifiers that need it. Default: the item's `question`.
 */
export const verifyWith =
  (
    verifier: Verifier,
    question: (item: unknown) => unknown = (item) => (item as { question?: unknown } | null)?.question,
  ): Verify =>
  (answer, reference, item) => {
    const asked = item === undefined ? undefined : question(item);
    const found = verifier.verify({
      answer,
      reference,
      ...(typeof asked === 'string' && { question: asked }),
    });
    return found instanceof Promise ? found.then(brief) : brief(found);
  };

export { finalNumber } from '../verify/number.js';

/**
 * Compares final numbers by value: "#### 1,000", "$1000.00" and "so it is 1000." agree. Abstains where
 * the reference has no number; an answer without one is incorrect.
 */
export const sameNumber: Verify = verifyWith(numberVerifier());
