/**
 * Equality of expressions with symbols, by their values at five points: two different functions of the kinds that
 * occur in answers agree at few places. The points follow from the symbols' names, so that a verdict is the same on
 * every machine.
 */
import { type Budget, LimitReached } from '../verdict.js';
import { type Complex, Complexes, isReal } from './complex.js';
import { Evaluation, exactValue, NoValue, type Point } from './evaluate.js';
import { type Node, some, symbolsOf } from './node.js';
import * as q from './rational.js';
import { magnitude, mayBeZero, type Real, Undecided } from './real.js';

/** What can be said of two expressions. */
export type Equality = 'equal' | 'different' | 'unknown';

/** Bits with which differences are looked for, and with which their absence is confirmed. */
const firstPrecision = 96;
const confirming = 320;
/** Two values count as equal where they agree to this many bits: far more than any answer has digits. */
const agreement = 250;
const wanted = 5;

const isKnownTrouble = (error: unknown) =>
  error instanceof Undecided || error instanceof q.TooLarge || error instanceof NoValue;

/** Runs what may fail to have a value at a point. */
function attempt<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    if (isKnownTrouble(error) && !(error instanceof LimitReached)) return undefined;
    throw error;
  }
}

/** FNV-1a of a symbol's name: the same symbol gets the same values in any expression. */
function hash(text: string): number {
  let value = 2166136261;
  for (const one of text) value = Math.imul(value ^ one.codePointAt(0)!, 16777619) >>> 0;
  return (value ^ (value >>> 15)) >>> 0;
}

type Family = 'real' | 'positive' | 'small' | 'integer';

/** Value of a symbol at the n-th point of a family: a fraction with a small prime below. */
function coordinate(name: string, n: number, family: Family): q.Rational {
  const h = hash(`${name}/${n}/${family}`);
  if (family === 'integer') return q.fromInteger(1 + (((h % 7) + n * 3) % 23));
  const size = BigInt(1 + (h % 96));
  if (family === 'small') return q.rational(size, 97n);
  const value = q.rational(size * 3n + 5n, 61n);
  return family === 'real' && (h >>> 9) % 2 === 1 ? q.negate(value) : value;
}

const points = (names: readonly string[], family: Family, count: number): Point[] =>
  Array.from(
    { length: names.length === 0 ? 1 : count },
    (_, n) => new Map(names.map((name) => [name, coordinate(name, n, family)])),
  );

const errorOf = ({ re, im }: Complex) => Math.max(re.err, im.err);
const sizeOf = ({ re, im }: Complex) => Math.max(magnitude(re), magnitude(im));

/** Both values at one precision, and their difference. */
function differenceAt(a: Node, b: Node, point: Point, precision: number, budget: Budget) {
  const c = new Complexes(precision, budget);
  const evaluation = new Evaluation(c, point, budget);
  const [left, right] = [evaluation.value(a), evaluation.value(b)];
  return { left, right, difference: c.subtract(left, right), leftReals: evaluation.leftReals };
}

/** Compares at one point: undefined where a side has no real value there. */
function compareAt(a: Node, b: Node, point: Point, isComplex: boolean, budget: Budget): Equality | undefined {
  const exact = attempt(() => [exactValue(a, point, budget), exactValue(b, point, budget)] as const);
  if (exact?.[0] && exact[1]) return q.equal(exact[0], exact[1]) ? 'equal' : 'different';
  return attempt(() => {
    const first = differenceAt(a, b, point, firstPrecision, budget);
    if (first.leftReals && !isComplex) return undefined;
    const { re, im } = first.difference;
    if (!mayBeZero(re) || !mayBeZero(im)) return 'different';
    const { right, left, difference } = differenceAt(a, b, point, confirming, budget);
    if (!mayBeZero(difference.re) || !mayBeZero(difference.im)) return 'different';
    const size = Math.max(sizeOf(left), sizeOf(right));
    // Agreement counts only relative to the values; two values that both look like zero agree absolutely.
    const bound = mayBeZero(right.re) && mayBeZero(right.im) ? -agreement : size - agreement;
    return errorOf(difference) <= bound ? 'equal' : undefined;
  });
}

/**
 * Whether two expressions are one function of their symbols. A point where they differ for certain proves that
 * they are not; "equal" needs five points with exact or 250-bit agreement; else "unknown". Real points first, then
 * positive ones, those below one, whole ones, so that domains of roots, logarithms and powers of −1 are met.
 */
export function probe(a: Node, b: Node, budget: Budget): Equality {
  const names = [...new Set([...symbolsOf(a), ...symbolsOf(b)])].sort();
  const isComplex =
    names.length === 0 ||
    [a, b].some((side) => some(side, (one) => one.kind === 'constant' && one.name === 'i'));
  let agreed = 0;
  for (const family of ['real', 'positive', 'small', 'integer'] as const) {
    const isCalm = family === 'real';
    for (const point of points(names, family, isCalm ? 8 : 6)) {
      const found = compareAt(a, b, point, isComplex, budget);
      if (found === 'different') return 'different';
      if (found === 'equal' && ++agreed >= (names.length === 0 ? 1 : wanted)) return 'equal';
    }
    if (names.length === 0) break;
  }
  return 'unknown';
}

/** A real value as a fraction within 2^-90 of its size, exact where it is rational; undefined where it has none. */
export function realValue(node: Node, budget: Budget): q.Rational | undefined {
  const nowhere: Point = new Map();
  const exact = attempt(() => exactValue(node, nowhere, budget));
  if (exact) return exact;
  const value = attempt(() =>
    new Evaluation(new Complexes(firstPrecision, budget), nowhere, budget).value(node),
  );
  if (!value || (!isReal(value) && !mayBeZero(value.im))) return undefined;
  return toRational(value.re);
}

function toRational({ m, e }: Real): q.Rational | undefined {
  if (Math.abs(e) > 4000) return undefined;
  return e >= 0 ? q.rational(m << BigInt(e)) : q.rational(m, 1n << BigInt(-e));
}
