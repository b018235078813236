import {
  binaryMetrics,
  evaluatePolicy,
  type LastLetterProblem,
  type Policy,
  type Prompt,
  parseSolution,
  parseVerification,
  type StepTask,
  shortPrompts,
} from '../rl/index.js';
import type { Game } from './tango-players.js';
import type { TangoConfig } from './tango-settings.js';

/** Seed of problems that nobody trains on. */
const heldOut = 7_777_777;

/** The first problems of a task's held-out split as prompts of the generator. */
function heldOutPrompts(
  { tokenizer }: Game,
  task: StepTask<LastLetterProblem>,
  count: number,
): Prompt<LastLetterProblem>[] {
  return Array.from({ length: count }, (_, i) => {
    const problem = task.problem(heldOut, i);
    return { prompt: tokenizer.encode(shortPrompts.generator(task.question(problem))), example: problem };
  });
}

/**
 * How often the generator's answers to held-out problems are right, and in the right form: `accuracy` greedily, `sampled` at
 * temperature 1, which is what rewards are given for.
 */
export async function generatorMetrics(
  { evaluate }: TangoConfig,
  game: Game,
  generator: Policy,
): Promise<Record<string, number>> {
  const { task, tokenizer, solutionTokens } = game;
  const measure = (temperature: number) =>
    evaluatePolicy(generator, heldOutPrompts(game, task, evaluate.problems), {
      ...{ samples: 1, maxTokens: solutionTokens, temperature, seed: heldOut },
      stopTokens: [tokenizer.endOfText!],
      answer: ({ text, example }) => {
        const { answer, isWellFormed } = parseSolution(text);
        if (answer === undefined || !isWellFormed) return { key: null, isCorrect: false };
        return { key: answer, isCorrect: task.isCorrect(example, answer) };
      },
    });
  const greedy = await measure(0);
  const sampled = await measure(1);
  return { accuracy: greedy.accuracy!, sampled: sampled.accuracy!, wellFormed: sampled.answered! };
}

/**
 * How good the verifier's verdicts are on fresh solutions of the generator at temperature 1: on the answer against the
 * rule, on steps against gold labels. The problems are those of the verifier's own task, where both classes occur.
 */
export async function verifierMetrics(
  { evaluate }: TangoConfig,
  game: Game,
  generator: Policy,
  verifier: Policy,
): Promise<Record<string, number>> {
  const { verifierTask: task, tokenizer, solutionTokens, verificationTokens } = game;
  const stopTokens = [tokenizer.endOfText!];
  const solved = await generator.rollout(heldOutPrompts(game, task, evaluate.problems), {
    ...{ samples: 1, maxTokens: solutionTokens, temperature: 1, stopTokens, seed: heldOut },
  });
  const solutions = solved.map((sample) => ({ sample, solution: parseSolution(sample.text) }));
  const verified = await verifier.rollout(
    solutions.map(({ sample, solution }) => {
      const question = task.question(sample.example);
      const text = shortPrompts.verifier(question, sample.text, solution.steps.length);
      return { prompt: tokenizer.encode(text), example: { problem: sample.example, solution } };
    }),
    { samples: 1, maxTokens: verificationTokens, temperature: 1, stopTokens, seed: heldOut },
  );
  const finals: (boolean | null)[] = [];
  const outcomes: boolean[] = [];
  const verdicts: (boolean | null)[] = [];
  const labels: boolean[] = [];
  for (const { text, example } of verified) {
    const { problem, solution } = example;
    const parsed = parseVerification(text, solution.steps.length, { solutionFormat: solution.format });
    finals.push(parsed.final ?? null);
    outcomes.push(solution.answer !== undefined && task.isCorrect(problem, solution.answer));
    const steps = solution.steps.map((step) => step.text);
    for (const [k, label] of task.stepLabels(problem, steps).entries()) {
      verdicts.push(parsed.verdicts?.[k] ?? null);
      labels.push(label);
    }
  }
  const outcome = binaryMetrics(finals, outcomes);
  const step = labels.length > 0 ? binaryMetrics(verdicts, labels) : undefined;
  return {
    outcomeF1: outcome.f1,
    outcomeBalancedAccuracy: outcome.balancedAccuracy,
    stepF1: step?.f1 ?? 0,
    stepBalancedAccuracy: step?.balancedAccuracy ?? 0,
    solvedByGenerator: outcome.actualPositive,
  };
}
