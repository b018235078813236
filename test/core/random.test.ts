import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AnnealError } from '../../src/core/errors.js';
import { philox4x32, Rng } from '../../src/core/random.js';

type Quad = [number, number, number, number];

/** Philox as its paper writes it, with whole 64-bit products. */
function philoxReference(counter: Quad, key: [number, number]): Quad {
  let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  for (let round = 0; round < 10; round++) {
    const left = 0xd2511f53n * c0;
    const right = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [
      (right >> 32n) ^ c1 ^ k0,
      right & 0xffffffffn,
      (left >> 32n) ^ c3 ^ k1,
      left & 0xffffffffn,
    ];
    k0 = (k0 + 0x9e3779b9n) & 0xffffffffn;
    k1 = (k1 + 0xbb67ae85n) & 0xffffffffn;
  }
  return [c0, c1, c2, c3].map(Number) as Quad;
}

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

/** A generator of the same seed and stream that stands elsewhere. */
const at = (rng: Rng, position: number): Rng => Rng.restore({ ...rng.state(), position: String(position) });

/** One draw of each kind, as plain arrays of `n` values. */
const kinds: Record<string, (rng: Rng, n: number) => number[]> = {
  uniform: (rng, n) => [...rng.uniform(n, -3, 5)],
  normal: (rng, n) => [...rng.normal(n, 1, 2)],
  truncatedNormal: (rng, n) => [...rng.truncatedNormal(n)],
  // The range that refuses most: half of all words.
  integers: (rng, n) => [...rng.integers(n, -1, 2 ** 31)],
  bernoulli: (rng, n) => [...rng.bernoulli(n, 0.3)],
  next: (rng, n) => Array.from({ length: n }, () => rng.next()),
};

describe('philox4x32', () => {
  const hex = (words: readonly number[]) => words.map((word) => word.toString(16).padStart(8, '0')).join(' ');

  test('gives the known answers of the Random123 distribution', () => {
    const ones = 0xffffffff;
    expect(hex(philox4x32([0, 0, 0, 0], [0, 0]))).toBe('6627e8d5 e169c58d bc57ac4c 9b00dbd8');
    expect(hex(philox4x32([ones, ones, ones, ones], [ones, ones]))).toBe(
      '408f276d 41c83b0e a20bc7c6 6d5451fd',
    );
    const pi: Quad = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
    expect(hex(philox4x32(pi, [0xa4093822, 0x299f31d0]))).toBe('d16cfe09 94fdcceb 5001e420 24126ea1');
  });

  test('agrees with 64-bit arithmetic everywhere', () => {
    const word = fc.integer({ min: 0, max: 0xffffffff });
    fc.assert(
      fc.property(fc.tuple(word, word, word, word), fc.tuple(word, word), (counter, key) => {
        expect(philox4x32(counter, key)).toEqual(philoxReference(counter, key));
      }),
      { numRuns: 500 },
    );
  });
});

