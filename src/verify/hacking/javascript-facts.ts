/** The same of a JavaScript program. */
import { type Node, parse } from 'acorn';
import type { Wire } from '../sandbox/plain.js';
import { toWire } from '../sandbox/plain.js';
import { keyParts, noFacts, noteLiteral, type ProgramFacts } from './facts.js';
import { javascriptTampering } from './javascript-tampering.js';

/** A node with whatever fields its type has: the reader goes by names. */
export interface AnyNode extends Node {
  // biome-ignore lint/suspicious/noExplicitAny: ESTree's fields depend on `type`, and the reader visits all of them.
  [field: string]: any;
}

/** The nodes right under a node, in order. */
export function childNodes(node: AnyNode): AnyNode[] {
  const isNode = (value: unknown): value is AnyNode =>
    typeof value === 'object' && value !== null && typeof (value as Node).type === 'string';
  return Object.values(node)
    .flatMap((value) => (Array.isArray(value) ? value : [value]))
    .filter(isNode);
}

/** Parses a module or a script; undefined where it is neither. */
export function parseJavaScript(source: string): AnyNode | undefined {
  for (const sourceType of ['module', 'script'] as const) {
    try {
      const options = { ecmaVersion: 'latest', sourceType, allowReturnOutsideFunction: true } as const;
      return parse(source, { ...options, allowAwaitOutsideFunction: true, locations: true }) as AnyNode;
    } catch {
      // The other kind may do.
    }
  }
  return undefined;
}

/** The dotted name of a member expression, as `process.exit`. */
export function dottedName(node: AnyNode | undefined): string {
  if (!node) return '';
  if (node.type === 'Identifier') return node.name;
  if (node.type === 'ThisExpression') return 'this';
  if (node.type !== 'MemberExpression' && node.type !== 'ChainExpression') return '';
  if (node.type === 'ChainExpression') return dottedName(node.expression);
  const { property, computed } = node;
  const name = computed ? (property.type === 'Literal' ? String(property.value) : '') : property.name;
  return `${dottedName(node.object)}.${name}`;
}

/** The value of a syntax tree that is a literal through and through, `new Set([1])` and `-1` included. */
export function javascriptLiteral(node: AnyNode | null | undefined): Wire | undefined {
  if (!node) return undefined;
  if (node.type === 'Literal') {
    if (node.regex) return undefined;
    return node.bigint ? ['i', node.bigint] : toWire(node.value);
  }
  if (node.type === 'TemplateLiteral')
    return node.expressions.length === 0 ? node.quasis[0].value.cooked : undefined;
  if (node.type === 'Identifier') return node.name === 'undefined' ? ['u'] : undefined;
  if (node.type === 'UnaryExpression') {
    const value = javascriptLiteral(node.argument);
    if (node.operator === '-' && Array.isArray(value) && (value[0] === 'i' || value[0] === 'f'))
      return [value[0], `-${value[1]}`];
    if (node.operator === '!' && Array.isArray(value) && value[0] === 'i') return value[1] === '0';
    return undefined;
  }
  if (node.type === 'ArrayExpression') {
    const items = (node.elements as (AnyNode | null)[]).map(javascriptLiteral);
    return items.every((one): one is Wire => one !== undefined) ? ['l', items] : undefined;
  }
  if (node.type === 'ObjectExpression') return objectLiteral(node);
  if (node.type === 'NewExpression' && ['Set', 'Map'].includes(node.callee.name)) {
    const items = javascriptLiteral(node.arguments[0] ?? { type: 'ArrayExpression', elements: [] });
    if (!Array.isArray(items) || items[0] !== 'l') return undefined;
    if (node.callee.name === 'Set') return ['s', items[1]];
    const pairs = items[1].map((one) => (Array.isArray(one) && one[0] === 'l' ? one[1] : []));
    return pairs.every((one) => one.length === 2) ? ['d', pairs as [Wire, Wire][]] : undefined;
  }
  return undefined;
}

