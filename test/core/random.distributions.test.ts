import { describe, expect, test } from 'vitest';
import { Rng } from '../../src/core/random.js';

/** The normal distribution function, by the Taylor series of its integral. */
function normalCdf(x: number): number {
  let term = x;
  let sum = x;
  for (let k = 1; Math.abs(term) > 1e-17 * Math.abs(sum); k++) {
    term *= (x * x) / (2 * k + 1);
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
}

/** Kolmogorov-Smirnov statistic times sqrt(n). */
function ksStatistic(sample: Float32Array, cdf: (x: number) => number): number {
  const sorted = sample.toSorted();
  let worst = 0;
  sorted.forEach((x, i) => {
    const p = cdf(x);
    worst = Math.max(worst, p - i / sorted.length, (i + 1) / sorted.length - p);
  });
  return worst * Math.sqrt(sorted.length);
}

/**
 * Averages the statistic over 25 seeds. Kolmogorov's distribution has mean sqrt(pi / 2) ln 2 and standard
 * deviation 0.26; the mean over seeds must lie within four of its own. Unlike one sample's threshold this
 * does not hang on the luck of a seed, and it also notices values that are spread too evenly.
 */
function expectDistribution(draw: (rng: Rng) => Float32Array, cdf: (x: number) => number): void {
  const statistics = Array.from({ length: 25 }, (_, seed) => ksStatistic(draw(new Rng(seed)), cdf));
  const mean = statistics.reduce((sum, statistic) => sum + statistic, 0) / statistics.length;
  expect(Math.abs(mean - Math.sqrt(Math.PI / 2) * Math.LN2)).toBeLessThan((4 * 0.26) / 5);
}

/** Standardized chi-square of counts that should be equal: about normal for many cells. */
function chiSquareScore(counts: readonly number[]): number {
  const cells = counts.length;
  const expected = counts.reduce((sum, count) => sum + count, 0) / cells;
  const chi = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  return (chi - (cells - 1)) / Math.sqrt(2 * (cells - 1));
}

function moment(sample: Float32Array, power: number): number {
  let sum = 0;
  for (const x of sample) sum += x ** power;
  return sum / sample.length;
}

describe('distributions', () => {
  const n = 200_000;

  test('uniform', () => {
    const sample = new Rng(11).uniform(n);
    expectDistribution(
      (rng) => rng.uniform(20_000),
      (x) => x,
    );
    expect(moment(sample, 1)).toBeCloseTo(0.5, 2);
    expect(moment(sample, 2)).toBeCloseTo(1 / 3, 2);
    expectDistribution(
      (rng) => rng.uniform(20_000, -2, 6),
      (x) => (x + 2) / 8,
    );
  });

  test('uniform never rounds up to its end', () => {
    const rng = new Rng(1);
    // One float32 below the end in each, and half the draws nearer to the end than to it.
    expect(new Set(rng.uniform(100, 1, 1 + 2 ** -23))).toEqual(new Set([1]));
    expect(new Set(rng.uniform(100, -1 - 2 ** -23, -1))).toEqual(new Set([-1 - 2 ** -23]));
    expect(new Set(rng.uniform(100, -(2 ** -149), 0))).toEqual(new Set([-(2 ** -149)]));
  });

  test('normal', () => {
    const sample = new Rng(13).normal(n);
    expectDistribution((rng) => rng.normal(20_000), normalCdf);
    // Four standard errors of each moment.
    const error = 4 / Math.sqrt(n);
    expect(Math.abs(moment(sample, 1))).toBeLessThan(error);
    expect(Math.abs(moment(sample, 2) - 1)).toBeLessThan(Math.sqrt(2) * error);
    expect(Math.abs(moment(sample, 3))).toBeLessThan(Math.sqrt(15) * error);
    expect(Math.abs(moment(sample, 4) - 3)).toBeLessThan(Math.sqrt(96) * error);
    expectDistribution(
      (rng) => rng.normal(20_000, 3, 0.5),
      (x) => normalCdf((x - 3) / 0.5),
    );
    expect([...new Rng(14).normal(3, 2, 0)]).toEqual([2, 2, 2]);
  });

  test('the two normals of a pair, and neighbouring pairs, are uncorrelated', () => {
    const sample = new Rng(15).normal(n);
    for (const lag of [1, 2, 3, 4]) {
      let sum = 0;
      for (let i = lag; i < n; i++) sum += sample[i]! * sample[i - lag]!;
      expect(Math.abs(sum / n)).toBeLessThan(4 / Math.sqrt(n));
    }
  });

  test.each([
    [-2, 2],
    [-0.1, 0.3],
    [1.5, 3],
    [-4, -3],
    [Number.NEGATIVE_INFINITY, 0.5],
    [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
  ])('truncated normal in %d .. %d', (low, high) => {
    const mass = (x: number) => (Number.isFinite(x) ? normalCdf(x) : x < 0 ? 0 : 1);
    const cdf = (x: number) => (normalCdf((x - 1) / 2) - mass(low)) / (mass(high) - mass(low));
    const sample = new Rng(16).truncatedNormal(n, 1, 2, low, high);
    expectDistribution((rng) => rng.truncatedNormal(20_000, 1, 2, low, high), cdf);
    expect(sample.every((x) => x >= Math.fround(1 + 2 * low) && x <= Math.fround(1 + 2 * high))).toBe(true);
  });

  test('truncated normal reaches far tails, whose excess is exponential', () => {
    const sample = new Rng(17).truncatedNormal(20_000, 0, 1, 30, Number.POSITIVE_INFINITY);
    expect(moment(sample, 1) - 30).toBeCloseTo(1 / 30, 3);
  });

  test('integers are equally likely, in small and in awkward ranges', () => {
    const counts = new Array<number>(17).fill(0);
    for (const x of new Rng(18).integers(n, -5, 12)) counts[x + 5]! += 1;
    expect(Math.abs(chiSquareScore(counts))).toBeLessThan(4);
    // Without rejection a range of 3 * 2^30 would give every third value twice the chance of the others.
    const thirds = [0, 0, 0];
    for (const x of new Rng(20).integers(n, -(2 ** 31), 2 ** 30)) thirds[(x + 2 ** 31) % 3]! += 1;
    expect(Math.abs(chiSquareScore(thirds))).toBeLessThan(4);
    expect([...new Rng(0).integers(3, 7, 8)]).toEqual([7, 7, 7]);
  });

  test('permutations hold every index once, and each is equally likely', () => {
    for (const size of [0, 1, 2, 5000]) {
      const sorted = new Rng(21).permutation(size).toSorted();
      expect([...sorted]).toEqual(Array.from({ length: size }, (_, i) => i));
    }
    const rng = new Rng(22);
    const counts = new Map<string, number>();
    for (let i = 0; i < 24_000; i++) {
      const order = rng.permutation(4).join('');
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    expect(Math.abs(chiSquareScore([...counts.values()]))).toBeLessThan(4);
  });

  test('bernoulli', () => {
    const ones = (p: number) => new Rng(23).bernoulli(n, p).reduce((sum, bit) => sum + bit, 0);
    expect(ones(0)).toBe(0);
    expect(ones(1)).toBe(n);
    expect(Math.abs(ones(0.3) / n - 0.3)).toBeLessThan(4 * Math.sqrt((0.3 * 0.7) / n));
  });

  test('next fills all 53 bits', () => {
    const rng = new Rng(24);
    const sample = Array.from({ length: 20_000 }, () => rng.next());
    for (let bit = 1; bit <= 53; bit++) {
      const set = sample.filter((x) => Math.floor(x * 2 ** bit) % 2 === 1).length;
      expect(Math.abs(set - 10_000)).toBeLessThan(4 * Math.sqrt(5000));
    }
  });
});