describe('a draw', () => {
  test('is pinned, because saved runs depend on it', () => {
    const rng = () => new Rng(42, 'pin');
    expect([...rng().integers(4, -(2 ** 31), 2 ** 31)]).toMatchInlineSnapshot(`
      [
        -1651685449,
        -2020208682,
        -1190649325,
        -1670988904,
      ]
    `);
    expect([...rng().integers(4, -1, 2 ** 31)]).toMatchInlineSnapshot(`
      [
        247899098,
        1757956259,
        478417160,
        2084148997,
      ]
    `);
    expect([...rng().permutation(8)]).toMatchInlineSnapshot(`
      [
        3,
        0,
        5,
        6,
        1,
        7,
        2,
        4,
      ]
    `);
    // Rounded: these two may differ in the last place from engine to engine.
    const rounded = (sample: Float32Array) => [...sample].map((x) => x.toFixed(4)).join(' ');
    expect(rounded(rng().normal(5))).toMatchInlineSnapshot(`"-0.6351 -1.8835 -0.5580 0.6996 0.1975"`);
    expect(rounded(rng().truncatedNormal(8))).toMatchInlineSnapshot(
      `"-1.3685 -0.4737 1.1214 0.8466 1.1517 -0.2134 0.4725 0.3476"`,
    );
    expect(rounded(rng().uniform(4))).toMatchInlineSnapshot(`"0.1154 0.0296 0.2228 0.1109"`);
    expect(rng().bernoulli(12, 0.5).join('')).toMatchInlineSnapshot(`"111111101001"`);
    expect(rng().next()).toMatchInlineSnapshot(`0.11543700866128137`);
    expect(rng().split('child').split(3).state()).toMatchInlineSnapshot(`
      {
        "position": "0",
        "seed": "42",
        "stream": "fa4470428e38c049",
      }
    `);
  });

  test('reads Philox at (block, lane, stream) under the seed, far beyond 2^32 too', () => {
    const seed = 0x0123456789abcdefn;
    const rng = new Rng(seed);
    const [, high, low] = /^(.{8})(.{8})$/.exec(rng.state().stream)!;
    const stream = [Number.parseInt(high!, 16), Number.parseInt(low!, 16)] as const;
    for (const block of [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 50 + 12345]) {
      const counter: Quad = [block % 2 ** 32, Math.floor(block / 2 ** 32), ...stream];
      const words = [...at(rng, 4 * block).integers(4, -(2 ** 31), 2 ** 31)].map((x) => x + 2 ** 31);
      expect(words).toEqual(philoxReference(counter, [0x89abcdef, 0x01234567]));
    }
  });

  test.each(Object.keys(kinds))('%s: n at once equal n in pieces', (kind) => {
    const draw = kinds[kind]!;
    const sizes = fc.array(fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 5000 })), {
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 0, max: 7 }), (pieces, start) => {
        const whole = at(new Rng(5), start);
        const parts = at(new Rng(5), start);
        const total = pieces.reduce((sum, size) => sum + size, 0);
        expect(pieces.flatMap((size) => draw(parts, size))).toEqual(draw(whole, total));
        expect(parts.state()).toEqual(whole.state());
      }),
      { numRuns: 25 },
    );
  });

  test('depends on the position and not on what was drawn before', () => {
    const rng = new Rng(1);
    rng.truncatedNormal(3, 0, 1, 2, 9);
    rng.next();
    expect(rng.normal(5)).toEqual(at(new Rng(1), 5).normal(5));
  });

  test('differs by seed and by stream', () => {
    const seeds = [0, 1, 2 ** 32, 2 ** 53 - 1, (1n << 64n) - 1n];
    const firsts = seeds.flatMap((seed) => [0, 1, '0', 'a'].map((stream) => new Rng(seed, stream).next()));
    expect(new Set(firsts).size).toBe(firsts.length);
    expect(new Rng(7).next()).toBe(new Rng(7n).next());
  });
});

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

  test('10 million normals take less than 1.5 s', () => {
    const start = performance.now();
    new Rng(25).normal(1e7);
    expect(performance.now() - start).toBeLessThan(1500);
  });
});

describe('state', () => {
  test('restores exactly, through JSON, after any draws', () => {
    const steps = fc.array(fc.tuple(fc.constantFrom(...Object.keys(kinds)), fc.integer({ min: 0, max: 20 })));
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), fc.string(), steps, (seed, name, draws) => {
        const rng = new Rng(seed).split(name);
        for (const [kind, n] of draws) kinds[kind]!(rng, n);
        const copy = Rng.restore(JSON.parse(JSON.stringify(rng.state())));
        expect(copy.state()).toEqual(rng.state());
        expect(copy.normal(5)).toEqual(rng.normal(5));
        expect(copy.split('x').next()).toBe(rng.split('x').next());
      }),
    );
  });

  test('refuses what it never gave', () => {
    const state = new Rng(3).state();
    expect(state).toMatchObject({ seed: '3', position: '0' });
    for (const change of [
      { seed: '-1' },
      { seed: '99999999999999999999' },
      { stream: 'a' },
      { position: '1.5' },
    ]) {
      expect(() => Rng.restore({ ...state, ...change })).toThrow(AnnealError);
    }
  });
});

