/**
 * Values of parsed answers: exact where they are rational, else balls with error bounds. Nothing of an answer is
 * ever run as code.
 */
import type { Budget } from '../verdict.js';
import { type Complex, type Complexes, isReal } from './complex.js';
import { isNumber, type Node } from './node.js';
import * as q from './rational.js';
import { exactZero, Undecided } from './real.js';

/** Thrown for what has no value here: texts, integrals, sets, infinity. */
export class NoValue extends Error {}

/** Values of symbols. */
export type Point = ReadonlyMap<string, q.Rational>;

// 3000! has 9131 digits: written answers stay below, and the product takes a millisecond.
const largestFactorial = 3000n;

/** k! of a natural number. @throws NoValue elsewhere: the gamma function is no answer at school */
function factorial(value: q.Rational, budget: Budget): q.Rational {
  if (value.d !== 1n || value.n < 0n) throw new NoValue();
  if (value.n > largestFactorial) throw new q.TooLarge();
  let product = 1n;
  for (let k = 2n; k <= value.n; k++) product *= k;
  budget.spend(Number(value.n));
  return q.bitLength(product) > q.maxBits ? overLong(product) : { n: product, d: 1n };
}

/** Factorials may be longer than other numbers: they are compared, hardly computed with. */
const overLong = (n: bigint): q.Rational => ({ n, d: 1n });

/** n over k, by the shorter of its two products; every quotient on the way is whole. */
function binomial(n: q.Rational, k: q.Rational, budget: Budget): q.Rational {
  if (n.d !== 1n || k.d !== 1n || k.n < 0n || n.n < 0n) throw new NoValue();
  if (k.n > n.n) return q.zero;
  const rest = n.n - k.n;
  let least = k.n;
  if (rest < least) least = rest;
  if (least > 2000n) throw new q.TooLarge();
  let result = 1n;
  for (let i = 1n; i <= least; i++) result = (result * (n.n - least + i)) / i;
  budget.spend(Number(least));
  return q.rational(result);
}

/** Digits read in a base from 2 to 36 (written digits only). */
export function inBase(value: q.Rational, base: q.Rational): q.Rational | undefined {
  // The digits were read as those of a decimal number: letters for digits above nine do not occur.
  if (value.d !== 1n || base.d !== 1n || base.n < 2n || base.n > 36n) return undefined;
  const digits = [...`${value.n < 0n ? -value.n : value.n}`].map(BigInt);
  if (digits.some((digit) => digit >= base.n)) return undefined;
  const read = digits.reduce((sum, digit) => sum * base.n + digit, 0n);
  return q.rational(value.n < 0n ? -read : read);
}

/** Largest whole number that is not above; BigInt division rounds towards zero, so negatives go another way. */
const floor = ({ n, d }: q.Rational) => (n >= 0n ? n / d : -((-n + d - 1n) / d));

/** Values that are rational without any approximation; undefined where one is not. Throws `NoValue`, `Undecided`, `TooLarge`. */
export function exactValue(node: Node, point: Point, budget: Budget): q.Rational | undefined {
  budget.spend();
  if (node.kind === 'number') return node.value;
  if (node.kind === 'symbol') return point.get(node.name);
  if (node.kind === 'constant') {
    if (node.name === 'pi' || node.name === 'e' || node.name === 'i') return undefined;
    throw new NoValue();
  }
  if (node.kind !== 'apply') throw new NoValue();
  // One irrational part makes the whole irrational, or at least unknown, here: the balls decide.
  const args: q.Rational[] = [];
  for (const arg of node.args) {
    const value = exactValue(arg, point, budget);
    if (!value) return undefined;
    args.push(value);
  }
  return exactApply(node.op, args, budget);
}

