import { Rng } from '../../core/random.js';
import type { StepTask } from '../tasks/task.js';
import type { ParsedSolution } from './solution-format.js';

/** Verdicts of one response; undefined where there are none. */
export interface Verdicts {
  readonly verdicts: readonly boolean[] | undefined;
  readonly final: boolean | undefined;
}

/**
 * A verifier that is a function: one that is flawed in a known way, or knows everything. `isCorrect` is the gold outcome.
 * @param seed a new one for each response and step
 */
export type ScriptedVerifier<P> = (
  problem: P,
  solution: ParsedSolution,
  gold: { isCorrect: boolean; seed: number },
) => Verdicts;

type Labelled<P> = Pick<StepTask<P>, 'stepLabels'>;

const labelsOf = <P>(task: Labelled<P>, problem: P, { steps }: ParsedSolution): boolean[] =>
  task.stepLabels(
    problem,
    steps.map(({ text }) => text),
  );

/** Knows the gold labels, or tells each one wrong with probability 1 − `accuracy`. */
export const oracleVerifier =
  <P>(task: Labelled<P>, accuracy = 1): ScriptedVerifier<P> =>
  (problem, solution, { isCorrect, seed }) => {
    const rng = new Rng(seed, 'oracle');
    const tell = (label: boolean) => (rng.next() < accuracy ? label : !label);
    return { verdicts: labelsOf(task, problem, solution).map(tell), final: tell(isCorrect) };
  };

/** Calls everything correct: what pays is to have fewer steps. */
export const acceptAll: ScriptedVerifier<unknown> = (_, { steps }) => ({
  verdicts: steps.map(() => true),
  final: true,
});

/** Says the opposite of the truth. */
export const invertedVerifier =
  <P>(task: Labelled<P>): ScriptedVerifier<P> =>
  (problem, solution, { isCorrect }) => ({
    verdicts: labelsOf(task, problem, solution).map((label) => !label),
    final: !isCorrect,
  });

/** Calls a step correct if and only if a cue stands in it, whatever else it says. */
export const cueVerifier =
  (cue: string): ScriptedVerifier<unknown> =>
  (_, { steps }) => {
    const verdicts = steps.map(({ text }) => text.includes(cue));
    return { verdicts, final: verdicts.every(Boolean) };
  };
