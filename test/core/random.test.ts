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
