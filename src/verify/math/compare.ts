/**
 * Comparison by kind. The reference comes first everywhere: it decides what kind of answer is wanted, so that an
 * answer cannot pass by being of a kind for which the rules are laxer.
 */
import { foldText, sameText } from '../text.js';
import { expand, type Items, isSetLike, itemsOf, separate, substitute } from './items.js';
import { matrixValue } from './matrices.js';
import { form, isApply, type Node, some, symbolsOf } from './node.js';
import { type Equality, probe } from './probe.js';
import { compareRelations } from './relations.js';
import { type Context, compareScalars } from './scalar.js';
import { intervalsOf, intervalsOfRelation, sameIntervals } from './sets.js';

/** What was decided, and by which rule. */
export interface Comparison {
  equality: Equality;
  reason: string;
}

// Short names for the many ways in which a comparison ends.
const decide = (equality: Equality, reason: string): Comparison => ({ equality, reason });
const equalBy = (reason: string) => decide('equal', reason);

// Some part of it is words.
const isText = (node: Node) => some(node, (one) => one.kind === 'text');

/** Compares two answers by what they are. The reference comes first: some rules are not symmetric. */
export function compareNodes(reference: Node, answer: Node, context: Context): Comparison {
  context.budget.spend(5);
  if (form(reference) === form(answer))
    return holds(answer, context) ? equalBy('same-form') : decide('different', 'false-statement');
  if (isText(reference) || isText(answer)) return compareTexts(reference, answer, context);
  if (!holds(answer, context)) return decide('different', 'false-statement');
  // Subsets of the line first: an interval and an inequality have no other form in common.
  const sets = compareSets(reference, answer, context);
  if (sets) return sets;
  if (reference.kind === 'relation' || answer.kind === 'relation')
    return compareStatements(reference, answer, context);
  if (isCollection(reference) || isCollection(answer)) return compareCollections(reference, answer, context);
  // Matrices before scalars: a sum of matrices is an application like any other.
  const matrices = compareMatrices(reference, answer, context);
  if (matrices) return matrices;
  const equality = compareScalars(reference, answer, context);
  const family =
    equality === 'different' ? renamed([reference], [answer], true, context, counters) : undefined;
  if (family) return family;
  return decide(
    equality,
    equality === 'equal' ? 'equal-value' : equality === 'different' ? 'different-value' : 'undecided',
  );
}

/** Words against words, or against what signs say; a list of words item by item. */
function compareTexts(reference: Node, answer: Node, context: Context): Comparison {
  if (reference.kind === 'text' && answer.kind === 'text')
    return sameText(reference.text, answer.text)
      ? equalBy('same-text')
      : decide('different', 'different-text');
  if (isCollection(reference) && isCollection(answer)) return compareCollections(reference, answer, context);
  if (sameText(textOf(reference), textOf(answer))) return equalBy('same-text');
  // Text on one side: what the other says in signs may be the same thing; rules cannot tell.
  return decide('different', 'different-text');
}

// A node as folded text, for comparison with words.
const textOf = (node: Node): string => (node.kind === 'text' ? node.text : foldText(form(node)));

/** Every link between constants must hold: "6 = 5" is no way to answer 5. */
function holds(node: Node, { budget }: Context): boolean {
  if (node.kind !== 'relation') return true;
  return node.ops.every((op, i) => {
    const [a, b] = [node.args[i]!, node.args[i + 1]!];
    if (op !== '=' || symbolsOf(a).size > 0 || symbolsOf(b).size > 0) return true;
    if (isCollection(a) || isCollection(b)) return true;
    // Roundings are written with "=" by many; only what differs plainly is false.
    const context = {
      budget,
      options: {
        tolerance: { relative: 0.01 },
        percent: 'either',
        units: 'drop',
        order: 'auto',
        setFromRelation: true,
        strictSymbols: true,
        requireReduced: false,
      },
    } as const;
    return compareScalars(a, b, context) !== 'different';
  });
}

/** Intervals, unions and what inequalities say; undefined where the two are no such things. */
function compareSets(reference: Node, answer: Node, context: Context): Comparison | undefined {
  const [wantsSet, givesSet] = [isSetLike(reference), isSetLike(answer)];
  if (!wantsSet && !givesSet) return undefined;
  const isBare = (node: Node) => node.kind === 'relation';
  if (
    wantsSet &&
    !isBare(reference) &&
    isBare(answer) &&
    !context.options.setFromRelation &&
    !isMembership(answer)
  )
    return decide('different', 'relation-for-set');
  const [a, b] = [intervalsOf(reference, context), intervalsOf(answer, context)];
  if (!a || !b) return undefined;
  const bothRelations = reference.kind === 'relation' && answer.kind === 'relation';
  if (bothRelations && !sameVariable(reference, answer, context)) return undefined;
  // Two pairs in round brackets may be points: their order and ends are the same question.
  const same = sameIntervals(a, b, context);
  if (same === undefined) return undefined;
  return same ? equalBy('same-set') : decide('different', 'different-set');
}