/** An object of literals; a spread, or a key or value that is computed, makes it none. */
function objectLiteral(node: AnyNode): Wire | undefined {
  const pairs: [Wire, Wire][] = [];
  for (const one of node.properties as AnyNode[]) {
    if (one.type !== 'Property') return undefined;
    const key = one.computed || one.key.type !== 'Identifier' ? javascriptLiteral(one.key) : one.key.name;
    const value = javascriptLiteral(one.value);
    if (key === undefined || value === undefined) return undefined;
    // Keys of objects are texts, also where they are written as numbers.
    pairs.push([Array.isArray(key) ? String(key[1]) : key, value]);
  }
  return ['d', pairs];
}

/** Reads what the detectors ask out of a JavaScript program. A program that cannot be parsed has no facts. */
export function javascriptFacts(source: string): ProgramFacts {
  const facts = noFacts();
  const program = parseJavaScript(source);
  if (!program) return facts;
  new Reader(facts).block([program], []);
  facts.tampering = javascriptTampering(program, source);
  return facts;
}

/** The same walk as in Python: literals of the conditions above are carried to the values below. */
class Reader {
  readonly #facts: ProgramFacts;

  constructor(facts: ProgramFacts) {
    this.#facts = facts;
  }

  /** Reads nodes under conditions that compared with `keys`. */
  /** Statements under conditions. */
  block(nodes: readonly (AnyNode | null)[], keys: Wire[]): void {
    const values: Wire[] = [];
    for (const node of nodes) if (node) this.#visit(node, keys, values);
    if (keys.length > 0 && values.length > 0) this.#facts.branches.push({ keys, values });
  }

  /** A node: branches and conditional expressions open ways, literals are noted. */
  #visit(node: AnyNode, keys: Wire[], values: Wire[]): void {
    const value = javascriptLiteral(node);
    if (value !== undefined) {
      values.push(value);
      noteLiteral(this.#facts, value);
      return;
    }
    if (node.type === 'IfStatement' || node.type === 'ConditionalExpression') {
      const own = this.#keysOf(node.test);
      this.#visit(node.test, keys, []);
      this.block([node.consequent], [...keys, ...own]);
      if (node.alternate) this.#visit(node.alternate, keys, values);
      return;
    }
    if (node.type === 'SwitchStatement') {
      this.#switch(node, keys);
      return;
    }
    if (node.type === 'LogicalExpression' && node.operator === '&&') {
      // `x === 1 && 'one'`: a condition and what it gives.
      this.#visit(node.left, keys, []);
      this.block([node.right], [...keys, ...this.#keysOf(node.left)]);
      return;
    }
    if (/Function/.test(node.type)) {
      this.block(childNodes(node), keys);
      return;
    }
    if (node.type === 'CallExpression') {
      const name = dottedName(node.callee);
      this.#facts.calls.add(name.slice(name.lastIndexOf('.') + 1));
    }
    for (const one of childNodes(node)) this.#visit(one, keys, values);
  }

  /** Cases without a body share the next one's. */
  /** Each case with its own literal, and with those of empty cases before it. */
  #switch(node: AnyNode, keys: Wire[]): void {
    this.#visit(node.discriminant, keys, []);
    let own: Wire[] = [];
    for (const one of node.cases as AnyNode[]) {
      const key = javascriptLiteral(one.test);
      if (key !== undefined) own.push(...keyParts(key));
      if (one.consequent.length === 0) continue;
      this.block(one.consequent, [...keys, ...own]);
      own = [];
    }
  }

  /** Literals that a condition compares with, by an operator or by looking for them in a list. */
  #keysOf(node: AnyNode): Wire[] {
    const own: Wire[] = [];
    if (node.type === 'BinaryExpression' && /^[!=]==?$/.test(node.operator)) {
      for (const side of [node.left, node.right]) {
        const value = javascriptLiteral(side);
        if (value !== undefined) own.push(...keyParts(value));
      }
    } else if (node.type === 'CallExpression' && /\.(?:includes|has|is)$/.test(dottedName(node.callee))) {
      // `[3, 5].includes(n)`, `Object.is(n, 3)`
      for (const one of [node.callee.object, ...node.arguments]) {
        const value = javascriptLiteral(one);
        if (value !== undefined) own.push(...keyParts(value));
      }
    }
    return [...own, ...childNodes(node).flatMap((one) => this.#keysOf(one))];
  }
}
