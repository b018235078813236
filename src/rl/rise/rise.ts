import { AnnealError } from '../../core/errors.js';
import { Rng } from '../../core/random.js';
import type { Json } from '../../data/batch-source.js';
import {
  broadcastAdvantages,
  groupAdvantages,
  outcomeTokenRewards,
  reinforcePlusPlus,
  rlooAdvantages,
} from '../advantages.js';
import { binaryMetrics } from '../classification.js';
import { type KlReward, klPenaltyInReward } from '../kl-reward.js';
import { learnOnPolicy } from '../learn.js';
import type { Phase, PhaseContext } from '../phases.js';
import type { Sample } from '../sample.js';
import { reportMetrics } from '../tango/metrics.js';
import type { TangoPlayer } from '../tango/options.js';
import type { Aggregation } from '../token-weights.js';
import { zeroVarianceGroups } from '../zero-variance.js';
import { type RisePrompts, shortRisePrompts } from './prompts.js';
import { riseScores } from './rewards.js';
import { type SelectionOptions, selectForVerification } from './selection.js';
import { type RatedSolution, type Rating, type RiseTask, rate, solve, verify } from './solve.js';

/** Settings of `risePhase`; defaults are those of the paper (2505.13445, section 4.1). */
export interface RiseOptions<P> {
  /** The one policy; `prompts` problems (default 1024) with `samples` solutions each (default 8). */
  player: TangoPlayer;
  task: RiseTask<P>;
  /** Seed of the problems. */
  seed: number;
  /** Default `shortRisePrompts`. */
  texts?: RisePrompts;
  /** Solutions that are verified, as a share of the number of problems. Default 0.125. 0: none, plain RL ("Zero-RL"). */
  ratio?: number;
  /** Ratings of each. Default: as many as solutions of a problem. */
  ratings?: number;
  /** Most tokens of a rating. Default: those of a solution. */
  ratingTokens?: number;
  /** Default `first`, as released. */
  selection?: SelectionOptions['policy'];
  /**
   * Spends what verification would cost on more problems instead: the baseline with as many trajectories, as the ratio
   * says. The paper's own baseline has fewer.
   */
  matched?: boolean;
  /** Solutions to verify that are not the policy's own of this step: the paper's offline arm. */
  offline?: (step: number, count: number) => readonly { problem: P; text: string }[];
  /** Default `grpo`, with ratings grouped by the solution that they rate. */
  advantage?: 'grpo' | 'rloo' | 'reinforce++';
  /** Default none; the paper has k1 with 0.01. */
  klReward?: KlReward;
  /** Default `token-mean`. */
  aggregation?: Aggregation;
}

/** Solutions and ratings as one batch. */
interface Batch {
  samples: Sample[];
  groups: number[];
  rewards: number[];
}

function joined<P>(solutions: readonly RatedSolution<P>[], ratings: readonly Rating<P>[]): Batch {
  const solved = solutions.map(({ sample }) => sample!);
  // Groups of ratings go on counting after those of problems.
  const offset = Math.max(-1, ...solved.map(({ group }) => group)) + 1;
  return {
    samples: [...solved, ...ratings.map(({ sample }) => sample)],
    groups: [...solved.map(({ group }) => group), ...ratings.map(({ sample }) => offset + sample.group)],
    rewards: [...solutions.map(({ score }) => score), ...ratings.map(({ reward }) => reward)],
  };
}

/** Advantages of the whole batch; of group estimators a KL in the reward is the sum over a trajectory. */
async function advantagesOf<P>(batch: Batch, options: RiseOptions<P>): Promise<Float32Array[]> {
  const { advantage = 'grpo', klReward, player } = options;
  const { samples, groups, rewards } = batch;
  const lengths = samples.map(({ tokens }) => tokens.length);
  let penalties: Float32Array[] | undefined;
  if (klReward) {
    const temperature = player.sampling?.temperature ?? 1;
    const reference = await player.policy.logprobs(samples, { reference: true, temperature });
    const current =
      temperature === 1
        ? samples.map(({ logprobs }) => logprobs)
        : await player.policy.logprobs(samples, { temperature });
    penalties = klPenaltyInReward(current, reference, klReward);
  }
  if (advantage === 'reinforce++') {
    const rows = outcomeTokenRewards(rewards, lengths);
    return reinforcePlusPlus(
      rows.map((row, i) => row.map((reward, t) => reward + (penalties?.[i]?.[t] ?? 0))),
    );
  }
  const totals = rewards.map((reward, i) => reward + (penalties?.[i]?.reduce((a, b) => a + b, 0) ?? 0));
  const values = advantage === 'rloo' ? rlooAdvantages(totals, groups) : groupAdvantages(totals, groups);
  return broadcastAdvantages(values, lengths);
}

const meanOf = (values: readonly number[]) =>
  values.length === 0 ? 0 : values.reduce((a, b) => a + b, 0) / values.length;

/** How good ratings are: exact agreement with the rule's score, and as verdicts "correct" or not. */
export function ratingMetrics<P>(ratings: readonly Rating<P>[]): Record<string, number> {
  if (ratings.length === 0) return {};
  const isRight = ({ score }: RatedSolution<P>) => score === riseScores.correct;
  const binary = binaryMetrics(
    ratings.map(({ stated }) => (stated === undefined ? null : stated === riseScores.correct)),
    ratings.map(({ solution }) => isRight(solution)),
  );
  return {
    verifyAccuracy: meanOf(ratings.map(({ stated, solution }) => (stated === solution.score ? 1 : 0))),
    verifyF1: binary.f1,
    verifyBalancedAccuracy: binary.balancedAccuracy,
    'reward.verify': meanOf(ratings.map(({ reward }) => reward)),
  };
}

