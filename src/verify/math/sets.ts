/**
 * Subsets of the real line. Intervals, unions, inequalities and set builders are ways of writing them, and are
 * compared as what they are rather than by how they are written.
 */
import { apply, integer, isApply, type Node, type Relation, symbolsOf } from './node.js';
import { realValue } from './probe.js';
import * as q from './rational.js';
import { type Context, compareScalars, infinite } from './scalar.js';

/** An interval of the real line; a point where both ends are the same node. */
export interface Interval {
  low: Node;
  high: Node;
  isLowClosed: boolean;
  isHighClosed: boolean;
}

// Ends are nodes, not numbers: an interval may end at √2 or at a symbol.
const plusInfinity: Node = { kind: 'constant', name: 'infinity' };
const minusInfinity = apply('neg', plusInfinity);
export const wholeLine: Interval = {
  low: minusInfinity,
  high: plusInfinity,
  isLowClosed: false,
  isHighClosed: false,
};
const pointAt = (at: Node): Interval => ({ low: at, high: at, isLowClosed: true, isHighClosed: true });

/** Sign of a − b for ends that are numbers or infinite; undefined for ends with symbols. */
function order(a: Node, b: Node, context: Context): -1 | 0 | 1 | undefined {
  const [left, right] = [infinite(a) ?? 0, infinite(b) ?? 0];
  if (left !== 0 || right !== 0) return Math.sign(left - right) as -1 | 0 | 1;
  const [x, y] = [realValue(a, context.budget), realValue(b, context.budget)];
  if (!x || !y) return undefined;
  const found = q.compare(x, y);
  // The values may be approximations; what is the same must compare so.
  return found !== 0 &&
    compareScalars(a, b, { ...context, options: { ...context.options, tolerance: 'exact' } }) === 'equal'
    ? 0
    : found;
}

/** The same statement read from the right. Equations are not in it: what has no direction is no interval. */
const flipped: Partial<Record<Relation, Relation>> = { '<': '>', '≤': '≥', '>': '<', '≥': '≤' };
/** The relation bounds its left side from above. */
const isBelow = (op: Relation) => op === '<' || op === '≤';

/** Sorted, and merged where they touch; undefined where the order is unknown. */
function merged(parts: readonly Interval[], context: Context): Interval[] | undefined {
  const sorted: Interval[] = [];
  for (const part of parts) {
    const span = order(part.low, part.high, context);
    if (span === undefined) return undefined;
    if (span > 0 || (span === 0 && !(part.isLowClosed && part.isHighClosed))) continue;
    let at = 0;
    while (at < sorted.length) {
      const first = order(part.low, sorted[at]!.low, context);
      if (first === undefined) return undefined;
      if (first < 0 || (first === 0 && part.isLowClosed)) break;
      at++;
    }
    sorted.splice(at, 0, part);
  }
  // Parts in order: each either continues the last one or begins anew.
  const result: Interval[] = [];
  for (const part of sorted) {
    const last = result.at(-1);
    const gap = last && order(part.low, last.high, context);
    if (last && (gap! < 0 || (gap === 0 && (part.isLowClosed || last.isHighClosed)))) {
      const end = order(part.high, last.high, context)!;
      if (end > 0) Object.assign(last, { high: part.high, isHighClosed: part.isHighClosed });
      else if (end === 0) last.isHighClosed ||= part.isHighClosed;
    } else result.push({ ...part });
  }
  return result;
}

/** Everything outside. */
function complement(parts: readonly Interval[], context: Context): Interval[] | undefined {
  const all = merged(parts, context);
  if (!all) return undefined;
  const result: Interval[] = [];
  let [low, isLowClosed] = [minusInfinity, false];
  for (const part of all) {
    result.push({ low, isLowClosed, high: part.low, isHighClosed: !part.isLowClosed });
    [low, isLowClosed] = [part.high, !part.isHighClosed];
  }
  result.push({ low, isLowClosed, high: plusInfinity, isHighClosed: false });
  return result.filter(
    (part) =>
      order(part.low, part.high, context) !== 0 ||
      (part.isLowClosed && part.isHighClosed && !infinite(part.low)),
  );
}