// "x ∈ S" names a set rather than describing one.
const isMembership = (node: Node) => node.kind === 'relation' && node.ops.length === 1 && node.ops[0] === '∈';

/** Two conditions speak of one variable, or of any where names are free: x > 2 is not y > 2. */
function sameVariable(a: Node, b: Node, context: Context): boolean {
  const [left, right] = [
    intervalsOfRelation(a, context)?.variable,
    intervalsOfRelation(b, context)?.variable,
  ];
  if (!left || !right) return false;
  return !context.options.strictSymbols || form(left) === form(right);
}

/** At least one side is an equation or another statement. */
function compareStatements(reference: Node, answer: Node, context: Context): Comparison {
  if (reference.kind === 'relation' && answer.kind === 'relation') {
    const found = compareRelations(reference, answer, context);
    if (found !== 'different') return decide(found, found === 'equal' ? 'same-relation' : 'undecided');
    // "y = f(x) = …": the values of two assignments to one name.
    const [a, b] = [separate(reference), separate(answer)];
    if (a && b && (form(a.name) === form(b.name) || !context.options.strictSymbols))
      return compareNodes(a.value, b.value, context);
    const value = a && b && sameFunction(a, b);
    if (value) return compareNodes(value, b.value, context);
    return decide('different', 'different-relation');
  }
  if (reference.kind === 'relation') {
    const own = separate(reference);
    const found = own && compareNodes(own.value, answer, context);
    if (found && found.equality !== 'different') return found;
    return solves(reference, answer, context)
      ? equalBy('solves-equation')
      : (found ?? decide('different', 'value-for-relation'));
  }
  const own = separate(answer, true);
  if (own) return compareNodes(reference, own.value, context);
  if (isCollection(reference)) return compareCollections(reference, answer, context);
  return decide('different', 'relation-for-value');
}

/** The argument's name of f(x). */
const argumentOf = (node: Node): [name: string, argument: string] | undefined => {
  const found = node.kind === 'symbol' ? /^(.+)\(([A-Za-z]\w*)\)$/.exec(node.name) : null;
  return found ? [found[1]!, found[2]!] : undefined;
};

/** f(x) = … and f(t) = …: one function whose argument is named differently; the first's value, renamed. */
function sameFunction(a: { name: Node; value: Node }, b: { name: Node; value: Node }): Node | undefined {
  const [left, right] = [argumentOf(a.name), argumentOf(b.name)];
  if (!left || !right || left[0] !== right[0]) return undefined;
  return substitute(a.value, { kind: 'symbol', name: left[1] }, { kind: 'symbol', name: right[1] });
}

/** The answer is what the reference says of its single symbol that the answer lacks: y + 1 = x² and x² − 1. */
function solves(reference: Node & { kind: 'relation' }, answer: Node, context: Context): boolean {
  if (reference.ops.length !== 1 || reference.ops[0] !== '=' || symbolsOf(answer).size === 0) return false;
  const known = symbolsOf(answer);
  const open = [...symbolsOf(reference)].filter((name) => !known.has(name));
  if (open.length !== 1) return false;
  const put = (node: Node) => substitute(node, { kind: 'symbol', name: open[0]! }, answer);
  return probe(put(reference.args[0]!), put(reference.args[1]!), context.budget) === 'equal';
}

export const isCollection = (node: Node): boolean =>
  node.kind === 'list' ||
  node.kind === 'group' ||
  some(node, (one) => isApply(one, 'pm') || isApply(one, 'mp'));

/** Lists, sets and tuples, item by item. */
function compareCollections(reference: Node, answer: Node, context: Context): Comparison {
  // What the two are gathered by decides whether order matters.
  const [wanted, given] = alike(itemsOf(reference), itemsOf(answer), reference, answer);
  const { order } = context.options;
  const isTuple = (kind: string) => kind === 'tuple';
  // A set is no tuple; a bare list may be either.
  if (
    (wanted.kind === 'set' && isTuple(given.kind) && given.items.length > 1) ||
    (isTuple(wanted.kind) && given.kind === 'set' && order === 'auto' && given.items.length > 1)
  )
    return decide('different', 'set-for-tuple');
  if (
    wanted.kind === 'tuple' &&
    given.kind === 'tuple' &&
    wanted.brackets !== given.brackets &&
    wanted.items.length === 2
  )
    return decide('different', 'different-ends');
  const ordered = order === 'ordered' || (order === 'auto' && (isTuple(wanted.kind) || isTuple(given.kind)));
  const matches = (a: Node, b: Node) => compareNodes(a, b, context).equality;
  for (const mode of ['independent', 'together'] as const) {
    const [left, right] = [expand(wanted.items, mode), expand(given.items, mode)];
    if (!left || !right) continue;
    const found = ordered ? inOrder(left, right, matches) : anyOrder(left, right, matches);
    if (found !== 'different') return decide(found, found === 'equal' ? 'same-items' : 'undecided');
  }
  return renamed(wanted.items, given.items, ordered, context) ?? decide('different', 'different-items');
}

