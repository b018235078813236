/** Equations and inequalities: the same statement may be turned around, multiplied, or moved to one side. */
import { apply, integer, type Node, type Relation, symbolsOf } from './node.js';
import { type Equality, probe, realValue } from './probe.js';
import * as q from './rational.js';
import { type Context, compareScalars, infinite } from './scalar.js';

type Statement = Node & { kind: 'relation' };

const flipped: Record<Relation, Relation> = {
  '=': '=',
  '≠': '≠',
  '<': '>',
  '≤': '≥',
  '>': '<',
  '≥': '≤',
  '∈': '∈',
  '≈': '≈',
  '≡': '≡',
};
// A statement as "difference of its sides, compared with zero".
const difference = ({ args }: Statement) => apply('add', args[0]!, apply('neg', args[1]!));
// Has a value at a point: sets, texts and statements have none.
const isExpression = (node: Node): boolean =>
  node.kind === 'number' ||
  node.kind === 'symbol' ||
  node.kind === 'constant' ||
  (node.kind === 'apply' && node.args.every(isExpression));

/**
 * Two statements are one: the same or flipped, their sides equal, or the difference of one's sides a constant
 * multiple of the other's (a positive one for inequalities).
 */
export function compareRelations(a: Statement, b: Statement, context: Context): Equality {
  if (a.ops.length !== 1 || b.ops.length !== 1) return compareChains(a, b, context);
  const [left, right] = [a.ops[0]!, b.ops[0]!];
  const same = (x: Node, y: Node) =>
    isExpression(x) && isExpression(y) && compareScalars(x, y, context) === 'equal';
  if (left === right && same(a.args[0]!, b.args[0]!) && same(a.args[1]!, b.args[1]!)) return 'equal';
  if (left === flipped[right] && same(a.args[0]!, b.args[1]!) && same(a.args[1]!, b.args[0]!)) return 'equal';
  if (
    !a.args.every(isExpression) ||
    !b.args.every(isExpression) ||
    [...a.args, ...b.args].some((one) => infinite(one))
  )
    return 'different';
  // 2x + 4 = 0 and x = -2: a factor of either sign for equations; of inequalities a negative one turns the sign.
  if (left === right || left === flipped[right]) {
    const factor = constantFactor(difference(a), difference(b), context);
    if (!factor) return 'different';
    const isSymmetric = left === '=' || left === '≠';
    const isSame = left === right ? q.sign(factor) > 0 : q.sign(factor) < 0;
    return isSymmetric || isSame ? 'equal' : 'different';
  }
  return 'different';
}

/** A number c with a = c·b everywhere, not zero; undefined where there is none. */
function constantFactor(a: Node, b: Node, { budget }: Context): q.Rational | undefined {
  // Without symbols every two numbers are multiples of each other: "1 = 2" would be "3 = 5".
  const names = [...new Set([...symbolsOf(a), ...symbolsOf(b)])];
  if (names.length === 0 || names.length > 12) return undefined;
  // The ratio at one point, as an expression, so that a factor such as √2 stays exact.
  const at = (node: Node): Node => place(node, names);
  const ratio = apply('div', at(a), at(b));
  const value = realValue(ratio, budget);
  if (!value || value.n === 0n) return undefined;
  return probe(a, apply('mul', ratio, b), budget) === 'equal' ? value : undefined;
}

/** The node at a fixed point that is on no usual curve. */
function place(node: Node, names: readonly string[]): Node {
  if (node.kind === 'symbol') return integer(BigInt(names.indexOf(node.name) * 6 + 17));
  return node.kind === 'apply' ? { ...node, args: node.args.map((one) => place(one, names)) } : node;
}

/** Chains link by link, in one direction or the other. */
function compareChains(a: Statement, b: Statement, context: Context): Equality {
  if (a.ops.length !== b.ops.length) return 'different';
  const match = (args: readonly Node[], ops: readonly Relation[]) =>
    a.ops.every((op, i) => op === ops[i]) &&
    a.args.every(
      (one, i) =>
        isExpression(one) && isExpression(args[i]!) && compareScalars(one, args[i]!, context) === 'equal',
    );
  if (match(b.args, b.ops)) return 'equal';
  return match(
    [...b.args].reverse(),
    [...b.ops].reverse().map((op) => flipped[op]),
  )
    ? 'equal'
    : 'different';
}
