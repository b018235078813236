import { AnnealError } from '../../core/errors.js';
import type { Rng } from '../../core/random.js';
import { instructionLetters, programParts, type RunLimits, runProgram } from './stack-machine.js';
import { checkRange, choose, drawIn, problemRng, type Range, type StepTask } from './task.js';

/** What a program must give for an input. */
export interface ProgramTest {
  readonly input: number;
  readonly output: number;
}

/** Examples of a function; a program of the stack language that computes it is to be found. */
export interface ProgramProblem {
  /** A program that does it. */
  readonly program: string;
  /** The tests that are shown. */
  readonly shown: readonly ProgramTest[];
  /** The tests that decide whether an answer is correct; by `tests`, they may be too few or wrong. */
  readonly judging: readonly ProgramTest[];
}

/** Settings of `stackPrograms`. */
export interface ProgramOptions {
  /** Number of top-level parts of the hidden program. */
  length: Range;
  /** Inputs are drawn from it; default 0 to 9. */
  inputs?: Range;
  /** Number of tests that are shown; default 3. */
  shown?: number;
  /** Number of tests that are not; default 5. */
  hidden?: number;
  /** Whether a hidden program may hold a loop of a fixed count. Default false. */
  loops?: boolean;
  /**
   * Which tests judge an answer. `strong` (default): all. `weak`: only the first shown one, so that wrong programs pass
   * (false positives). `broken`: of one test the output is wrong, so that no right program passes (false negatives).
   * The problems themselves are the same in all three.
   */
  tests?: 'strong' | 'weak' | 'broken';
  /** Share of the problems with weak or broken tests; the others have strong ones. Default 1. */
  share?: number;
  limits?: RunLimits;
}

const plain = instructionLetters.filter((letter) => !'[]'.includes(letter));

/** A random program, loops of 2 to 4 rounds included if wanted. */
function randomProgram(rng: Rng, length: number, loops: boolean): string {
  let program = '';
  for (let left = length; left > 0; left--) {
    if (loops && left >= 2 && rng.next() < 0.2) {
      const body = Array.from({ length: drawIn(rng, [1, 3]) }, () => choose(rng, plain)).join('');
      program += `${drawIn(rng, [2, 4])}[${body}]`;
      left--;
    } else program += choose(rng, plain);
  }
  return program;
}

/** Outputs for inputs; undefined where one has none or is large. */
function outputsOf(program: string, inputs: readonly number[], limits: RunLimits): number[] | undefined {
  const outputs: number[] = [];
  for (const input of inputs) {
    const result = runProgram(program, input, limits);
    if (!result.ok || Math.abs(result.value) > 999) return undefined;
    outputs.push(result.value);
  }
  return outputs;
}

/** A step states an instruction and the stack after it, top last. */
const writeStep = (part: string, stack: readonly number[] | undefined) =>
  `${part}:${stack ? stack.join(',') : '?'}`;

/** Steps of a program on the first shown input; a `?` from where it fails. */
function trace(program: string, input: number, limits: RunLimits): string[] {
  const parts = programParts(program) ?? [];
  return parts.map((part, k) => {
    const result = runProgram(parts.slice(0, k + 1).join(''), input, limits);
    return writeStep(part, result.ok ? result.stack : undefined);
  });
}

const statedOf = (step: string): string => step.slice(step.lastIndexOf(':') + 1);

const partOf = (step: string): string => step.slice(0, Math.max(0, step.lastIndexOf(':')));

function checkOptions(name: string, { tests, share, shown, hidden, ...ranges }: Required<ProgramOptions>) {
  checkRange(name, 'length', ranges.length, 1);
  checkRange(name, 'inputs', ranges.inputs, -99);
  const inputs = ranges.inputs[1] - ranges.inputs[0] + 1;
  if (!(Number.isInteger(shown) && Number.isInteger(hidden) && shown >= 1 && hidden >= 0))
    throw new AnnealError(`${name}: shown is ${shown} and hidden ${hidden}; pass 1 or more, and 0 or more`);
  if (shown + hidden > inputs)
    throw new AnnealError(`${name}: ${shown + hidden} tests need as many inputs, of ${inputs}; widen inputs`);
  if (!(share >= 0 && share <= 1)) throw new AnnealError(`${name}: share is ${share}; pass 0 to 1`);
  if (!['strong', 'weak', 'broken'].includes(tests))
    throw new AnnealError(`${name}: tests is ${tests}; pass strong, weak or broken`);
}

