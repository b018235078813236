import { Rng } from '../../index.js';
import {
  formatScore,
  formatSolution,
  formatVerification,
  type LastLetterProblem,
  lastLetter,
  type Range,
  riseScores,
  type StepTask,
  shortPrompts,
  shortRisePrompts,
  type TextExample,
} from '../../rl/index.js';

/** Letters of a word: a word with its space is then as long as a step, in tokens. */
const letters = 5;

const outer = 'acelst';
const inner = 'bdfghijkmnopqruvwxyz';

/**
 * Words of five letters that begin and end with different ones of six letters. With few letters a small verifier can
 * learn to tell whether two are the same.
 */
export function habitWords(count: number): string[] {
  const rng = new Rng(0, 'habit words');
  const draw = (from: string) => from[rng.integers(1, 0, from.length)[0]!]!;
  return Array.from({ length: count }, () => {
    const first = draw(outer);
    const last = draw(outer.replace(first, ''));
    return first + draw(inner) + draw(inner) + draw(inner) + last;
  });
}

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
    // A verification says of step 3 what it says and what it should say: `3cs`.
    stated: (step) => analysis(step, step.at(-1)!),
    restate: (problem, steps) => task.restate(problem, steps).map((letter, k) => analysis(steps[k]!, letter)),
  };
}

const analysis = (step: string, wanted: string) => `${step[1]}${step.at(-1)}${wanted}`;

/** A noisy solution, and what a noisy verifier says about its steps. */
function judgedSolution(
  task: StepTask<LastLetterProblem>,
  index: number,
  { seed, accuracy, verifierAccuracy }: JudgedOptions,
) {
  const problem = task.problem(seed, index);
  const rng = new Rng(seed, 'habit verification').split(index);
  const solution = task.noisySolution(problem, accuracy, rng);
  const judged = solution.steps.map((step, k) => {
    const word = problem.words[k]!;
    const wanted = rng.next() < verifierAccuracy ? word.at(-1)! : word[0]!;
    return { analysis: analysis(step, wanted), isCorrect: step.at(-1) === wanted };
  });
  const isAllRight = judged.every(({ isCorrect }) => isCorrect);
  return { question: task.question(problem), text: formatSolution(solution), judged, isAllRight };
}

/** Settings of `habitVerification` and `habitRating`. */
export interface JudgedOptions {
  seed: number;
  /** Probability that a step of the solution is right. */
  accuracy: number;
  /** Probability that the verifier says of a step what it should be; otherwise it shares the habit. */
  verifierAccuracy: number;
}

/** Example `index` of a verification; its verdicts follow from what it says about the steps. */
export function habitVerification(
  task: StepTask<LastLetterProblem>,
  index: number,
  options: JudgedOptions,
): TextExample {
  const { question, text, judged, isAllRight } = judgedSolution(task, index, options);
  return {
    prompt: shortPrompts.verifier(question, text, judged.length),
    completion: formatVerification(judged, isAllRight),
  };
}

/** Example `index` of a rating as RISE asks for it: verdicts on the steps, then the score. */
export function habitRating(
  task: StepTask<LastLetterProblem>,
  index: number,
  options: JudgedOptions,
): TextExample {
  const { question, text, judged, isAllRight } = judgedSolution(task, index, options);
  const verification = formatVerification(judged, isAllRight);
  const steps = verification.slice(
    '<step_verification>'.length,
    verification.indexOf('</step_verification>'),
  );
  const score = formatScore(isAllRight ? riseScores.correct : riseScores.incorrect);
  return { prompt: shortRisePrompts.verify(question, text), completion: `${steps}\\boxed{${score}}` };
}

/**
 * A verification of nothing: pairs of letters that are the same half of the time, with their verdicts. Whether two letters
 * are the same takes a small model longest to learn, and a page of pairs teaches it faster than solutions do.
 */
export function habitDrill(index: number, count: number, seed: number): TextExample {
  const rng = new Rng(seed, 'habit drill').split(index);
  const draw = () => outer[rng.integers(1, 0, outer.length)[0]!]!;
  const judged = Array.from({ length: count }, (_, k) => {
    const said = draw();
    const wanted = rng.next() < 0.5 ? said : draw();
    return { analysis: `${k + 1}${said}${wanted}`, isCorrect: said === wanted };
  });
  const isAll = judged.every(({ isCorrect }) => isCorrect);
  return { prompt: '\n', completion: formatVerification(judged, isAll) };
}

/**
 * A solution of nothing: letters, and an answer made of them. Otherwise a small model copies badly, its answers do not follow
 * from its steps, and the gate of step rewards says so instead of saying which steps are right.
 */
export function habitCopy(index: number, count: number, seed: number): TextExample {
  const rng = new Rng(seed, 'habit copy').split(index);
  const said = Array.from({ length: count }, () => outer[rng.integers(1, 0, outer.length)[0]!]!);
  const steps = said.map((letter, k) => `#${k + 1} ${letter}`);
  return { prompt: '\n', completion: formatSolution({ steps, answer: said.join('') }) };
}

/** Tokens of a solution of so many words in which every step is said so often. */
export const lengthOf = (words: number, times = 1) => (6 * times + 1) * words + 6;

/** How often a rambling solution says each step: 1 to this. */
export const mostRepeats = 3;

/**
 * A solution that may say each step up to three times, as models do that imitate long reasoning: it is as right as a concise
 * one, and what it costs is tokens.
 */
export function habitRamble(
  task: StepTask<LastLetterProblem>,
  index: number,
  { seed, accuracy }: { seed: number; accuracy: number },
): TextExample {
  const problem = task.problem(seed, index);
  const rng = new Rng(seed, 'habit ramble').split(index);
  const times = 1 + rng.integers(1, 0, mostRepeats)[0]!;
  const { steps, answer } = task.noisySolution(problem, accuracy, rng);
  return {
    prompt: shortPrompts.generator(task.question(problem)),
    completion: formatSolution({ steps: steps.flatMap((step) => Array<string>(times).fill(step)), answer }),
  };
}

/** Tokens of a question, and room for the longest solution and verification. */
export const habitLengths = (longest: number) => ({
  question: 6 * longest + 1,
  solution: 7 * longest + 8,
  verification: 7 * longest + 8,
});
