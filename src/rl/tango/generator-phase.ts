import type { Json } from '../../data/batch-source.js';
import { learnOnPolicy } from '../learn.js';
import type { Phase } from '../phases.js';
import type { Coefficient } from '../schedules.js';
import { zeroVarianceGroups } from '../zero-variance.js';
import { generatorAdvantages, stepRewardsOf } from './generator-advantages.js';
import { reportMetrics, responseMetrics, stepCountBias, verdictMetrics } from './metrics.js';
import type { ResolvedTango } from './options.js';
import { type Response, sampleResponses } from './responses.js';
import { type Verification, verifyResponses } from './verify-responses.js';

/** Verifications by the response that they are of. */
export function byResponse<P>(
  verifications: readonly Verification<P>[],
): ReadonlyMap<Response<P>, Verification<P>[]> {
  const found = new Map<Response<P>, Verification<P>[]>();
  for (const one of verifications) found.set(one.response, [...(found.get(one.response) ?? []), one]);
  return found;
}

const sum = (rows: readonly { tokens: ArrayLike<unknown> }[]) =>
  rows.reduce((total, { tokens }) => total + tokens.length, 0);

/** Rows of the step's table. */
function rowsOf<P>(
  responses: readonly Response<P>[],
  verifications: ReadonlyMap<Response<P>, readonly Verification<P>[]>,
  advantages: readonly Float32Array[],
  question: (problem: P) => string,
): Json[] {
  return responses.map((response, i) => {
    const { sample, problem, isCorrect, isWellFormed, labels } = response;
    const own = verifications.get(response) ?? [];
    const row = advantages[i]!;
    return {
      group: sample.group,
      prompt: question(problem),
      completion: sample.text,
      finishReason: sample.finishReason,
      reward: isCorrect ? 1 : 0,
      isWellFormed,
      labels: labels ? [...labels] : null,
      verdicts: own.map(({ parsed }) => (parsed.verdicts ? [...parsed.verdicts] : null)),
      final: own.map(({ parsed }) => parsed.final ?? null),
      verifications: own.map(({ sample: verification }) => verification?.text ?? ''),
      advantage: row.length > 0 ? row.reduce((a, b) => a + b, 0) / row.length : 0,
    };
  });
}

/**
 * A generator step (2505.15034, algorithm 1): responses, their outcome by rule, one batch of verifications, advantages of
 * outcome and steps, one update. Responses that the gate has judged are not verified.
 */
export function generatorPhase<P>(options: ResolvedTango<P>, alphaAt: Coefficient): Phase {
  const { generator, task, gate, verifications: count, aggregation } = options;
  const { policy, samples = 5, prompts = 256, sampling = {}, flat = 'keep' } = generator;
  return async (context) => {
    const start = performance.now();
    const responses = await sampleResponses(options, context, task, prompts, samples);
    const sampled = performance.now();
    const alpha = alphaAt(policy.updates);
    const judged = responses.filter(({ isWellFormed, ends }) => ends.length > 0 && (isWellFormed || !gate));
    // Without any weight verdicts are not worth their time.
    const verified = await verifyResponses(options, context, alpha > 0 ? judged : [], count);
    const done = performance.now();
    const of = byResponse(verified);
    const sets = responses.map((response) =>
      alpha > 0 ? stepRewardsOf(response, of.get(response) ?? [], options) : [],
    );
    const { advantages, step } = generatorAdvantages(responses, sets, alpha, options);
    const groups = responses.map(({ sample }) => sample.group);
    const outcomes = responses.map(({ isCorrect }): number => (isCorrect ? 1 : 0));
    const report = await learnOnPolicy(
      policy,
      responses.map(({ sample }) => sample),
      groups,
      advantages,
      { temperature: sampling.temperature ?? 1, aggregation, constant: generator.maxTokens, flat },
    );
    const generated = sum(responses.map(({ sample }) => sample));
    const checked = sum(verified.flatMap(({ sample }) => (sample ? [sample] : [])));
    return {
      metrics: {
        ...responseMetrics(responses),
        ...verdictMetrics(verified),
        reward: outcomes.reduce((a, b) => a + b, 0) / outcomes.length,
        alpha,
        stepReward: meanStepReward(sets),
        stepCountBias: stepCountBias(responses, step),
        zeroVariance: zeroVarianceGroups(outcomes, groups).size / prompts,
        ...reportMetrics(report),
        tokens: generated + checked,
        generatorTokens: generated,
        verifierTokens: checked,
        'ms.rollout': sampled - start,
        'ms.verify': done - sampled,
      },
      samples: rowsOf(responses, of, advantages, (problem) => task.question(problem)),
    };
  };
}

/** Mean over responses with steps of the sum of their step rewards. */
function meanStepReward(sets: readonly (readonly { rewards: ArrayLike<number> }[])[]): number {
  const totals = sets.flatMap((own) =>
    own.map(({ rewards }) => Array.from(rewards).reduce((a, b) => a + b, 0)),
  );
  return totals.length === 0 ? 0 : totals.reduce((a, b) => a + b, 0) / totals.length;
}
