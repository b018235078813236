import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bootstrap, mean, normalQuantile, passAtK, wilson } from '../../src/evaluate/metrics.js';

describe('passAtK', () => {
  it.each([
    // 1 - C(n-c,k)/C(n,k), by hand.
    [1, 0, 1, 0],
    [1, 1, 1, 1],
    [4, 1, 1, 1 / 4],
    [4, 1, 2, 1 - 3 / 6],
    [5, 2, 2, 1 - 3 / 10],
    [5, 2, 3, 1 - 1 / 10],
    [5, 2, 4, 1],
    [10, 3, 5, 1 - 21 / 252],
    [200, 1, 100, 0.5],
    [200, 10, 10, 1 - 0.5914521339185829],
  ])('of %i samples, %i correct, k = %i is %f', (n, c, k, expected) => {
    expect(passAtK(n, c, k)).toBeCloseTo(expected, 10);
  });

  it('is unbiased: its mean over all draws of k from a finite pool is the share of draws that hit', () => {
    // Exhaustively: of 6 samples with 2 correct, the subsets of 3 that miss both are C(4,3) of C(6,3).
    const samples = [1, 1, 0, 0, 0, 0];
    let hits = 0;
    let draws = 0;
    for (let i = 0; i < 6; i++)
      for (let j = i + 1; j < 6; j++)
        for (let l = j + 1; l < 6; l++) {
          draws++;
          if (samples[i]! + samples[j]! + samples[l]! > 0) hits++;
        }
    expect(passAtK(6, 2, 3)).toBeCloseTo(hits / draws, 12);
  });

  it('k = 1 is the share of correct samples, and it never falls with k', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), fc.nat(60), (n, c) => {
        fc.pre(c <= n);
        expect(passAtK(n, c, 1)).toBeCloseTo(c / n, 12);
        for (let k = 2; k <= n; k++)
          expect(passAtK(n, c, k)).toBeGreaterThanOrEqual(passAtK(n, c, k - 1) - 1e-12);
      }),
    );
  });

  it('refuses k above the number of samples, and impossible counts', () => {
    expect(() => passAtK(4, 1, 5)).toThrow('pass@5 of 4 samples; draw at least k samples');
    expect(() => passAtK(4, 1, 0)).toThrow('pass@0');
    expect(() => passAtK(4, 5, 1)).toThrow('5 correct of 4 samples');
    expect(() => passAtK(0, 0, 1)).toThrow('pass@1 of 0 samples');
  });
});

describe('normalQuantile', () => {
  it.each([
    // Python's statistics.NormalDist().inv_cdf
    [0.5, 0],
    [0.6, 0.2533471031357998],
    [0.925, 1.439531470938456],
    [0.926, 1.4466320671589785],
    [0.975, 1.9599639845400536],
    [0.995, 2.5758293035489],
    [0.01, -2.3263478740408408],
    [1e-12, -7.034483825301132],
  ])('of %f is %f', (p, z) => {
    expect(normalQuantile(p)).toBeCloseTo(z, 6);
  });
});

describe('wilson', () => {
  it.each([
    // statsmodels.stats.proportion.proportion_confint(c, n, alpha, method='wilson')
    [0, 10, 0.95, 0, 0.27753279],
    [10, 10, 0.95, 0.72246721, 1],
    [5, 10, 0.95, 0.23659309, 0.76340691],
    [1, 2, 0.9, 0.12086632, 0.87913368],
    [659, 1319, 0.95, 0.4726779, 0.52656615],
  ])('%i of %i at %f is %f … %f', (successes, trials, confidence, low, high) => {
    const interval = wilson(successes, trials, confidence);
    expect(interval.value).toBe(successes / trials);
    expect(interval.low).toBeCloseTo(low, 6);
    expect(interval.high).toBeCloseTo(high, 6);
  });

  it('knows nothing of no trials', () => {
    expect(wilson(0, 0)).toEqual({ value: Number.NaN, low: 0, high: 1 });
  });

  it('refuses impossible counts and confidences', () => {
    expect(() => wilson(3, 2)).toThrow('3 successes of 2 trials');
    expect(() => wilson(1, 2, 1)).toThrow('confidence is 1');
  });
});

describe('bootstrap', () => {
  it('is deterministic in its seed and holds the estimate', () => {
    const values = Array.from({ length: 50 }, (_, i) => Math.sin(i) + i / 50);
    const once = bootstrap(values, { seed: 3 });
    expect(bootstrap(values, { seed: 3 })).toEqual(once);
    expect(bootstrap(values, { seed: 4 })).not.toEqual(once);
    expect(once.value).toBeCloseTo(mean(values), 12);
    expect(once.low).toBeLessThan(once.value);
    expect(once.high).toBeGreaterThan(once.value);
  });

  it('agrees with the normal interval of a mean of many values', () => {
    const values = Array.from({ length: 400 }, (_, i) => (i * 37) % 101);
    const average = mean(values);
    const std = Math.sqrt(values.reduce((sum, v) => sum + (v - average) ** 2, 0) / values.length);
    const { low, high } = bootstrap(values, { resamples: 4000 });
    const half = (1.96 * std) / Math.sqrt(400);
    expect(Math.abs(low - (average - half))).toBeLessThan(0.1 * half);
    expect(Math.abs(high - (average + half))).toBeLessThan(0.1 * half);
  });

  it('of equal values has no width', () => {
    expect(bootstrap([2, 2, 2])).toEqual({ value: 2, low: 2, high: 2 });
  });

  it('takes any statistic', () => {
    const largest = bootstrap([1, 5, 3], { statistic: (v) => Math.max(...v), resamples: 200 });
    expect(largest.value).toBe(5);
    expect(largest.high).toBe(5);
  });

  it('refuses an empty list', () => {
    expect(() => bootstrap([])).toThrow('bootstrap of no values');
    expect(() => mean([])).toThrow('mean of no values');
  });
});
