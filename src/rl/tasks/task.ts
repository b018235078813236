import { AnnealError } from '../../core/errors.js';
import { Rng } from '../../core/random.js';

/** A solution without its tags: what its steps say, and its final answer. */
export interface Solution {
  readonly steps: readonly string[];
  readonly answer: string;
}

/**
 * A generated task whose answers and single steps can be judged exactly. Problems are a pure function of
 * (seed, index): a run that resumes needs no cursor, and different seeds are different splits.
 */
export interface StepTask<Problem = unknown> {
  readonly name: string;
  /** All characters of its questions and solutions, for `protocolTokenizer`. */
  readonly alphabet: string;
  /** Strings of its texts that deserve a token of their own. */
  readonly phrases: readonly string[];
  problem(seed: number, index: number): Problem;
  question(problem: Problem): string;
  /** A right solution, step by step. */
  solution(problem: Problem): Solution;
  /**
   * A solution of the right form whose steps are each right with probability `accuracy`, given what stands before, and
   * whose answer follows from what its steps say: examples that teach a format and little else (`rng` is consumed).
   */
  noisySolution(problem: Problem, accuracy: number, rng: Rng): Solution;
  /** Whether a final answer is right. */
  isCorrect(problem: Problem, answer: string): boolean;
  /** Whether the steps have the form that the task asks for, are as many, and the answer is what they lead to. */
  isConsistent(problem: Problem, solution: Solution): boolean;
  /** Gold labels: whether what each step says is right. Steps of any form have one; what cannot be read is wrong. */
  stepLabels(problem: Problem, steps: readonly string[]): boolean[];
  /** The value that a step states, of whatever form it is: the text after its marks. */
  stated(step: string): string;
  /** What a careful verifier writes down about each step before its verdict: the value that it should state. */
  restate(problem: Problem, steps: readonly string[]): string[];
}

/** Smallest and largest of something, both included. */
export type Range = readonly [number, number];

/** Checks a range of integers. @throws AnnealError that names it */
export function checkRange(task: string, name: string, [low, high]: Range, least: number): void {
  if (Number.isInteger(low) && Number.isInteger(high) && least <= low && low <= high) return;
  throw new AnnealError(
    `${task}: ${name} is ${low} to ${high}; pass integers from ${least} on, the smaller first`,
  );
}

/** An integer of a range, all equally likely. */
export const drawIn = (rng: Rng, [low, high]: Range): number => rng.integers(1, low, high + 1)[0]!;

/** One of several things, all equally likely. */
export const choose = <T>(rng: Rng, list: readonly T[]): T => list[rng.integers(1, 0, list.length)[0]!]!;

/** The stream that problem `index` of a task's split is drawn from. */
export const problemRng = (task: string, seed: number, index: number): Rng =>
  new Rng(seed, `task ${task}`).split(index);

/** A part of a mixture: problems of one task and how often they come. */
export interface TaskPart<Problem> {
  task: StepTask<Problem>;
  weight: number;
}

/**
 * One task with problems of several that differ only in what they draw, e.g. of different lengths; everything else is
 * the first one's.
 * @throws AnnealError for no parts, or weights that are not positive
 */
export function mixTasks<Problem>(parts: readonly TaskPart<Problem>[]): StepTask<Problem> {
  const total = parts.reduce((sum, { weight }) => sum + weight, 0);
  if (!parts.length || !parts.every(({ weight }) => weight > 0) || !Number.isFinite(total))
    throw new AnnealError(
      `mixTasks: weights are ${parts.map(({ weight }) => weight)}; pass positive numbers`,
    );
  const { task } = parts[0]!;
  const join = (texts: readonly string[]) => [...new Set(texts.join(''))].join('');
  return {
    ...task,
    alphabet: join(parts.map((part) => part.task.alphabet)),
    phrases: [...new Set(parts.flatMap((part) => part.task.phrases))],
    problem(seed, index) {
      let left = new Rng(seed, 'task mixture').split(index).next() * total;
      const chosen = parts.find(({ weight }) => {
        left -= weight;
        return left < 0;
      });
      return (chosen ?? parts.at(-1)!).task.problem(seed, index);
    },
  };
}
