import { AnnealError } from '../core/errors.js';

/** Logits this far below the largest get weight 0: e^-40 is below the resolution of a 53-bit uniform number. */
const reach = 40;
/** Steps of the exponential's table for one nat; also the width of a bucket. */
const stepsPerNat = 32;
/** Buckets of the distance from the largest logit; the last one ends at `reach`. */
export const bucketCount = reach * stepsPerNat + 1;
/** Bucket of tokens that are out of reach. */
export const outOfReach = 0xffff;

const steps = Float64Array.from({ length: bucketCount }, (_, i) => Math.exp(-i / stepsPerNat));

/**
 * Writes weights e^-((max - value)·scale) and returns their sum; the largest weight is 1. The exponential is a
 * table of 1/32 nat and a polynomial for the rest, off by less than 1e-11 and three times as fast as Math.exp.
 */
export function weigh(values: ArrayLike<number>, max: number, scale: number, weights: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const distance = (max - values[i]!) * scale;
    let weight = 0;
    // Written so that a NaN takes this branch and spoils the sum.
    if (!(distance >= reach)) {
      const step = (distance * stepsPerNat + 0.5) | 0;
      const r = step / stepsPerNat - distance;
      weight = steps[step]! * (1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24)))));
    }
    weights[i] = weight;
    sum += weight;
  }
  return sum;
}

/** Bucket of a distance from the largest logit, in nats; rises with the distance. */
export const bucketOf = (distance: number): number =>
  distance < reach ? (distance * stepsPerNat + 0.5) | 0 : outOfReach;

/** Index of the largest value, the first of equals. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0;
  let max = values[0]!;
  for (let i = 1; i < values.length; i++) {
    if (values[i]! > max) {
      max = values[i]!;
      best = i;
    }
  }
  return best;
}

/**
 * Says what is wrong with logits whose weights have no usable sum.
 * @throws AnnealError always: the first NaN or infinity, by token.
 */
export function refuse(values: ArrayLike<number>): never {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (Number.isNaN(value) || value === Number.POSITIVE_INFINITY) {
      throw new AnnealError(
        `the logit of token ${i} is ${value}; the model's weights are damaged or its training has diverged`,
      );
    }
  }
  throw new AnnealError(
    'every logit is -Infinity, so no token can be drawn; allow at least one in logitBias',
  );
}

/** The `count` largest values with their indices, largest first, equals by index. For small counts. */
export function largest(values: ArrayLike<number>, count: number): { index: number; value: number }[] {
  const found: { index: number; value: number }[] = [];
  let least = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    if (found.length === count && !(value > least)) continue;
    let at = found.length;
    while (at > 0 && found[at - 1]!.value < value) at--;
    found.splice(at, 0, { index, value });
    if (found.length > count) found.pop();
    least = found.at(-1)!.value;
  }
  return found;
}
