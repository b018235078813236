import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { add, div, maximum, mul, sub } from '../core/ops/elementwise.js';
import { currentTrace, Variable } from '../core/variable.js';

/**
 * An exponential moving average of the weights, kept by the program that updates them (Polyak and Juditsky 1992; the
 * decay's warm-up is that of TensorFlow's ExponentialMovingAverage):
 *
 *     average ← average + max(1 - decay, 9 / (10 + t)) · (weight - average),  t = updates before this one
 *
 * so that early averages are not held back by the initial weights.
 */
export class WeightAverage {
  /** Averages by the name of their parameter. */
  readonly variables = new Map<string, Variable>();
  private readonly counter = new Variable(allocate('float32', 1), 'float32', [], {
    name: 'average.step',
    trainable: false,
  });

  /**
   * Begins at the parameters' current values.
   * @throws AnnealError if the decay is outside [0, 1).
   */
  constructor(
    private readonly parameters: ReadonlyMap<string, Variable>,
    private readonly decay: number,
  ) {
    if (!(decay >= 0 && decay < 1))
      throw new AnnealError(`the decay of the weights' average must be in [0, 1), not ${decay}`);
    for (const [name, parameter] of parameters) {
      const data = allocate(parameter.dtype, parameter.size);
      data.set(parameter.data);
      const options = { name: `${name}.average`, trainable: false };
      this.variables.set(name, new Variable(data, parameter.dtype, parameter.shape, options));
    }
  }

  /** Everything that a checkpoint stores: averages by their parameter's name, and the counter. */
  state(): Map<string, Variable> {
    return new Map([...this.variables, [this.counter.name, this.counter]]);
  }

  /** Makes the averages the parameters' current values, as at the beginning. */
  reset(): void {
    for (const [name, variable] of this.variables) variable.data.set(this.parameters.get(name)!.data);
    this.counter.data.fill(0);
  }

  /** In a program's body, after the optimiser: moves the averages towards the new weights. */
  update(): void {
    const { assignments } = currentTrace()!;
    const share = maximum(div(9, add(this.counter, 10)), 1 - this.decay);
    for (const [name, average] of this.variables) {
      const parameter = this.parameters.get(name)!;
      const next = assignments.get(parameter) ?? parameter;
      average.assign(add(average, mul(sub(next, average), share)));
    }
    this.counter.assign(add(this.counter, 1));
  }

  /** Exchanges weights and averages, without a copy. Twice is as if nothing had happened. No program may be running. */
  swap(): void {
    for (const [name, average] of this.variables) {
      const parameter = this.parameters.get(name)!;
      [average.data, parameter.data] = [parameter.data, average.data];
    }
  }
}
