/** One verifier for everything: the reference, not the answer, decides which rules apply. */
import { type ChoiceOptions, choicesOf, findChoice, findState, lettersOf, stateOf } from './choice.js';
import { candidates } from './math/extract.js';
import { TooLarge } from './math/rational.js';
import { findMath, type MathVerifierOptions } from './math/verify-math.js';
import { foldText, sameText, type TextOptions } from './text.js';
import { type Budget, type Finding, type RuleVerifier, ruleVerifier, type VerifyItem } from './verdict.js';

/** What kind of answer is verified. */
export type AnswerType = 'auto' | 'math' | 'choice' | 'state' | 'text';

export interface AnswerOptions extends MathVerifierOptions, ChoiceOptions {
  /** Default `auto`: what the reference looks like. */
  type?: AnswerType;
  /** Of answers in words. */
  text?: TextOptions;
}

/** The kind of a reference: a letter among options, a state, or mathematics, which takes words, too. */
export function answerTypeOf(reference: string, question = ''): Exclude<AnswerType, 'auto'> {
  const [first] = candidates(reference);
  const text = first?.text ?? reference;
  if (stateOf(text)) return 'state';
  const letters = text.length <= 200 ? lettersOf(text) : undefined;
  if (letters) {
    const choices = choicesOf(question);
    const isKnown = letters.every((letter) => choices.has(letter));
    // Without a question, one capital from A to H, or several, are letters of options rather than names.
    if (
      choices.size > 0
        ? isKnown
        : letters.every((letter) => letter <= 'H') && /^\W*[A-H](?:\W*[A-H])*\W*$/.test(text)
    )
      return 'choice';
  }
  return 'math';
}

/** References longer than this are explanations: rules cannot tell whether other words say the same. */
const longestWords = 12;

function findText({ answer, reference }: VerifyItem, options: AnswerOptions): Finding {
  const [wanted] = candidates(reference, options);
  if (!wanted) return { verdict: 'abstain', reason: 'no-reference' };
  const all = candidates(answer, options);
  const sides = { reference: { ...wanted, form: foldText(wanted.text, options.text) } };
  const same = all.find((one) => sameText(one.text, wanted.text, options.text));
  const given = same ?? all[0];
  if (!given) return { verdict: 'incorrect', reason: 'no-answer', ...sides };
  const answerSide = { answer: { ...given, form: foldText(given.text, options.text) } };
  if (same && (same === all[0] || same.rule !== 'number'))
    return { verdict: 'correct', reason: 'same-text', ...sides, ...answerSide };
  return isExplanation(wanted.text)
    ? { verdict: 'abstain', reason: 'free-text', ...sides, ...answerSide }
    : { verdict: 'incorrect', reason: 'different-text', ...sides, ...answerSide };
}

const isExplanation = (text: string) => foldText(text).split(' ').length > longestWords;

function find(item: VerifyItem, options: AnswerOptions, budget: Budget): Finding {
  const { answer, reference, question } = item;
  const type =
    options.type === undefined || options.type === 'auto' ? answerTypeOf(reference, question) : options.type;
  budget.spend((answer.length + reference.length + (question?.length ?? 0)) / 50);
  if (type === 'choice') return findChoice(answer, reference, question, options);
  if (type === 'state') return findState(answer, reference, options);
  if (type === 'text') return findText(item, options);
  const found = findMath(answer, reference, options, budget);
  // A value where the options are known, or the letter of the option that has it.
  if (found.verdict === 'incorrect' && question !== undefined && (found.answer?.text.length ?? 99) <= 60) {
    const option = optionNamed(found.answer!.text, question);
    if (option !== undefined && findMath(option, reference, options, budget).verdict === 'correct')
      return { ...found, verdict: 'correct', reason: 'letter-of-value' };
  }
  if (found.reason !== 'different-text') return found;
  const { text = '', rule } = found.reference ?? {};
  if (isExplanation(text) || (rule === 'sentence' && isExplanation(reference)))
    return { ...found, verdict: 'abstain', reason: 'free-text' };
  return found;
}

/** The text of the option whose letter an answer is. */
function optionNamed(answer: string, question: string): string | undefined {
  const letters = lettersOf(answer);
  return letters?.length === 1 ? choicesOf(question).get(letters[0]!) : undefined;
}

/**
 * Verifies answers of any kind by rules: looks at the reference, and hands the item to the verifier of choices,
 * states, mathematics or text. `options.type` overrules what it sees.
 */
export const answerVerifier = (options: AnswerOptions = {}): RuleVerifier =>
  ruleVerifier(
    'rules',
    (item, budget) => {
      try {
        return find(item, options, budget);
      } catch (error) {
        if (error instanceof TooLarge) return { verdict: 'abstain', reason: 'too-large' };
        throw error;
      }
    },
    options,
  );
