/** Collections of values, and what stands for several: lists, sets, tuples, plus-minus, assignments. */
import { apply, form, isApply, mapChildren, type Node, some, symbolsOf } from './node.js';

/** Replaces every part that is written as `what`. */
export function substitute(node: Node, what: Node, by: Node): Node {
  const wanted = form(what);
  const walk = (one: Node): Node =>
    form1(one) === wanted && one.kind === what.kind ? by : mapChildren(one, walk);
  const form1 = (one: Node) => (one.kind === what.kind ? form(one) : '');
  return walk(node);
}

/** What equations assign to: x, f(x), P(A ∩ B), AB : CD, a + b, ∠ABC; not x², nor 2x + 1. */
export function nameLike(node: Node): boolean {
  if (node.kind === 'symbol' || node.kind === 'constant') return true;
  if (node.kind === 'text') return true;
  if (node.kind === 'group') return node.items.every(nameLike);
  if (node.kind === 'list') return node.items.every(nameLike);
  if (node.kind !== 'apply') return false;
  if (['overline', 'angle', 'triangle', 'widehat', 'abs', 'unit', 'degree'].includes(node.op))
    return nameLike(node.args[0]!);
  if (node.op === 'mul') {
    // f(x), f(2), f(x + 1): a name before anything; AB: names.
    const [first, second] = node.args as [Node, Node];
    return (
      nameLike(first) &&
      first.kind !== 'constant' &&
      ((nameLike(second) && !isFunction(second)) ||
        second.kind === 'number' ||
        isApply(second, 'add') ||
        isApply(second, 'neg'))
    );
  }
  if (node.op === 'div' || node.op === 'ratio' || node.op === 'intersect') return node.args.every(nameLike);
  // a + b = 5 asks for the sum; x + 1 = 5 would be an equation for x.
  if (node.op === 'add')
    return (
      symbolsOf(node).size > 1 && node.args.every((one) => nameLike(isApply(one, 'neg') ? one.args[0]! : one))
    );
  return isFunction(node) && symbolsOf(node).size > 0;
}

// Applications that are written with a name: f(x) before an equals sign assigns a function.
const isFunction = (node: Node): boolean =>
  node.kind === 'apply' &&
  /^(?:sin|cos|tan|max|min|log|ln|gcd|lcm|arg|Re|Im|deg|binomial|det)$/.test(node.op);

/** An assignment as name and value: the first left side and the last right side of its chain; "x ∈ S" assigns S. */
export function separate(node: Node, isAnswer = false): { name: Node; value: Node } | undefined {
  if (node.kind !== 'relation') return undefined;
  const { ops, args } = node;
  if (!ops.every((op) => op === '=' || op === '≈' || (op === '∈' && ops.length === 1))) return undefined;
  // Of a chain x = 2 + 3 = 5 the last side is the result, the first says of what.
  const [first, last] = [args[0]!, args.at(-1)!];
  if (nameLike(first)) return { name: first, value: last };
  if (symbolsOf(first).size === 0) {
    if (last.kind === 'symbol') return { name: last, value: first };
    // "2 + 3 = 5": `holds` has checked the links. "7 = 11a + c" is an equation, and no way to write 11a + c.
    return symbolsOf(last).size === 0 ? { name: first, value: last } : undefined;
  }
  if (isAnswer && (ops.length > 1 || isConstantValue(last)))
    return ops.length > 1 || symbolsOf(first).size > 1 ? { name: first, value: last } : undefined;
  return nameLike(last) && last.kind === 'symbol' ? { name: last, value: first } : undefined;
}

// A value without symbols, to which something can be equal.
const isConstantValue = (node: Node) =>
  node.kind !== 'list' && node.kind !== 'text' && symbolsOf(node).size === 0;

/** The items of an answer, in the order in which they are written. */
export interface Items {
  kind: 'list' | 'set' | 'tuple' | 'single';
  items: readonly Node[];
  /** As written, of tuples and intervals. */
  brackets?: string;
}

/** An answer's items, with what they are gathered by. */
export function itemsOf(node: Node): Items {
  if (node.kind === 'list') return { kind: 'list', items: node.items.flatMap(spread) };
  if (node.kind === 'group') {
    if (node.open === '{') return { kind: 'set', items: node.items };
    return { kind: 'tuple', items: node.items, brackets: node.open + node.close };
  }
  if (node.kind === 'constant' && node.name === 'empty') return { kind: 'set', items: [] };
  const spreadOut = spread(node);
  return spreadOut.length > 1 ? { kind: 'list', items: spreadOut } : { kind: 'single', items: spreadOut };
}