/** The solutions of a step that are to be rated. */
async function chosenOf<P>(
  options: RiseOptions<P>,
  context: PhaseContext,
  solutions: readonly RatedSolution<P>[],
  count: number,
): Promise<readonly RatedSolution<P>[]> {
  const { offline, task, selection = 'first' } = options;
  const { prompts: problems = 1024, samples = 8 } = options.player;
  if (offline)
    return Promise.all(offline(context.step, count).map(({ problem, text }) => rate(task, problem, text)));
  const isCorrect = solutions.map(({ score }) => score === riseScores.correct);
  const chosen = selectForVerification(
    { problems, samples, count, policy: selection, isCorrect },
    new Rng(context.seed('selection')),
  );
  return chosen.map((i) => solutions[i]!);
}

function rowsOf<P>(
  batch: Batch,
  solved: number,
  advantages: readonly Float32Array[],
  ratings: readonly Rating<P>[],
): Json[] {
  return batch.samples.map((sample, i) => ({
    kind: i < solved ? 'solve' : 'verify',
    group: batch.groups[i]!,
    completion: sample.text,
    finishReason: sample.finishReason,
    reward: batch.rewards[i]!,
    ...(i >= solved && { label: ratings[i - solved]!.solution.score }),
    advantage: meanOf(Array.from(advantages[i]!)),
  }));
}

function check<P>({ player, ratio = 0.125, ratings, ratingTokens, matched }: RiseOptions<P>): void {
  if (!player.policy.tokenizer)
    throw new AnnealError('rise: the policy has no tokenizer; pass one to its Policy, formats are text');
  if (!(ratio >= 0 && Number.isFinite(ratio)))
    throw new AnnealError(`rise: ratio is ${ratio}; pass the share of solutions to verify, 0 or more`);
  for (const [name, value] of Object.entries({
    'player.samples': player.samples ?? 8,
    'player.prompts': player.prompts ?? 1024,
    'player.maxTokens': player.maxTokens,
    ratings: ratings ?? 1,
    ratingTokens: ratingTokens ?? 1,
  })) {
    if (!Number.isInteger(value) || value < 1)
      throw new AnnealError(`rise: ${name} is ${value}; pass a whole number of 1 or more`);
  }
  if (matched && ratio === 0)
    throw new AnnealError(
      'rise: matched spends what a ratio of verification would cost; pass a ratio above 0',
    );
}

/**
 * A step of RISE (Liu et al. 2025, 2505.13445): the policy solves problems and rates some of its own fresh solutions;
 * both kinds of trajectories, rewarded by rule, are one batch and one update.
 *
 * Differences from the paper: it has PPO with a critic, and nine updates an iteration, so that most are off-policy; here
 * the batch is one strictly on-policy update with a group baseline (`grpo`, `rloo`) or whitened returns (`reinforce++`,
 * which is GAE with gamma = lambda = 1 without a critic).
 * @throws AnnealError for impossible options
 */
export function risePhase<P>(options: RiseOptions<P>): Phase {
  check(options);
  const { player, task, seed, ratio = 0.125, matched = false, texts = shortRisePrompts } = options;
  const { prompts = 1024, samples = 8, maxTokens, sampling = {}, flat = 'keep' } = player;
  const { ratings: perSolution = samples, ratingTokens = maxTokens, aggregation = 'token-mean' } = options;
  const count = Math.round(ratio * prompts);
  // Trajectories of ratings as solutions of more problems.
  const problems = prompts + (matched ? Math.round((count * perSolution) / samples) : 0);
  return async (context) => {
    const { signal } = context;
    const start = performance.now();
    const drawn = Array.from({ length: problems }, (_, i) =>
      task.problem(seed, context.step * (1 << 16) + i),
    );
    const solutions = await solve(player, texts, task, drawn, {
      samples,
      seed: context.seed('solve'),
      signal,
    });
    const solved = performance.now();
    const chosen = matched || count === 0 ? [] : await chosenOf(options, context, solutions, count);
    const rater = { ...player, maxTokens: ratingTokens };
    const ratings = await verify(rater, texts, task, chosen, {
      samples: perSolution,
      seed: context.seed('verify'),
      signal,
    });
    const verified = performance.now();
    const batch = joined(solutions, ratings);
    const advantages = await advantagesOf(batch, options);
    const temperature = sampling.temperature ?? 1;
    const report = await learnOnPolicy(player.policy, batch.samples, batch.groups, advantages, {
      temperature,
      aggregation,
      flat,
      constant: Math.max(maxTokens, ratingTokens),
    });
    const scores = solutions.map(({ score }) => score);
    return {
      metrics: {
        accuracy: meanOf(scores.map((score) => (score === riseScores.correct ? 1 : 0))),
        answered: meanOf(solutions.map(({ answer }) => (answer === undefined ? 0 : 1))),
        reward: meanOf(scores),
        ...ratingMetrics(ratings),
        zeroVariance: zeroVarianceGroups(batch.rewards, batch.groups).size / new Set(batch.groups).size,
        trajectories: batch.samples.length,
        ...reportMetrics(report),
        tokens: batch.samples.reduce((total, { tokens }) => total + tokens.length, 0),
        'ms.rollout': solved - start,
        'ms.verify': verified - solved,
      },
      samples: rowsOf(batch, solutions.length, advantages, ratings),
    };
  };
}