/** An operation on rationals where its result is one; undefined where it is irrational or not known here. */
function exactApply(op: string, args: readonly q.Rational[], budget: Budget): q.Rational | undefined {
  const [a, b] = args as [q.Rational, q.Rational];
  // Reducing fractions takes time that grows with the square of their length.
  const bits = q.bitLength(a.d) + (b ? q.bitLength(b.d) : 0);
  budget.spend(1 + (bits * bits) / 40_000);
  switch (op === 'ratio' && args.length === 2 ? 'div' : op) {
    case 'add':
      return q.add(a, b);
    case 'neg':
      return q.negate(a);
    case 'mul':
      return q.multiply(a, b);
    case 'div': {
      // Division by zero decides nothing: at another point, or simplified, the expression may have a value.
      const result = q.divide(a, b);
      if (!result) throw new Undecided();
      return result;
    }
    case 'pow':
      return exactPower(a, b);
    case 'root':
      return b.d === 1n && b.n > 0n && b.n < 100n ? q.root(a, Number(b.n)) : undefined;
    case 'percent':
      return q.multiply(a, q.rational(1n, 100n));
    case 'abs':
      return q.absolute(a);
    case 'floor':
      return q.rational(floor(a));
    case 'ceil':
      return q.rational(-floor(q.negate(a)));
    case 'factorial':
      return factorial(a, budget);
    case 'binomial':
      return binomial(a, b, budget);
    case 'base': {
      const read = inBase(a, b);
      if (!read) throw new NoValue();
      return read;
    }
    // Units have been compared, or converted, before.
    case 'unit':
      return a;
    case 'max':
    case 'min':
      return args.reduce((best, one) => (q.compare(one, best) * (op === 'max' ? 1 : -1) > 0 ? one : best));
    case 'gcd': {
      if (args.some((one) => one.d !== 1n)) throw new NoValue();
      const step = (x: bigint, y: bigint): bigint => (y === 0n ? (x < 0n ? -x : x) : step(y, x % y));
      return q.rational(args.map((one) => one.n).reduce(step));
    }
    case 'mod': {
      if (!b || b.n === 0n) throw new NoValue();
      return q.subtract(a, q.multiply(b, q.rational(floor(q.divide(a, b)!))));
    }
    default:
      return undefined;
  }
}

/** a^b where it is rational: 8^(2/3), but not 2^(1/2). Zero to a power that is not positive has no value. */
function exactPower(a: q.Rational, b: q.Rational): q.Rational | undefined {
  if (a.n === 0n && b.n <= 0n) throw new Undecided();
  if (b.d === 1n) return q.power(a, b.n);
  if (b.d > 100n) return undefined;
  // A negative base has no real power here: the principal one is complex.
  const root = a.n < 0n ? undefined : q.root(a, Number(b.d));
  return root && q.power(root, b.n);
}

/** Evaluation with complex balls; notes where a real expression left the reals on its way. */
export class Evaluation {
  /** A part of what was evaluated is not real. */
  leftReals = false;

  constructor(
    readonly c: Complexes,
    readonly point: Point,
    readonly budget: Budget,
  ) {}

  /** The value of a node as a ball that holds it. @throws NoValue, Undecided, TooLarge, LimitReached */
  value(node: Node): Complex {
    this.budget.spend();
    // Parts that are rational stay exact: no error, and no cost of logarithms.
    if (node.kind !== 'apply' || node.args.length === 0) return this.#leaf(node);
    const exact = isNumber(node.args[0]) || node.op === 'pow' ? this.#exact(node) : undefined;
    if (exact) return this.c.of(exact);
    const found = this.#apply(node.op, node.args);
    if (!isReal(found)) this.leftReals = true;
    return found;
  }

