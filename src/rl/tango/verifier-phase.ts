import { Rng } from '../../core/random.js';
import type { Json } from '../../data/batch-source.js';
import {
  broadcastAdvantages,
  groupAdvantages,
  outcomeTokenRewards,
  reinforcePlusPlus,
  rlooAdvantages,
} from '../advantages.js';
import type { ClassWeights } from '../class-weights.js';
import { learnOnPolicy } from '../learn.js';
import type { Phase, PhaseContext } from '../phases.js';
import { selectForVerification } from '../rise/selection.js';
import { zeroVarianceGroups } from '../zero-variance.js';
import { reportMetrics, responseMetrics, verdictMetrics } from './metrics.js';
import type { ResolvedTango } from './options.js';
import { type Response, sampleResponses } from './responses.js';
import type { ParsedVerification } from './verification-format.js';
import { type Verification, verifyResponses } from './verify-responses.js';

/** A verifier's reward in its parts. */
export interface VerifierReward {
  readonly correctness: number;
  readonly format: number;
  readonly total: number;
}

/**
 * 1 if the final verdict is what the rule says of the answer, plus `formatWeight` times the format score; without a final
 * verdict that can be read there is neither (2505.15034, section 3.3, and its code).
 */
export function verifierReward(
  { final, format }: Pick<ParsedVerification, 'final' | 'format'>,
  isCorrect: boolean,
  formatWeight: number,
): VerifierReward {
  if (final === undefined) return { correctness: 0, format: 0, total: 0 };
  const correctness = final === isCorrect ? 1 : 0;
  return { correctness, format, total: correctness + formatWeight * format };
}

/** Solutions to verify: fresh ones, chosen to be as often right as wrong where more were sampled. */
async function solutionsOf<P>(options: ResolvedTango<P>, context: PhaseContext): Promise<Response<P>[]> {
  const { prompts = 256, oversample = 1, task = options.task } = options.verifier;
  const responses = await sampleResponses(options, context, task, prompts * oversample, 1);
  if (oversample === 1) return responses;
  const chosen = selectForVerification(
    {
      problems: responses.length,
      samples: 1,
      count: prompts,
      policy: 'balanced',
      isCorrect: responses.map(({ isCorrect }) => isCorrect),
    },
    new Rng(context.seed('selection')),
  );
  return chosen.map((i) => responses[i]!);
}

/** Advantages of the verifications' tokens, before class weights. */
function advantagesOf(
  rewards: readonly number[],
  groups: readonly number[],
  lengths: readonly number[],
  kind: ResolvedTango<never>['advantage'],
): Float32Array[] {
  if (kind === 'reinforce++') return reinforcePlusPlus(outcomeTokenRewards(rewards, lengths));
  const values = kind === 'rloo' ? rlooAdvantages(rewards, groups) : groupAdvantages(rewards, groups);
  return broadcastAdvantages(values, lengths);
}

function rowsOf<P>(
  verifications: readonly Verification<P>[],
  rewards: readonly VerifierReward[],
  weights: Float32Array,
  question: (problem: P) => string,
): Json[] {
  return verifications.map(({ response, parsed, sample }, i) => ({
    group: sample!.group,
    prompt: question(response.problem),
    solution: response.sample.text,
    completion: sample!.text,
    isCorrect: response.isCorrect,
    labels: response.labels ? [...response.labels] : null,
    verdicts: parsed.verdicts ? [...parsed.verdicts] : null,
    final: parsed.final ?? null,
    reward: rewards[i]!.total,
    rewards: { correctness: rewards[i]!.correctness, format: rewards[i]!.format },
    weight: weights[i]!,
  }));
}

const meanOf = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/**
 * A verifier step: one solution of each problem, several verifications of each solution, rewards by the final verdict
 * alone, advantages weighted by the class of the solution, one update. The gold labels of steps are in the metrics only.
 */
export function verifierPhase<P>(options: ResolvedTango<P>, balance: ClassWeights): Phase {
  const { verifier, task, formatWeight, advantage, aggregation } = options;
  const { policy, samples = 5, sampling = {}, flat = 'keep' } = verifier;
  return async (context) => {
    const start = performance.now();
    const responses = await solutionsOf(options, context);
    const sampled = performance.now();
    const verifications = await verifyResponses(options, context, responses, samples);
    const done = performance.now();
    const labels = verifications.map(({ response }) => response.isCorrect);
    const rewards = verifications.map(({ parsed }, i) => verifierReward(parsed, labels[i]!, formatWeight));
    const totals = rewards.map(({ total }) => total);
    const completions = verifications.map(({ sample }) => sample!);
    const groups = completions.map(({ group }) => group);
    const lengths = completions.map(({ tokens }) => tokens.length);
    const { weights, positive, negative } = balance.weigh(labels);
    // Weighing the advantage weighs the surrogate, as the weights are positive, and leaves KL and entropy alone.
    const advantages = advantagesOf(totals, groups, lengths, advantage).map((row, i) =>
      row.map((value) => value * weights[i]!),
    );
    const report = await learnOnPolicy(policy, completions, groups, advantages, {
      temperature: sampling.temperature ?? 1,
      aggregation,
      constant: verifier.maxTokens,
      flat,
    });
    const checked = lengths.reduce((a, b) => a + b, 0);
    const generated = responses.reduce((a, { sample }) => a + sample.tokens.length, 0);
    const solutions = responseMetrics(responses);
    return {
      metrics: {
        ...verdictMetrics(verifications),
        reward: meanOf(totals),
        'reward.correctness': meanOf(rewards.map(({ correctness }) => correctness)),
        'reward.format': meanOf(rewards.map(({ format }) => format)),
        solutionAccuracy: solutions.accuracy!,
        solutionWellFormed: solutions.wellFormed!,
        zeroVariance: zeroVarianceGroups(totals, groups).size / responses.length,
        positiveWeight: positive,
        negativeWeight: negative,
        positives: balance.averages.positive,
        negatives: balance.averages.negative,
        length: meanOf(lengths),
        ...reportMetrics(report),
        tokens: generated + checked,
        generatorTokens: generated,
        verifierTokens: checked,
        'ms.rollout': sampled - start,
        'ms.verify': done - sampled,
      },
      samples: rowsOf(verifications, rewards, weights, (problem) => task.question(problem)),
    };
  };
}
