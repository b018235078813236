import { AnnealError } from '../../core/errors.js';
import type { Verdict } from '../verdict.js';

/** The row of a data set that a prompt was made of. */
export type RewardExample = Readonly<Record<string, unknown>>;

/** What a reward is given of a sample: its text under either name, and the example. Samples of `anneal/rl` fit. */
export interface RewardInput {
  readonly example: unknown;
  /** What the policy wrote. */
  readonly completion?: string;
  readonly text?: string;
  readonly signal?: AbortSignal;
}

/** A reward and what it rests on. */
export interface Scored<V extends Verdict = Verdict> {
  /** Null where the sample must be left out: the verifier could not tell, or a policy drops it. */
  score: number | null;
  verdict: V;
}

/** Scores one sample. */
export type SampleReward<S extends Scored = Scored> = (sample: RewardInput) => Promise<S>;

/** Where a text of an example is: the name of a field, or a function. */
export type FieldOf = string | ((example: RewardExample) => unknown);

/** The text that the policy wrote. @throws AnnealError where a sample has none */
export function completionOf({ completion, text }: RewardInput): string {
  const found = completion ?? text;
  if (typeof found === 'string') return found;
  throw new AnnealError('a sample has neither "completion" nor "text"; a reward needs what the policy wrote');
}

/** An example as an object. @throws AnnealError for what is none */
export function exampleOf({ example }: RewardInput): RewardExample {
  if (typeof example === 'object' && example !== null) return example as RewardExample;
  throw new AnnealError(
    `a sample's example is ${JSON.stringify(example)}; a reward reads its reference from it`,
  );
}

/**
 * A text of an example, from the field that was named or the first of the usual ones that it has. A missing reference
 * is an error, never a reward: scored as wrong or right it would be learnt.
 * @throws AnnealError
 */
export function fieldOf(
  example: RewardExample,
  field: FieldOf | undefined,
  usual: readonly string[],
): unknown {
  if (typeof field === 'function') return field(example);
  const names = field === undefined ? usual : [field];
  const name = names.find((one) => example[one] !== undefined && example[one] !== null);
  if (name !== undefined) return example[name];
  const has = Object.keys(example).join(', ') || 'none';
  throw new AnnealError(
    `an example has no "${names.join('" or "')}" (its fields are ${has}); name the field with the option reference`,
  );
}

/**
 * A reward as a function over a batch of samples, the form in which `anneal/rl` takes rewards: one number or null a
 * sample, in their order. `onScored` sees what each score rests on.
 */
export const rewardOf =
  <S extends Scored>(
    reward: SampleReward<S>,
    onScored?: (scored: S, sample: RewardInput) => void,
  ): ((
    samples: readonly RewardInput[],
    context?: { readonly signal?: AbortSignal },
  ) => Promise<(number | null)[]>) =>
  (samples, { signal } = {}) =>
    Promise.all(
      samples.map(async (sample) => {
        const scored = await reward(signal ? { ...sample, signal } : sample);
        onScored?.(scored, sample);
        return scored.score;
      }),
    );
