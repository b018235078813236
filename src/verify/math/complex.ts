/**
 * Complex numbers over the same balls. Answers with roots of negative numbers, logarithms and angles leave the
 * reals on their way even where they end in them.
 */
import type { Budget } from '../verdict.js';
import { type Rational, TooLarge } from './rational.js';
import { exactZero, magnitude, mayBeZero, type Real, Reals, signOf, Undecided } from './real.js';

/** A complex number of two balls. */
export interface Complex {
  readonly re: Real;
  readonly im: Real;
}

// Zero and known to be, as against small.
const isExactZero = (x: Real) => x.m === 0n && x.err === Number.NEGATIVE_INFINITY;

/** It is real, and known to be. */
export const isReal = ({ im }: Complex): boolean => isExactZero(im);

// The number 1 without an error.
const unit: Real = { m: 1n, e: 0, err: Number.NEGATIVE_INFINITY };

/** Complex arithmetic at one precision: principal branches; throws `Undecided` at poles and on branch cuts. */
export class Complexes {
  readonly reals: Reals;
  readonly one: Complex = { re: unit, im: exactZero };
  readonly i: Complex = { re: exactZero, im: unit };

  constructor(precision: number, budget: Budget) {
    this.reals = new Reals(precision, budget);
  }

  /** A rational number, to the precision. */
  of(value: Rational): Complex {
    return { re: this.reals.of(value), im: exactZero };
  }

  pi = (): Complex => ({ re: this.reals.pi(), im: exactZero });
  add = (a: Complex, b: Complex): Complex => ({
    re: this.reals.add(a.re, b.re),
    im: this.reals.add(a.im, b.im),
  });
  negate = (a: Complex): Complex => ({ re: this.reals.negate(a.re), im: this.reals.negate(a.im) });
  subtract = (a: Complex, b: Complex): Complex => this.add(a, this.negate(b));
  /** Half of a; exact. */
  half = ({ re, im }: Complex): Complex => ({
    re: { m: re.m, e: re.e - 1, err: re.err - 1 },
    im: { m: im.m, e: im.e - 1, err: im.err - 1 },
  });

  /** Real factors stay real: an imaginary part of 0 ± ε would put later functions on their branch cuts. */
  multiply(a: Complex, b: Complex): Complex {
    const r = this.reals;
    if (isReal(a) && isReal(b)) return { re: r.multiply(a.re, b.re), im: exactZero };
    return {
      re: r.subtract(r.multiply(a.re, b.re), r.multiply(a.im, b.im)),
      im: r.add(r.multiply(a.re, b.im), r.multiply(a.im, b.re)),
    };
  }

  /** By the conjugate, except for real divisors. @throws Undecided where the divisor may be zero */
  divide(a: Complex, b: Complex): Complex {
    const r = this.reals;
    if (isReal(b)) return { re: r.divide(a.re, b.re), im: isReal(a) ? exactZero : r.divide(a.im, b.re) };
    const norm = r.add(r.multiply(b.re, b.re), r.multiply(b.im, b.im));
    const { re, im } = this.multiply(a, { re: b.re, im: r.negate(b.im) });
    return { re: r.divide(re, norm), im: r.divide(im, norm) };
  }

  /** |a|, real. */
  absolute({ re, im }: Complex): Complex {
    const r = this.reals;
    if (isExactZero(im)) return { re: mayBeZero(re) ? re : { ...re, m: re.m < 0n ? -re.m : re.m }, im };
    return { re: r.sqrt(r.add(r.multiply(re, re), r.multiply(im, im))), im: exactZero };
  }

  /** Argument in (−π, π]. */
  argument({ re, im }: Complex): Complex {
    return { re: this.reals.atan2(im, re), im: exactZero };
  }

  /** e^(x + iy) = e^x (cos y + i sin y). */
  exp(a: Complex): Complex {
    const r = this.reals;
    const size = r.exp(a.re);
    if (isReal(a)) return { re: size, im: exactZero };
    const [sine, cosine] = r.sincos(a.im);
    return { re: r.multiply(size, cosine), im: r.multiply(size, sine) };
  }

  /** Principal logarithm. @throws Undecided at zero and where the side of the negative axis is open */
  ln(a: Complex): Complex {
    if (isReal(a) && signOf(a.re) > 0) return { re: this.reals.ln(a.re), im: exactZero };
    return { re: this.reals.ln(this.absolute(a).re), im: this.argument(a).re };
  }

  /** Principal root; of a negative real it is imaginary, exactly. */
  sqrt(a: Complex): Complex {
    if (!isReal(a)) return this.exp(this.half(this.ln(a)));
    const sign = signOf(a.re);
    if (sign >= 0) return { re: this.reals.sqrt(a.re), im: exactZero };
    return { re: exactZero, im: this.reals.sqrt(this.reals.negate(a.re)) };
  }

  /** a^k by squaring. */
  integerPower(a: Complex, k: number): Complex {
    if (k < 0) return this.divide(this.one, this.integerPower(a, -k));
    if (k > 20_000 || (k > 1 && Math.abs(magnitude(a.re)) * k > 1e9)) throw new TooLarge();
    let result = this.one;
    for (let base = a, left = k; left > 0; left = Math.floor(left / 2)) {
      if (left % 2 === 1) result = this.multiply(result, base);
      if (left > 1) base = this.multiply(base, base);
    }
    return result;
  }

  /** Principal power: by squaring for whole exponents, which need no logarithm and so have no branch cut. */
  power(a: Complex, b: Complex): Complex {
    if (
      isReal(b) &&
      b.re.e === 0 &&
      b.re.err === Number.NEGATIVE_INFINITY &&
      b.re.m > -20_001n &&
      b.re.m < 20_001n
    )
      return this.integerPower(a, Number(b.re.m));
    if (isReal(a) && signOf(a.re) === 0) {
      if (!isReal(b) || signOf(b.re) <= 0) throw new Undecided();
      return a;
    }
    return this.exp(this.multiply(b, this.ln(a)));
  }

  /** [sine, cosine]. */
  sincos(a: Complex): [Complex, Complex] {
    if (isReal(a)) {
      const [sine, cosine] = this.reals.sincos(a.re);
      return [
        { re: sine, im: exactZero },
        { re: cosine, im: exactZero },
      ];
    }
    const up = this.exp(this.multiply(this.i, a));
    const down = this.divide(this.one, up);
    return [
      this.half(this.multiply(this.negate(this.i), this.subtract(up, down))),
      this.half(this.add(up, down)),
    ];
  }

  /** Arc tangent: (ln(1 + ia) − ln(1 − ia)) / 2i. */
  atan(a: Complex): Complex {
    if (isReal(a)) return { re: this.reals.atan2(a.re, unit), im: exactZero };
    const turned = this.multiply(this.i, a);
    const difference = this.subtract(
      this.ln(this.add(this.one, turned)),
      this.ln(this.subtract(this.one, turned)),
    );
    return this.half(this.multiply(this.negate(this.i), difference));
  }

  /** Arc sine: real on [−1, 1], −i ln(ia + √(1 − a²)) elsewhere. */
  asin(a: Complex): Complex {
    const cosine = this.sqrt(this.subtract(this.one, this.multiply(a, a)));
    if (isReal(a) && isReal(cosine)) return { re: this.reals.atan2(a.re, cosine.re), im: exactZero };
    return this.multiply(this.negate(this.i), this.ln(this.add(this.multiply(this.i, a), cosine)));
  }
}
