import type { Sample } from '../sample.js';
import type { TangoPlayer, TangoTask } from '../tango/options.js';
import { promptOf, samplingOf } from '../tango/responses.js';
import type { RisePrompts } from './prompts.js';
import { boxedAnswer, riseScores, statedScore, verificationReward } from './rewards.js';

/** What RISE needs of a task; every `StepTask` is one. */
export type RiseTask<P> = Pick<TangoTask<P>, 'problem' | 'question' | 'isCorrect'>;

/** A solution that is to be verified, and what the rule says of it. */
export interface RatedSolution<P> {
  readonly problem: P;
  readonly text: string;
  /** The final answer; undefined without a box. */
  readonly answer: string | undefined;
  /** +1, −0.5 or −1: its reward, and the gold label of its verification. */
  readonly score: number;
  /** Absent where the solution was given. */
  readonly sample?: Sample<P>;
}

/** A policy's rating of a solution. */
export interface Rating<P> {
  readonly solution: RatedSolution<P>;
  readonly sample: Sample<RatedSolution<P>>;
  /** The number that it states. */
  readonly stated: number | undefined;
  readonly reward: number;
}

/** Seeds and the end of a rollout. */
export interface RolloutSeed {
  seed: number;
  signal?: AbortSignal;
}

/** Scores a solution by rule (RISE, 2505.13445, section 3.1). */
export async function rate<P>(
  task: RiseTask<P>,
  problem: P,
  text: string,
): Promise<Omit<RatedSolution<P>, 'sample'>> {
  const answer = boxedAnswer(text);
  if (answer === undefined) return { problem, text, answer, score: riseScores.noAnswer };
  const isCorrect = await task.isCorrect(problem, answer);
  return { problem, text, answer, score: isCorrect ? riseScores.correct : riseScores.incorrect };
}

/** Samples solutions of problems, by problem and then by sample, and scores them. */
export async function solve<P>(
  player: TangoPlayer,
  prompts: RisePrompts,
  task: RiseTask<P>,
  problems: readonly P[],
  options: RolloutSeed & { samples: number },
): Promise<RatedSolution<P>[]> {
  const tokenizer = player.policy.tokenizer!;
  const asked = problems.map((problem) =>
    promptOf(tokenizer, prompts.solve(task.question(problem)), problem),
  );
  const sampled = await player.policy.rollout(asked, { ...samplingOf(player), ...options });
  options.signal?.throwIfAborted();
  return Promise.all(
    sampled.map(async (sample) => ({ ...(await rate(task, sample.example, sample.text)), sample })),
  );
}

/** Samples ratings of solutions, by solution and then by sample, and scores them against the rule's. */
export async function verify<P>(
  player: TangoPlayer,
  prompts: RisePrompts,
  task: Pick<RiseTask<P>, 'question'>,
  solutions: readonly RatedSolution<P>[],
  options: RolloutSeed & { samples: number },
): Promise<Rating<P>[]> {
  if (solutions.length === 0) return [];
  const tokenizer = player.policy.tokenizer!;
  const asked = solutions.map((solution) => {
    const text = prompts.verify(task.question(solution.problem), solution.text);
    return promptOf(tokenizer, text, solution);
  });
  const sampled = await player.policy.rollout(asked, { ...samplingOf(player), ...options });
  options.signal?.throwIfAborted();
  return sampled.map((sample) => ({
    solution: sample.example,
    sample,
    stated: statedScore(sample.text),
    reward: verificationReward(sample.text, sample.example.score),
  }));
}
