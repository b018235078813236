import { AnnealError } from '../core/errors.js';
import { Rng } from '../core/random.js';

/** An estimate with the ends of its confidence interval. */
export interface Interval {
  value: number;
  low: number;
  high: number;
}

const isCount = (n: number) => Number.isInteger(n) && n >= 0;

function checkConfidence(confidence: number): void {
  if (confidence > 0 && confidence < 1) return;
  throw new AnnealError(`confidence is ${confidence}; pass a probability between 0 and 1, such as 0.95`);
}

/** Coefficients of the two central ranges of algorithm AS 241, numerator and denominator, lowest power first. */
const quantileCentre: [number[], number[]] = [
  [3.3871327179, 50.434271938, 159.29113202, 59.10937472],
  [1, 17.895169469, 78.757757664, 67.1875636],
];
const quantileShoulder: [number[], number[]] = [
  [1.4234372777, 2.75681539, 1.3067284816, 0.17023821103],
  [1, 0.7370016425, 0.12021132975],
];
const quantileTail: [number[], number[]] = [
  [6.657905115, 3.081226386, 0.42868294337, 0.017337203997],
  [1, 0.24197894225, 0.012258202635],
];

const horner = (coefficients: readonly number[], x: number) =>
  coefficients.reduceRight((sum, c) => sum * x + c, 0);
const ratio = ([above, below]: readonly [number[], number[]], x: number) =>
  horner(above, x) / horner(below, x);

/**
 * The z below which a standard normal lies with probability `p`, to about seven digits.
 * Wichura: Algorithm AS 241, PPND7 (1988).
 */
export function normalQuantile(p: number): number {
  if (!(p > 0 && p < 1)) throw new AnnealError(`normalQuantile of ${p}; pass a probability between 0 and 1`);
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) return q * ratio(quantileCentre, 0.180625 - q * q);
  const r = Math.sqrt(-Math.log(q < 0 ? p : 1 - p));
  const size = r <= 5 ? ratio(quantileShoulder, r - 1.6) : ratio(quantileTail, r - 5);
  return Math.sign(q) * size;
}

/**
 * Share of successes with Wilson's score interval (1927), which stays inside [0, 1] and keeps its coverage near
 * the ends, where ±1.96 standard errors do not. Of no trials nothing is known: value NaN, interval 0 … 1.
 */
export function wilson(successes: number, trials: number, confidence = 0.95): Interval {
  checkConfidence(confidence);
  if (!isCount(successes) || !isCount(trials) || successes > trials) {
    throw new AnnealError(
      `wilson: ${successes} successes of ${trials} trials; pass counts, successes ≤ trials`,
    );
  }
  if (trials === 0) return { value: Number.NaN, low: 0, high: 1 };
  const z = normalQuantile(0.5 + confidence / 2);
  const p = successes / trials;
  const scale = 1 / (1 + (z * z) / trials);
  const centre = scale * (p + (z * z) / (2 * trials));
  const half = scale * z * Math.sqrt((p * (1 - p)) / trials + (z * z) / (4 * trials * trials));
  // Rounding must not move the ends past what they are exactly when all or no trials succeed.
  return {
    value: p,
    low: successes === 0 ? 0 : Math.max(0, centre - half),
    high: successes === trials ? 1 : Math.min(1, centre + half),
  };
}

/** Arithmetic mean. @throws AnnealError for an empty list. */
export function mean(values: ArrayLike<number>): number {
  if (values.length === 0) throw new AnnealError('mean of no values; pass at least one');
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i]!;
  return total / values.length;
}

/** Options of `bootstrap`. */
export interface BootstrapOptions {
  /** Default 0.95. */
  confidence?: number;
  /** Number of resamples. Default 1000. */
  resamples?: number;
  /** Default 0. */
  seed?: number;
  /** What is estimated from (re)sampled values. Default: their mean. */
  statistic?: (values: Float64Array) => number;
}

/** The `p`-quantile of sorted values, interpolated linearly between ranks (NumPy's default). */
function quantile(sorted: Float64Array, p: number): number {
  const at = p * (sorted.length - 1);
  const below = Math.floor(at);
  const next = sorted[Math.min(below + 1, sorted.length - 1)]!;
  return sorted[below]! + (at - below) * (next - sorted[below]!);
}

/**
 * A statistic with its percentile-bootstrap interval (Efron 1979): the middle `confidence` of the statistic over
 * samples drawn with replacement. Deterministic in `seed`.
 * @throws AnnealError for an empty list.
 */
export function bootstrap(values: ArrayLike<number>, options: BootstrapOptions = {}): Interval {
  const { confidence = 0.95, resamples = 1000, seed = 0, statistic = mean } = options;
  checkConfidence(confidence);
  const n = values.length;
  if (n === 0) throw new AnnealError('bootstrap of no values; pass at least one');
  if (!isCount(resamples) || resamples < 1)
    throw new AnnealError(`bootstrap: resamples is ${resamples}; pass a positive integer`);
  const all = Float64Array.from(values);
  const rng = new Rng(seed).split('bootstrap');
  const drawn = new Float64Array(n);
  const estimates = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    rng.integers(n, 0, n).forEach((from, i) => {
      drawn[i] = all[from]!;
    });
    estimates[r] = statistic(drawn);
  }
  estimates.sort();
  const tail = (1 - confidence) / 2;
  return { value: statistic(all), low: quantile(estimates, tail), high: quantile(estimates, 1 - tail) };
}

/**
 * Unbiased estimate of pass@k, the probability that one of k samples is correct, from `samples` of which `correct`
 * are: 1 − C(n−c, k) / C(n, k), as a product so that nothing overflows (Chen et al. 2021, "Evaluating Large
 * Language Models Trained on Code", equation 1 and figure 3).
 * @throws AnnealError if k is greater than the number of samples, for then no unbiased estimate exists.
 */
export function passAtK(samples: number, correct: number, k: number): number {
  if (!isCount(samples) || !isCount(correct) || correct > samples)
    throw new AnnealError(
      `passAtK: ${correct} correct of ${samples} samples; pass counts, correct ≤ samples`,
    );
  if (!isCount(k) || k < 1 || k > samples)
    throw new AnnealError(`pass@${k} of ${samples} samples; draw at least k samples, k ≥ 1`);
  if (samples - correct < k) return 1;
  let miss = 1;
  for (let i = samples - correct + 1; i <= samples; i++) miss *= 1 - k / i;
  return 1 - miss;
}
