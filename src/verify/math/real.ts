/**
 * Real numbers with error bounds. Comparing answers needs proof of difference, which floating point cannot give:
 * two doubles that differ by 1e-16 may be equal numbers, and two equal doubles different ones. Here a difference
 * beyond the bound is a proof, and what stays within it is decided by more bits.
 */
import type { Budget } from '../verdict.js';
import { bitLength, type Rational, TooLarge } from './rational.js';

/**
 * A real number known up to an error: |x − m·2^e| ≤ 2^err (midpoint-radius arithmetic; F. Johansson, "Arb", 2017,
 * with the radius kept as a power of two). What is computed from it can be told from zero, or cannot, but is never
 * called zero because it is small.
 */
export interface Real {
  readonly m: bigint;
  readonly e: number;
  readonly err: number;
}

/** Thrown where the error leaves open what a function does there: at poles, at branch cuts. */
export class Undecided extends Error {}

export const exactZero: Real = { m: 0n, e: 0, err: Number.NEGATIVE_INFINITY };

/** |x| < 2^magnitude, without the error. */
export const magnitude = ({ m, e }: Real): number => (m === 0n ? Number.NEGATIVE_INFINITY : bitLength(m) + e);

/** The ball holds zero. */
export const mayBeZero = (x: Real): boolean => x.m === 0n || magnitude(x) - 4 <= x.err;

/** 1, −1, or throws `Undecided` where the ball holds zero; 0 for an exact zero. */
export function signOf(x: Real): -1 | 0 | 1 {
  if (x.m === 0n && x.err === Number.NEGATIVE_INFINITY) return 0;
  if (mayBeZero(x)) throw new Undecided();
  return x.m > 0n ? 1 : -1;
}

/** Floor of the square root, by Newton from above. */
function integerRoot(value: bigint): bigint {
  if (value < 2n) return value;
  let x = 1n << BigInt(Math.ceil(bitLength(value) / 2) + 1);
  for (;;) {
    const next = (x + value / x) >> 1n;
    if (next >= x) return x;
    x = next;
  }
}

// Shift left, or right for a negative count.
const shiftBy = (value: bigint, by: number) => (by >= 0 ? value << BigInt(by) : value >> BigInt(-by));
// π and ln 2 by their precision: every comparison needs them, and there are two or three precisions.
const constants = new Map<string, bigint>();

/** Arithmetic at one precision. Every function spends from the budget. */
export class Reals {
  /** Fraction bits inside functions: more than the precision, for what their series lose. */
  readonly #guard: number;

  constructor(
    readonly precision: number,
    readonly budget: Budget,
  ) {
    this.#guard = precision + 40;
  }

  /** Cut to the precision, with what is cut off added to the error. */
  round(m: bigint, e: number, err: number): Real {
    const extra = bitLength(m) - this.precision;
    if (extra <= 8) return { m, e, err };
    return { m: m >> BigInt(extra), e: e + extra, err: Math.max(err, e + extra) + 1 };
  }

  /** A rational number; exact where it is whole and short enough. */
  of({ n, d }: Rational): Real {
    if (d === 1n) return this.round(n, 0, Number.NEGATIVE_INFINITY);
    const shift = this.precision + bitLength(d) - bitLength(n);
    return { m: shiftBy(n, shift) / d, e: -shift, err: 1 - shift };
  }

  /** Sum; the errors add. Exact zeros cost nothing, which keeps real parts of complex sums clean. */
  add(a: Real, b: Real): Real {
    if (a.m === 0n && a.err === Number.NEGATIVE_INFINITY) return b;
    if (b.m === 0n && b.err === Number.NEGATIVE_INFINITY) return a;
    const [high, low] = a.e >= b.e ? [a, b] : [b, a];
    const err = Math.max(a.err, b.err) + 1;
    const gap = high.e - low.e;
    // Far apart: the smaller one is below the larger one's last bit.
    if (gap > 4 * this.precision && magnitude(low) < magnitude(high) - 2 * this.precision)
      return { ...high, err: Math.max(err, magnitude(low)) + 1 };
    if (gap > 60_000) throw new TooLarge();
    return this.round((high.m << BigInt(gap)) + low.m, low.e, err);
  }

  negate = (a: Real): Real => ({ ...a, m: -a.m });
  subtract = (a: Real, b: Real): Real => this.add(a, this.negate(b));

