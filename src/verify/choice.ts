/**
 * Letters of options, and answers that are one of few states. No partial credit: who names two letters where one is
 * right has not answered.
 */
import { afterThinking, type Candidate, candidates, type ExtractOptions } from './math/extract.js';
import { foldText, sameText } from './text.js';
import { type Extracted, type Finding, type Limits, type RuleVerifier, ruleVerifier } from './verdict.js';

/** Options of a question by their letters. */
export type Choices = ReadonlyMap<string, string>;

// An option: a letter in brackets or with a sign behind it, then its text.
const optionLine = /^[\s>*-]{0,6}(?:\(([A-Z])\)|([A-Z])\s?[.):、])[\s*]*(\S.*)$/;

/**
 * The options that a question lists: lines or "(A) …" on one line, in the alphabet's order from A. Empty where
 * there are fewer than two.
 */
export function choicesOf(question: string): Choices {
  const found = new Map<string, string>();
  const expected = () => String.fromCharCode(65 + found.size);
  // "(A) 1 (B) 2 (C) 3" on one line becomes lines.
  const lines = question
    .slice(-20_000)
    .replace(/[ \t]\(([A-Z])\)\s/g, '\n($1) ')
    .split('\n');
  for (const line of lines) {
    const match = optionLine.exec(line.slice(0, 2000));
    const letter = match?.[1] ?? match?.[2];
    if (!match || !letter) continue;
    // A new list begins: the last one is what is asked.
    if (letter === 'A') found.clear();
    if (letter === expected()) found.set(letter, match[3]!.trim());
  }
  return found.size > 1 ? found : new Map();
}

