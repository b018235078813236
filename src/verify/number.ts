/** The last number of a response, as GSM8K is scored. */
import { absolute, compare, multiply, parseDecimal, rational, subtract } from './math/rational.js';
import { type Limits, type RuleVerifier, ruleVerifier, type Span } from './verdict.js';

/**
 * A number as people write it: a sign, a dollar, digits with or without separators of thousands.
 * "1,234.50" is one number; "1,2" are two.
 */
const numberPattern = /[-−]?\$?[-−]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)/gu;

interface Found {
  text: string;
  span: Span;
}

/** Every number in a text, as written there, in order. */
function numbersIn(text: string, offset = 0): Found[] {
  return [...text.matchAll(numberPattern)].map(({ 0: found, index }) => {
    // A minus after an operand subtracts: "10-5" holds 10 and 5.
    const follows = /[\p{L}\p{N})\]$%]$/u.test(text.slice(Math.max(0, index - 2), index));
    const written = follows ? found.replace(/^[-−]/, '') : found;
    const start = offset + index + found.length - written.length;
    return { text: written, span: { start, end: start + written.length } };
  });
}

function lastOf(text: string): (Found & { rule: string }) | undefined {
  const marker = text.lastIndexOf('####');
  const marked = marker < 0 ? undefined : numbersIn(text.slice(marker + 4), marker + 4)[0];
  if (marked) return { ...marked, rule: 'hashes' };
  const last = numbersIn(text).at(-1);
  return last && { ...last, rule: 'number' };
}

/** What a solution in GSM8K's form ends with: the number after the last "####", else the last number of the text. */
export const finalNumber = (text: string): string | undefined => lastOf(text)?.text;

const parsed = (written: string) => parseDecimal(written.replace(/−/g, '-').replace(/[,$\s]/g, ''));
const tolerance = rational(1n, 1_000_000n);

/**
 * Compares final numbers by value: "#### 1,000", "$1000.00" and "so it is 1000." agree. Abstains where the
 * reference has no number; an answer without one is incorrect. Anything but numbers is for `mathVerifier`.
 */
export const numberVerifier = (options: Limits = {}): RuleVerifier =>
  ruleVerifier(
    'number',
    ({ answer, reference }, budget) => {
      budget.spend((answer.length + reference.length) / 50);
      const [given, wanted] = [lastOf(answer), lastOf(reference)];
      const [a, b] = [given && parsed(given.text), wanted && parsed(wanted.text)];
      if (!wanted || !b) return { verdict: 'abstain', reason: 'no-reference' };
      if (!given || !a) return { verdict: 'incorrect', reason: 'no-answer', reference: wanted };
      const size = absolute(b);
      const limit = multiply(compare(size, rational(1n)) > 0 ? size : rational(1n), tolerance);
      const isSame = compare(absolute(subtract(a, b)), limit) <= 0;
      const reason = isSame ? 'equal-value' : 'different-value';
      return { verdict: isSame ? 'correct' : 'incorrect', reason, answer: given, reference: wanted };
    },
    options,
  );
