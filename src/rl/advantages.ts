import { AnnealError } from '../core/errors.js';

/** Which deviation a group's rewards are divided by. */
export interface GroupAdvantageOptions {
  /** `group`: that of the group (GRPO). `batch`: that of all rewards. `none`: not at all (Dr. GRPO). Default `group`. */
  scale?: 'group' | 'batch' | 'none';
  /** The deviation divides by n − ddof: 1 (default; TRL, verl, Tango) is unbiased in the variance. */
  ddof?: 0 | 1;
  /** Added to the deviation. Default 1e-6 (verl, Tango); TRL has 1e-4. */
  epsilon?: number;
  /** A group of one sample has no baseline: advantage 0 (default), or its reward (verl, Tango). */
  single?: 'zero' | 'reward';
}

/** Mean and deviation of some numbers in float64; fewer than ddof + 1 of them have deviation 0. */
export function moments(values: readonly number[], ddof: 0 | 1): { mean: number; std: number } {
  const n = values.length;
  if (n === 0) return { mean: 0, std: 0 };
  // Equal numbers have no deviation, whatever rounding makes of their mean.
  if (values.every((value) => value === values[0])) return { mean: values[0]!, std: 0 };
  const mean = values.reduce((a, b) => a + b, 0) / n;
  const squares = values.reduce((a, b) => a + (b - mean) ** 2, 0);
  return { mean, std: n > ddof ? Math.sqrt(squares / (n - ddof)) : 0 };
}

/** Indices of the members of each group, in the order of the groups' first members. */
export function membersOf(groups: ArrayLike<number>): Map<number, number[]> {
  const members = new Map<number, number[]>();
  for (let i = 0; i < groups.length; i++) {
    const list = members.get(groups[i]!);
    if (list) list.push(i);
    else members.set(groups[i]!, [i]);
  }
  return members;
}

function checkLengths(what: string, rewards: ArrayLike<unknown>, groups: ArrayLike<number>): void {
  if (rewards.length === groups.length) return;
  throw new AnnealError(
    `${what}: ${rewards.length} rewards for ${groups.length} groups; pass one group a reward`,
  );
}

/** Calls `visit` with the indices and rewards of each group; those whose reward is null are in none. */
function eachGroup(
  rewards: ArrayLike<number | null>,
  groups: ArrayLike<number>,
  visit: (indices: readonly number[], values: readonly number[]) => void,
): void {
  for (const members of membersOf(groups).values()) {
    const indices = members.filter((i) => rewards[i] !== null);
    visit(
      indices,
      indices.map((i) => rewards[i]!),
    );
  }
}

/**
 * A_i = (R_i − mean of its group) / (std + epsilon), one number per sample (DeepSeekMath 2024, section 4.1.2; without
 * the division: Dr. GRPO, Liu et al. 2025). A null reward is in no baseline and gets advantage 0.
 * @param groups of each sample, in any order: equal numbers are one group
 */
export function groupAdvantages(
  rewards: ArrayLike<number | null>,
  groups: ArrayLike<number>,
  options: GroupAdvantageOptions = {},
): Float32Array {
  checkLengths('groupAdvantages', rewards, groups);
  const { scale = 'group', ddof = 1, epsilon = 1e-6, single = 'zero' } = options;
  const out = new Float32Array(rewards.length);
  const all = Array.from(rewards).filter((reward) => reward !== null);
  const batch = moments(all, ddof);
  eachGroup(rewards, groups, (indices, values) => {
    if (values.length === 1) {
      out[indices[0]!] = single === 'reward' ? values[0]! : 0;
      return;
    }
    const group = moments(values, ddof);
    const divisor = scale === 'none' ? 1 : (scale === 'group' ? group.std : batch.std) + epsilon;
    indices.forEach((i, k) => {
      out[i] = (values[k]! - group.mean) / divisor;
    });
  });
  return out;
}

/**
 * A_i = R_i − mean of the others' rewards = (R_i − mean) n / (n − 1) (RLOO: Ahmadian et al. 2024).
 * A null reward is in no baseline and gets advantage 0.
 */
export function rlooAdvantages(
  rewards: ArrayLike<number | null>,
  groups: ArrayLike<number>,
  { single = 'zero' }: Pick<GroupAdvantageOptions, 'single'> = {},
): Float32Array {
  checkLengths('rlooAdvantages', rewards, groups);
  const out = new Float32Array(rewards.length);
  eachGroup(rewards, groups, (indices, values) => {
    const n = values.length;
    if (n === 1) out[indices[0]!] = single === 'reward' ? values[0]! : 0;
    if (n < 2) return;
    const { mean } = moments(values, 0);
    indices.forEach((i, k) => {
      out[i] = ((values[k]! - mean) * n) / (n - 1);
    });
  });
  return out;
}

