import { AnnealError } from '../core/errors.js';
import type { Json } from '../data/batch-source.js';
import {
  broadcastAdvantages,
  type GroupAdvantageOptions,
  groupAdvantages,
  outcomeTokenRewards,
  reinforcePlusPlus,
  rlooAdvantages,
} from './advantages.js';
import {
  type CollectOptions,
  collect,
  type Rollout,
  type SamplingSettings,
  type ScoredBatch,
} from './grpo-batch.js';
import { batchMetrics, tableRows, updateMetrics } from './grpo-metrics.js';
import { type KlReward, klPenaltyInReward } from './kl-reward.js';
import type { OverlongPolicy } from './overlong.js';
import type { Phase } from './phases.js';
import type { Policy } from './policy.js';
import type { TrainingSample, UpdateReport } from './policy-update.js';
import { combineRewards, type RewardFunction, type RewardParts } from './reward.js';
import type { Prompt } from './rollout.js';
import type { Sample } from './sample.js';
import { type Aggregation, tokenWeights } from './token-weights.js';
import type { ZeroVariancePolicy } from './zero-variance.js';

/** How advantages are made of rewards: one of the field's estimators, or a function of the samples that are learnt from. */
export type AdvantageKind<E> =
  | 'grpo'
  | 'dr-grpo'
  | 'rloo'
  | 'reinforce++'
  | ((batch: ScoredBatch<E>) => Float32Array[] | Promise<Float32Array[]>);

/** Settings of `grpoPhase`. */
export interface GrpoOptions<E> {
  /** The clip, the KL in the loss and the entropy bonus are the policy's own (`PolicyOptions.loss`). */
  policy: Pick<Policy, 'rollout' | 'logprobs' | 'update' | 'updates' | 'tokenizer' | 'loss'>;
  /** Prompts of a step; a pure function. Rounds above 0 are those of `zeroVariance: { resample }`: give others. */
  prompts: (step: number, round: number) => readonly Prompt<E>[] | Promise<readonly Prompt<E>[]>;
  /** One function, or several by name with weights (`combineRewards`). */
  reward: RewardFunction<E> | RewardParts<E>;
  /** Milliseconds that one call of a reward function may take. Default 60,000. */
  rewardTimeoutMs?: number;
  /** Completions of each prompt. */
  samples: number;
  /** Most tokens of a completion. */
  maxTokens: number;
  /** Temperature, filters and stops. Default: temperature 1, nothing filtered. */
  sampling?: SamplingSettings;
  /** Default `grpo`. */
  advantage?: AdvantageKind<E>;
  /** Deviation of GRPO, and what a group of one gets. */
  normalisation?: GroupAdvantageOptions;
  /** Discount of REINFORCE++. Default 1. */
  gamma?: number;
  /** Default `token-mean`; for Dr. GRPO `constant` with `maxTokens`. */
  aggregation?: Aggregation;
  /** Subtracts a KL to the reference from the rewards. */
  klReward?: KlReward;
  /** Default `train`. */
  overlong?: OverlongPolicy;
  /** Default `keep`. */
  zeroVariance?: ZeroVariancePolicy;
  /** Passes over each rollout. Above 1, or with several mini-batches, ratios leave 1 and the clip works. Default 1. */
  updatesPerRollout?: number;
  /** Parts of a pass, each an update of whole groups. Default 1. */
  miniBatches?: number;
  /** Samples by another way than `policy.rollout`: see `episodes`. */
  rollout?: Rollout<E>;
  /** More columns of the step's table. */
  row?: (sample: Sample<E>) => Record<string, Json>;
}

const lengthsOf = (batch: ScoredBatch) => batch.samples.map(({ tokens }) => tokens.length);

/** Advantages of all tokens of the samples that are learnt from. */
async function advantagesOf<E>(
  batch: ScoredBatch<E>,
  options: GrpoOptions<E>,
  penalties: readonly Float32Array[] | undefined,
): Promise<Float32Array[]> {
  const { advantage = 'grpo', normalisation = {}, gamma = 1 } = options;
  const { samples, groups } = batch;
  if (typeof advantage === 'function') return advantage(batch);
  const lengths = lengthsOf(batch);
  if (advantage === 'reinforce++') {
    const rewards = outcomeTokenRewards(batch.rewards, lengths).map((row, i) =>
      row.map((reward, t) => reward + (penalties?.[i]?.[t] ?? 0)),
    );
    // A masked sample must not move the mean of the others; nor one that no reward applies to.
    const masks = samples.map(({ mask, tokens }, i) =>
      batch.isLeftOut[i] || batch.rewards[i] === null ? new Uint8Array(tokens.length) : mask,
    );
    return reinforcePlusPlus(rewards, masks, { gamma });
  }
  const total = (i: number) => penalties?.[i]?.reduce((a, b) => a + b, 0) ?? 0;
  const rewards = batch.rewards.map((reward, i) => (reward === null ? null : reward + total(i)));
  const scale = advantage === 'dr-grpo' ? { scale: 'none' as const } : {};
  const values =
    advantage === 'rloo'
      ? rlooAdvantages(rewards, groups, normalisation)
      : groupAdvantages(rewards, groups, { ...normalisation, ...scale });
  return broadcastAdvantages(values, lengths);
}

/** The mask of a sample's tokens in the loss. */
const lossMask = ({ mask, tokens }: Sample, isLeftOut: boolean): Uint8Array =>
  isLeftOut ? new Uint8Array(tokens.length) : (mask ?? new Uint8Array(tokens.length).fill(1));

