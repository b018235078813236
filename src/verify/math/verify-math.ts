/**
 * The verifier of mathematical answers: extraction, the readings of each side, their comparison, and the word that
 * follows from it.
 */
import { foldText, sameText, sameTexts } from '../text.js';
import {
  type Budget,
  type Extracted,
  type Finding,
  LimitReached,
  type Limits,
  type RuleVerifier,
  ruleVerifier,
} from '../verdict.js';
import { type Comparison, compareNodes } from './compare.js';
import { Unparsable } from './cursor.js';
import { type Candidate, candidates, type ExtractOptions } from './extract.js';
import { isReduced } from './matrices.js';
import { form, type Node, some } from './node.js';
import { type MathOptions, withDefaults } from './options.js';
import { parse } from './parse.js';
import { TooLarge } from './rational.js';
import { renamedLike } from './rename.js';
import type { Context } from './scalar.js';
import { formulas } from './scan.js';
import type { Commas } from './tokens.js';

/** One way in which an extracted text can be read. */
interface Reading {
  node: Node;
  commas: Commas;
}

/** A text that was read. */
export interface Side {
  candidate: Candidate;
  readings: Reading[];
}

function read(text: string, commas: Commas, budget: Budget): Node | undefined {
  try {
    return parse(text, commas, budget);
  } catch (error) {
    if (error instanceof Unparsable) return undefined;
    throw error;
  }
}

/** "1,234" may be one number or two, and "0,5" one: every reading that the commas allow. */
function readingsOf(text: string, budget: Budget): Reading[] {
  // Nothing but brackets and signs: a sequence to be completed, not a formula.
  if (!/[\p{L}\p{N}∞∅]/u.test(text) && !/^\W*\\?\{\s*\\?\}\W*$/.test(text)) return [];
  const found: Reading[] = [];
  const add = (commas: Commas) => {
    const node = read(text, commas, budget);
    if (node && !found.some((one) => form(one.node) === form(node))) found.push({ node, commas });
  };
  add('thousands');
  if (/\d,\d{3}(?!\d)/.test(text)) add('list');
  if (text.length < 60 && /^[^,()[\]{}]*\d,(?!\d{3}(?!\d))\d+[^,()[\]{}]*$/.test(text)) add('decimal');
  return found;
}

const isWords = (node: Node) => some(node, (one) => one.kind === 'text');

/** What a side is expected to be, once the reference is known. */
type Expectation = 'formula' | 'words' | 'any';

/**
 * The best candidate of a text: its first formula where one is expected, its first words where the reference is
 * words. A box decides by itself, whatever it holds.
 */
export function readSide(
  text: string,
  options: ExtractOptions,
  budget: Budget,
  expects: Expectation,
): Side | undefined {
  budget.spend(text.length / 100);
  let first: Side | undefined;
  for (const candidate of candidates(text, options)) {
    if (candidate.text.length > 6000) continue;
    const side = { candidate, readings: readingsOf(candidate.text, budget) };
    const isFormula = side.readings.length > 0 && !isWords(side.readings[0]!.node);
    // A long text without a box is a solution, not an answer in words.
    const isShort = candidate.text.length <= 100;
    if (isFormula || candidate.rule === 'boxed' || expects === 'words') return side;
    if (expects === 'any' && isShort) return side;
    first ??= side;
  }
  return first;
}

const isTextual = ({ readings }: Side) => readings.length === 0 || isWords(readings[0]!.node);

const describe = ({ candidate, readings }: Side): Extracted => ({
  ...candidate,
  form: readings[0] ? form(readings[0].node) : foldText(candidate.text),
});

/** Compares, and where names of symbols are free, once more with the answer's renamed. */
function compareFreely(wanted: Node, given: Node, context: Context): Comparison {
  const found = compareNodes(wanted, given, context);
  if (context.options.strictSymbols || found.equality === 'equal') return found;
  const other = renamedLike(given, wanted);
  const renamed = other && compareNodes(wanted, other, context);
  return renamed?.equality === 'equal' ? { equality: 'equal', reason: 'renamed' } : found;
}

