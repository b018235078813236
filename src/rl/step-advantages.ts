import { AnnealError } from '../core/errors.js';
import { type GroupAdvantageOptions, membersOf, moments } from './advantages.js';

/** Rewards of the steps of one completion. */
export interface StepRewards {
  rewards: ArrayLike<number>;
  /** Index of each step's last token in the completion, ascending. */
  ends: ArrayLike<number>;
}

function check(steps: StepRewards, length: number, sample: number): void {
  const { rewards, ends } = steps;
  if (rewards.length !== ends.length) {
    throw new AnnealError(
      `stepAdvantages: sample ${sample} has ${rewards.length} rewards for ${ends.length} steps`,
    );
  }
  for (let k = 0; k < ends.length; k++) {
    const end = ends[k]!;
    const isInside = Number.isInteger(end) && end >= 0 && end < length;
    if (!isInside || (k > 0 && end < ends[k - 1]!)) {
      throw new AnnealError(
        `stepAdvantages: step ${k} of sample ${sample} ends at token ${end}; ends are ascending and below the length ${length}`,
      );
    }
  }
}

/** A_t = Σ of the normalised rewards of the steps that end at t or later. */
function cumulate(
  { rewards, ends }: StepRewards,
  length: number,
  normalised: (r: number) => number,
): Float32Array {
  const out = new Float32Array(length);
  let running = 0;
  let step = ends.length - 1;
  for (let t = length - 1; t >= 0; t--) {
    for (; step >= 0 && ends[step]! >= t; step--) running += normalised(rewards[step]!);
    out[t] = running;
  }
  return out;
}

/**
 * Step rewards as advantages of tokens (RL Tango, Zha et al. 2025): the rewards of all steps of all
 * completions of a group are normalised together, r̃ = (r − mean) / (std + epsilon), and a token gets the sum over
 * the steps that end at it or later. Tokens after the last step get 0. A set of a single reward stays as it is.
 *
 * Dividing a step's reward by the number of steps is the caller's: Tango's ±1/K keeps more steps from being more reward.
 * @param steps of each completion; undefined, or without steps, where there are none that could be judged
 * @param lengths tokens of each completion
 * @returns undefined for a completion without steps
 * @throws AnnealError if ends are outside of the completion, or not ascending.
 */
export function stepAdvantages(
  steps: readonly (StepRewards | undefined)[],
  groups: ArrayLike<number>,
  lengths: ArrayLike<number>,
  { ddof = 1, epsilon = 1e-6 }: Pick<GroupAdvantageOptions, 'ddof' | 'epsilon'> = {},
): (Float32Array | undefined)[] {
  if (steps.length !== groups.length || steps.length !== lengths.length) {
    throw new AnnealError(
      `stepAdvantages: ${steps.length} samples, ${groups.length} groups, ${lengths.length} lengths; pass one of each a sample`,
    );
  }
  const out: (Float32Array | undefined)[] = steps.map(() => undefined);
  for (const members of membersOf(groups).values()) {
    const rewards = members.flatMap((i) => Array.from(steps[i]?.rewards ?? []));
    const { mean, std } = rewards.length > 1 ? moments(rewards, ddof) : { mean: 0, std: 1 };
    const divisor = rewards.length > 1 ? std + epsilon : 1;
    for (const i of members) {
      const own = steps[i];
      if (!own || own.rewards.length === 0) continue;
      check(own, lengths[i]!, i);
      out[i] = cumulate(own, lengths[i]!, (r) => (r - mean) / divisor);
    }
  }
  return out;
}

/**
 * A_t = (1 − alpha) · outcome + alpha · step (RL Tango). Both were normalised apart, which keeps their scales
 * comparable. A completion without steps gets (1 − alpha) · outcome; where no completion of the batch has any,
 * the outcome alone counts, unscaled.
 */
export function mixAdvantages(
  outcome: readonly Float32Array[],
  step: readonly (Float32Array | undefined)[],
  alpha: number,
): Float32Array[] {
  if (outcome.length !== step.length)
    throw new AnnealError(
      `mixAdvantages: ${outcome.length} outcome and ${step.length} step advantages; pass as many`,
    );
  if (step.every((row) => row === undefined)) return outcome.map((row) => row.slice());
  return outcome.map((row, i) => {
    const own = step[i];
    if (own && own.length !== row.length)
      throw new AnnealError(
        `mixAdvantages: sample ${i} has ${row.length} tokens by its outcome and ${own.length} by its steps`,
      );
    return row.map((value, t) => (1 - alpha) * value + alpha * (own?.[t] ?? 0));
  });
}