  /** The rational value, or undefined where there is none or it is too long to be worth it. */
  #exact(node: Node): q.Rational | undefined {
    try {
      return exactValue(node, this.point, this.budget);
    } catch (error) {
      // Too long to be exact: the balls go on.
      if (error instanceof q.TooLarge) return undefined;
      throw error;
    }
  }

  /** Numbers, symbols and constants. */
  #leaf(node: Node): Complex {
    if (isNumber(node)) return this.c.of(node.value);
    if (node.kind === 'symbol') {
      const value = this.point.get(node.name);
      if (!value) throw new NoValue();
      return this.c.of(value);
    }
    if (node.kind === 'constant') {
      if (node.name === 'pi') return this.c.pi();
      if (node.name === 'e') return this.c.exp(this.c.one);
      if (node.name === 'i') return this.c.i;
    }
    throw new NoValue();
  }

  /** An operation on balls. Degrees become radians here; units have been dealt with by the comparator. */
  #apply(op: string, nodes: readonly Node[]): Complex {
    const { c } = this;
    const args = nodes.map((one) => this.value(one));
    const [a, b] = args as [Complex, Complex];
    switch (op === 'ratio' && args.length === 2 ? 'div' : op) {
      case 'add':
        return c.add(a, b);
      case 'neg':
        return c.negate(a);
      case 'mul':
        return c.multiply(a, b);
      case 'div':
        return c.divide(a, b);
      case 'pow':
        // e^x at once, rather than by the logarithm of e.
        if (nodes[0]!.kind === 'constant' && nodes[0]!.name === 'e') return c.exp(b);
        return c.power(a, b);
      case 'root':
        return this.#root(a, nodes[1]!);
      case 'exp':
        return c.exp(a);
      case 'ln':
        return c.ln(a);
      case 'log':
        // Without a base: the natural one in higher mathematics, ten at school; the comparator tries both.
        return nodes.length > 1 ? c.divide(c.ln(a), c.ln(b)) : c.ln(a);
      case 'abs':
        return c.absolute(a);
      case 'percent':
        return c.divide(a, c.of(q.fromInteger(100)));
      case 'degree':
        return c.divide(c.multiply(a, c.pi()), c.of(q.fromInteger(180)));
      case 'unit':
        return a;
      case 'Re':
        return { re: a.re, im: exactZero };
      case 'Im':
        return { re: a.im, im: exactZero };
      case 'arg':
        return c.argument(a);
      default:
        return this.#trigonometric(op, a);
    }
  }

  /** Real roots where there are real ones: the cube root of −8 is −2. */
  #root(a: Complex, index: Node): Complex {
    const { c } = this;
    if (isNumber(index) && index.value.n === 2n && index.value.d === 1n) return c.sqrt(a);
    const k = this.value(index);
    const isOdd = isNumber(index) && index.value.d === 1n && index.value.n % 2n === 1n;
    if (isOdd && isReal(a) && a.re.m < 0n) return c.negate(c.power(c.negate(a), c.divide(c.one, k)));
    return c.power(a, c.divide(c.one, k));
  }

  /** Functions of an angle and the hyperbolic ones, reduced to a few with proven error bounds. */
  #trigonometric(op: string, a: Complex): Complex {
    const { c } = this;
    const turn = () => c.half(c.pi());
    switch (op) {
      case 'sin':
        return c.sincos(a)[0];
      case 'cos':
        return c.sincos(a)[1];
      case 'tan':
      case 'cot': {
        const [sine, cosine] = c.sincos(a);
        return op === 'tan' ? c.divide(sine, cosine) : c.divide(cosine, sine);
      }
      case 'sec':
        return c.divide(c.one, c.sincos(a)[1]);
      case 'csc':
        return c.divide(c.one, c.sincos(a)[0]);
      case 'arcsin':
        return c.asin(a);
      case 'arccos':
        return c.subtract(turn(), c.asin(a));
      case 'arctan':
        return c.atan(a);
      case 'arccot':
        return c.subtract(turn(), c.atan(a));
      case 'sinh':
      case 'cosh':
      case 'tanh': {
        const up = c.exp(a);
        const down = c.divide(c.one, up);
        const [difference, sum] = [c.subtract(up, down), c.add(up, down)];
        return op === 'tanh' ? c.divide(difference, sum) : c.half(op === 'sinh' ? difference : sum);
      }
      default:
        throw new NoValue();
    }
  }
}
