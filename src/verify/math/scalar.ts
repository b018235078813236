/**
 * Comparison of two values: marks first (units, percent, degrees, bases), then numbers, then expressions. All
 * tolerance for decimals is here.
 */
import type { Budget } from '../verdict.js';
import { inBase } from './evaluate.js';
import { apply, form, integer, isApply, isNumber, mapChildren, type Node, some, symbolsOf } from './node.js';
import type { MathOptions } from './options.js';
import { type Equality, probe, realValue } from './probe.js';
import * as q from './rational.js';
import { isUnit, parseUnit } from './words.js';

/** What the comparison of two answers shares. */
export interface Context {
  readonly options: Required<MathOptions>;
  readonly budget: Budget;
}

/** A value with its unit, percent and degree signs taken off. */
interface Bare {
  node: Node;
  units: string[];
  isPercent: boolean;
  isDegree: boolean;
}

// Functions whose argument is an angle.
const inverse = new Set(['sin', 'cos', 'tan', 'cot', 'sec', 'csc']);

/** Takes marks off that say what a value counts; inside trigonometric functions degrees stay what they are. */
function strip(
  node: Node,
  found: Omit<Bare, 'node'> = { units: [], isPercent: false, isDegree: false },
): Bare {
  const walk = (one: Node): Node => {
    if (one.kind !== 'apply' || inverse.has(one.op)) return one;
    if (one.op === 'unit') {
      found.units.push(one.unit ?? '');
      if (/^\s*(?:degrees?|deg)\b/i.test(one.unit ?? '')) found.isDegree = true;
      return walk(one.args[0]!);
    }
    if (one.op === 'percent') found.isPercent = true;
    if (one.op === 'degree') found.isDegree = true;
    return one.op === 'percent' || one.op === 'degree' ? walk(one.args[0]!) : mapChildren(one, walk);
  };
  return { node: walk(node), ...found };
}

/** A hundredth; of a written number with two more places, so that 6.67 % stays as exact as it was written. */
function hundredth(node: Node): Node {
  if (!isNumber(node)) return apply('div', node, integer(100));
  const value = q.multiply(node.value, q.rational(1n, 100n));
  return { ...node, value, ...(node.decimals !== undefined && { decimals: node.decimals + 2 }) };
}

/** Degrees as radians, exactly. */
const radians = (node: Node) =>
  apply('div', apply('mul', node, { kind: 'constant', name: 'pi' }), integer(180));

/** The number a node was written as, behind its sign; its digits say how exact it is meant. */
function written(node: Node): (Node & { kind: 'number' }) | undefined {
  return isNumber(node)
    ? node
    : isApply(node, 'neg') || isApply(node, 'percent')
      ? written(node.args[0]!)
      : undefined;
}

/** Half a unit in the last written place; undefined for what was not written as a decimal. */
function rounding(node: Node): q.Rational | undefined {
  const number = written(node);
  return number?.decimals === undefined ? undefined : q.rational(1n, 2n * 10n ** BigInt(number.decimals));
}

// Some number in it was written with a point: what it is part of is meant to some digits only.
const hasDecimals = (node: Node) => some(node, (one) => isNumber(one) && one.decimals !== undefined);

/** a and b are within the options' tolerance; called only where a side is a decimal. */
function isClose(a: Node, b: Node, left: q.Rational, right: q.Rational, { options }: Context): boolean {
  const { tolerance } = options;
  const distance = q.absolute(q.subtract(left, right));
  const size = q.absolute(left);
  const within = (share: q.Rational) => q.compare(distance, q.multiply(size, share)) <= 0;
  if (tolerance === 'exact') return false;
  if ('relative' in tolerance) return within(fraction(tolerance.relative));
  if ('digits' in tolerance) {
    // Rounded places say nothing of numbers that are smaller than them: the values must be near, too.
    const limit = q.rational(1n, 10n ** BigInt(tolerance.digits));
    return q.compare(distance, limit) < 0 && within(q.rational(1n, 20n));
  }
  if ('significant' in tolerance)
    return within(q.rational(1n, 2n * 10n ** BigInt(Math.max(0, tolerance.significant - 1))));
  // Agreement to six digits, whoever wrote how many.
  if (within(q.rational(1n, 2_000_000n))) return true;
  return isRounded(a, b, distance, within, tolerance.rounded);
}

