import { grad } from '../core/autodiff.js';
import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { accumulate, add, minimum, mul, reciprocal, sqrt, square } from '../core/ops/elementwise.js';
import { sum } from '../core/ops/reduce.js';
import { sizeOf } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import { Variable } from '../core/variable.js';
import { constantRate, type Schedule } from './schedule.js';

/** √Σ‖g‖² over all tensors: the length of them as one vector. */
export function globalNorm(tensors: readonly Tensor[]): Tensor {
  if (tensors.length === 0) throw new AnnealError('globalNorm: needs at least one tensor');
  return sqrt(tensors.map((t) => sum(square(t))).reduce((a, b) => add(a, b)));
}

/** The tensors scaled down together so that their global norm is at most `limit`, and the norm before. */
export function clipByGlobalNorm(
  tensors: readonly Tensor[],
  limit: number,
): { clipped: Tensor[]; norm: Tensor } {
  if (!(limit > 0)) throw new AnnealError(`clipByGlobalNorm: the limit must be positive, not ${limit}`);
  const norm = globalNorm(tensors);
  // The small constant is PyTorch's: it keeps a zero gradient from dividing by zero.
  const factor = minimum(mul(reciprocal(add(norm, 1e-6)), limit), 1);
  return { clipped: tensors.map((t) => mul(t, factor)), norm };
}

/** Settings that all optimisers share. */
export interface OptimizerOptions {
  /** Learning rate: a number, or a schedule over updates. */
  lr: number | Schedule;
  /** Gradients are scaled down together to at most this global norm. Default: no limit. */
  clipNorm?: number;
}

/** What a step computed besides the update. */
export interface StepInfo {
  /** Learning rate of this update. */
  rate: Tensor;
  /** Rates by group, where the optimiser has several. */
  rates?: Readonly<Record<string, Tensor>>;
  /** Global norm of the gradients before clipping. */
  gradNorm: Tensor;
}

/** Base of the optimisers: state named after its parameter, a step counter, clipping, the learning rate. */
export abstract class Optimizer {
  private readonly variables = new Map<string, Variable>();
  private readonly owners = new Map<string, Variable>();
  private readonly schedule: Schedule;
  protected abstract readonly name: string;

  constructor(private readonly shared: OptimizerOptions) {
    this.schedule = typeof shared.lr === 'number' ? constantRate(shared.lr) : shared.lr;
  }

  /** Emits the assignments that update one parameter. `step` counts this update: 1 at the first. */
  protected abstract update(parameter: Variable, gradient: Tensor, rate: Tensor, step: Tensor): void;

  /** Emits the assignments that update all parameters. */
  protected updateAll(
    parameters: readonly Variable[],
    gradients: readonly Tensor[],
    rate: Tensor,
    step: Tensor,
  ): void {
    parameters.forEach((parameter, i) => {
      this.update(parameter, gradients[i]!, rate, step);
    });
  }

  /** Every state variable by name: `<parameter>.<optimiser>.<what>`, and `<optimiser>.step`. */
  state(): ReadonlyMap<string, Variable> {
    return this.variables;
  }

  /** The state variable `what` of a parameter, of its shape unless another is given, zeros at first. */
  protected slot(parameter: Variable, what: string, shape: readonly number[] = parameter.shape): Variable {
    const owner = this.owners.get(parameter.name);
    if (owner && owner !== parameter) {
      throw new AnnealError(
        `${this.name}: two parameters are named "${parameter.name}"; give each variable its own name`,
      );
    }
    this.owners.set(parameter.name, parameter);
    return this.stored(`${parameter.name}.${this.name}.${what}`, shape, sizeOf(shape));
  }

  private stored(name: string, shape: readonly number[], size: number): Variable {
    let found = this.variables.get(name);
    if (!found) {
      found = new Variable(allocate('float32', size), 'float32', shape, { name, trainable: false });
      this.variables.set(name, found);
    }
    return found;
  }

  /**
   * In a program's body: computes the gradients of `loss` and assigns the updated parameters.
   * Gradients pass through `accumulate`, so the program may use micro-batches.
   */
  minimize(loss: Tensor, parameters: readonly Variable[]): StepInfo {
    const gradients = grad(loss, parameters);
    return this.apply(gradients.map(accumulate), parameters);
  }

  /** The same with gradients that the caller has computed. */
  apply(gradients: readonly Tensor[], parameters: readonly Variable[]): StepInfo {
    if (gradients.length !== parameters.length || parameters.length === 0) {
      throw new AnnealError(
        `${this.name}: ${gradients.length} gradients for ${parameters.length} parameters`,
      );
    }
    const counter = this.stored(`${this.name}.step`, [], 1);
    const rate = this.schedule(counter);
    const step = add(counter, 1);
    const { clipNorm } = this.shared;
    const limited = clipNorm === undefined ? undefined : clipByGlobalNorm(gradients, clipNorm);
    const used = limited?.clipped ?? gradients;
    this.updateAll(parameters, used, rate, step);
    counter.assign(step);
    // Without clipping the norm costs a pass over the gradients only if the program returns it.
    return { rate, gradNorm: limited?.norm ?? globalNorm(gradients) };
  }
}
