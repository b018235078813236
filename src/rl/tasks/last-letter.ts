import { AnnealError } from '../../core/errors.js';
import type { Rng } from '../../core/random.js';
import { checkRange, choose, drawIn, problemRng, type Range, type Solution, type StepTask } from './task.js';

/** Words whose last letters are to be put together. */
export interface LastLetterProblem {
  readonly words: readonly string[];
}

/** Settings of `lastLetter`. */
export interface LastLetterOptions {
  /** Words to draw from; only those of lower-case a to z with a length in `letters` are used. */
  words: readonly string[];
  /** Number of words of a problem. */
  count: Range;
  /** Number of letters of a word. */
  letters: Range;
  /**
   * What step k says. `status` (default; RL Tango, appendix D.2): the letters so far, as `|Status|: abc`. `letter`: the
   * letter of word k alone, as `#3 c`, which keeps a step's length and difficulty the same along a chain.
   */
  states?: 'status' | 'letter';
}

const alphabet = 'abcdefghijklmnopqrstuvwxyz';
const statusPhrase = '|Status|: ';

/** Last letters of words, in order. */
const lettersOf = (words: readonly string[]): string[] => words.map((word) => word.at(-1)!);

/** How step `k` (from 0) writes a value, and what a step that is written so says. */
interface StepForm {
  write(k: number, value: string): string;
  /** Undefined for a step of another form. */
  read(k: number, step: string): string | undefined;
  /** Gold values of the first `n` steps. */
  values(letters: readonly string[]): string[];
  /** The answer that stated values lead to. */
  answer(values: readonly string[]): string;
}

const forms: Record<'status' | 'letter', StepForm> = {
  status: {
    write: (_, value) => statusPhrase + value,
    read: (_, step) => /^\|Status\|: ([a-z]+)$/.exec(step)?.[1],
    values: (letters) => letters.map((_, k) => letters.slice(0, k + 1).join('')),
    answer: (values) => values.at(-1) ?? '',
  },
  letter: {
    write: (k, value) => `#${k + 1} ${value}`,
    read: (k, step) => new RegExp(`^#${k + 1} ([a-z])$`).exec(step)?.[1],
    values: (letters) => [...letters],
    answer: (values) => values.join(''),
  },
};

function wordsOf(words: readonly string[], letters: Range): string[] {
  const kept = words.filter((word) => /^[a-z]+$/.test(word) && word.length >= letters[0]);
  const usable = [...new Set(kept.filter((word) => word.length <= letters[1]))];
  if (usable.length) return usable;
  throw new AnnealError(
    `lastLetter: none of ${words.length} words has ${letters[0]} to ${letters[1]} letters; pass other words or letters`,
  );
}

/**
 * A wrong letter that somebody might state who does not know which one is meant: another one of the word. It is as likely as
 * the right one to be the first guess, so sharpening what such examples teach does not solve the task.
 */
function plausibleLetter(rng: Rng, word: string): string {
  const right = word.at(-1)!;
  const others = [...new Set(word)].filter((one) => one !== right);
  return choose(rng, others.length > 0 ? others : [...alphabet].filter((one) => one !== right));
}

/**
 * Last-letter concatenation, the small experiment of RL Tango (2505.15034, appendix D.2; the task is from Wei et al.
 * 2022): the answer is the last letters of n words, one step a word.
 */
export function lastLetter(options: LastLetterOptions): StepTask<LastLetterProblem> {
  const name = 'last-letter';
  checkRange(name, 'count', options.count, 1);
  checkRange(name, 'letters', options.letters, 1);
  const usable = wordsOf(options.words, options.letters);
  const states = options.states ?? 'status';
  const form = forms[states];
  const written = (values: readonly string[]) => values.map((value, k) => form.write(k, value));
  const gold = ({ words }: LastLetterProblem) => form.values(lettersOf(words));
  return {
    name,
    alphabet: states === 'status' ? `${alphabet} |:Status` : `${alphabet} #0123456789`,
    phrases: states === 'status' ? [statusPhrase] : [],
    problem(seed, index) {
      const rng = problemRng(name, seed, index);
      const count = drawIn(rng, options.count);
      return { words: Array.from({ length: count }, () => choose(rng, usable)) };
    },
    question: ({ words }) => words.join(' '),
    solution(problem) {
      const values = gold(problem);
      return { steps: written(values), answer: form.answer(values) };
    },
    noisySolution({ words }, accuracy, rng) {
      const letters = words.map((word) =>
        rng.next() < accuracy ? word.at(-1)! : plausibleLetter(rng, word),
      );
      const values = form.values(letters);
      return { steps: written(values), answer: form.answer(values) };
    },
    isCorrect: ({ words }, answer) => answer === lettersOf(words).join(''),
    isConsistent({ words }, { steps, answer }: Solution) {
      const values = steps.map((step, k) => form.read(k, step));
      const isRead = values.every((value) => value !== undefined);
      return steps.length === words.length && isRead && form.answer(values) === answer;
    },
    stepLabels(problem, steps) {
      const values = gold(problem);
      return steps.map((step, k) => k < values.length && form.read(k, step) === values[k]);
    },
    stated: (step) => step.slice(step.lastIndexOf(' ') + 1),
    restate(problem, steps) {
      const values = gold(problem);
      return steps.map((_, k) => values[k] ?? '');
    },
  };
}