  /** Product: |ab − a'b'| ≤ |a| db + |b| da + da db, each as a power of two. */
  multiply(a: Real, b: Real): Real {
    this.budget.spend();
    const parts = [a.err + magnitude(b), b.err + magnitude(a), a.err + b.err];
    const err = Math.max(...parts.map((one) => (Number.isNaN(one) ? Number.NEGATIVE_INFINITY : one)));
    return this.round(a.m * b.m, a.e + b.e, err === Number.NEGATIVE_INFINITY ? err : err + 2);
  }

  /** Quotient. @throws Undecided where the divisor's ball holds zero */
  divide(a: Real, b: Real): Real {
    this.budget.spend();
    if (mayBeZero(b)) throw new Undecided();
    if (a.m === 0n && a.err === Number.NEGATIVE_INFINITY) return a;
    const shift = Math.max(0, this.precision + bitLength(b.m) - bitLength(a.m));
    const m = (a.m << BigInt(shift)) / b.m;
    const e = a.e - b.e - shift;
    // a/b − a'/b' is at most (da + |q| db) / |b|, and |b| is at least half of 2^(magnitude − 3).
    const below = magnitude(b) - 5;
    const quotient = bitLength(m) + e;
    return this.round(m, e, Math.max(a.err - below, quotient + b.err - below, e) + 2);
  }

  /** Square root of what is known not to be negative. */
  sqrt(a: Real): Real {
    this.budget.spend(5);
    const sign = signOf(a);
    if (sign < 0) throw new Undecided();
    if (sign === 0) return exactZero;
    let shift = Math.max(0, 2 * this.precision - bitLength(a.m));
    if ((a.e - shift) % 2 !== 0) shift++;
    const m = integerRoot(a.m << BigInt(shift));
    const e = (a.e - shift) / 2;
    return this.round(m, e, Math.max(a.err - (magnitude(a) - 4) / 2, e) + 1);
  }

  /** As a fixed-point number with the guard's fraction bits. */
  #fixed({ m, e }: Real): bigint {
    return shiftBy(m, e + this.#guard);
  }

  /** A constant at this precision, computed with room to spare and then cut. */
  #constant(name: string, compute: (bits: number) => bigint): bigint {
    const key = `${name}${this.#guard}`;
    let found = constants.get(key);
    if (found === undefined) {
      found = compute(this.#guard + 200) >> 200n;
      constants.set(key, found);
    }
    return found;
  }

