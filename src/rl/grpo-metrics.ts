import type { Json } from '../data/batch-source.js';
import { moments } from './advantages.js';
import type { ScoredBatch } from './grpo-batch.js';
import type { Policy } from './policy.js';
import type { UpdateReport } from './policy-update.js';
import type { Sample } from './sample.js';

const meanOf = (values: readonly number[]): number => moments(values, 0).mean;
const given = (values: readonly (number | null)[]): number[] => values.filter((value) => value !== null);

/**
 * What a batch of samples shows: reward and its deviation, each component, groups without a signal, lengths. Where no
 * reward applies there is none to report.
 * @param withComponents whether there is more than one reward function
 */
export function batchMetrics(batch: ScoredBatch, withComponents: boolean): Record<string, number> {
  const rewards = given(batch.rewards);
  const lengths = batch.samples.map(({ tokens }) => tokens.length);
  const groups = new Set(batch.groups).size;
  const metrics: Record<string, number> = {};
  if (rewards.length > 0) {
    metrics.reward = meanOf(rewards);
    metrics.rewardStd = moments(rewards, 1).std;
  }
  if (withComponents) {
    for (const [name, values] of Object.entries(batch.components)) {
      const applying = given(values);
      if (applying.length > 0) metrics[`reward.${name}`] = meanOf(applying);
    }
  }
  const truncated = batch.samples.filter(({ finishReason }) => finishReason === 'length').length;
  return {
    ...metrics,
    zeroVariance: batch.flat.size / groups,
    length: meanOf(lengths),
    lengthMin: Math.min(...lengths),
    lengthMax: Math.max(...lengths),
    truncated: truncated / batch.samples.length,
    tokens: lengths.reduce((a, b) => a + b, 0),
  };
}

/**
 * What the updates of a rollout did: means over them; of the sampler's difference the largest. Without updates only
 * their number.
 */
export function updateMetrics(reports: readonly UpdateReport[]): Record<string, number> {
  const metrics: Record<string, number> = { updates: reports.length };
  for (const name of ['loss', 'gradNorm', 'lr', 'clipFraction', 'approximateKl', 'kl', 'entropy'] as const) {
    const values = reports.flatMap((report) => report[name] ?? []);
    if (values.length > 0) metrics[name] = meanOf(values);
  }
  for (const [group, rate] of Object.entries(reports[0]?.rates ?? {})) metrics[`lr.${group}`] = rate;
  const differences = reports.flatMap(({ sampleDifference }) => sampleDifference ?? []);
  if (differences.length > 0) metrics.sampleDifference = Math.max(...differences);
  return metrics;
}

/** Mean over the tokens; of a sample that was not learnt from there is none. */
const meanAdvantage = (advantages: Float32Array | undefined): number | null =>
  advantages && advantages.length > 0 ? advantages.reduce((a, b) => a + b, 0) / advantages.length : null;

/**
 * The step's table: each sample with its reward, every component of it, its mean advantage, and whether it was learnt
 * from. Prompts and completions are text where the policy has a tokenizer, else ids.
 */
export function tableRows<E>(
  all: ScoredBatch<E>,
  used: ScoredBatch<E>,
  advantages: readonly Float32Array[],
  options: { policy: Pick<Policy, 'tokenizer'>; row?: (sample: Sample<E>) => Record<string, Json> },
): Json[] {
  const { tokenizer } = options.policy;
  const learnt = new Map(used.samples.map((sample, i) => [sample, advantages[i]]));
  const left = new Map(used.samples.map((sample, i) => [sample, used.isLeftOut[i]!]));
  return all.samples.map((sample, i) => {
    const { prompt, tokens, text, finishReason } = sample;
    const isUsed = left.get(sample) === false;
    return {
      group: all.groups[i]!,
      prompt: tokenizer ? tokenizer.decode(prompt, { special: true }) : Array.from(prompt),
      completion: tokenizer ? text : Array.from(tokens),
      tokens: tokens.length,
      finishReason,
      reward: all.rewards[i]!,
      rewards: Object.fromEntries(Object.entries(all.components).map(([name, values]) => [name, values[i]!])),
      advantage: meanAdvantage(learnt.get(sample)),
      isUsed,
      ...options.row?.(sample),
    };
  });
}