describe('split', () => {
  test('draws nothing and does not depend on what was drawn', () => {
    const rng = new Rng(1);
    const before = rng.split('a').normal(4);
    expect(rng.state().position).toBe('0');
    rng.normal(100);
    expect(rng.split('a').normal(4)).toEqual(before);
  });

  test('gives streams that share no output', () => {
    const root = new Rng(2);
    const names = [
      ...Array.from({ length: 5000 }, (_, i) => i - 100),
      ...Array.from({ length: 5000 }, (_, i) => `layer.${i}`),
      // Names that a careless hash confuses.
      ...['', '\0', '\0\0', 'ab', 'ba', 'abc', 'abcd', 'abcde', '1', '-1', '0'],
      ...[2 ** 32, 2 ** 32 + 4900, 2 ** 53 - 1, -(2 ** 40)],
    ];
    const children = [...names.map((name) => root.split(name)), root.split('ab').split('c'), root];
    children.push(root.split('a').split('bc'), new Rng(2, 'a'));
    const firsts = children.flatMap((child) => [child.next(), child.next()]);
    expect(new Set(firsts).size).toBe(firsts.length);
  });

  test('gives uncorrelated siblings and descendants', () => {
    const n = 100_000;
    const root = new Rng(3);
    const samples = [root, root.split(0), root.split(1), root.split(0).split(0)].map((rng) => rng.normal(n));
    samples.forEach((a, i) => {
      for (const b of samples.slice(i + 1)) {
        const product = a.reduce((sum, x, k) => sum + x * b[k]!, 0);
        expect(Math.abs(product / n)).toBeLessThan(4 / Math.sqrt(n));
      }
    });
  });
});

test('mistakes are named with their value and remedy', () => {
  const rng = new Rng();
  const wrong: [() => unknown, RegExp][] = [
    [() => new Rng(-1), /^seed is -1; pass a safe integer or a bigint/],
    [() => new Rng(0.5), /^seed is 0\.5; pass/],
    [() => new Rng(1n << 64n), /^seed is 18446744073709551616; pass/],
    [() => new Rng(-1n), /^seed is -1; pass/],
    [() => new Rng(0, Number.NaN), /^stream name is NaN; pass a string or a safe integer/],
    [() => rng.split(1.5), /^stream name is 1\.5; pass/],
    [() => rng.uniform(-1), /^n is -1; pass the number of values/],
    [() => rng.normal(1.5), /^n is 1\.5; pass/],
    [() => rng.permutation(Number.NaN), /^n is NaN; pass/],
    [() => rng.uniform(1, 2, 2), /^uniform from 2 to 2 .*; pass finite low < high/],
    [() => rng.uniform(1, 0, Number.POSITIVE_INFINITY), /^uniform from 0 to Infinity/],
    [() => rng.normal(1, 0, -1), /^mean 0 and std -1 .*; pass/],
    [() => rng.normal(1, Number.NaN), /^mean NaN/],
    [() => rng.truncatedNormal(1, 0, 1, 2, -2), /^truncatedNormal from 2 to -2 std .*; pass low < high/],
    [() => rng.truncatedNormal(1, 0, 1, Number.NaN, 2), /^truncatedNormal from NaN/],
    [() => rng.integers(1, 3, 3), /^integers from 3 to 3: pass integers low < high/],
    [() => rng.integers(1, 0, 2 ** 32), /^integers from 0 to 4294967296: pass/],
    [() => rng.bernoulli(1, 1.1), /^bernoulli's p is 1\.1; pass a probability/],
    [
      () => at(rng, 2 ** 53 - 1).next(),
      /^position 9007199254740991 \+ 2 is past 2\^53.*; split a new stream/,
    ],
  ];
  for (const [call, message] of wrong) {
    expect(call).toThrow(AnnealError);
    expect(call).toThrow(message);
  }
  expect(rng.state().position).toBe('0');
});