  /** Σ ±(1/x)^(2k+1)/(2k+1): arctangent of 1/x, or the hyperbolic one, in fixed point. */
  static #inverse(x: bigint, bits: number, hyperbolic: boolean): bigint {
    let power = (1n << BigInt(bits)) / x;
    let sum = 0n;
    for (let k = 0n; power !== 0n; k++, power /= x * x)
      sum += (!hyperbolic && k % 2n === 1n ? -power : power) / (2n * k + 1n);
    return sum;
  }

  // Machin: π/4 = 4 arctan 1/5 − arctan 1/239.
  #pi = () =>
    this.#constant(
      'pi',
      (bits) => 4n * (4n * Reals.#inverse(5n, bits, false) - Reals.#inverse(239n, bits, false)),
    );
  // The hyperbolic counterpart: ln 2 = 18 artanh 1/26 − 2 artanh 1/4801 + 8 artanh 1/8749.
  #ln2 = () =>
    this.#constant(
      'ln2',
      (bits) =>
        18n * Reals.#inverse(26n, bits, true) -
        2n * Reals.#inverse(4801n, bits, true) +
        8n * Reals.#inverse(8749n, bits, true),
    );

  /** π to the precision. */
  pi(): Real {
    return this.round(this.#pi(), -this.#guard, 2 - this.#guard);
  }

  /** e^a: reduced by multiples of ln 2, halved, summed, and squared back. */
  exp(a: Real): Real {
    this.budget.spend(30);
    if (magnitude(a) > 30) throw new TooLarge();
    const bits = BigInt(this.#guard);
    const x = this.#fixed(a);
    const ln2 = this.#ln2();
    const k = x / ln2;
    // Halved eight times, the series needs a term for every eleven bits.
    const r = (x - k * ln2) >> 8n;
    let term = 1n << bits;
    let sum = term;
    for (let i = 1n; term !== 0n && i < 500n; i++) {
      term = (term * r) / (i << bits);
      sum += term;
    }
    for (let i = 0; i < 8; i++) sum = (sum * sum) >> bits;
    // Squaring eight times loses eight bits, the series a few: the guard has forty.
    const e = Number(k) - this.#guard;
    const size = bitLength(sum) + e;
    return this.round(sum, e, Math.max(a.err, Math.max(0, magnitude(a)) + 24 - this.#guard) + size + 1);
  }

  /** Natural logarithm of a positive number. */
  ln(a: Real): Real {
    if (signOf(a) <= 0) throw new Undecided();
    // a = f·2^k with f near 1; a double starts, and the series of ln(1 + r) ends.
    const length = bitLength(a.m);
    const k = a.e + length;
    const f: Real = { m: a.m, e: -length, err: a.err - k };
    const start = Math.log(Number(shiftBy(a.m, 60 - length)) / 2 ** 60);
    const y: Real = { m: BigInt(Math.round(start * 2 ** 50)), e: -50, err: Number.NEGATIVE_INFINITY };
    const r = this.subtract(this.multiply(f, this.exp(this.negate(y))), {
      m: 1n,
      e: 0,
      err: Number.NEGATIVE_INFINITY,
    });
    const bits = BigInt(this.#guard);
    const x = this.#fixed(r);
    let power = x;
    let sum = 0n;
    for (let i = 1n; power !== 0n && i < 200n; i++, power = (-power * x) >> bits)
      if (power === -1n) break;
      else sum += power / i;
    const log = sum + this.#fixed(y) + BigInt(k) * this.#ln2();
    return this.round(log, -this.#guard, Math.max(r.err, bitLength(BigInt(k)) + 12 - this.#guard) + 2);
  }

  /** [sine, cosine]. */
  sincos(a: Real): [Real, Real] {
    this.budget.spend(60);
    if (magnitude(a) > 64) throw new TooLarge();
    const bits = BigInt(this.#guard);
    const x = this.#fixed(a);
    const half = this.#pi() >> 1n;
    // The nearest multiple of a quarter turn, so that the series runs on at most an eighth.
    let quarter = (2n * x + half) / (2n * half);
    let r = x - quarter * half;
    if (r < 0n && -r > half) [quarter, r] = [quarter - 1n, r + half];
    let [sine, cosine] = [0n, 0n];
    let term = 1n << bits;
    for (let i = 1n; term !== 0n && term !== -1n && i < 600n; i++) {
      const sign = (i - 1n) % 4n < 2n ? 1n : -1n;
      if (i % 2n === 1n) cosine += sign * term;
      else sine += sign * term;
      term = (term * r) / (i << bits);
    }
    const err = Math.max(a.err, Math.max(0, magnitude(a)) + 14 - this.#guard) + 1;
    const [s, c] = [sine, cosine].map((m) => this.round(m, -this.#guard, err)) as [Real, Real];
    // What quarter turns make of sine and cosine.
    const turns = [
      [s, c],
      [c, this.negate(s)],
      [this.negate(s), this.negate(c)],
      [this.negate(c), s],
    ] as const;
    return [...turns[Number(((quarter % 4n) + 4n) % 4n)]!];
  }

  /** Angle of the point (x, y) in (−π, π]. */
  atan2(y: Real, x: Real): Real {
    const signY = signOf(y);
    if (signY === 0) return signOf(x) >= 0 ? exactZero : this.pi();
    // Scaled so that a double holds both; the double's angle is turned back, and what is left is tiny.
    const top = Math.max(magnitude(x), magnitude(y));
    const scaled = ({ m, e }: Real) => Number(shiftBy(m, e + 60 - top)) / 2 ** 60;
    const start = Math.atan2(scaled(y), scaled(x));
    const angle: Real = { m: BigInt(Math.round(start * 2 ** 48)), e: -48, err: Number.NEGATIVE_INFINITY };
    const [s, c] = this.sincos(angle);
    const across = this.subtract(this.multiply(y, c), this.multiply(x, s));
    const along = this.add(this.multiply(x, c), this.multiply(y, s));
    const t = this.divide(across, along);
    const bits = BigInt(this.#guard);
    const r = this.#fixed(t);
    const square = (r * r) >> bits;
    let power = r;
    let sum = 0n;
    for (let i = 1n; power !== 0n && power !== -1n && i < 200n; i += 2n, power = (-power * square) >> bits)
      sum += power / i;
    return this.round(sum + this.#fixed(angle), -this.#guard, Math.max(t.err, 12 - this.#guard) + 1);
  }
}