/** "(x, y) = (1, 2)" as x = 1, y = 2; "x = {1, 2}" and "x = 1, 2" as their values; other items as they are. */
function spread(node: Node): Node[] {
  if (node.kind !== 'relation' || node.ops.length !== 1 || node.ops[0] !== '=') return [node];
  const [left, right] = node.args as [Node, Node];
  if (
    left.kind === 'group' &&
    right.kind === 'group' &&
    left.items.length === right.items.length &&
    left.open !== '{' &&
    right.open !== '{'
  )
    return left.items.map((name, i) => ({ kind: 'relation', ops: ['='], args: [name, right.items[i]!] }));
  return [node];
}

// Six signs make 64 values; who writes more means something else.
const mostItems = 64;

/** Every ± of a list written out: each for itself, or all of an item with the same sign. */
export function expand(items: readonly Node[], mode: 'independent' | 'together'): Node[] | undefined {
  const result: Node[] = [];
  for (const item of items) {
    const isSigned = (one: Node) => isApply(one, 'pm') || isApply(one, 'mp');
    if (!some(item, isSigned)) result.push(item);
    else if (mode === 'together') result.push(choose(item, 1), choose(item, -1));
    else {
      const found = branches(item);
      if (found.length > mostItems) return undefined;
      result.push(...found);
    }
  }
  return result.length > 4 * mostItems ? undefined : result;
}

// a ± b with a sign; zero before it is what a sign alone was parsed into.
const signed = (first: Node, second: Node, sign: number): Node => {
  const part = sign > 0 ? second : apply('neg', second);
  return first.kind === 'number' && first.value.n === 0n ? part : apply('add', first, part);
};

/** All signs of an item the same way: ∓ the other way. */
function choose(node: Node, sign: 1 | -1): Node {
  const inner = mapChildren(node, (one) => choose(one, sign));
  if (!isApply(inner, 'pm') && !isApply(inner, 'mp')) return inner;
  return signed(inner.args[0]!, inner.args[1]!, inner.op === 'pm' ? sign : -sign);
}

/** Every combination of signs. */
function branches(node: Node): Node[] {
  let found: Node[] = [node];
  // A round decides one sign of each; seven rounds are one more than `mostItems` allows.
  for (let round = 0; round < 7; round++) {
    const next = found.flatMap((one) =>
      some(one, (part) => isApply(part, 'pm') || isApply(part, 'mp'))
        ? [firstSign(one, 1), firstSign(one, -1)]
        : [one],
    );
    if (next.length === found.length || next.length > 2 * mostItems) return next;
    found = next;
  }
  return found;
}

/** The first ± decided, the others as they are. */
function firstSign(node: Node, sign: 1 | -1): Node {
  let isDone = false;
  const walk = (one: Node): Node => {
    if (isDone) return one;
    if (isApply(one, 'pm') || isApply(one, 'mp')) {
      isDone = true;
      return signed(one.args[0]!, one.args[1]!, one.op === 'pm' ? sign : -sign);
    }
    return mapChildren(one, walk);
  };
  return walk(node);
}

/** Intervals, unions, builders, inequalities: what is compared as a subset of the line, not item by item. */
export function isSetLike(node: Node): boolean {
  if (node.kind === 'builder') return true;
  if (node.kind === 'constant') return node.name === 'empty' || node.name === 'R';
  if (node.kind === 'apply') return node.op === 'union' || node.op === 'without' || node.op === 'intersect';
  // (1, 2) may be a point as well as an interval, and stays a tuple; [1, 2) and (1, ∞) can only be intervals.
  if (node.kind === 'group')
    return (
      node.items.length === 2 &&
      node.open !== '{' &&
      (node.open + node.close === '[)' ||
        node.open + node.close === '(]' ||
        node.items.some((one) => isInfinite(one)))
    );
  if (node.kind === 'relation')
    return (
      node.ops.every((op) => op !== '=' && op !== '≈' && op !== '≡') &&
      (node.ops[0] !== '∈' || isSetLike(node.args[1]!) || node.args[1]!.kind === 'group')
    );
  return (
    node.kind === 'list' &&
    node.items.length <= 16 &&
    node.items.every((one) => (one.kind === 'relation' && isSetLike(one)) || isApply(one, 'union'))
  );
}

// An end that lies at infinity makes two values an interval.
const isInfinite = (node: Node): boolean =>
  (node.kind === 'constant' && node.name === 'infinity') ||
  (isApply(node, 'neg') && isInfinite(node.args[0]!));
