import { allocate } from '../../core/dtype.js';
import { AnnealError } from '../../core/errors.js';
import { Variable } from '../../core/variable.js';
import type { Schedule } from '../../optim/schedule.js';

/** A learning rate that the host sets between updates, as stages of a curriculum do whose lengths nobody knows before. */
export interface AdjustableRate {
  /** For an optimiser's `lr`. */
  readonly schedule: Schedule;
  /** Of the next updates. It is no part of a checkpoint: set it before each step. */
  set(rate: number): void;
}

/** @throws AnnealError for a rate that is negative or not finite */
export function adjustableRate(initial: number): AdjustableRate {
  const value = new Variable(allocate('float32', 1), 'float32', [], { name: 'lr', trainable: false });
  const set = (rate: number) => {
    if (!(rate >= 0 && Number.isFinite(rate)))
      throw new AnnealError(`the learning rate is ${rate}; pass a finite number of 0 or more`);
    value.data[0] = rate;
  };
  set(initial);
  return { schedule: () => value, set };
}