/** Whether a place of a text is set as a formula: in a box, or between delimiters that stand where formulas have them. */
function isTypeset(text: string, { span, rule }: Candidate): boolean {
  if (rule === 'boxed') return true;
  return formulas(text).some(
    ({ outerStart, outerEnd, start, text: inner }) =>
      // A candidate may have words around its formula.
      outerStart < span.end &&
      span.start < outerEnd &&
      // A single dollar at a line's end or beginning parts amounts of money, or lines, as often as it opens a formula.
      !(start - outerStart === 1 && /^[ \t]*\n|\n[ \t]*$/.test(inner)),
  );
}

/** The best of what the readings of both sides say; ambiguous commas are resolved for the answer, never on both sides. */
function compareSides(reference: Side, answer: Side, context: Context): Comparison {
  if (isTextual(reference) || isTextual(answer)) {
    const [wanted, given] = [reference.candidate.text, answer.candidate.text];
    if (sameText(wanted, given) || sameTexts(wanted, given))
      return { equality: 'equal', reason: 'same-text' };
  }
  let first: Comparison | undefined;
  for (const wanted of reference.readings)
    for (const given of answer.readings) {
      if (wanted.commas !== 'thousands' && given.commas !== 'thousands') continue;
      const found = compareFreely(wanted.node, given.node, context);
      if (found.equality === 'equal') return found;
      first ??= found;
    }
  if (first) return first;
  if (answer.readings.length === 0 && reference.readings.length > 0)
    return { equality: 'different', reason: 'answer-not-understood' };
  // Words that differ are different answers; a formula that was not understood may be anything.
  const isFormula = /\\(?!text|mathrm|boxed)|[=^]/.test(reference.candidate.text);
  return isFormula
    ? { equality: 'unknown', reason: 'reference-not-understood' }
    : { equality: 'different', reason: 'different-text' };
}

/** Options of the verifier of mathematical answers. */
export type MathVerifierOptions = MathOptions &
  ExtractOptions &
  Limits & {
    /**
     * Notations in which an answer counts, as Math-Verify names them: with `['latex']` it must be in a box or between
     * the delimiters of a formula. Default: both.
     */
    targets?: readonly ('latex' | 'expr')[];
  };

/** The finding for one pair, without a clock. */
export function findMath(
  answerText: string,
  referenceText: string,
  options: MathVerifierOptions,
  budget: Budget,
): Finding {
  const context: Context = { options: withDefaults(options), budget };
  const reference = readSide(referenceText, options, budget, 'any');
  if (!reference) return { verdict: 'abstain', reason: 'no-reference' };
  const sides: { reference: Extracted; answer?: Extracted } = { reference: describe(reference) };
  const answer = readSide(answerText, options, budget, isTextual(reference) ? 'words' : 'formula');
  if (!answer) return { verdict: 'incorrect', reason: 'no-answer', ...sides };
  sides.answer = describe(answer);
  const { equality, reason } = compareSides(reference, answer, context);
  if (equality === 'equal' && options.targets && !options.targets.includes('expr')) {
    if (!isTypeset(answerText, answer.candidate))
      return { verdict: 'incorrect', reason: 'not-typeset', ...sides };
  }
  if (equality === 'unknown') return { verdict: 'abstain', reason, ...sides };
  if (
    equality === 'equal' &&
    context.options.requireReduced &&
    !answer.readings.some(({ node }) => isReduced(node))
  )
    return { verdict: 'incorrect', reason: 'not-reduced', ...sides };
  return { verdict: equality === 'equal' ? 'correct' : 'incorrect', reason, ...sides };
}

/**
 * Verifies mathematical answers by rules: extracts both answers, parses them and compares them by kind. Abstains
 * where the reference is not understood, where neither equality nor difference could be shown, and where the
 * budget ends.
 */
export function mathVerifier(options: MathVerifierOptions = {}): RuleVerifier {
  return ruleVerifier(
    'math',
    ({ answer, reference }, budget) => {
      try {
        return findMath(answer, reference, options, budget);
      } catch (error) {
        if (error instanceof LimitReached) throw error;
        if (error instanceof TooLarge) return { verdict: 'abstain', reason: 'too-large' };
        throw error;
      }
    },
    options,
  );
}
