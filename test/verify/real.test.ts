import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Complex, Complexes } from '../../src/verify/math/complex.js';
import * as q from '../../src/verify/math/rational.js';
import { mayBeZero, Undecided } from '../../src/verify/math/real.js';
import { Budget } from '../../src/verify/verdict.js';

interface Golden {
  pi: string;
  real: { f: Name; x: string; y: string }[];
  complex: { f: Name; re: string; im: string; y: [string, string] }[];
}
type Name = 'exp' | 'ln' | 'sin' | 'cos' | 'sqrt' | 'atan' | 'asin';
const golden: Golden = JSON.parse(
  readFileSync(new URL('../golden/ball-arithmetic.json', import.meta.url), 'utf8'),
);

const precision = 220;
const arithmetic = () => new Complexes(precision, new Budget({ work: 1e7 }));
const value = (text: string) => q.parseDecimal(text)!;

function compute(c: Complexes, name: Name, x: Complex): Complex {
  if (name === 'sin') return c.sincos(x)[0];
  if (name === 'cos') return c.sincos(x)[1];
  return c[name](x);
}

/** The computed ball is tight, and the reference, which is rounded to sixty digits, is in it. */
function expectNear(c: Complexes, part: Complex['re'], reference: string): void {
  const wanted = value(reference);
  const { m, e, err } = c.reals.subtract(part, c.reals.of(wanted));
  const size = Math.max(1, Math.abs(Number(q.toNumber(wanted))));
  const distance = Math.abs(Number(m)) * 2 ** e;
  expect(distance).toBeLessThan(size * 1e-58);
  expect(distance).toBeLessThanOrEqual(2 ** err + size * 1e-59);
  expect(2 ** err).toBeLessThan(size * 1e-48);
}

describe('ball arithmetic', () => {
  it('agrees with mpmath to sixty digits on the reals', () => {
    const c = arithmetic();
    expectNear(c, c.pi().re, golden.pi);
    expect(golden.real.length).toBeGreaterThan(40);
    for (const { f, x, y } of golden.real) expectNear(c, compute(c, f, c.of(value(x))).re, y);
  });

  it('agrees with mpmath in the plane', () => {
    const c = arithmetic();
    for (const { f, re, im, y } of golden.complex) {
      const found = compute(c, f, { re: c.reals.of(value(re)), im: c.reals.of(value(im)) });
      expectNear(c, found.re, y[0]);
      expectNear(c, found.im, y[1]);
    }
  });

  it('never calls a small number zero', () => {
    const c = arithmetic();
    expect(mayBeZero(c.exp(c.of(q.rational(-100_000n))).re)).toBe(false);
    expect(mayBeZero(c.of(q.rational(1n, 10n ** 3000n)).re)).toBe(false);
    // π − π is zero as far as can be told.
    expect(mayBeZero(c.subtract(c.pi(), c.pi()).re)).toBe(true);
  });

  it('has no value at a pole or on a branch cut that it cannot tell', () => {
    const c = arithmetic();
    const nothing = c.subtract(c.pi(), c.pi());
    expect(() => c.divide(c.one, nothing)).toThrow(Undecided);
    expect(() => c.ln(nothing)).toThrow(Undecided);
    expect(() => c.exp(c.of(q.rational(10n ** 12n)))).toThrow(q.TooLarge);
  });
});

describe('rationals', () => {
  const any = fc
    .tuple(fc.bigInt({ min: -(10n ** 20n), max: 10n ** 20n }), fc.bigInt({ min: 1n, max: 10n ** 20n }))
    .map(([n, d]) => q.rational(n, d));

  it('are a field', () => {
    fc.assert(
      fc.property(any, any, any, (a, b, c) => {
        expect(q.multiply(a, q.add(b, c))).toEqual(q.add(q.multiply(a, b), q.multiply(a, c)));
        expect(q.subtract(q.add(a, b), b)).toEqual(a);
        if (b.n !== 0n) expect(q.multiply(q.divide(a, b)!, b)).toEqual(a);
      }),
      { numRuns: 200 },
    );
  });

  it('have exact roots of their powers, and no others', () => {
    fc.assert(
      fc.property(any, fc.integer({ min: 1, max: 6 }), (a, k) => {
        const absolute = q.absolute(a);
        expect(q.root(q.power(absolute, BigInt(k))!, k)).toEqual(absolute);
        // Between n² and (n + 1)² there is no square; of fractions that is not so: (4/3)² + 1 = (5/3)².
        const n = absolute.n + 1n;
        expect(q.root(q.rational(n * n + 1n), 2)).toBeUndefined();
      }),
      { numRuns: 100 },
    );
    expect(q.root(q.rational(-27n, 8n), 3)).toEqual(q.rational(-3n, 2n));
    expect(q.root(q.rational(-4n), 2)).toBeUndefined();
  });

  it('are read from decimals exactly', () => {
    expect(q.parseDecimal('-0.125')).toEqual(q.rational(-1n, 8n));
    expect(q.parseDecimal('1.5e3')).toEqual(q.rational(1500n));
    expect(q.parseDecimal('.5')).toEqual(q.rational(1n, 2n));
    for (const text of ['', '.', '1.2.3', 'e5', '1e999999', '0x10', '1_000'])
      expect(q.parseDecimal(text)).toBeUndefined();
  });

  it('refuse what is too large before they compute it', () => {
    const start = performance.now();
    expect(() => q.power(q.rational(9n), 10n ** 9n)).toThrow(q.TooLarge);
    expect(() => q.power(q.rational(2n), 30_000n)).toThrow(q.TooLarge);
    expect(performance.now() - start).toBeLessThan(50);
  });
});
