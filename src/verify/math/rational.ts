/** An exact fraction: lowest terms, denominator above zero. */
export interface Rational {
  readonly n: bigint;
  readonly d: bigint;
}

/** Largest size, in bits, of a numerator or denominator that is computed with. */
export const maxBits = 20_000;

export class TooLarge extends RangeError {}

const doubleRange = 1n << 1000n;

/** Bits of |value|, within three of exact: cheap, for guards. */
export function bitLength(value: bigint): number {
  const size = value < 0n ? -value : value;
  if (size < doubleRange) return size === 0n ? 0 : Math.floor(Math.log2(Number(size))) + 1;
  return size.toString(16).length * 4;
}

function gcd(a: bigint, b: bigint): bigint {
  let [x, y] = [a < 0n ? -a : a, b];
  while (y !== 0n) [x, y] = [y, x % y];
  return x;
}

/** n/d in lowest terms. Throws `TooLarge` beyond `maxBits`; d must not be 0. */
export function rational(n: bigint, d = 1n): Rational {
  if (d === 1n) {
    if (bitLength(n) > maxBits) throw new TooLarge();
    return { n, d };
  }
  if (bitLength(n) > maxBits || bitLength(d) > maxBits) throw new TooLarge();
  const common = gcd(n, d < 0n ? -d : d) * (d < 0n ? -1n : 1n);
  return { n: n / common, d: d / common };
}

export const zero = rational(0n);
export const one = rational(1n);

export const fromInteger = (value: number): Rational => rational(BigInt(value));
export const add = (a: Rational, b: Rational): Rational => rational(a.n * b.d + b.n * a.d, a.d * b.d);
export const negate = (a: Rational): Rational => ({ n: -a.n, d: a.d });
export const subtract = (a: Rational, b: Rational): Rational => add(a, negate(b));
export const multiply = (a: Rational, b: Rational): Rational => rational(a.n * b.n, a.d * b.d);
/** a/b, or undefined where b is 0. */
export const divide = (a: Rational, b: Rational): Rational | undefined =>
  b.n === 0n ? undefined : rational(a.n * b.d, a.d * b.n);
export const equal = (a: Rational, b: Rational): boolean => a.n === b.n && a.d === b.d;
export const isInteger = (a: Rational): boolean => a.d === 1n;
export const sign = ({ n }: Rational): -1 | 0 | 1 => (n > 0n ? 1 : n < 0n ? -1 : 0);
export const absolute = (a: Rational): Rational => (a.n < 0n ? negate(a) : a);
/** Sign of a − b. */
export const compare = (a: Rational, b: Rational): -1 | 0 | 1 => sign({ n: a.n * b.d - b.n * a.d, d: 1n });

/** a^k for an integer k; undefined for 0 to a negative power. Throws `TooLarge` before it computes too much. */
export function power(a: Rational, k: bigint): Rational | undefined {
  if (k < 0n) return a.n === 0n ? undefined : power(rational(a.d, a.n), -k);
  if (a.d === 1n && (a.n === 0n || a.n === 1n)) return k === 0n ? one : a;
  if (a.d === 1n && a.n === -1n) return k % 2n === 0n ? one : a;
  if (k > BigInt(maxBits)) throw new TooLarge();
  if (Math.max(bitLength(a.n), bitLength(a.d)) * Number(k) > maxBits + 64) throw new TooLarge();
  return { n: a.n ** k, d: a.d ** k };
}

/** k-th root of a natural number where it is one, else undefined. */
function exactRootOf(value: bigint, k: number): bigint | undefined {
  if (value < 2n) return value;
  const bits = bitLength(value);
  if (k > bits) return undefined;
  // Newton from above converges to the floor of the root.
  const power = BigInt(k);
  let x = 1n << BigInt(Math.ceil(bits / k) + 1);
  for (;;) {
    const next = ((power - 1n) * x + value / x ** (power - 1n)) / power;
    if (next >= x) break;
    x = next;
  }
  return x ** power === value ? x : undefined;
}

/** The real k-th root where it is rational, else undefined; odd roots of negative numbers are negative. */
export function root(a: Rational, k: number): Rational | undefined {
  if (k < 1 || (a.n < 0n && k % 2 === 0)) return undefined;
  const n = exactRootOf(a.n < 0n ? -a.n : a.n, k);
  const d = exactRootOf(a.d, k);
  if (n === undefined || d === undefined) return undefined;
  return { n: a.n < 0n ? -n : n, d };
}

/** "12", "-0.5", ".5", "1e-3" exactly; undefined for anything else, and for more digits than are computed with. */
export function parseDecimal(text: string): Rational | undefined {
  const found = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,6}))?$/.exec(text);
  if (!found || text.length > 6000) return undefined;
  const [, sign, whole = '', part = '', exponent = '0'] = found;
  if (whole + part === '') return undefined;
  const shift = Number(exponent) - part.length;
  if (Math.abs(shift) > 6000) return undefined;
  const digits = BigInt(whole + part) * (sign === '-' ? -1n : 1n);
  const scale = 10n ** BigInt(Math.abs(shift));
  return shift >= 0 ? rational(digits * scale) : rational(digits, scale);
}

/** The nearest double, also of fractions whose parts are far beyond double's range. */
export function toNumber({ n, d }: Rational): number {
  const shift = Math.max(0, Math.min(bitLength(n), bitLength(d)) - 1000);
  return Number(n >> BigInt(shift)) / Number(d >> BigInt(shift)) || Number(n) / Number(d) || 0;
}

/** "3", "-1/3": the normal form. */
export const show = ({ n, d }: Rational): string => (d === 1n ? `${n}` : `${n}/${d}`);