/** Whole groups in `parts` runs of about equal numbers of groups. */
function splitGroups(groups: readonly number[], parts: number): number[][] {
  const order = [...new Set(groups)];
  const partOf = new Map(order.map((group, k) => [group, Math.floor((k * parts) / order.length)]));
  const out = Array.from({ length: Math.min(parts, order.length) }, (): number[] => []);
  groups.forEach((group, i) => {
    out[partOf.get(group)!]!.push(i);
  });
  return out;
}

/** Log-probabilities that several methods need, each computed once. */
async function neededLogprobs<E>(batch: ScoredBatch<E>, options: GrpoOptions<E>, isOffPolicy: boolean) {
  const { policy, sampling = {}, klReward } = options;
  const { samples } = batch;
  const { temperature = 1 } = sampling;
  const needsReference = policy.loss.kl !== undefined || klReward !== undefined;
  const reference = needsReference
    ? await policy.logprobs(samples, { reference: true, temperature })
    : undefined;
  // At temperature 1 the sampler's are the trainer's own; elsewhere a pass computes them.
  const isPlain = temperature === 1;
  let current: readonly Float32Array[] | undefined;
  if (isOffPolicy || klReward) {
    current = isPlain
      ? samples.map(({ logprobs }) => logprobs)
      : await policy.logprobs(samples, { temperature });
  }
  return { reference, current, isPlain };
}

async function learn<E>(batch: ScoredBatch<E>, options: GrpoOptions<E>) {
  const { policy, sampling = {}, maxTokens, updatesPerRollout = 1, miniBatches = 1, klReward } = options;
  const isConstant = options.advantage === 'dr-grpo';
  const { aggregation = isConstant ? 'constant' : 'token-mean' } = options;
  const { samples, groups, isLeftOut } = batch;
  const isOffPolicy = updatesPerRollout * miniBatches > 1;
  const { reference, current, isPlain } = await neededLogprobs(batch, options, isOffPolicy);
  const masks = samples.map((sample, i) => lossMask(sample, isLeftOut[i]!));
  const penalties = klReward && klPenaltyInReward(current!, reference!, klReward, masks);
  const advantages = await advantagesOf(batch, options, penalties);
  const reports: UpdateReport[] = [];
  for (let pass = 0; pass < updatesPerRollout; pass++) {
    for (const part of splitGroups(groups, miniBatches)) {
      const weights = tokenWeights(
        part.map((i) => masks[i]!),
        { aggregation, constant: maxTokens, groups: part.map((i) => groups[i]!) },
      );
      if (weights.every((row) => row.every((w) => w === 0))) continue;
      const training = part.map((i, k): TrainingSample => {
        const { prompt, tokens, mask, logprobs } = samples[i]!;
        return {
          prompt,
          tokens,
          advantages: advantages[i]!,
          weights: weights[k]!,
          group: groups[i]!,
          ...(mask && { mask }),
          ...(isOffPolicy && { oldLogprobs: current![i]! }),
          ...(policy.loss.kl && { referenceLogprobs: reference![i]! }),
          // Of the first update: later ones have other weights than the sampler had.
          ...(isPlain && reports.length === 0 && { sampledLogprobs: logprobs }),
        };
      });
      reports.push(await policy.update(training, { temperature: sampling.temperature ?? 1 }));
    }
  }
  return { advantages, reports };
}

function check(options: GrpoOptions<never>): void {
  for (const name of ['samples', 'maxTokens', 'updatesPerRollout', 'miniBatches'] as const) {
    const value = options[name] ?? 1;
    if (!Number.isInteger(value) || value < 1)
      throw new AnnealError(`grpoPhase: ${name} must be a positive integer, not ${value}`);
  }
}

/**
 * A step of GRPO and its relatives as a phase of `reinforce`: sample groups, score them while others are still being
 * sampled, make advantages, update. The parts are the free functions of this folder; this only puts them together.
 *
 * With one update a rollout, the default, ratios are exactly 1, no second forward pass is needed, and no clip acts
 * (AceReason's strict on-policy training). A step in which nothing can be learnt makes no update.
 */
export function grpoPhase<E>(options: GrpoOptions<E>): Phase {
  check(options as never);
  const { policy, reward, overlong = { kind: 'train' }, zeroVariance = 'keep', sampling = {} } = options;
  const parts: RewardParts<E> = typeof reward === 'function' ? { reward } : reward;
  const { rewardTimeoutMs } = options;
  const score = combineRewards(parts, rewardTimeoutMs === undefined ? {} : { timeoutMs: rewardTimeoutMs });
  const { prompts, samples, maxTokens, rollout } = options;
  const settings: CollectOptions<E> = {
    ...{ policy, prompts, score, samples, maxTokens, sampling, overlong, zeroVariance },
    ...(rollout && { rollout }),
  };
  return async (context) => {
    const { all, used, rounds, times } = await collect(settings, context);
    const start = performance.now();
    const { advantages, reports } = await learn(used, options);
    return {
      metrics: {
        ...batchMetrics(all, Object.keys(parts).length > 1),
        ...updateMetrics(reports),
        rounds,
        'ms.rollout': times.rollout,
        'ms.reward': times.reward,
        'ms.update': performance.now() - start,
      },
      samples: tableRows(all, used, advantages, options),
    };
  };
}
