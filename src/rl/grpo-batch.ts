import { AnnealError } from '../core/errors.js';
import { applyOverlong, type OverlongPolicy } from './overlong.js';
import type { PhaseContext } from './phases.js';
import type { Policy } from './policy.js';
import type { Scorer } from './reward.js';
import type { Prompt, RolloutOptions } from './rollout.js';
import type { Sample } from './sample.js';
import { resampleRounds, type ZeroVariancePolicy, zeroVarianceGroups } from './zero-variance.js';

/** How completions are sampled. */
export type SamplingSettings = Omit<
  RolloutOptions<never>,
  'samples' | 'maxTokens' | 'seed' | 'signal' | 'onGroup'
>;

/** A rollout of groups, by whatever means: the policy's own, or one with an environment. */
export type Rollout<E> = (prompts: readonly Prompt<E>[], options: RolloutOptions<E>) => Promise<Sample<E>[]>;

/** Samples with their rewards. */
export interface ScoredBatch<E = unknown> {
  samples: readonly Sample<E>[];
  /** Group of each sample; groups of later rounds go on counting. */
  groups: readonly number[];
  /** After the overlong policy; null where no reward applies. */
  rewards: readonly (number | null)[];
  components: Readonly<Record<string, readonly (number | null)[]>>;
  /** Whether a sample's tokens leave the loss. */
  isLeftOut: readonly boolean[];
  /** Groups without a signal, kept or not. */
  flat: ReadonlySet<number>;
}

/** Milliseconds, as far as sampling and rewards did not overlap. */
export interface CollectionTimes {
  rollout: number;
  /** From the last sampled group to the last reward. */
  reward: number;
}

/** What `collect` needs to know. */
export interface CollectOptions<E> {
  policy: Pick<Policy, 'rollout'>;
  rollout?: Rollout<E>;
  prompts: (step: number, round: number) => readonly Prompt<E>[] | Promise<readonly Prompt<E>[]>;
  score: Scorer<E>;
  samples: number;
  maxTokens: number;
  sampling: SamplingSettings;
  overlong: OverlongPolicy;
  zeroVariance: ZeroVariancePolicy;
}

/** One rollout; each group is scored as soon as its samples are finished, while others are still being sampled. */
async function scoredRollout<E>(
  options: CollectOptions<E>,
  prompts: readonly Prompt<E>[],
  context: PhaseContext,
  round: number,
  times: CollectionTimes,
): Promise<ScoredBatch<E>> {
  const { policy, score, samples, maxTokens, sampling, overlong } = options;
  const { step, signal } = context;
  const start = performance.now();
  let sampled = start;
  const scores = new Map<number, Awaited<ReturnType<Scorer<E>>>>();
  const rollout: Rollout<E> = options.rollout ?? ((...args) => policy.rollout(...args));
  const all = await rollout(prompts, {
    ...sampling,
    samples,
    maxTokens,
    seed: context.seed('rollout', round),
    signal,
    onGroup: async (group) => {
      sampled = performance.now();
      scores.set(group[0]!.group, await score(group, { step, signal }));
    },
  });
  signal.throwIfAborted();
  times.rollout += sampled - start;
  times.reward += performance.now() - sampled;
  const components: Record<string, (number | null)[]> = {};
  const given: (number | null)[] = [];
  for (let group = 0; group < prompts.length; group++) {
    // A rollout of the caller's own may not report its groups.
    const members = all.slice(group * samples, (group + 1) * samples);
    const own = scores.get(group) ?? (await score(members, { step, signal }));
    given.push(...own.rewards);
    for (const [name, values] of Object.entries(own.components))
      components[name] = [...(components[name] ?? []), ...values];
  }
  const isTruncated = all.map(({ finishReason }) => finishReason === 'length');
  const lengths = all.map(({ tokens }) => tokens.length);
  const { rewards, isLeftOut } = applyOverlong(overlong, given, isTruncated, lengths, maxTokens);
  const groups = all.map(({ group }) => group);
  return { samples: all, groups, rewards, components, isLeftOut, flat: zeroVarianceGroups(rewards, groups) };
}

/** The samples of a batch whose group is wanted. */
export function selectGroups<E>(batch: ScoredBatch<E>, isWanted: (group: number) => boolean): ScoredBatch<E> {
  const chosen = batch.groups.map(isWanted);
  const pick = <T>(list: readonly T[]) => list.filter((_, i) => chosen[i]);
  return {
    samples: pick(batch.samples),
    groups: pick(batch.groups),
    rewards: pick(batch.rewards),
    components: Object.fromEntries(
      Object.entries(batch.components).map(([name, values]) => [name, pick(values)]),
    ),
    isLeftOut: pick(batch.isLeftOut),
    flat: new Set([...batch.flat].filter(isWanted)),
  };
}

/** Two batches as one; the groups of the second go on counting. */
function join<E>(a: ScoredBatch<E>, b: ScoredBatch<E>): ScoredBatch<E> {
  const offset = Math.max(-1, ...a.groups) + 1;
  const names = new Set([...Object.keys(a.components), ...Object.keys(b.components)]);
  const column = (batch: ScoredBatch<E>, name: string) =>
    batch.components[name] ?? batch.samples.map(() => null);
  return {
    samples: [...a.samples, ...b.samples],
    groups: [...a.groups, ...b.groups.map((group) => group + offset)],
    rewards: [...a.rewards, ...b.rewards],
    components: Object.fromEntries(
      [...names].map((name) => [name, [...column(a, name), ...column(b, name)]]),
    ),
    isLeftOut: [...a.isLeftOut, ...b.isLeftOut],
    flat: new Set([...a.flat, ...[...b.flat].map((group) => group + offset)]),
  };
}

/** What was sampled, and what of it an update should learn from. */
export interface Collection<E> {
  all: ScoredBatch<E>;
  used: ScoredBatch<E>;
  /** Rollouts. */
  rounds: number;
  times: CollectionTimes;
}

/**
 * Samples and scores a step's groups, and applies the policy for those without a signal. With `resample` further rounds
 * ask for new prompts until as many groups as the first round had teach something, or the rounds are used up.
 */
export async function collect<E>(options: CollectOptions<E>, context: PhaseContext): Promise<Collection<E>> {
  const { zeroVariance, prompts } = options;
  const times = { rollout: 0, reward: 0 };
  const extra = resampleRounds(zeroVariance);
  const first = await prompts(context.step, 0);
  if (first.length === 0)
    throw new AnnealError(`there are no prompts for step ${context.step}; prompts must return at least one`);
  let all = await scoredRollout(options, first, context, 0, times);
  let rounds = 1;
  const useful = () => new Set(all.groups.filter((group) => !all.flat.has(group)));
  for (; rounds <= extra && useful().size < first.length; rounds++) {
    const more = await prompts(context.step, rounds);
    if (more.length === 0) break;
    all = join(all, await scoredRollout(options, more, context, rounds, times));
  }
  if (zeroVariance === 'keep') return { all, used: all, rounds, times };
  const wanted = new Set([...useful()].slice(0, first.length));
  return { all, used: selectGroups(all, (group) => wanted.has(group)), rounds, times };
}