/** By De Morgan: the complement of the union of complements. */
function intersection(
  a: readonly Interval[],
  b: readonly Interval[],
  context: Context,
): Interval[] | undefined {
  const [left, right] = [complement(a, context), complement(b, context)];
  return left && right && complement([...left, ...right], context);
}

/** What a chain of inequalities says of its middle: "a < x ≤ b", "x ≥ 3", "|x| < 2"; undefined for other relations. */
export function intervalsOfRelation(
  node: Node,
  context: Context,
): { parts: Interval[]; variable: Node } | undefined {
  if (node.kind !== 'relation') return undefined;
  const { ops, args } = node;
  if (ops.length === 1) {
    let [op, left, right] = [ops[0]!, args[0]!, args[1]!];
    if (op === '∈') {
      const parts = intervalsOf(right, context);
      return parts && { parts, variable: left };
    }
    if (symbolsOf(left).size === 0 && symbolsOf(right).size > 0)
      [op, left, right] = [flipped[op] ?? op, right, left];
    if (op === '≠')
      return {
        parts: [
          { ...wholeLine, high: right },
          { ...wholeLine, low: right },
        ],
        variable: left,
      };
    // A bound that names the variable itself is an equation to be solved, not an interval.
    const own = symbolsOf(left);
    if (!flipped[op] || own.size === 0 || [...symbolsOf(right)].some((name) => own.has(name)))
      return undefined;
    const isClosed = op === '≤' || op === '≥';
    const part = isBelow(op)
      ? { ...wholeLine, high: right, isHighClosed: isClosed }
      : { ...wholeLine, low: right, isLowClosed: isClosed };
    return unfoldAbsolute([part], left, context);
  }
  if (ops.length !== 2 || !ops.every((op) => flipped[op]) || isBelow(ops[0]!) !== isBelow(ops[1]!))
    return undefined;
  const [first, variable, last] = args as [Node, Node, Node];
  const own = symbolsOf(variable);
  if (own.size === 0 || [first, last].some((end) => [...symbolsOf(end)].some((name) => own.has(name))))
    return undefined;
  // Read from small to large, whichever way the chain runs.
  const [low, high] = isBelow(ops[0]!) ? [first, last] : [last, first];
  const [lowOp, highOp] = isBelow(ops[0]!) ? [ops[0]!, ops[1]!] : [ops[1]!, ops[0]!];
  const closed = (op: Relation) => op === '≤' || op === '≥';
  return unfoldAbsolute(
    [{ low, high, isLowClosed: closed(lowOp), isHighClosed: closed(highOp) }],
    variable,
    context,
  );
}

/** |x| in an interval: x in it, or −x, from zero on. */
function unfoldAbsolute(
  parts: Interval[],
  variable: Node,
  context: Context,
): { parts: Interval[]; variable: Node } {
  if (!isApply(variable, 'abs')) return { parts, variable };
  const nonNegative: Interval = {
    low: integer(0),
    high: plusInfinity,
    isLowClosed: true,
    isHighClosed: false,
  };
  const positive = intersection(parts, [nonNegative], context);
  if (!positive) return { parts, variable };
  // Mirrored ends, without piling up minus signs.
  const negate = (node: Node): Node => (isApply(node, 'neg') ? node.args[0]! : apply('neg', node));
  const mirrored = positive.map((part) => ({
    low: negate(part.high),
    high: negate(part.low),
    isLowClosed: part.isHighClosed,
    isHighClosed: part.isLowClosed,
  }));
  return { parts: [...mirrored, ...positive], variable: variable.args[0]! };
}

