import { type Answer, majorityCorrect } from '../at-k.js';
import type { TangoPlayer } from '../tango/options.js';
import { type RisePrompts, shortRisePrompts } from './prompts.js';
import { riseScores } from './rewards.js';
import { ratingMetrics } from './rise.js';
import { type Rating, type RiseTask, rate, solve, verify } from './solve.js';
import { selfWeightedVote } from './voting.js';

/** Settings of `evaluateRise`. */
export interface RiseEvaluation<P> {
  player: TangoPlayer;
  task: RiseTask<P>;
  problems: readonly P[];
  /** Solutions of each problem, and voters: the paper has 4 and 8. */
  k: number;
  /** Ratings of each solution; their mean is the solution's score in the vote. Default 1. */
  ratings?: number;
  ratingTokens?: number;
  texts?: RisePrompts;
  seed?: number;
  signal?: AbortSignal;
}

const share = (list: readonly boolean[]) => list.filter(Boolean).length / list.length;

/** Whether the heaviest answer of a weighted vote is right; 0 without any answer. */
function weightedCorrect(answers: readonly Answer[], scores: readonly number[]): number {
  const [best] = selfWeightedVote(answers.map(({ key }, i) => ({ key, score: scores[i]! })));
  return best && answers.some(({ key, isCorrect }) => key === best.key && isCorrect) ? 1 : 0;
}

/**
 * How well a policy rates solutions that are given, e.g. as many right as wrong ones. Its own solutions change while it
 * learns: once nearly all are right, "right" every time is right nearly every time.
 */
export async function evaluateRatings<P>(
  options: Omit<RiseEvaluation<P>, 'problems' | 'k'> & {
    solutions: readonly { problem: P; text: string }[];
  },
): Promise<Record<string, number>> {
  const { player, task, solutions, ratings = 1, ratingTokens = player.maxTokens } = options;
  const { texts = shortRisePrompts, seed = 0, signal } = options;
  const rated = await Promise.all(solutions.map(({ problem, text }) => rate(task, problem, text)));
  const rater = { ...player, maxTokens: ratingTokens };
  const run = { seed, samples: ratings, ...(signal && { signal }) };
  return ratingMetrics(await verify(rater, texts, task, rated, run));
}

/**
 * How well a policy solves and verifies: `accuracy` (avg@k), `verifyAccuracy` and its like on its own fresh solutions,
 * `majority` (maj@k) and `weighted`, the vote weighted by its own ratings (RISE, section 4.4). Answers that are spelled
 * alike are one answer.
 */
export async function evaluateRise<P>(options: RiseEvaluation<P>): Promise<Record<string, number>> {
  const { player, task, problems, k, ratings = 1, ratingTokens = player.maxTokens } = options;
  const { texts = shortRisePrompts, seed = 0, signal } = options;
  const run = { seed, ...(signal && { signal }) };
  const solutions = await solve(player, texts, task, problems, { ...run, samples: k });
  const rater = { ...player, maxTokens: ratingTokens };
  const rated = await verify(rater, texts, task, solutions, { ...run, samples: ratings });
  const answers = solutions.map(({ answer, score }): Answer => {
    return { key: answer ?? null, isCorrect: score === riseScores.correct };
  });
  const isPraise = ({ stated }: Rating<P>) => (stated === riseScores.correct ? 1 : 0);
  const scores = solutions.map((_, i) => {
    const own = rated.slice(i * ratings, (i + 1) * ratings);
    return own.reduce<number>((total, one) => total + isPraise(one), 0) / ratings;
  });
  const perProblem = (value: (own: readonly Answer[], weights: readonly number[]) => number) => {
    const values = problems.map((_, i) =>
      value(answers.slice(i * k, (i + 1) * k), scores.slice(i * k, (i + 1) * k)),
    );
    return values.reduce((a, b) => a + b, 0) / values.length;
  };
  return {
    accuracy: share(answers.map(({ isCorrect }) => isCorrect)),
    majority: perProblem((own) => majorityCorrect(own)),
    weighted: perProblem(weightedCorrect),
    ...ratingMetrics(rated),
  };
}
