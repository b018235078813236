/**
 * Answers in words. Texts are folded before they are compared: case, punctuation, articles and Unicode forms make
 * no difference, numbers and signs of formulas do.
 */
import { type Finding, type Limits, type RuleVerifier, ruleVerifier } from './verdict.js';

export interface TextOptions {
  /** Default true: Ä is ä. */
  ignoreCase?: boolean;
  /** Default true: signs that are neither letters nor digits part words, and count for nothing else. */
  ignorePunctuation?: boolean;
  /** Default true: "the", "a" and "an" count for nothing. */
  ignoreArticles?: boolean;
  /** Default false: é is e. Off because accents part words in many languages. */
  ignoreAccents?: boolean;
  /** Other names of answers, on top of yes/true, no/false and number words: { 'usa': ['united states'] }. */
  aliases?: Readonly<Record<string, readonly string[]>>;
}

const builtIn: readonly (readonly string[])[] = [
  ['yes', 'true', 'correct', 'right'],
  ['no', 'false', 'incorrect', 'wrong'],
  [
    'does not exist',
    'dne',
    'no solution',
    'no solutions',
    'undefined',
    'none',
    'impossible',
    'not possible',
    'empty set',
  ],
  ['infinitely many', 'infinite', 'infinity', 'unbounded'],
  ['unknown', 'cannot be determined', 'not enough information', 'uncertain', 'undetermined'],
  ['proved', 'proven'],
  ['disproved', 'disproven'],
  ['zero', '0'],
  ['one', '1'],
  ['two', '2'],
  ['three', '3'],
  ['four', '4'],
  ['five', '5'],
  ['six', '6'],
  ['seven', '7'],
  ['eight', '8'],
  ['nine', '9'],
  ['ten', '10'],
  ['first', '1st'],
  ['second', '2nd'],
  ['third', '3rd'],
  ['fourth', '4th'],
  ['fifth', '5th'],
];
const builtInOf = new Map(builtIn.flatMap((names) => names.map((name) => [name, names[0]!] as const)));

/** LaTeX around words: \text{Even} is Even. */
const unwrap = (text: string) =>
  text
    .replace(/\\(?:text|textbf|textit|mathrm|mathbf|operatorname|mbox|boxed|emph|texttt)\s*\{/g, '{')
    .replace(/\\[,;:!]|\\q?quad(?![a-z])|\\ |~/g, ' ')
    .replace(/\\[()[\]]/g, ' ')
    .replace(/[{}$\\]/g, '');

/**
 * A text in one way of writing: Unicode NFKC, no invisible signs, LaTeX's wrappers and the options' differences
 * gone, runs of white space one space.
 */
export function foldText(text: string, options: TextOptions = {}): string {
  const {
    ignoreCase = true,
    ignorePunctuation = true,
    ignoreArticles = true,
    ignoreAccents = false,
  } = options;
  let result = unwrap(text)
    .normalize('NFKC')
    .replace(/[\u200b-\u200f\u2060\ufeff\u00ad]/g, '');
  if (ignoreCase) result = result.toLowerCase().normalize('NFKC');
  if (ignoreAccents)
    result = result
      .normalize('NFD')
      .replace(/\p{M}+/gu, '')
      .normalize('NFC');
  result = result.replace(/[’‘]/g, "'");
  // Answers that are nothing but signs, "] )" or "< >", are their signs.
  if (ignorePunctuation && /[\p{L}\p{N}]/u.test(result)) result = words(result).join(' ');
  result = result.replace(/\s+/g, ' ').trim();
  if (ignoreArticles) result = result.replace(/(?<![\p{L}\p{N}])(?:the|an|a) +(?=[\p{L}\p{N}])/gu, '');
  return result;
}

/**
 * Words, numbers and mathematical signs of a text. A number keeps its sign and what stands between its digits
 * ("-3.5", "09:01:10"), a word its apostrophes and hyphens.
 */
const words = (text: string): string[] =>
  text.match(
    /(?<![\p{L}\p{N}])[-+]?(?:\d+|\.\d+)(?:[.,:/-]\d+)*|[\p{L}\p{M}\p{N}]+(?:['-][\p{L}\p{N}]+)*|\p{S}/gu,
  ) ?? [];

/** The one name of a folded text among its aliases. */
function canonical(folded: string, options: TextOptions): string {
  for (const [name, others] of Object.entries(options.aliases ?? {}))
    if ([name, ...others].some((one) => foldText(one, options) === folded)) return foldText(name, options);
  return builtInOf.get(folded) ?? folded;
}

/** Two texts are the same answer: same folded, or aliases of one. Two empty texts are not. */
export function sameText(a: string, b: string, options: TextOptions = {}): boolean {
  const [left, right] = [foldText(a, options), foldText(b, options)];
  if (left === '' || right === '') return false;
  return left === right || canonical(left, options) === canonical(right, options);
}

/** Two lists of texts, item by item in order: "line segment, circle" and "line segment and circle". */
export function sameTexts(a: string, b: string, options: TextOptions = {}): boolean {
  const split = (text: string) =>
    text
      .slice(0, 10_000)
      .split(/[,;]|\s(?:and|or)\s/)
      .map((one) => one.trim())
      .filter((one) => foldText(one, options) !== '');
  const [left, right] = [split(a), split(b)];
  return (
    left.length > 1 &&
    left.length === right.length &&
    left.every((one, i) => sameText(one, right[i]!, options))
  );
}

/** Verifies short texts: correct where they are the same answer; abstains where the reference is empty. */
export function textVerifier(options: TextOptions & Limits = {}): RuleVerifier {
  return ruleVerifier(
    'text',
    ({ answer, reference }, budget): Finding => {
      budget.spend((answer.length + reference.length) / 10);
      const side = (text: string) => ({
        text,
        span: { start: 0, end: text.length },
        rule: 'whole',
        form: foldText(text, options),
      });
      if (foldText(reference, options) === '') return { verdict: 'abstain', reason: 'no-reference' };
      const sides = { answer: side(answer), reference: side(reference) };
      if (sides.answer.form === '') return { verdict: 'incorrect', reason: 'no-answer', ...sides };
      const isSame = sameText(answer, reference, options);
      return {
        verdict: isSame ? 'correct' : 'incorrect',
        reason: isSame ? 'same-text' : 'different-text',
        ...sides,
      };
    },
    options,
  );
}
