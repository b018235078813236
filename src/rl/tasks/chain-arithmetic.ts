import { AnnealError } from '../../core/errors.js';
import { checkRange, choose, drawIn, problemRng, type Range, type StepTask } from './task.js';

/** One operation of a chain. */
export interface ChainOperation {
  readonly operator: '+' | '-' | '*';
  readonly operand: number;
}

/** A value and what is done to it, one operation after the other (no precedence), modulo `modulus`. */
export interface ChainProblem {
  readonly start: number;
  readonly operations: readonly ChainOperation[];
  readonly modulus: number;
}

/** Settings of `chainArithmetic`. */
export interface ChainOptions {
  /** Number of operations. */
  count: Range;
  /** Everything is an integer below it; at least 2. Default 10. */
  modulus?: number;
  /**
   * `fixed` (default): a step does one operation. `free`: a step may do several, as `+3*2=4`, so that a policy chooses
   * how many steps it writes.
   */
  steps?: 'fixed' | 'free';
}

const operators = ['+', '-', '*'] as const;

function apply(value: number, { operator, operand }: ChainOperation, modulus: number): number {
  const result = operator === '+' ? value + operand : operator === '-' ? value - operand : value * operand;
  return ((result % modulus) + modulus) % modulus;
}

const write = ({ operator, operand }: ChainOperation) => `${operator}${operand}`;

/** A step's operations as written and the value that it states; undefined for a step of another form. */
function readStep(step: string): { operations: string; count: number; value: number } | undefined {
  const match = /^((?:[+\-*]\d+)+)=(\d+)$/.exec(step);
  if (!match) return undefined;
  const operations = match[1]!;
  return { operations, count: operations.match(/[+\-*]/g)!.length, value: Number(match[2]) };
}

/** Steps against the chain: whether each goes on where the last readable one ended, and the value it should state. */
function follow(problem: ChainProblem, steps: readonly string[]) {
  const { operations, modulus } = problem;
  let done = 0;
  let value = problem.start;
  const found = steps.map((step) => {
    const said = readStep(step);
    const next = said && operations.slice(done, done + said.count);
    if (!said || next!.map(write).join('') !== said.operations || next!.length !== said.count)
      return { said, isNext: false, value: '' };
    value = next!.reduce((before, operation) => apply(before, operation, modulus), value);
    done += said.count;
    return { said, isNext: true, value: String(value) };
  });
  return { found, isComplete: done === operations.length };
}

/** Arithmetic modulo a small number: the answer is the value after n operations, a step states the value so far. */
export function chainArithmetic(options: ChainOptions): StepTask<ChainProblem> {
  const name = 'chain-arithmetic';
  const { count, modulus = 10, steps: kind = 'fixed' } = options;
  checkRange(name, 'count', count, 1);
  if (!Number.isInteger(modulus) || modulus < 2 || modulus > 1e6)
    throw new AnnealError(`${name}: modulus is ${modulus}; pass an integer from 2 to 1,000,000`);

  /** One step an operation, where `next` says the value after it. */
  const chain = (problem: ChainProblem, next: (right: number) => number) => {
    let value = problem.start;
    const steps = problem.operations.map((operation) => {
      value = next(apply(value, operation, modulus));
      return `${write(operation)}=${value}`;
    });
    return { steps, answer: String(value) };
  };
  return {
    name,
    alphabet: '0123456789+-*= mod',
    phrases: [' mod '],
    problem(seed, index) {
      const rng = problemRng(name, seed, index);
      const length = drawIn(rng, count);
      const draw = () => drawIn(rng, [0, modulus - 1]);
      const start = draw();
      const operation = () => ({ operator: choose(rng, operators), operand: draw() });
      return { start, operations: Array.from({ length }, operation), modulus };
    },
    question: ({ start, operations }) => `${start}${operations.map(write).join('')} mod ${modulus}`,
    solution: (problem) => chain(problem, (right) => right),
    noisySolution(problem, accuracy, rng) {
      // A wrong value is any other one: a shift by 1 … modulus − 1.
      return chain(problem, (right) =>
        rng.next() < accuracy ? right : (right + drawIn(rng, [1, modulus - 1])) % modulus,
      );
    },
    isCorrect: (problem, answer) => answer === chain(problem, (right) => right).answer,
    isConsistent(problem, { steps, answer }) {
      const { found, isComplete } = follow(problem, steps);
      const isFollowing = found.every(({ isNext, said }) => isNext && (kind === 'free' || said!.count === 1));
      return steps.length > 0 && isFollowing && isComplete && String(found.at(-1)!.said!.value) === answer;
    },
    stepLabels: (problem, steps) =>
      follow(problem, steps).found.map(({ said, isNext, value }) => isNext && String(said!.value) === value),
    stated: (step) => step.slice(step.lastIndexOf('=') + 1),
    restate: (problem, steps) => follow(problem, steps).found.map(({ value }) => value),
  };
}
