import { Rng } from '../../index.js';
import {
  binaryMetrics,
  evaluatePolicy,
  formatSolution,
  type LastLetterProblem,
  type Policy,
  parseSolution,
  parseVerification,
  type StepTask,
  shortPrompts,
} from '../../rl/index.js';
import type { World } from './rl-world.js';

/** Seed of problems that nobody trains on. */
export const heldOut = 7_777_777;

/** How often a policy solves held-out problems: sampled at temperature 1, and greedily; in the right form in both cases. */
export async function solving<P>(
  world: World,
  policy: Policy,
  task: StepTask<P>,
  options: { maxTokens?: number; name?: string; problems?: number } = {},
): Promise<Record<string, number>> {
  const { tokenizer } = world;
  const { maxTokens = world.lengths.solution, name = 'accuracy', problems = world.config.problems } = options;
  const prompts = Array.from({ length: problems }, (_, i) => {
    const problem = task.problem(heldOut, i);
    return { prompt: tokenizer.encode(shortPrompts.generator(task.question(problem))), example: problem };
  });
  const measure = (temperature: number, samples: number) =>
    evaluatePolicy(policy, prompts, {
      ...{ samples, maxTokens, temperature, seed: heldOut },
      ks: [1],
      stopTokens: [tokenizer.endOfText!],
      answer: ({ text, example }) => {
        const { answer, isWellFormed } = parseSolution(text);
        if (answer === undefined || !isWellFormed) return { key: null, isCorrect: false };
        return { key: answer, isCorrect: task.isCorrect(example, answer) };
      },
    });
  const sampled = await measure(1, 4);
  const greedy = await measure(0, 1);
  return { [name]: sampled.accuracy!, [`${name}.greedy`]: greedy.accuracy!, wellFormed: sampled.answered! };
}

/** A solution to be verified, and what the rule says about it. */
export interface JudgedSolution {
  problem: LastLetterProblem;
  text: string;
  isCorrect: boolean;
  labels: readonly boolean[];
}

const judged = (
  task: StepTask<LastLetterProblem>,
  problem: LastLetterProblem,
  text: string,
): JudgedSolution => {
  const { steps, answer } = parseSolution(text);
  const labels = task.stepLabels(
    problem,
    steps.map((step) => step.text),
  );
  return { problem, text, labels, isCorrect: answer !== undefined && task.isCorrect(problem, answer) };
};

/**
 * A fixed set in which both verdicts are as frequent, for a verifier's curve: fresh solutions of a generator that
 * improves would move F1 by the shares of the classes alone. Wrong solutions have one wrong step or more.
 */
export function balancedSolutions(task: StepTask<LastLetterProblem>, count: number): JudgedSolution[] {
  return Array.from({ length: count }, (_, i) => {
    const problem = task.problem(heldOut, i);
    const wantsRight = i % 2 === 0;
    const rng = new Rng(heldOut, 'balanced').split(i);
    for (;;) {
      const solution = wantsRight ? task.solution(problem) : task.noisySolution(problem, 0.6, rng);
      const one = judged(task, problem, formatSolution(solution));
      if (one.isCorrect === wantsRight) return one;
    }
  });
}

/** What a policy writes at temperature 1 on held-out problems. */
export async function freshSolutions(
  world: World,
  policy: Policy,
  task: StepTask<LastLetterProblem>,
  count: number,
): Promise<JudgedSolution[]> {
  const { tokenizer, lengths } = world;
  const samples = await policy.rollout(
    Array.from({ length: count }, (_, i) => {
      const problem = task.problem(heldOut, i);
      return { prompt: tokenizer.encode(shortPrompts.generator(task.question(problem))), example: problem };
    }),
    {
      ...{ samples: 1, maxTokens: lengths.solution, temperature: 1 },
      ...{ stopTokens: [tokenizer.endOfText!], seed: heldOut },
    },
  );
  return samples.map(({ example, text }) => judged(task, example, text));
}

/** How good a policy's sampled verdicts on given solutions are: on answers against the rule, on steps against gold labels. */
export async function verifying(
  world: World,
  policy: Policy,
  task: StepTask<LastLetterProblem>,
  solutions: readonly JudgedSolution[],
): Promise<Record<string, number>> {
  const { tokenizer, lengths } = world;
  const samples = await policy.rollout(
    solutions.map((one) => {
      const text = shortPrompts.verifier(task.question(one.problem), one.text, one.labels.length);
      return { prompt: tokenizer.encode(text), example: one };
    }),
    {
      ...{ samples: 1, maxTokens: lengths.verification, temperature: 1 },
      ...{ stopTokens: [tokenizer.endOfText!], seed: heldOut },
    },
  );
  const verdicts = samples.map(({ text, example }) => parseVerification(text, example.labels.length));
  const outcome = binaryMetrics(
    verdicts.map(({ final }) => final ?? null),
    samples.map(({ example }) => example.isCorrect),
  );
  const labels = samples.flatMap(({ example }) => example.labels);
  const said = samples.flatMap(({ example }, i) =>
    example.labels.map((_, k) => verdicts[i]!.verdicts?.[k] ?? null),
  );
  // A policy that has lost its format may write no steps at all.
  const steps = labels.length > 0 ? binaryMetrics(said, labels) : undefined;
  return {
    outcomeF1: outcome.f1,
    outcomeBalanced: outcome.balancedAccuracy,
    outcomeAccuracy: outcome.accuracy,
    predictedCorrect: outcome.predictedPositive,
    actuallyCorrect: outcome.actualPositive,
    ...(steps && { stepF1: steps.f1, stepBalanced: steps.balancedAccuracy }),
    readable: outcome.parsed,
  };
}