/** A subset of the real line as intervals; undefined for what is none. */
export function intervalsOf(node: Node, context: Context): Interval[] | undefined {
  if (node.kind === 'constant')
    return node.name === 'empty' ? [] : node.name === 'R' ? [wholeLine] : undefined;
  if (node.kind === 'group') {
    if (node.open === '{') return node.items.length <= 64 ? node.items.map(pointAt) : undefined;
    if (node.items.length !== 2 || node.close === '}') return undefined;
    const [low, high] = node.items as [Node, Node];
    if (!isEnd(low) || !isEnd(high)) return undefined;
    return [{ low, high, isLowClosed: node.open === '[', isHighClosed: node.close === ']' }];
  }
  if (node.kind === 'builder') return intervalsOfCondition(node.condition, context);
  if (node.kind === 'relation') return intervalsOfRelation(node, context)?.parts;
  if (node.kind === 'list') return intervalsOfList(node.items, context);
  if (node.kind !== 'apply') return undefined;
  const [first, second] = node.args;
  if (!['union', 'intersect', 'without'].includes(node.op)) return undefined;
  const [a, b] = [intervalsOf(first!, context), intervalsOf(second!, context)];
  if (!a || !b) return undefined;
  if (node.op === 'union') return [...a, ...b];
  const outside = node.op === 'without' ? complement(b, context) : b;
  return outside && intersection(a, outside, context);
}

// What can be the end of an interval; a pair of pairs is a tuple.
const isEnd = (node: Node) =>
  node.kind === 'number' || node.kind === 'constant' || node.kind === 'symbol' || node.kind === 'apply';

/** "x < 1 or x > 3": the union; where the parts are conditions on one variable that "and" would join, the same signs decide. */
function intervalsOfList(items: readonly Node[], context: Context): Interval[] | undefined {
  if (
    items.length > 16 ||
    !items.every((one) => one.kind === 'relation' || one.kind === 'group' || isApply(one, 'union'))
  )
    return undefined;
  // The parts are joined by "or" unless one of them takes points away.
  const all: Interval[] = [];
  let name: string | undefined;
  for (const item of items) {
    if (item.kind === 'relation') {
      const found = intervalsOfRelation(item, context);
      const own = found && [...symbolsOf(found.variable)].join();
      if (!found || (name !== undefined && own !== name)) return undefined;
      name = own;
      // "x > 0, x ≠ 1" and "x ∈ R, x ≠ 0" take points away.
      if (item.ops[0] === '≠' && all.length > 0) {
        const rest = intersection(all, found.parts, context);
        if (!rest) return undefined;
        all.splice(0, all.length, ...rest);
      } else all.push(...found.parts);
    } else {
      const parts = intervalsOf(item, context);
      if (!parts) return undefined;
      all.push(...parts);
    }
  }
  return all;
}

/** What stands behind the bar of a set builder. */
function intervalsOfCondition(condition: Node, context: Context): Interval[] | undefined {
  if (condition.kind === 'relation') return intervalsOfRelation(condition, context)?.parts;
  return condition.kind === 'list' ? intervalsOfList(condition.items, context) : undefined;
}

/** Two subsets of the line are the same; undefined where their ends cannot be put in order. */
export function sameIntervals(
  a: readonly Interval[],
  b: readonly Interval[],
  context: Context,
): boolean | undefined {
  const [left, right] = [merged(a, context), merged(b, context)];
  if (left && right) return pairUp(left, right, context);
  // Ends with symbols: as written, in the same order.
  return a.length === b.length && pairUp(a, b, context) ? true : undefined;
}

/** The same intervals one by one; the ends are compared as scalars, within the tolerance of the options. */
function pairUp(a: readonly Interval[], b: readonly Interval[], context: Context): boolean {
  if (a.length !== b.length) return false;
  const same = (x: Node, y: Node) => compareScalars(x, y, context) === 'equal';
  return a.every((one, i) => {
    const other = b[i]!;
    return (
      one.isLowClosed === other.isLowClosed &&
      one.isHighClosed === other.isHighClosed &&
      same(one.low, other.low) &&
      same(one.high, other.high)
    );
  });
}