/** One of them is the other, rounded to the places that were written, and enough digits are left. */
function isRounded(
  a: Node,
  b: Node,
  distance: q.Rational,
  within: (share: q.Rational) => boolean,
  least: number,
): boolean {
  // A whole number or a fraction as the reference is exact: nothing but its decimal expansion equals it.
  const halves = [a, b].map(rounding).filter((one) => one !== undefined);
  if (halves.length === 0) return false;
  const reference = written(a);
  if (reference && reference.decimals === undefined && reference.value.d === 1n) return false;
  const half = halves.reduce((most, one) => (q.compare(one, most) > 0 ? one : most));
  const coarser = [a, b]
    .map(written)
    .find((one) => one?.decimals !== undefined && q.equal(rounding(one)!, half));
  const isWhole = [a, b].map(written).some((one) => one && one.decimals === undefined && one.value.d === 1n);
  // Rounded to a whole number of three digits or more.
  if (isWhole) {
    const isNearest = q.compare(distance, q.rational(1n, 2n)) <= 0;
    return isNearest && (written(b)?.significant ?? 0) >= least && within(q.rational(1n, 2000n));
  }
  return (coarser?.significant ?? 0) >= least && q.compare(distance, half) <= 0;
}

/** An option's number as a fraction; options are doubles, comparisons are not. */
function fraction(value: number): q.Rational {
  return q.parseDecimal(value.toExponential()) ?? q.zero;
}

// The sign of infinity, and of what minus signs make of it.
const sign = (node: Node): 1 | -1 | undefined => {
  if (node.kind === 'constant' && node.name === 'infinity') return 1;
  if (!isApply(node, 'neg')) return undefined;
  const inner = sign(node.args[0]!);
  return inner && (inner === 1 ? -1 : 1);
};

/** 1 or −1 for infinity and minus infinity. */
export const infinite = sign;

/** Two values without marks: by form, by their values where they are numbers with decimals, else by probing. */
function compareBare(a: Node, b: Node, context: Context): Equality {
  if (form(a) === form(b)) return 'equal';
  const [left, right] = [infinite(a), infinite(b)];
  if (left || right) return left === right ? 'equal' : 'different';
  const { budget } = context;
  const isConstant = symbolsOf(a).size === 0 && symbolsOf(b).size === 0;
  if (isConstant && (hasDecimals(a) || hasDecimals(b))) {
    // Decimals are compared by value within the tolerance; exact values are never rounded.
    const values = [realValue(a, budget), realValue(b, budget)] as const;
    if (values[0] && values[1]) {
      if (q.equal(values[0], values[1])) return 'equal';
      return isClose(a, b, values[0], values[1], context) ? 'equal' : 'different';
    }
  }
  const found = probe(a, b, budget);
  if (found !== 'different') return found;
  // "log x" without a base may be the decimal one.
  const isLog = (one: Node) => isApply(one, 'log') && one.args.length === 1;
  if (some(a, isLog) !== some(b, isLog)) {
    const withTen = (one: Node): Node =>
      isLog(one)
        ? apply('log', withTen((one as Node & { kind: 'apply' }).args[0]!), integer(10))
        : mapChildren(one, withTen);
    if (probe(withTen(a), withTen(b), budget) === 'equal') return 'equal';
  }
  return 'different';
}

/** Units say different things: other kinds, or no unit of the same size. */
function unitFactor(a: Bare, b: Bare): q.Rational | 'conflict' {
  const [left, right] = [a.units, b.units].map((list) =>
    list.length === 1 ? parseUnit(list[0]!) : undefined,
  );
  if (!left || !right) return q.one;
  if (left.kinds !== right.kinds) return 'conflict';
  return left.size === right.size ? q.one : fraction(Number((left.size / right.size).toPrecision(12)));
}

