import { AnnealError } from '../core/errors.js';
import { interpret } from '../core/interpret.js';
import { add, cos, maximum, minimum, mul, sub } from '../core/ops/elementwise.js';
import { scalar } from '../core/ops/leaf.js';
import type { Tensor } from '../core/tensor.js';

/** Learning rate as a function of the number of updates done before this one (a float32 scalar). */
export type Schedule = (step: Tensor) => Tensor;

function checkSteps(name: string, values: Readonly<Record<string, number>>): void {
  for (const [key, value] of Object.entries(values)) {
    if (!Number.isFinite(value) || value < 0)
      throw new AnnealError(`${name}: ${key} must be a number ≥ 0, not ${value}`);
  }
}

/** How far `step` is from `from` to `from + length`, within 0 … 1. */
const progress = (step: Tensor, from: number, length: number): Tensor =>
  minimum(maximum(mul(sub(step, from), 1 / Math.max(length, 1)), 0), 1);

/** The same rate at every step. */
export function constantRate(rate: number): Schedule {
  return () => scalar(rate);
}

/** `schedule` times a factor: the rate of a group of parameters relative to the others'. */
export function scaled(schedule: Schedule, factor: number): Schedule {
  if (!Number.isFinite(factor)) throw new AnnealError(`scaled: the factor must be a number, not ${factor}`);
  return (step) => mul(schedule(step), factor);
}

/** From `start` to `end` in a straight line over `steps` updates, then `end`. */
export function linear(start: number, end: number, steps: number): Schedule {
  checkSteps('linear', { steps });
  return (step) => add(mul(progress(step, 0, steps), end - start), start);
}

/** Half a cosine from `peak` to `end` over `steps` updates, then `end` (Loshchilov and Hutter 2017). */
export function cosine(peak: number, steps: number, end = 0): Schedule {
  checkSteps('cosine', { steps });
  return (step) => add(mul(add(cos(mul(progress(step, 0, steps), Math.PI)), 1), (peak - end) / 2), end);
}

/** Warm-up, stable, decay: `rate` until `stable` updates are done, then straight down to `end` over `decay` updates. */
export function warmupStableDecay(rate: number, stable: number, decay: number, end = 0): Schedule {
  checkSteps('warmupStableDecay', { stable, decay });
  return (step) => add(mul(progress(step, stable, decay), end - rate), rate);
}

/**
 * `schedule` after a linear rise: update i of the first `steps` uses (i+1)/steps of its rate. The
 * schedule itself counts from the first update.
 */
export function warmup(steps: number, schedule: Schedule): Schedule {
  checkSteps('warmup', { steps });
  if (steps === 0) return schedule;
  return (step) => mul(schedule(step), minimum(mul(add(step, 1), 1 / steps), 1));
}

/** The rate before update number `step` (0 is the first), on the host. */
export function rateAt(schedule: Schedule, step: number): number {
  return interpret([schedule(scalar(step))])[0]!.data[0]!;
}
