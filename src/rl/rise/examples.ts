import { Rng } from '../../core/random.js';
import { formatSolution } from '../tango/solution-format.js';
import type { ExampleOptions, TextExample } from '../tasks/examples.js';
import type { StepTask } from '../tasks/task.js';
import { shortRisePrompts } from './prompts.js';
import { formatScore, riseScores } from './rewards.js';

/** Settings of `ratingExample`. */
export interface RatingExampleOptions extends Omit<ExampleOptions, 'prompts'> {
  /** Probability that the rating is what the analysis leads to; otherwise it is the other one. Default 1. */
  ratingAccuracy?: number;
  /** Writes a verdict on each step after its value; the rating follows from them. Default false. */
  verdicts?: boolean;
  /**
   * With `verdicts`: probability that a step's value is restated rightly. Otherwise it is another solution's, and the verdict
   * follows from it all the same: examples teach to compare, and little of the task. Default 1.
   */
  restatedAccuracy?: number;
}

/** What each step should say, whether the solution's agrees, and whether all do. */
function analyse<P>(
  task: StepTask<P>,
  problem: P,
  steps: readonly string[],
  accuracy: number,
  rng: Rng,
): { steps: string[]; isPraise: boolean } {
  const right = task.restate(problem, steps);
  // A step of another, wholly noisy solution is as plausible as it is unrelated.
  const other = task.noisySolution(problem, 0, rng).steps;
  let isPraise = true;
  const judged = right.map((value, k) => {
    const isRestated = rng.next() < accuracy || other[k] === undefined;
    const said = isRestated ? value : task.stated(other[k]!);
    const agrees = said === task.stated(steps[k]!);
    isPraise &&= agrees;
    return `${said} ${agrees ? 'CORRECT' : 'INCORRECT'}`;
  });
  return { steps: judged, isPraise };
}

/**
 * Example `index` of a rating in the short format: what each step should say, then the score in a box. Below an accuracy
 * of 1 it teaches the form more than the judgement.
 */
export function ratingExample<P>(
  task: StepTask<P>,
  index: number,
  options: RatingExampleOptions,
): TextExample {
  const { seed, accuracy = 0.5, ratingAccuracy = 1, verdicts = false, restatedAccuracy = 1 } = options;
  const problem = task.problem(seed, index);
  const rng = new Rng(seed, 'rating').split(index);
  const solution = accuracy === 1 ? task.solution(problem) : task.noisySolution(problem, accuracy, rng);
  const analysis = verdicts
    ? analyse(task, problem, solution.steps, restatedAccuracy, rng)
    : { steps: task.restate(problem, solution.steps), isPraise: task.isCorrect(problem, solution.answer) };
  const isTold = analysis.isPraise === rng.next() < ratingAccuracy;
  const steps = analysis.steps.map((value) => `<step>${value}</step>`);
  return {
    prompt: shortRisePrompts.verify(task.question(problem), formatSolution(solution)),
    completion: `${steps.join('')}\\boxed{${formatScore(isTold ? riseScores.correct : riseScores.incorrect)}}`,
  };
}
