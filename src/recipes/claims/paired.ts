import { AnnealError } from '../../index.js';

/** Student's t that 97.5 % lie below, for 1, 2, … degrees of freedom; beyond the list the normal's is near enough. */
const quantiles = [
  12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.306, 2.2622, 2.2281, 2.201, 2.1788, 2.1604,
  2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.093, 2.086,
] as const;

/** A mean difference and its 95 % interval. */
export interface PairedDifference {
  mean: number;
  low: number;
  high: number;
  pairs: number;
}

/**
 * Mean of a - b over pairs with Student's 95 % interval: for trainings that share seed, weights and batches.
 * @throws AnnealError for lists of different lengths, or fewer than two pairs
 */
export function pairedDifference(a: readonly number[], b: readonly number[]): PairedDifference {
  if (a.length !== b.length)
    throw new AnnealError(`pairedDifference: ${a.length} values against ${b.length}`);
  const pairs = a.length;
  if (pairs < 2)
    throw new AnnealError(`pairedDifference: ${pairs} pair says nothing about spread; give two or more`);
  const differences = a.map((value, i) => value - b[i]!);
  const mean = differences.reduce((sum, d) => sum + d, 0) / pairs;
  const variance = differences.reduce((sum, d) => sum + (d - mean) ** 2, 0) / (pairs - 1);
  const half = (quantiles[pairs - 2] ?? 2.05) * Math.sqrt(variance / pairs);
  return { mean, low: mean - half, high: mean + half, pairs };
}
