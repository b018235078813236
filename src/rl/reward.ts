import { AnnealError } from '../core/errors.js';
import { whenAborted } from './abort.js';
import type { Sample } from './sample.js';

/** What a reward function is told beside the samples. */
export interface RewardContext {
  /** Updates of the run so far. */
  step: number;
  /** Aborted when the run ends, or the reward's time is over. */
  signal: AbortSignal;
}

/**
 * Scores samples: a plain function, sync or async, one number a sample; null where it does not apply. It is called with
 * the finished samples of a group while others are still being sampled.
 */
export type RewardFunction<E = unknown> = (
  samples: readonly Sample<E>[],
  context: RewardContext,
) => Promise<readonly (number | null)[]> | readonly (number | null)[];

/** Rewards by name, with the weight of each in the sum (default 1). */
export type RewardParts<E> = Readonly<
  Record<string, RewardFunction<E> | { reward: RewardFunction<E>; weight?: number }>
>;

/** Rewards of some samples, in their order. */
export interface ScoredSamples {
  /** Weighted sums of the components that apply; null where none does. */
  rewards: (number | null)[];
  /** What each function said. */
  components: Record<string, (number | null)[]>;
}

/** Several reward functions as one. */
export type Scorer<E = unknown> = (
  samples: readonly Sample<E>[],
  context: RewardContext,
) => Promise<ScoredSamples>;

/** A reward function from one that scores a single sample; its calls run at the same time. */
export const perSample =
  <E>(
    score: (sample: Sample<E>, context: RewardContext) => Promise<number | null> | number | null,
  ): RewardFunction<E> =>
  (samples, context) =>
    Promise.all(samples.map(async (sample) => score(sample, context)));

const shown = 200;

function describe(samples: readonly Sample<unknown>[], index: number): string {
  const { group, text } = samples[index]!;
  const excerpt = text.length > shown ? `${text.slice(0, shown)}…` : text;
  return `sample ${index} of prompt ${group}, ${JSON.stringify(excerpt)}`;
}

/** A reward's time was over. */
class Overdue extends Error {}

/** The reward of some samples, or its failure; what still runs after the time limit is told to stop. */
async function callLimited<E>(
  reward: RewardFunction<E>,
  samples: readonly Sample<E>[],
  context: RewardContext,
  timeoutMs: number,
): Promise<readonly (number | null)[]> {
  context.signal.throwIfAborted();
  const over = new AbortController();
  const timer = setTimeout(() => {
    over.abort(new Overdue(`gave no answer within ${timeoutMs} ms`));
  }, timeoutMs);
  const forget = whenAborted(context.signal, () => over.abort(context.signal.reason));
  const { signal } = over;
  try {
    return await new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      Promise.resolve()
        .then(() => reward(samples, { ...context, signal }))
        .then(resolve, reject);
    });
  } finally {
    clearTimeout(timer);
    forget();
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/**
 * A failure of a whole group as an error that names a sample: each is tried alone, and the first that fails again is it.
 */
async function failure<E>(
  name: string,
  reward: RewardFunction<E>,
  samples: readonly Sample<E>[],
  context: RewardContext,
  timeoutMs: number,
  error: unknown,
): Promise<AnnealError> {
  const alone = await Promise.allSettled(
    samples.map((sample) => callLimited(reward, [sample], context, timeoutMs)),
  );
  const found = alone.findIndex(({ status }) => status === 'rejected');
  const cause = found < 0 ? error : (alone[found] as PromiseRejectedResult).reason;
  const how = cause instanceof Overdue ? cause.message : `failed: ${messageOf(cause)}`;
  const where =
    found < 0
      ? `${samples.length} samples together though on each alone it did not, the first being ${describe(samples, 0)}`
      : describe(samples, found);
  return new AnnealError(`reward "${name}" ${how}, on ${where}`, { cause });
}

/** What a function said, if it is one number or null a sample. */
function checked<E>(
  name: string,
  values: readonly (number | null)[],
  samples: readonly Sample<E>[],
): (number | null)[] {
  if (!values || values.length !== samples.length) {
    throw new AnnealError(
      `reward "${name}" gave ${values?.length ?? 'no'} values for ${samples.length} samples; return one a sample, null where it does not apply`,
    );
  }
  return Array.from(values, (value, i) => {
    if (value === null || Number.isFinite(value)) return value;
    throw new AnnealError(
      `reward "${name}" is ${value} on ${describe(samples, i)}; return a finite number, or null where it does not apply`,
    );
  });
}

/** The sum of the components that apply, or null. */
function weightedSum(values: readonly (number | null)[], weights: readonly number[]): number | null {
  let total: number | null = null;
  values.forEach((value, k) => {
    if (value !== null) total = (total ?? 0) + weights[k]! * value;
  });
  return total;
}

/**
 * Reward functions as one scorer: all run at the same time, and their weighted sum is the reward. A component that is
 * null is left out of the sum; a sample to which none applies has reward null: it is in no baseline and has advantage 0.
 *
 * A function that throws, gives no answer in time, a NaN or the wrong number of values ends in an error that names
 * the function, the sample and its text; nothing becomes 0 silently. A function that blocks the thread cannot be
 * stopped: put such work into a worker (`anneal/verify` does).
 * @param options.timeoutMs time of one call, in milliseconds. Default 60,000.
 * @throws AnnealError if there are no functions, or a weight is not finite.
 */
export function combineRewards<E = unknown>(
  parts: RewardParts<E>,
  { timeoutMs = 60_000 }: { timeoutMs?: number } = {},
): Scorer<E> {
  const entries = Object.entries(parts).map(([name, part]) => {
    const { reward, weight = 1 } = typeof part === 'function' ? { reward: part } : part;
    if (!Number.isFinite(weight))
      throw new AnnealError(`combineRewards: the weight of "${name}" is ${weight}; pass a finite number`);
    return { name, reward, weight };
  });
  if (entries.length === 0) throw new AnnealError('combineRewards: pass at least one reward function');
  const weights = entries.map(({ weight }) => weight);
  return async (samples, context) => {
    const columns = await Promise.all(
      entries.map(async ({ name, reward }) => {
        let values: readonly (number | null)[];
        try {
          values = await callLimited(reward, samples, context, timeoutMs);
        } catch (error) {
          if (context.signal.aborted) throw error;
          throw await failure(name, reward, samples, context, timeoutMs, error);
        }
        return checked(name, values, samples);
      }),
    );
    return {
      rewards: samples.map((_, i) =>
        weightedSum(
          columns.map((column) => column[i]!),
          weights,
        ),
      ),
      components: Object.fromEntries(entries.map(({ name }, k) => [name, columns[k]!])),
    };
  };
}
