import { type LastLetterProblem, lastLetter, type Range, type StepTask } from '../../rl/index.js';

/** Letters of a word: a word with its space is then as long as a step, in tokens. */
const letters = 5;

/**
 * Last-letter concatenation with a bad habit to unlearn: what a noisy solution says wrongly is always the word's *first*
 * letter. A model that learns from such solutions prefers the first letter, also greedily, and has to find out by
 * reinforcement that the last one is wanted. The habit is also what a misleading verifier can praise.
 *
 * Questions are padded to `longest` words, and the lines of words, solutions and verifications have six tokens each, so
 * that models of 0.1 M parameters learn within some hundred updates where to look.
 * @param count words of a problem
 * @param longest words that a question is padded to
 */
export function habitTask(
  words: readonly string[],
  count: Range,
  longest: number,
): StepTask<LastLetterProblem> {
  const task = lastLetter({ words, count, letters: [letters, letters], states: 'letter' });
  return {
    ...task,
    alphabet: `${task.alphabet}.`,
    question: (problem) =>
      [
        ...problem.words,
        ...Array.from({ length: longest - problem.words.length }, () => '.'.repeat(letters)),
      ].join(' '),
    noisySolution({ words: drawn }, accuracy, rng) {
      const said = drawn.map((word) => (rng.next() < accuracy ? word.at(-1)! : word[0]!));
      return { steps: said.map((letter, k) => `#${k + 1} ${letter}`), answer: said.join('') };
    },
    // A verification repeats the number of the step with its letter: `3 c`.
    stated: (step) => step.slice(1),
    restate: (problem, steps) => task.restate(problem, steps).map((letter, k) => `${k + 1} ${letter}`),
  };
}

/** Tokens of the longest solution, verification and rating of `count` words, and of a question. */
export const habitLengths = (longest: number) => ({
  question: 6 * longest + 1,
  solution: 7 * longest + 8,
  verification: 7 * longest + 8,
});
