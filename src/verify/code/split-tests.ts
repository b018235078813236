/**
 * Hidden tests. The split is a function of the problem and a seed, so that a run can be repeated, and a hash, so
 * that it cannot be guessed from the order of the tests.
 */
import { createHash } from 'node:crypto';
import { type TestPair, testPairs } from '../hacking/pairs.js';
import { canonical } from '../sandbox/plain.js';
import type { CodeProblem } from './problem.js';

export interface SplitOptions {
  /** Another seed, another split; default 0. */
  seed?: number;
  /** Share of the tests that is hidden; default 0.3. */
  fraction?: number;
  /** Fewest and most hidden tests; defaults 2 and 10. At least one test stays visible. */
  min?: number;
  max?: number;
}

/**
 * Marks which of a problem's tests are visible. The same problem and seed give the same split everywhere: tests are
 * ranked by a hash of seed, problem and test. A test that expects nothing or false is hidden last: a program that knows
 * the visible answers and gives nothing else would pass it. Before it come those whose output another test expects, too.
 * Show the policy the visible ones only, and log no hidden ones.
 */
export function splitTests(problem: CodeProblem, options: SplitOptions = {}): CodeProblem {
  const { seed = 0, fraction = 0.3, min = 2, max = 10 } = options;
  const count = problem.tests.length;
  const wanted = Math.min(Math.max(Math.round(count * fraction), min), max);
  const hidden = Math.max(0, Math.min(wanted, count - 1));
  const rank = (index: number) =>
    createHash('sha256').update(`${seed}\n${problem.id}\n${index}`).digest('hex');
  const pairs = testPairs(problem);
  const forms = new Map(pairs.map(({ test, expected }) => [test, canonical(expected)]));
  // "nothing" and "false" are what a program gives that knows no answer.
  const isIdle = ({ expected }: TestPair) => expected === null || expected === false || expected === '';
  const idle = new Set(pairs.filter(isIdle).map(({ test }) => test));
  // An output that another test has, too, may be given by chance: by a counter of calls, or a constant.
  const isShared = (index: number) => {
    const own = forms.get(index);
    return own !== undefined && [...forms].some(([other, form]) => other !== index && form === own);
  };
  const key = (index: number) => `${idle.has(index) ? 1 : 0}${isShared(index) ? 1 : 0}${rank(index)}`;
  const order = problem.tests.map((_, index) => index).sort((a, b) => (key(a) < key(b) ? -1 : 1));
  const isHidden = new Set(order.slice(0, hidden));
  return {
    ...problem,
    tests: problem.tests.map((test, index) => ({ ...test, visible: !isHidden.has(index) })),
  };
}

/** A permutation of 0 … count-1 from a seed: the order in which a run takes its tests. */
export function shuffled(count: number, seed: string): number[] {
  const key = Array.from({ length: count }, (_, i) =>
    createHash('sha256').update(`${seed}\n${i}`).digest('hex'),
  );
  return key.map((_, i) => i).sort((a, b) => (key[a]! < key[b]! ? -1 : 1));
}