/**
 * Program synthesis in a small stack language: from examples of a function to a program that passes its tests, in an
 * interpreter that counts steps. The stand-in for the code domain of AceReason where there is no sandbox.
 */
export function stackPrograms(options: ProgramOptions): StepTask<ProgramProblem> {
  const name = 'stack-programs';
  const all: Required<ProgramOptions> = {
    inputs: [0, 9],
    shown: 3,
    hidden: 5,
    loops: false,
    tests: 'strong',
    share: 1,
    limits: {},
    ...options,
  };
  checkOptions(name, all);
  const { limits } = all;

  const judgingOf = (tests: readonly ProgramTest[], rng: Rng): readonly ProgramTest[] => {
    if (all.tests === 'strong' || rng.next() >= all.share) return tests;
    if (all.tests === 'weak') return tests.slice(0, 1);
    const broken = drawIn(rng, [0, tests.length - 1]);
    return tests.map((test, i) => (i === broken ? { ...test, output: test.output + 1 } : test));
  };
  const firstInput = (problem: ProgramProblem) => problem.shown[0]!.input;
  const traced = (problem: ProgramProblem, program: string) => ({
    steps: trace(program, firstInput(problem), limits),
    answer: program,
  });
  return {
    name,
    alphabet: `${instructionLetters.join('')}:,?> `,
    phrases: [],
    problem(seed, index) {
      const rng = problemRng(name, seed, index);
      const inputs = Array.from(rng.permutation(all.inputs[1] - all.inputs[0] + 1))
        .slice(0, all.shown + all.hidden)
        .map((i) => all.inputs[0] + i);
      for (let tries = 0; tries < 2000; tries++) {
        const program = randomProgram(rng, drawIn(rng, all.length), all.loops);
        const outputs = outputsOf(program, inputs, limits);
        // Constants and the identity are found without understanding.
        if (!outputs || outputs.every((output) => output === outputs[0])) continue;
        if (outputs.every((output, i) => output === inputs[i])) continue;
        const tests = inputs.map((input, i) => ({ input, output: outputs[i]! }));
        // The judging has a stream of its own: problems are the same whatever judges them.
        const judging = judgingOf(tests, rng.split('judging'));
        return { program, shown: tests.slice(0, all.shown), judging };
      }
      throw new AnnealError(`${name}: no program of length ${all.length} was found; pass a longer one`);
    },
    question: ({ shown }) => shown.map(({ input, output }) => `${input}>${output}`).join(' '),
    solution: (problem) => traced(problem, problem.program),
    noisySolution(problem, accuracy, rng) {
      const parts = programParts(problem.program)!;
      const drawn = parts.map((part) => (rng.next() < accuracy ? part : choose(rng, plain)));
      return traced(problem, drawn.join(''));
    },
    isCorrect: ({ judging }, answer) =>
      judging.every(({ input, output }) => {
        const result = runProgram(answer, input, limits);
        return result.ok && result.value === output;
      }),
    isConsistent(_, { steps, answer }) {
      const parts = programParts(answer);
      const isSame = parts !== undefined && parts.length > 0 && parts.length === steps.length;
      return isSame && steps.every((step, k) => partOf(step) === parts[k] && /:(-?\d[-\d,]*|\?)$/.test(step));
    },
    stepLabels(problem, steps) {
      const right = trace(steps.map(partOf).join(''), firstInput(problem), limits);
      // Instructions that do not add up to a program have no state to be right about.
      return steps.map(
        (step, k) => right.length === steps.length && step === right[k] && !step.endsWith('?'),
      );
    },
    stated: statedOf,
    restate(problem, steps) {
      const right = trace(steps.map(partOf).join(''), firstInput(problem), limits);
      return steps.map((_, k) => {
        return right.length === steps.length ? statedOf(right[k]!) : '?';
      });
    },
  };
}
