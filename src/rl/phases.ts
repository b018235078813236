import { AnnealError } from '../core/errors.js';
import type { Json } from '../data/batch-source.js';

/** What a phase is told. */
export interface PhaseContext<P = unknown> {
  /** Steps of the run done before. */
  readonly step: number;
  /** Name of the phase. */
  readonly phase: string;
  /** Steps of this phase done before. */
  readonly phaseStep: number;
  readonly policies: P;
  /** A seed that depends on the run's seed, the step, the phase and the parts, and on nothing else. */
  seed(...parts: readonly (string | number)[]): number;
  /** Aborted when the caller wants the run to end at once. A phase that throws then is taken back. */
  readonly signal: AbortSignal;
  /** Writes a note into the log. */
  emit(text: string, data?: Json): void;
}

/** What a phase did. */
export interface PhaseReport {
  /**
   * Numbers for the log. `loss`, `lr` and `gradNorm` have fields of their own there; `tokens` becomes the rate; names
   * that begin with `ms.` are times, in milliseconds.
   */
  metrics: Readonly<Record<string, number>>;
  /** Rows of the step's table, rollouts/step-N.jsonl. */
  samples?: readonly Json[];
}

/** One step of a run: samples, scores, updates, whatever belongs together. */
export type Phase<P = unknown> = (context: PhaseContext<P>) => Promise<PhaseReport>;

/** Which phase a step is; a pure function, so that a resumed run needs no counters. */
export type PhaseSchedule = (step: number) => string;

function checkCount(name: string, count: number): void {
  if (Number.isInteger(count) && count >= 1) return;
  throw new AnnealError(`interleave: ${name} has ${count} steps; pass an integer of 1 or more`);
}

/**
 * A warm-up of one phase, then a cycle of phases, each some steps long: RL Tango is
 * `interleave({ warmUp: { phase: 'verifier', steps: 40 }, cycle: [['generator', 3], ['verifier', 1]] })`.
 * @throws AnnealError if the cycle is empty, or a number of steps is no positive integer.
 */
export function interleave({
  warmUp,
  cycle,
}: {
  warmUp?: { phase: string; steps: number };
  cycle: readonly (readonly [phase: string, steps: number])[];
}): PhaseSchedule {
  if (cycle.length === 0) throw new AnnealError('interleave: the cycle is empty; pass at least one phase');
  for (const [phase, steps] of cycle) checkCount(phase, steps);
  if (warmUp && warmUp.steps !== 0) checkCount('warmUp', warmUp.steps);
  const order = cycle.flatMap(([phase, steps]) => Array.from({ length: steps }, () => phase));
  const start = warmUp?.steps ?? 0;
  return (step) => (step < start ? warmUp!.phase : order[(step - start) % order.length]!);
}

/** Steps after which a schedule has given a phase `count` times: how long a run is that should have as many. */
export function stepsUntil(schedule: PhaseSchedule, phase: string, count: number, limit = 1e6): number {
  for (let step = 0, seen = 0; step <= limit; step++) {
    if (seen === count) return step;
    if (schedule(step) === phase) seen++;
  }
  throw new AnnealError(`stepsUntil: fewer than ${count} steps of "${phase}" in the first ${limit}`);
}