/** a : b : c and its multiples; undefined where the sides are no ratios of three or more. */
function compareRatios(reference: Node, answer: Node, context: Context): Equality | undefined {
  if (!isApply(reference, 'ratio') || !isApply(answer, 'ratio')) return undefined;
  const [a, b] = [reference.args, answer.args];
  if (a.length !== b.length) return 'different';
  if (a.length < 3) return undefined;
  const same = a.every(
    (one, i) => probe(apply('mul', one, b[0]!), apply('mul', b[i]!, a[0]!), context.budget) === 'equal',
  );
  return same ? 'equal' : 'different';
}

/** Letters behind a number that are units, where the other side has no letters: 5m² against 25. */
function withUnits(node: Node, other: Node): Node {
  if (symbolsOf(other).size > 0 || !(isApply(node, 'mul') || isApply(node, 'div'))) return node;
  const [value, unit] = node.args as [Node, Node];
  // "m²": the power belongs to the unit.
  const base = isApply(unit, 'pow') ? unit.args[0]! : unit;
  if (base.kind !== 'symbol' || !isUnit(base.name)) return node;
  const exponent = isApply(unit, 'pow') ? `^${form(unit.args[1]!)}` : '';
  const inner = withUnits(value, other);
  const name = (node.op === 'div' ? '/' : '') + base.name + exponent;
  // "m/s": one unit of two letters.
  if (isApply(inner, 'unit')) return { ...inner, unit: `${inner.unit} ${name}` };
  if (node.op === 'div') return node;
  return { kind: 'apply', op: 'unit', args: [inner], unit: name };
}

/** Compares two values: exactly where both are rational, by tolerance where one is a decimal, else by probing. */
export function compareScalars(reference: Node, answer: Node, context: Context): Equality {
  const { options } = context;
  const based = compareBases(reference, answer);
  if (based) return based;
  const proportion = compareRatios(reference, answer, context);
  if (proportion) return proportion;
  const [a, b] = [strip(withUnits(reference, answer)), strip(withUnits(answer, reference))];
  let left = a.node;
  if (options.units === 'check') {
    // 1 km against 1000 m: the reference is put into the answer's unit.
    const factor = unitFactor(a, b);
    if (factor === 'conflict') return 'different';
    if (!q.equal(factor, q.one)) left = { ...apply('mul', left, { kind: 'number', value: factor }) };
  }
  const plain = compareBare(left, b.node, context);
  if (plain === 'equal' && (a.isPercent === b.isPercent || options.percent !== 'scale')) return plain;
  if (a.isPercent !== b.isPercent && options.percent !== 'number') {
    // The same with percent as hundredths.
    const scaled = compareBare(
      a.isPercent ? hundredth(left) : left,
      b.isPercent ? hundredth(b.node) : b.node,
      context,
    );
    if (scaled === 'equal') return scaled;
  }
  if (a.isDegree !== b.isDegree) {
    // The same with degrees as radians.
    const turned = compareBare(
      a.isDegree ? radians(left) : left,
      b.isDegree ? radians(b.node) : b.node,
      context,
    );
    if (turned === 'equal') return turned;
  }
  return plain === 'equal' ? 'different' : plain;
}

/** "204_5" against "204_5", and against its bare digits; undefined where neither side names a base. */
function compareBases(reference: Node, answer: Node): Equality | undefined {
  if (!isApply(reference, 'base') && !isApply(answer, 'base')) return undefined;
  const digits = (node: Node) => (isApply(node, 'base') ? node.args[0]! : node);
  const baseOf = (node: Node) =>
    isApply(node, 'base') && isNumber(node.args[1]) ? node.args[1].value : undefined;
  const [a, b] = [digits(reference), digits(answer)];
  const [left, right] = [baseOf(reference), baseOf(answer)];
  if (!isNumber(a) || !isNumber(b)) return undefined;
  if (!left || !right) return q.equal(a.value, b.value) ? 'equal' : 'different';
  if (q.equal(left, right)) return q.equal(a.value, b.value) ? 'equal' : 'different';
  const values = [inBase(a.value, left), inBase(b.value, right)];
  return values[0] && values[1] && q.equal(values[0], values[1]) ? 'equal' : 'different';
}
