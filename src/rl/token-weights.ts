import { AnnealError } from '../core/errors.js';

/**
 * How the terms of tokens become one loss. N = tokens that count, S = sequences with such tokens.
 *
 * | aggregation                  | weight of a token of sequence i | used by                                             |
 * | ---------------------------- | ------------------------------- | --------------------------------------------------- |
 * | `token-mean`                 | 1 / N                           | DAPO (equation 12), Tango, verl's and TRL's default |
 * | `group-mean-token-mean`      | 1 / (groups · N of its group)   | AceReason                                           |
 * | `sequence-mean-token-mean`   | 1 / (S · n_i)                   | GRPO (equation 3), GSPO                             |
 * | `sequence-mean-token-sum`    | 1 / S                           | RLOO                                                |
 * | `constant`                   | 1 / (sequences · constant)      | Dr. GRPO: the limit of a completion's length        |
 */
export type Aggregation =
  | 'token-mean'
  | 'group-mean-token-mean'
  | 'sequence-mean-token-mean'
  | 'sequence-mean-token-sum'
  | 'constant';

/** Settings of `tokenWeights`. */
export interface TokenWeightOptions {
  aggregation: Aggregation;
  /** Of `constant`. */
  constant?: number;
  /** Group of each sequence, for `group-mean-token-mean`. */
  groups?: ArrayLike<number>;
}

function countOf(mask: ArrayLike<number>): number {
  let n = 0;
  for (let t = 0; t < mask.length; t++) if (mask[t] !== 0) n++;
  return n;
}

/** Tokens that count in each group. */
function groupCounts(counts: readonly number[], groups: ArrayLike<number>): Map<number, number> {
  const totals = new Map<number, number>();
  counts.forEach((n, i) => {
    if (n > 0) totals.set(groups[i]!, (totals.get(groups[i]!) ?? 0) + n);
  });
  return totals;
}

/**
 * Weights with loss = Σ weight · term over all tokens of the optimiser's whole batch; computed here, on the host, so
 * that micro-batches cannot change them. A `policyLoss` over tensors [B, T] takes them times B · T.
 * @param masks one array per sequence over its tokens: 0 where a token does not count
 * @throws AnnealError if an aggregation lacks its setting.
 */
export function tokenWeights(
  masks: readonly ArrayLike<number>[],
  { aggregation, constant, groups }: TokenWeightOptions,
): Float32Array[] {
  const counts = masks.map(countOf);
  const tokens = counts.reduce((a, b) => a + b, 0);
  const sequences = counts.filter((n) => n > 0).length;
  if (aggregation === 'constant' && !(constant! > 0))
    throw new AnnealError(`tokenWeights: constant is ${constant}; pass the length to divide by`);
  if (aggregation === 'group-mean-token-mean' && groups?.length !== masks.length)
    throw new AnnealError('tokenWeights: group-mean-token-mean needs the group of every sequence');
  const totals = groups ? groupCounts(counts, groups) : new Map<number, number>();
  const weightOf = (i: number): number => {
    switch (aggregation) {
      case 'token-mean':
        return 1 / tokens;
      case 'group-mean-token-mean':
        return 1 / (totals.size * totals.get(groups![i]!)!);
      case 'sequence-mean-token-mean':
        return 1 / (sequences * counts[i]!);
      case 'sequence-mean-token-sum':
        return 1 / sequences;
      case 'constant':
        return 1 / (masks.length * constant!);
      default:
        throw new AnnealError(`tokenWeights: there is no aggregation "${aggregation as string}"`);
    }
  };
  return masks.map((mask, i) => {
    const weights = new Float32Array(mask.length);
    if (counts[i] === 0) return weights;
    const weight = weightOf(i);
    for (let t = 0; t < mask.length; t++) if (mask[t] !== 0) weights[t] = weight;
    return weights;
  });
}
