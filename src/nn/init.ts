import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import type { Rng } from '../core/random.js';
import { type Shape, sizeOf } from '../core/shape.js';
import { type ParameterRole, Variable } from '../core/variable.js';
import { type Module, modulesOf, parametersOf } from './module.js';

/**
 * A float32 parameter filled with one value; what `initialize` or a checkpoint then overwrites. Its role tells
 * optimisers what it does.
 */
export function parameter(shape: Shape, role: ParameterRole, value = 0): Variable {
  const data = allocate('float32', sizeOf(shape));
  if (value !== 0) data.fill(value);
  return new Variable(data, 'float32', shape, { role });
}

/** Options of `initialize`. */
export interface InitializeOptions {
  rng: Rng;
  /**
   * Standard deviation of weights: a number, or `fan-in` for 1/√inputs of linear layers (and 0.02 of embeddings), which
   * small models learn faster from. Default 0.02.
   */
  std?: number | 'fan-in';
  /** Layers of the residual stream, each of which adds to it twice. Default 1. */
  layers?: number;
}

/**
 * Sets every parameter of a module to its starting value, that of GPT-2 (Radford et al. 2019) and nanoGPT:
 *
 * | parameter                                        | distribution                       |
 * | ------------------------------------------------ | ---------------------------------- |
 * | weight of a linear layer                         | normal, mean 0, `std` (0.02)       |
 * | … that writes into the residual stream (attention's `o`, the MLP's `down`) | normal, mean 0, `std` / sqrt(2 · layers) |
 * | embeddings of tokens and of learned positions    | normal, mean 0, `std`              |
 * | taps of a short convolution                      | 1 for the current position, normal, mean 0, 0.02 for those before |
 * | biases                                           | 0                                  |
 * | gains of norms                                   | 1                                  |
 *
 * The residual stream is a sum of 2 · layers terms, so with the smaller std its variance at the start does not
 * grow with depth. Each parameter draws from the stream that is named after its path: its values depend on the
 * seed and on its own name, not on the order or the number of the others.
 * @throws AnnealError for a parameter that no row of the table covers.
 */
export function initialize(model: Module, { rng, std = 0.02, layers = 1 }: InitializeOptions): void {
  const modules = modulesOf(model);
  for (const [path, variable] of parametersOf(model)) {
    const cut = path.lastIndexOf('.');
    const owner = modules.get(path.slice(0, Math.max(cut, 0)))!;
    const last = path.slice(cut + 1);
    if (last === 'bias') variable.data.fill(0);
    else if (last !== 'weight')
      throw new AnnealError(`initialize: there is no rule for the parameter ${path}`);
    else if (variable.rank === 1) variable.data.fill(1);
    else {
      const spread = 'width' in owner ? 0.02 : startStd(variable, std);
      const isResidual = 'residual' in owner && owner.residual === true;
      const deviation = isResidual ? spread / Math.sqrt(2 * layers) : spread;
      variable.data.set(rng.split(path).normal(variable.size, 0, deviation));
      // The tap of the current position comes last.
      if ('width' in owner) variable.data.fill(1, variable.size - variable.shape[1]!);
    }
  }
}

/** Standard deviation of a weight [inputs, outputs] or a table. */
function startStd({ role, shape }: Variable, std: number | 'fan-in'): number {
  if (std !== 'fan-in') return std;
  return role === 'embedding' ? 0.02 : shape[0]! ** -0.5;
}
