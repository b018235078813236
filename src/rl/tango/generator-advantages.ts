import {
  broadcastAdvantages,
  groupAdvantages,
  outcomeTokenRewards,
  reinforcePlusPlus,
  rlooAdvantages,
} from '../advantages.js';
import { mixAdvantages, type StepRewards, stepAdvantages } from '../step-advantages.js';
import type { ResolvedTango } from './options.js';
import type { Response } from './responses.js';
import type { Verification } from './verify-responses.js';

/** Rewards of a response's steps by each of its verifications; empty where none could be read. */
export type StepRewardSets = readonly StepRewards[];

type RewardOptions = Pick<ResolvedTango<never>, 'gate' | 'perStep'>;

/**
 * Step rewards of a response: ±1 by verdict, over K (2505.15034, equation 3), at the last tokens of the steps. Behind the
 * gate a malformed response has those of wrong steps instead, and one more at its end: its fault mostly lies in the answer,
 * behind all steps, which would learn nothing otherwise. They are no larger, as their spread would drown the verdicts of
 * others once all are normalised together.
 */
export function stepRewardsOf<P>(
  response: Response<P>,
  verifications: readonly Verification<P>[],
  { gate, perStep }: RewardOptions,
): StepRewardSets {
  const { ends, isWellFormed, sample } = response;
  const k = ends.length;
  const scale = perStep && k > 0 ? 1 / k : 1;
  if (gate && !isWellFormed) {
    if (sample.tokens.length === 0) return [];
    const at = Int32Array.of(...ends, sample.tokens.length - 1);
    return [{ rewards: new Float32Array(at.length).fill(-scale), ends: at }];
  }
  return verifications.flatMap(({ parsed: { verdicts } }) =>
    verdicts ? [{ rewards: Float32Array.from(verdicts, (is) => (is ? scale : -scale)), ends }] : [],
  );
}

/** Mean of arrays of equal length. */
const meanOf = (rows: readonly Float32Array[]): Float32Array =>
  rows[0]!.map((_, t) => rows.reduce((sum, row) => sum + row[t]!, 0) / rows.length);

/** Advantages of several sets of rewards a response: normalised all together, then averaged over the response's sets. */
function averaged(
  sets: readonly StepRewardSets[],
  groups: readonly number[],
  lengths: readonly number[],
): (Float32Array | undefined)[] {
  const owners = sets.flatMap((own, i) => own.map(() => i));
  const rows = stepAdvantages(
    sets.flat(),
    owners.map((i) => groups[i]!),
    owners.map((i) => lengths[i]!),
  );
  const byOwner = new Map<number, Float32Array[]>();
  rows.forEach((row, k) => {
    if (row) byOwner.set(owners[k]!, [...(byOwner.get(owners[k]!) ?? []), row]);
  });
  return sets.map((_, i) => {
    const own = byOwner.get(i);
    return own && meanOf(own);
  });
}

/** Rewards at their tokens, as REINFORCE++ wants them; several sets are averaged. */
function tokenRewards(sets: StepRewardSets, length: number): Float32Array | undefined {
  if (sets.length === 0) return undefined;
  const rows = sets.map(({ rewards, ends }) => {
    const row = new Float32Array(length);
    for (let k = 0; k < ends.length; k++) row[ends[k]!]! += rewards[k]!;
    return row;
  });
  return meanOf(rows);
}

/** Reverse sums of step rewards, whitened over the tokens of all responses that have some. */
function whitenedSteps(
  sets: readonly StepRewardSets[],
  lengths: readonly number[],
): (Float32Array | undefined)[] {
  const rows = sets.map((own, i) => tokenRewards(own, lengths[i]!));
  const filled = rows.map((row, i) => row ?? new Float32Array(lengths[i]!));
  const masks = rows.map((row, i) => (row ? undefined : new Uint8Array(lengths[i]!)));
  const whitened = reinforcePlusPlus(filled, masks);
  return rows.map((row, i) => (row ? whitened[i] : undefined));
}

/** One set of rewards a response: (1 − alpha) · outcome at its end, and alpha · each step's. */
function mergedRewards<P>(response: Response<P>, sets: StepRewardSets, alpha: number): StepRewardSets {
  const last = response.sample.tokens.length - 1;
  const outcome = (1 - alpha) * (response.isCorrect ? 1 : 0);
  const own: StepRewardSets = sets.length > 0 ? sets : [{ rewards: [], ends: [] }];
  return own.map(({ rewards, ends }) => ({
    rewards: [...Array.from(rewards, (reward) => alpha * reward), outcome],
    ends: [...Array.from(ends), last],
  }));
}

/** What a generator step learns from. */
export interface GeneratorAdvantages {
  advantages: Float32Array[];
  /** Of the steps alone, for reports. */
  step: readonly (Float32Array | undefined)[];
}

/**
 * Advantages of all tokens of the generator's responses (2505.15034, section 3.2): outcome and steps are normalised apart
 * and mixed, A = (1 − alpha) A_outcome + alpha A_step. The released code multiplies the steps of RLOO by ten, and
 * reverses the wrong axis for those of REINFORCE++; here the steps of RLOO are normalised as GRPO's, and those of
 * REINFORCE++ are reverse sums over tokens, whitened.
 */
export function generatorAdvantages<P>(
  responses: readonly Response<P>[],
  sets: readonly StepRewardSets[],
  alpha: number,
  { advantage, normalisation }: Pick<ResolvedTango<P>, 'advantage' | 'normalisation'>,
): GeneratorAdvantages {
  const groups = responses.map(({ sample }) => sample.group);
  const lengths = responses.map(({ sample }) => sample.tokens.length);
  const isWhitened = advantage === 'reinforce++';
  if (normalisation === 'merged') {
    const merged = responses.map((response, i) => mergedRewards(response, sets[i]!, alpha));
    const rows = isWhitened ? whitenedSteps(merged, lengths) : averaged(merged, groups, lengths);
    return { advantages: rows.map((row, i) => row ?? new Float32Array(lengths[i]!)), step: [] };
  }
  const rewards = responses.map(({ isCorrect }) => (isCorrect ? 1 : 0));
  const step = isWhitened ? whitenedSteps(sets, lengths) : averaged(sets, groups, lengths);
  const values = advantage === 'rloo' ? rlooAdvantages(rewards, groups) : groupAdvantages(rewards, groups);
  const outcome = isWhitened
    ? reinforcePlusPlus(outcomeTokenRewards(rewards, lengths))
    : broadcastAdvantages(values, lengths);
  return { advantages: mixAdvantages(outcome, step, alpha), step };
}