/** One number per sample as one number per token. */
export function broadcastAdvantages(
  advantages: ArrayLike<number>,
  lengths: ArrayLike<number>,
): Float32Array[] {
  return Array.from(lengths, (length, i) => new Float32Array(length).fill(advantages[i]!));
}

const isCounted = (mask: ArrayLike<number> | undefined, t: number): boolean => mask?.[t] !== 0;

/**
 * Shifts and scales all values that count to mean 0 and variance 1, with unbiased variance and `epsilon` under the
 * root; the others become 0. Fewer than two values are only shifted.
 */
export function whiten(
  values: readonly ArrayLike<number>[],
  masks?: readonly (ArrayLike<number> | undefined)[],
  { epsilon = 1e-8 }: { epsilon?: number } = {},
): Float32Array[] {
  const all: number[] = [];
  values.forEach((row, i) => {
    for (let t = 0; t < row.length; t++) if (isCounted(masks?.[i], t)) all.push(row[t]!);
  });
  const { mean, std } = moments(all, 1);
  const factor = all.length < 2 ? 1 : 1 / Math.sqrt(std * std + epsilon);
  return values.map((row, i) =>
    Float32Array.from(row, (value, t) => (isCounted(masks?.[i], t) ? (value - mean) * factor : 0)),
  );
}

/** Settings of `reinforcePlusPlus`. */
export interface ReturnOptions {
  /** Discount from one token that the policy chose to the next. Default 1. */
  gamma?: number;
}

/**
 * G_t = r_t + gamma · G_{t+1} for each token. Tokens that an environment wrote are no steps: they do not discount, and
 * what is rewarded after them still reaches what was said before.
 */
export function discountedReturns(
  rewards: ArrayLike<number>,
  { gamma = 1 }: ReturnOptions = {},
  mask?: ArrayLike<number>,
): Float32Array {
  const out = new Float32Array(rewards.length);
  let running = 0;
  for (let t = rewards.length - 1; t >= 0; t--) {
    running = rewards[t]! + (isCounted(mask, t) ? gamma : 1) * running;
    out[t] = running;
  }
  return out;
}

/**
 * REINFORCE++ (Hu 2025): discounted returns of token rewards, whitened over all tokens of the batch that count.
 * @param masks 0 where an environment wrote the token
 */
export function reinforcePlusPlus(
  tokenRewards: readonly ArrayLike<number>[],
  masks?: readonly (ArrayLike<number> | undefined)[],
  options: ReturnOptions & { epsilon?: number } = {},
): Float32Array[] {
  const returns = tokenRewards.map((rewards, i) => discountedReturns(rewards, options, masks?.[i]));
  return whiten(returns, masks, options);
}

/** Token rewards with everything on the last token, as an outcome is; an empty sample has none. */
export function outcomeTokenRewards(
  rewards: ArrayLike<number | null>,
  lengths: ArrayLike<number>,
): Float32Array[] {
  return Array.from(lengths, (length, i) => {
    const row = new Float32Array(length);
    if (length > 0) row[length - 1] = rewards[i] ?? 0;
    return row;
  });
}

/**
 * Generalised advantage estimation (Schulman et al. 2016, equation 16): δ_t = r_t + gamma V_{t+1} − V_t,
 * A_t = δ_t + gamma lambda A_{t+1}.
 * @param values V of each token's state, and of the state after the last one where the episode goes on; else that is 0
 * @returns advantages and the returns A + V that values are trained to. Whitening is the caller's (`whiten`).
 */
export function gae(
  rewards: ArrayLike<number>,
  values: ArrayLike<number>,
  { gamma = 1, lambda = 1 }: { gamma?: number; lambda?: number } = {},
): { advantages: Float32Array; returns: Float32Array } {
  const n = rewards.length;
  if (values.length !== n && values.length !== n + 1)
    throw new AnnealError(`gae: ${values.length} values for ${n} rewards; pass as many, or one more`);
  const advantages = new Float32Array(n);
  const returns = new Float32Array(n);
  let running = 0;
  for (let t = n - 1; t >= 0; t--) {
    const delta = rewards[t]! + gamma * (values[t + 1] ?? 0) - values[t]!;
    running = delta + gamma * lambda * running;
    advantages[t] = running;
    returns[t] = running + values[t]!;
  }
  return { advantages, returns };
}
