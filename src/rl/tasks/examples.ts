import { AnnealError } from '../../core/errors.js';
import { Rng } from '../../core/random.js';
import { shortPrompts, type TangoPrompts } from '../tango/prompts.js';
import { formatSolution } from '../tango/solution-format.js';
import { formatVerification } from '../tango/verification-format.js';
import type { Solution, StepTask } from './task.js';

/** What supervised fine-tuning learns from: only the completion is trained on. */
export interface TextExample {
  readonly prompt: string;
  readonly completion: string;
}

/** Settings of examples. */
export interface ExampleOptions {
  seed: number;
  /**
   * Probability that a step is right. Default 1: gold solutions. Below, examples teach the format and only hint at the
   * task, which leaves a policy at full format and sparse success: where reinforcement learning begins.
   */
  accuracy?: number;
  /** Default `shortPrompts`. */
  prompts?: TangoPrompts;
}

function accuracyOf({ accuracy = 1 }: ExampleOptions): number {
  if (accuracy >= 0 && accuracy <= 1) return accuracy;
  throw new AnnealError(`accuracy is ${accuracy}; pass a probability from 0 to 1`);
}

/** A solution of problem `index`, gold or noisy; a pure function of the options and the index. */
function drawSolution<P>(task: StepTask<P>, problem: P, index: number, options: ExampleOptions): Solution {
  const accuracy = accuracyOf(options);
  if (accuracy === 1) return task.solution(problem);
  return task.noisySolution(problem, accuracy, new Rng(options.seed, 'noisy solutions').split(index));
}

/** Example `index` for a generator: a question and a solution in the format. */
export function solutionExample<P>(task: StepTask<P>, index: number, options: ExampleOptions): TextExample {
  const problem = task.problem(options.seed, index);
  const solution = drawSolution(task, problem, index, options);
  const { generator } = options.prompts ?? shortPrompts;
  return { prompt: generator(task.question(problem)), completion: formatSolution(solution) };
}

/** Settings of examples of verifications. */
export interface VerificationExampleOptions extends ExampleOptions {
  /** Probability that what the verifier restates is right; `accuracy` is of the solutions. Default 1. */
  verifierAccuracy?: number;
}

/**
 * Example `index` for a verifier: a question with a solution, and for each step what it should say, then a verdict that
 * follows from the two. With `verifierAccuracy` below 1 a restated value is another solution's with the rest of the
 * probability: the verdict still follows from it, so the format is taught, and little of the task.
 */
export function verificationExample<P>(
  task: StepTask<P>,
  index: number,
  options: VerificationExampleOptions,
): TextExample {
  const { verifierAccuracy = 1, seed, prompts = shortPrompts } = options;
  if (!(verifierAccuracy >= 0 && verifierAccuracy <= 1))
    throw new AnnealError(`verifierAccuracy is ${verifierAccuracy}; pass a probability from 0 to 1`);
  const problem = task.problem(seed, index);
  const { steps, answer } = drawSolution(task, problem, index, options);
  const rng = new Rng(seed, 'noisy verifications').split(index);
  const labels = task.stepLabels(problem, steps);
  const right = task.restate(problem, steps);
  // A step of another, wholly noisy solution is as plausible as it is unrelated.
  const other = task.noisySolution(problem, 0, rng).steps;
  const wrong = right.map((value, k) => (other[k] === undefined ? value : task.stated(other[k])));
  const judged = steps.map((_, k) => {
    const isRestated = rng.next() < verifierAccuracy;
    return isRestated
      ? { analysis: right[k]!, isCorrect: labels[k]! }
      : { analysis: wrong[k]!, isCorrect: wrong[k] === task.stated(steps[k]!) };
  });
  const isAllRight = judged.every(({ isCorrect }) => isCorrect);
  const final = verifierAccuracy === 1 ? task.isCorrect(problem, answer) : isAllRight;
  return {
    prompt: prompts.verifier(task.question(problem), formatSolution({ steps, answer }), steps.length),
    completion: formatVerification(judged, final),
  };
}
