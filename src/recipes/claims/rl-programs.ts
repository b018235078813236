/** Programs that are read rather than written: a domain that shares its arithmetic with chains. */
import { type ChainProblem, chainArithmetic, type Range, type StepTask } from '../../rl/index.js';

/** Settings of `programOutput`. */
export interface ProgramOutputOptions {
  /** Fewest and most instructions, each of which pushes a number and then takes it. */
  count: Range;
  /** Everything is an integer below it. */
  modulus: number;
}

/**
 * What a stack program returns for an input: `2>1+2*` is 2, after pushing 1, adding, pushing 2, multiplying. A step
 * states an operation and the stack after it, as `1+:0`. Values are modulo a number that is not mentioned.
 *
 * The problems are those of `chainArithmetic` in postfix order; they are drawn with other seeds.
 */
export function programOutput({ count, modulus }: ProgramOutputOptions): StepTask<ChainProblem> {
  const chain = chainArithmetic({ count, modulus });
  const toProgram = (step: string) => step.replace(/^([+\-*])(\d+)=/, '$2$1:');
  const toChain = (step: string) => step.replace(/^(\d+)([+\-*]):/, '$2$1=');
  const written = ({ steps, answer }: ReturnType<typeof chain.solution>) => ({
    steps: steps.map(toProgram),
    answer,
  });
  const read = (steps: readonly string[]) =>
    // What is written as a chain is no step of a program.
    steps.map((step) => (/^\d+[+\-*]:\d+$/.test(step) ? toChain(step) : ''));
  return {
    name: 'program-output',
    alphabet: '0123456789+-*>:',
    phrases: [],
    problem: (seed, index) => chain.problem(seed + 55_555, index),
    question: ({ start, operations }) =>
      `${start}>${operations.map(({ operator, operand }) => `${operand}${operator}`).join('')}`,
    solution: (problem) => written(chain.solution(problem)),
    noisySolution: (problem, accuracy, rng) => written(chain.noisySolution(problem, accuracy, rng)),
    isCorrect: chain.isCorrect,
    isConsistent: (problem, { steps, answer }) => chain.isConsistent(problem, { steps: read(steps), answer }),
    stepLabels: (problem, steps) => chain.stepLabels(problem, read(steps)),
    stated: (step) => step.slice(step.lastIndexOf(':') + 1),
    restate: (problem, steps) => chain.restate(problem, read(steps)),
  };
}
