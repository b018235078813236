import { constant } from './ops/leaf.js';
import { Rng } from './random.js';
import { type Shape, sizeOf } from './shape.js';
import type { Tensor } from './tensor.js';

let generator = new Rng(0);

/** Restarts the generator that `randn` and `uniform` draw from. A process starts with seed 0. */
export function seed(value: number): void {
  generator = new Rng(value);
}

/** Constant tensor of normal numbers, drawn now from `rng` or the process's generator. */
export const randn = (shape: Shape, options: { mean?: number; std?: number; rng?: Rng } = {}): Tensor =>
  constant(
    (options.rng ?? generator).normal(sizeOf(shape), options.mean ?? 0, options.std ?? 1),
    shape,
    'float32',
  );

/** Constant tensor of numbers uniform in [low, high), drawn now. */
export const uniform = (shape: Shape, low = 0, high = 1, rng: Rng = generator): Tensor =>
  constant(rng.uniform(sizeOf(shape), low, high), shape, 'float32');