/** LaTeX and markdown around letters. */
const bare = (text: string) =>
  text
    .replace(/\\(?:text|textbf|mathrm|mathbf|boxed|bf|rm)\b\s*/g, '')
    .replace(/[{}$*`_\\"'“”]/g, ' ')
    .trim();

// Letters that separators part, each in brackets or not.
const listOfLetters = /^[[(]?\s*[A-Z](?:\s*[)\].]?\s*(?:,|;|&|\/|\+|and|or|\s)\s*[[(]?\s*[A-Z])*\s*[)\].:]*$/;
const lettersTogether = /^\(?[A-Z]{2,10}\)?\.?$/;

/**
 * The letters that a short answer names: "B", "(B)", "B. circle", "A, C and D", "ACD" (rising, so that words in
 * capitals are none). Undefined where it names none.
 */
export function lettersOf(text: string): string[] | undefined {
  const plain = bare(text).replace(/^(?:the )?(?:correct )?(?:options?|choices?|answers?)\s*:?\s*/i, '');
  if (listOfLetters.test(plain)) return [...new Set(plain.replace(/and|or/g, ' ').match(/[A-Z]/g))].sort();
  if (lettersTogether.test(plain)) {
    const letters = [...plain.replace(/[^A-Z]/g, '')];
    const isRising = letters.every((one, i) => i === 0 || one > letters[i - 1]!);
    return isRising ? letters : undefined;
  }
  // A letter and its text; "A man" and "I think" are words.
  const first = /^(?:\(([A-Z])\)|([A-Z])\s?[.):,])/.exec(plain) ?? /^([B-HJ-Z])(?=\s)/.exec(plain);
  const letter = first?.[1] ?? first?.[2];
  return letter ? [letter] : undefined;
}

/** "option C", "choice (B)" and the like within a sentence, the last one. */
function namedIn(text: string): string | undefined {
  const found = [
    ...bare(text.slice(-1500)).matchAll(
      /(?:options?|choices?|answer(?: is)?|statement)\s*:?\s*(?:is\s*)?\(?([A-Z])\)?(?![\p{L}\p{N}])/giu,
    ),
  ].filter((one) => /[A-Z]/.test(one[1]!));
  return found.at(-1)?.[1];
}

/** The letters of options whose text is the answer's. */
function byText(text: string, choices: Choices): string[] | undefined {
  const found = [...choices].filter(([, option]) => sameText(option, text)).map(([letter]) => letter);
  return found.length === 1 ? found : undefined;
}

/** Letters, and where they were found. */
interface Chosen {
  letters: string[];
  candidate: Candidate;
}

function chosenIn(text: string, choices: Choices, options: ExtractOptions): Chosen | undefined {
  const found = candidates(text, options);
  for (const candidate of found) {
    if (candidate.rule === 'number' || candidate.text.length > 400) continue;
    const letters = lettersOf(candidate.text) ?? byText(candidate.text, choices);
    if (letters) return { letters, candidate };
  }
  return fromEnd(text, choices);
}

/** What a response without any mark ends with: its last line that is a letter or names an option. */
function fromEnd(text: string, choices: Choices): Chosen | undefined {
  const visible = afterThinking(text);
  const lines = visible.text.trimEnd().split('\n').slice(-4).reverse();
  let end = visible.start + visible.text.trimEnd().length;
  for (const line of lines) {
    const start = end - line.length;
    const named = line.length > 600 ? undefined : (lettersOf(line) ?? byText(line, choices));
    const letter = named ?? (namedIn(line) === undefined ? undefined : [namedIn(line)!]);
    if (letter)
      return { letters: letter, candidate: { text: line, span: { start, end }, rule: 'last-line' } };
    end = start - 1;
  }
  return undefined;
}

export interface ChoiceOptions extends ExtractOptions, Limits {
  /** Options by letter; default: those that the question lists, where there is a question. */
  choices?: Readonly<Record<string, string>>;
}

// The letters are the normal form.
const side = ({ letters, candidate }: Chosen): Extracted => ({ ...candidate, form: letters.join('') });

/** The finding of `choiceVerifier`, without a clock. */
export function findChoice(
  answer: string,
  reference: string,
  question: string | undefined,
  options: ChoiceOptions = {},
): Finding {
  const choices = options.choices ? new Map(Object.entries(options.choices)) : choicesOf(question ?? '');
  const wanted = chosenIn(reference, choices, options);
  if (!wanted) return { verdict: 'abstain', reason: 'no-reference' };
  const given = chosenIn(answer, choices, options);
  const sides = { reference: side(wanted), ...(given && { answer: side(given) }) };
  if (!given) return { verdict: 'incorrect', reason: 'no-choice', ...sides };
  const isSame = wanted.letters.join() === given.letters.join();
  return {
    verdict: isSame ? 'correct' : 'incorrect',
    reason: isSame ? 'same-choice' : 'different-choice',
    ...sides,
  };
}

/**
 * Verifies choices by letter, one or several in any order; an answer that is an option's text counts as its letter
 * where the options are known. All letters must agree: no partial credit.
 */
export const choiceVerifier = (options: ChoiceOptions = {}): RuleVerifier =>
  ruleVerifier(
    'choice',
    ({ answer, reference, question }, budget) => {
      budget.spend((answer.length + reference.length + (question?.length ?? 0)) / 50);
      return findChoice(answer, reference, question, options);
    },
    options,
  );

/** Groups of states: one word of a group rules out the others. */
const stateGroups: readonly (readonly (readonly string[])[])[] = [
  [
    ['yes', 'true', 'correct'],
    ['no', 'false', 'incorrect'],
    ['unknown', 'uncertain', 'cannot be determined', 'undetermined', 'not enough information'],
  ],
  [
    ['proved', 'proven'],
    ['disproved', 'disproven'],
    ['unknown', 'uncertain', 'undetermined'],
  ],
  [['valid'], ['invalid']],
  [['possible'], ['impossible', 'not possible']],
  [['entailment', 'entailed'], ['contradiction', 'contradicted'], ['neutral']],
  [
    ['convergent', 'converges', 'converge'],
    ['divergent', 'diverges', 'diverge'],
  ],
  [['even'], ['odd']],
  [['increasing'], ['decreasing']],
];

/** The group and state of a text that is one state and nothing else. */
export function stateOf(text: string): { group: number; state: number } | undefined {
  const folded = foldText(text);
  for (const [group, states] of stateGroups.entries()) {
    const state = states.findIndex((names) => names.includes(folded));
    if (state >= 0) return { group, state };
  }
  return undefined;
}

/** The one state of a group that a sentence names; undefined where it names none, or two. */
function stateIn(text: string, group: number): number | undefined {
  const words = ` ${foldText(text)} `;
  const named = stateGroups[group]!.flatMap((names, state) =>
    names.some((name) => words.includes(` ${name} `)) ? [state] : [],
  );
  return named.length === 1 ? named[0] : undefined;
}

/** The finding of `stateVerifier`, without a clock. */
export function findState(answer: string, reference: string, options: ExtractOptions = {}): Finding {
  const [wanted] = candidates(reference, options);
  const known = wanted && stateOf(wanted.text);
  if (!known) return { verdict: 'abstain', reason: 'no-reference' };
  const sides = { reference: { ...wanted, form: stateGroups[known.group]![known.state]![0]! } };
  const visible = afterThinking(answer);
  const last = visible.text.trimEnd().split('\n').at(-1) ?? '';
  const end = visible.start + visible.text.trimEnd().length;
  const all: Candidate[] = [
    ...candidates(answer, options),
    { text: last, span: { start: end - last.length, end }, rule: 'last-line' },
  ];
  for (const candidate of all) {
    if (candidate.text.length > 400) continue;
    const state = stateIn(candidate.text, known.group);
    if (state === undefined) continue;
    const given = { ...candidate, form: stateGroups[known.group]![state]![0]! };
    const isSame = state === known.state;
    return {
      verdict: isSame ? 'correct' : 'incorrect',
      reason: isSame ? 'same-state' : 'different-state',
      answer: given,
      ...sides,
    };
  }
  return { verdict: 'incorrect', reason: 'no-state', ...sides };
}

/** Verifies answers that are one of few states: yes/no, true/false/unknown, proved/disproved/unknown, valid/invalid, … */
export const stateVerifier = (options: ExtractOptions & Limits = {}): RuleVerifier =>
  ruleVerifier(
    'state',
    ({ answer, reference }, budget) => {
      budget.spend((answer.length + reference.length) / 50);
      return findState(answer, reference, options);
    },
    options,
  );