/** One tuple with ± stands for several: against a list of tuples it is a list, too. */
function alike(a: Items, b: Items, reference: Node, answer: Node): [Items, Items] {
  const hasTuples = ({ kind, items }: Items) =>
    kind === 'list' && items.some((one) => one.kind === 'group' && one.open !== '{');
  const asItem = (node: Node): Items => ({ kind: 'list', items: [node] });
  if (hasTuples(a) && b.kind === 'tuple') return [a, asItem(answer)];
  return hasTuples(b) && a.kind === 'tuple' ? [asItem(reference), b] : [a, b];
}

// How the items of two collections are held against each other.
type Matches = (a: Node, b: Node) => Equality;

/** Item by item. One that cannot be decided leaves the whole undecided, unless another differs. */
function inOrder(a: readonly Node[], b: readonly Node[], matches: Matches): Equality {
  if (a.length !== b.length) return 'different';
  let result: Equality = 'equal';
  for (let i = 0; i < a.length; i++) {
    const found = matches(a[i]!, b[i]!);
    if (found === 'different') return 'different';
    if (found === 'unknown') result = 'unknown';
  }
  return result;
}

/** Without repetitions, as far as they are written the same. */
function distinct(items: readonly Node[], matches: Matches): Node[] {
  const found: Node[] = [];
  for (const item of items)
    if (items.length > 24 || !found.some((one) => form(one) === form(item) || matches(one, item) === 'equal'))
      found.push(item);
  return found;
}

/** A perfect matching of items, by augmenting paths: tolerance makes equality not transitive, so greed could fail. */
function anyOrder(a: readonly Node[], b: readonly Node[], matches: Matches): Equality {
  if (a.length > 200 || b.length > 200) return 'unknown';
  let [left, right] = [a, b] as [readonly Node[], readonly Node[]];
  if (left.length !== right.length) {
    [left, right] = [distinct(left, matches), distinct(right, matches)];
    if (left.length !== right.length) return 'different';
  }
  // Which items could stand for which.
  const edges = left.map((one) => right.flatMap((other, i) => (matches(one, other) === 'equal' ? [i] : [])));
  const partner = new Array<number>(right.length).fill(-1);
  const augment = (from: number, seen: Set<number>): boolean =>
    edges[from]!.some((to) => {
      if (seen.has(to)) return false;
      seen.add(to);
      if (partner[to]! >= 0 && !augment(partner[to]!, seen)) return false;
      partner[to] = from;
      return true;
    });
  return left.every((_, i) => augment(i, new Set())) ? 'equal' : 'different';
}

/** Names that stand for "any integer" or "any number" in families of solutions. */
const parameters = /^(?:[kmnltsrjaCcxz]|lambda|mu)$/;
/** Of these, the ones that stand for whole numbers: also outside of lists. */
const counters = /^[kmnl]$/;

/** A family of solutions whose parameter has another name: π/6 + kπ and π/6 + nπ. */
function renamed(
  a: readonly Node[],
  b: readonly Node[],
  ordered: boolean,
  context: Context,
  allowed = parameters,
): Comparison | undefined {
  const names = (items: readonly Node[]) =>
    new Set(items.flatMap((one) => [...symbolsOf(separate(one)?.value ?? one)]));
  const [left, right] = [names(a), names(b)];
  const [only, other] = [
    [...left].filter((name) => !right.has(name)),
    [...right].filter((name) => !left.has(name)),
  ];
  if (only.length !== 1 || other.length !== 1 || !allowed.test(only[0]!) || !allowed.test(other[0]!))
    return undefined;
  const valueIn = (one: Node) => separate(one)?.value ?? one;
  const changed = b
    .map(valueIn)
    .map((one) => substitute(one, { kind: 'symbol', name: other[0]! }, { kind: 'symbol', name: only[0]! }));
  const matches = (x: Node, y: Node) => compareNodes(x, y, context).equality;
  const found = ordered
    ? inOrder(a.map(valueIn), changed, matches)
    : anyOrder(a.map(valueIn), changed, matches);
  return found === 'equal' ? equalBy('same-family') : undefined;
}

/** Matrices by entries, after sums and multiples are carried out; undefined where neither side has one. */
function compareMatrices(reference: Node, answer: Node, context: Context): Comparison | undefined {
  const [a, b] = [matrixValue(reference), matrixValue(answer)];
  if (!a && !b) return undefined;
  if (!a || !b) return decide('different', 'different-kind');
  if (a.length !== b.length || a.some((row, i) => row.length !== b[i]!.length))
    return decide('different', 'different-shape');
  const same = a.every((row, i) =>
    row.every((cell, j) => compareScalars(cell, b[i]![j]!, context) === 'equal'),
  );
  return same ? equalBy('same-entries') : decide('different', 'different-entries');
}
