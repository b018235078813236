/** The tree that answers are parsed into, and the normal form of its text. */
import { type Rational, show } from './rational.js';

/** Relations that a chain holds. */
export type Relation = '=' | '≠' | '<' | '≤' | '>' | '≥' | '∈' | '≈' | '≡';

/** What an answer is parsed into. */
export type Node =
  | {
      kind: 'number';
      value: Rational;
      /** Digits after the point, where it was written as a decimal. */
      decimals?: number;
      /** Significant digits as written. */
      significant?: number;
    }
  | { kind: 'symbol'; name: string }
  | { kind: 'constant'; name: 'pi' | 'e' | 'i' | 'infinity' | 'empty' | 'R' | 'Z' | 'N' | 'Q' | 'C' }
  | { kind: 'apply'; op: string; args: readonly Node[]; unit?: string }
  /** Items between brackets as written: tuple, interval or set. */
  | { kind: 'group'; open: '(' | '[' | '{'; close: ')' | ']' | '}'; items: readonly Node[] }
  /** Items that commas, "and" or "or" part, without brackets. */
  | { kind: 'list'; items: readonly Node[] }
  | { kind: 'relation'; ops: readonly Relation[]; args: readonly Node[] }
  /** {element | condition}. */
  | { kind: 'builder'; element: Node; condition: Node }
  | { kind: 'matrix'; rows: readonly (readonly Node[])[] }
  | { kind: 'text'; text: string };

export const apply = (op: string, ...args: Node[]): Node => ({ kind: 'apply', op, args });
export const integer = (value: number | bigint): Node => ({
  kind: 'number',
  value: { n: BigInt(value), d: 1n },
});
export const isNumber = (node: Node | undefined): node is Node & { kind: 'number' } =>
  node?.kind === 'number';
export const isApply = (node: Node | undefined, op: string): node is Node & { kind: 'apply' } =>
  node?.kind === 'apply' && node.op === op;

/** The parts of a node. */
export function children(node: Node): readonly Node[] {
  switch (node.kind) {
    case 'apply':
    case 'relation':
      return node.args;
    case 'group':
    case 'list':
      return node.items;
    case 'builder':
      return [node.element, node.condition];
    case 'matrix':
      return node.rows.flat();
    default:
      return [];
  }
}

/** The same node with other parts. */
export function mapChildren(node: Node, change: (child: Node) => Node): Node {
  switch (node.kind) {
    case 'apply':
    case 'relation':
      return { ...node, args: node.args.map(change) };
    case 'group':
    case 'list':
      return { ...node, items: node.items.map(change) };
    case 'builder':
      return { ...node, element: change(node.element), condition: change(node.condition) };
    case 'matrix':
      return { ...node, rows: node.rows.map((row) => row.map(change)) };
    default:
      return node;
  }
}

/** True where the node or a part of it passes. */
export const some = (node: Node, test: (one: Node) => boolean): boolean =>
  test(node) || children(node).some((child) => some(child, test));

/** Names of its symbols, sorted. */
export function symbolsOf(node: Node, found = new Set<string>()): Set<string> {
  if (node.kind === 'symbol') found.add(node.name);
  for (const child of children(node)) symbolsOf(child, found);
  return found;
}

/** The normal form as text: equal texts are equal answers, written the same way. */
export function form(node: Node): string {
  switch (node.kind) {
    case 'number':
      return show(node.value);
    case 'symbol':
    case 'constant':
      return node.name;
    case 'text':
      return JSON.stringify(node.text);
    case 'apply':
      return `${node.op}(${node.args.map(form).join(', ')}${node.unit === undefined ? '' : `, ${node.unit}`})`;
    case 'group':
      return node.open + node.items.map(form).join(', ') + node.close;
    case 'list':
      return node.items.map(form).join('; ');
    case 'relation':
      return node.args.map((arg, i) => (i === 0 ? form(arg) : `${node.ops[i - 1]} ${form(arg)}`)).join(' ');
    case 'builder':
      return `{${form(node.element)} | ${form(node.condition)}}`;
    case 'matrix':
      return `matrix(${node.rows.map((row) => row.map(form).join(', ')).join('; ')})`;
  }
}
