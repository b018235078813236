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

/**
 * A number as people write it: a sign, a dollar, digits with or without separators of thousands, a fraction.
 * "1,234.50" is one number; "1,2" are two.
 */
const numberPattern = /[-−]?\$?[-−]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)/gu;

/** Every number in a text, as written there, in order. */
function numbersIn(text: string): string[] {
  return [...text.matchAll(numberPattern)].map(({ 0: found, index }) => {
    // A minus after an operand subtracts: "10-5" holds 10 and 5.
    const follows = /[\p{L}\p{N})\]$%]$/u.test(text.slice(Math.max(0, index - 2), index));
    return follows ? found.replace(/^[-−]/, '') : found;
  });
}

const parseNumber = (written: string) => Number(written.replace(/−/g, '-').replace(/[,$\s]/g, ''));

/** What a solution in GSM8K's form ends with: the number after the last "####", else the last number of the text. */
export function finalNumber(text: string): string | undefined {
  const marker = text.lastIndexOf('####');
  const marked = marker < 0 ? undefined : numbersIn(text.slice(marker + 4))[0];
  return marked ?? numbersIn(text).at(-1);
}

/**
 * Compares final numbers by value: "#### 1,000", "$1000.00" and "so it is 1000." agree. Abstains where
 * the reference has no number; an answer without one is incorrect.
 */
export const sameNumber: Verify = (answer, reference) => {
  const wanted = finalNumber(reference);
  if (wanted === undefined) return { verdict: 'abstain' };
  const extracted = finalNumber(answer);
  if (extracted === undefined) return { verdict: 'incorrect' };
  const [a, b] = [parseNumber(extracted), parseNumber(wanted)];
  const isSame = Math.abs(a - b) <= 1e-6 * Math.max(1, Math.abs(b));
  return { verdict: isSame ? 'correct' : 'incorrect', extracted: extracted.trim() };
};
