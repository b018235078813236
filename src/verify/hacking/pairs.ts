/** What tests give and expect, as far as they say so in literals. */
import type { SyntaxNode } from '@lezer/common';
import type { CodeProblem } from '../code/problem.js';
import { children, parsePython, textOf } from '../code/python-syntax.js';
import { toWire, type Wire } from '../sandbox/plain.js';
import { itemsOf, pythonLiteral } from './python-literals.js';

/** What a test gives a program and expects of it, as far as it says so in literals. */
export interface TestPair {
  /** Index of the test in its problem. */
  test: number;
  args: Wire[];
  expected: Wire;
  /** Some argument is no literal, and `args` lacks it. */
  partial?: boolean;
}

// Detectors and splits ask for the pairs of one problem many times.
const known = new WeakMap<CodeProblem, TestPair[]>();

/** The pairs of all tests of a problem; a test that is no plain example has none. */
export function testPairs(problem: CodeProblem): TestPair[] {
  let pairs = known.get(problem);
  if (!pairs) {
    pairs = readPairs(problem);
    known.set(problem, pairs);
  }
  return pairs;
}

function readPairs(problem: CodeProblem): TestPair[] {
  return problem.tests.flatMap((test, index): TestPair[] => {
    if (test.kind === 'call')
      return [{ test: index, args: test.args.map(toWire), expected: toWire(test.expected) }];
    if (test.kind === 'output')
      return [{ test: index, args: [test.input.trim()], expected: test.expected.trim() }];
    const pair = assertionPair(test.source, [problem.entry ?? '', ...(test.aliases ?? [])]);
    return pair ? [{ test: index, ...pair }] : [];
  });
}

/** The first `assert f(literals) == literal` of a source; wrappers such as `set(…)` around the call are seen through. */
export function assertionPair(source: string, names: readonly string[]): Omit<TestPair, 'test'> | undefined {
  const tree = parsePython(source);
  let found: Omit<TestPair, 'test'> | undefined;
  // The first call of the entry in a node.
  const callOf = (node: SyntaxNode): SyntaxNode | undefined => {
    const isOurs = node.name === 'CallExpression' && names.includes(textOf(node.firstChild!, source));
    if (isOurs) return node;
    for (const one of children(node)) {
      const inner = callOf(one);
      if (inner) return inner;
    }
    return undefined;
  };
  // Its arguments, as far as they are literals.
  const argsOf = (call: SyntaxNode) => {
    const list = call.getChild('ArgList');
    const values = (list ? itemsOf(list) : []).map((one) => pythonLiteral(one, source));
    const args = values.filter((one): one is Wire => one !== undefined);
    return { args, ...(args.length < values.length && { partial: true }) };
  };
  // Comparisons, negations and `isclose`, in that order; anything around them is seen through.
  const read = (node: SyntaxNode): void => {
    if (found) return;
    const call = callOf(node);
    if (!call) return;
    if (node.name === 'BinaryExpression') {
      const [left, operator, right] = children(node);
      const isEqual = operator && ['==', 'is'].includes(textOf(operator, source));
      const other = left && callOf(left) ? right : left;
      const expected = other && isEqual ? pythonLiteral(other, source) : undefined;
      if (expected !== undefined) found = { ...argsOf(call), expected };
    } else if (node.name === 'UnaryExpression' && textOf(node, source).startsWith('not')) {
      found = { ...argsOf(call), expected: false };
    } else if (node.name === 'CallExpression' && node.from !== call.from) {
      // `isclose(f(x), 0.5)`: the other argument is expected.
      const list = node.getChild('ArgList');
      const others = (list ? itemsOf(list) : []).filter((one) => !callOf(one));
      const expected = others[0] && pythonLiteral(others[0], source);
      const isClose = /isclose$/.test(textOf(node.firstChild!, source));
      if (isClose && expected !== undefined) found = { ...argsOf(call), expected };
    }
    if (!found) for (const one of children(node)) read(one);
  };
  tree.iterate({
    enter: ({ node }) => {
      if (node.name !== 'AssertStatement' || found) return;
      const [, condition] = children(node);
      const call = condition && callOf(condition);
      // `assert f(x)`: true is expected.
      if (call && call.from === condition.from && call.to === condition.to)
        found = { ...argsOf(call), expected: true };
      else if (condition) read(condition);
    },
  });
  return found;
}
