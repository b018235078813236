import { Rng } from '../../core/random.js';
import { formatSolution } from '../tango/solution-format.js';
import type { ExampleOptions, TextExample } from '../tasks/examples.js';
import type { StepTask } from '../tasks/task.js';
import { shortRisePrompts } from './prompts.js';
import { formatScore, riseScores } from './rewards.js';

/** Settings of `ratingExample`. */
export interface RatingExampleOptions extends Omit<ExampleOptions, 'prompts'> {
  /** Probability that the rating is right; otherwise it is the other one of right and wrong. Default 1. */
  ratingAccuracy?: number;
}

/**
 * Example `index` of a rating in the short format: what each step should say, then the score in a box. Below a
 * `ratingAccuracy` of 1 it teaches the form more than the judgement.
 */
export function ratingExample<P>(
  task: StepTask<P>,
  index: number,
  options: RatingExampleOptions,
): TextExample {
  const { seed, accuracy = 0.5, ratingAccuracy = 1 } = options;
  const problem = task.problem(seed, index);
  const rng = new Rng(seed, 'rating').split(index);
  const solution = accuracy === 1 ? task.solution(problem) : task.noisySolution(problem, accuracy, rng);
  const isTold = task.isCorrect(problem, solution.answer) === rng.next() < ratingAccuracy;
  const steps = task.restate(problem, solution.steps).map((value) => `<step>${value}</step>`);
  return {
    prompt: shortRisePrompts.verify(task.question(problem), formatSolution(solution)),
    completion: `${steps.join('')}\\boxed{${formatScore(isTold ? riseScores.correct : riseScores.incorrect)}}`,
  };
}
