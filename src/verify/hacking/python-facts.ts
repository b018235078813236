/**
 * What the detectors ask of a Python program, read off its syntax tree: no regular expression over source tells a
 * comparison from a comment.
 */
import type { SyntaxNode } from '@lezer/common';
import { children, parsePython, textOf } from '../code/python-syntax.js';
import type { Wire } from '../sandbox/plain.js';
import { keyParts, noFacts, noteLiteral, type ProgramFacts } from './facts.js';
import { itemsOf, pythonLiteral } from './python-literals.js';
import { pythonTampering } from './python-tampering.js';

/** Reads what the detectors ask out of a Python program. Never throws: the parser recovers from errors. */
export function pythonFacts(source: string): ProgramFacts {
  const facts = noFacts();
  const tree = parsePython(source);
  new Reader(source, facts).block(children(tree.topNode), []);
  facts.tampering = pythonTampering(tree, source);
  return facts;
}

/** What a condition can single an argument out with. */
const isComparison = (node: SyntaxNode, source: string) =>
  children(node).some(
    (one) =>
      (one.name === 'CompareOp' && /^[=!]=$/.test(textOf(one, source))) ||
      one.name === 'in' ||
      one.name === 'is',
  );

/**
 * Walks statements and carries along what the conditions above them compared with, so that a value deep
 * inside nested branches is held against all of them.
 */
class Reader {
  readonly #source: string;
  readonly #facts: ProgramFacts;

  constructor(source: string, facts: ProgramFacts) {
    this.#source = source;
    this.#facts = facts;
  }

  /** Reads statements under conditions that compared with `keys`. */
  /**
   * Statements under conditions. What comes after a branch that returns is under its negation, which
   * singles nothing out.
   */
  block(nodes: readonly SyntaxNode[], keys: Wire[]): void {
    const values: Wire[] = [];
    for (const node of nodes) this.#statement(node, keys, values);
    if (keys.length > 0 && values.length > 0) this.#facts.branches.push({ keys, values });
  }

  /** One statement: branches open a way, everything else adds to the one it is on. */
  #statement(node: SyntaxNode, keys: Wire[], values: Wire[]): void {
    if (node.name === 'IfStatement' || node.name === 'WhileStatement') {
      this.#conditions(node, keys, values);
      return;
    }
    if (node.name === 'MatchStatement') {
      this.#match(node, keys, values);
      return;
    }
    if (node.name === 'Body' || node.name === 'StatementGroup') {
      for (const one of children(node)) this.#statement(one, keys, values);
      return;
    }
    if (node.name === 'FunctionDefinition' || node.name === 'ClassDefinition') {
      const body = node.getChild('Body');
      const parameters = node.getChild('ParamList');
      // What a default or a decorator holds is a literal like any other.
      if (parameters) this.#expression(parameters, keys, values);
      if (body) this.block(children(body), keys);
      return;
    }
    // A docstring, or a text that nobody uses.
    const isIdle = node.name === 'ExpressionStatement' && /String$/.test(node.firstChild?.name ?? '');
    if (!isIdle) this.#expression(node, keys, values);
  }

  /** `if … elif … else`: each body under what its own conditions compare with. */
  /** if and elif: each body with the literals of its own condition. */
  #conditions(node: SyntaxNode, keys: Wire[], values: Wire[]): void {
    let own: Wire[] = [];
    for (const one of children(node)) {
      if (['if', 'elif', 'else', 'while', ':'].includes(one.name)) {
        if (one.name === 'else') own = [];
        continue;
      }
      if (one.name === 'Body') this.block(children(one), [...keys, ...own]);
      else {
        own = this.#keysOf(one);
        this.#expression(one, keys, values);
      }
    }
    // An early return guards what follows: `if n != 5: return g(n)` leaves 5 to the rest, which `values` belong to.
    if (/!=/.test(textOf({ from: node.from, to: node.getChild('Body')?.from ?? node.to }, this.#source)))
      this.#facts.branches.push({ keys: [...keys, ...own], values });
  }

  /** match: each body with the literals of its patterns. */
  #match(node: SyntaxNode, keys: Wire[], values: Wire[]): void {
    const [subject] = children(node).slice(1);
    if (subject) this.#expression(subject, keys, values);
    for (const clause of node.getChild('MatchBody')?.getChildren('MatchClause') ?? []) {
      const own: Wire[] = [];
      for (const one of children(clause)) {
        if (one.name === 'Body') this.block(children(one), [...keys, ...own]);
        else this.#patterns(one, own);
      }
    }
  }

  /** Literals of a pattern, those of alternatives included. */
  #patterns(node: SyntaxNode, keys: Wire[]): void {
    const value = pythonLiteral(node, this.#source);
    if (value !== undefined) {
      keys.push(...keyParts(value));
      noteLiteral(this.#facts, value);
    } else for (const one of children(node)) this.#patterns(one, keys);
  }

  /** What the comparisons in a condition compare with. */
  /** Literals that a condition compares with. */
  #keysOf(node: SyntaxNode): Wire[] {
    const isOne = node.name === 'BinaryExpression' && isComparison(node, this.#source);
    const own = isOne
      ? children(node).flatMap((one) => {
          const value = pythonLiteral(one, this.#source);
          return value === undefined ? [] : keyParts(value);
        })
      : [];
    return [...own, ...children(node).flatMap((one) => (itemsOf(one).length > 0 ? this.#keysOf(one) : []))];
  }

  /** Finds the literals of an expression, outermost first, and what conditional expressions choose between. */
  /** Values, and the conditions of conditional expressions inside of them. */
  #expression(node: SyntaxNode, keys: Wire[], values: Wire[]): void {
    const value = pythonLiteral(node, this.#source);
    if (value !== undefined) {
      values.push(value);
      noteLiteral(this.#facts, value);
      return;
    }
    if (node.name === 'CallExpression' && node.firstChild) {
      const called = textOf(node.firstChild, this.#source);
      this.#facts.calls.add(called.slice(called.lastIndexOf('.') + 1));
    }
    if (node.name === 'DictionaryExpression') this.#openDictionary(node);
    if (node.name === 'ConditionalExpression') {
      const [then, , condition, , otherwise] = children(node);
      if (then && condition) this.block([then], [...keys, ...this.#keysOf(condition)]);
      if (condition) this.#expression(condition, keys, []);
      if (otherwise) this.#expression(otherwise, keys, values);
      return;
    }
    if (node.name === 'Body') {
      this.block(children(node), keys);
      return;
    }
    for (const one of children(node)) {
      // Statements inside statements, as in loops and `try`.
      if (/Statement$|Definition$/.test(one.name)) this.#statement(one, keys, values);
      else this.#expression(one, keys, values);
    }
  }

  /** A dictionary of which not every part is a literal: the pairs that are. */
  /** A dictionary that is no literal as a whole still shows the pairs that are. */
  #openDictionary(node: SyntaxNode): void {
    const items = children(node);
    const pairs: [Wire, Wire][] = [];
    for (let i = 1; i < items.length - 1; i++) {
      if (items[i]!.name !== ':') continue;
      const key = pythonLiteral(items[i - 1]!, this.#source);
      const value = pythonLiteral(items[i + 1]!, this.#source);
      if (key !== undefined && value !== undefined) pairs.push([key, value]);
    }
    if (pairs.length > 0) this.#facts.tables.push(pairs);
  }
}
