import { AnnealError } from '../core/errors.js';
import { add, mul, sub } from '../core/ops/elementwise.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import { Optimizer, type OptimizerOptions } from './optimizer.js';
import type { Schedule } from './schedule.js';

/** Settings of stochastic gradient descent. */
export interface SgdOptions extends Omit<OptimizerOptions, 'lr'> {
  /** Share of the last update's direction that is kept (heavy ball, PyTorch's convention). Default 0. */
  momentum?: number;
  /** Look ahead along the momentum. Default false. */
  nesterov?: boolean;
  /** Coefficient of the parameter added to its gradient. Default 0. */
  weightDecay?: number;
}

class Sgd extends Optimizer {
  protected readonly name = 'sgd';

  constructor(
    lr: number | Schedule,
    private readonly options: SgdOptions,
  ) {
    super({ lr, ...options });
  }

  protected update(parameter: Variable, gradient: Tensor, rate: Tensor): void {
    const { momentum = 0, nesterov = false, weightDecay = 0 } = this.options;
    const g = weightDecay === 0 ? gradient : add(gradient, mul(parameter, weightDecay));
    let direction = g;
    if (momentum !== 0) {
      const velocity = this.slot(parameter, 'velocity');
      const next = add(mul(velocity, momentum), g);
      velocity.assign(next);
      direction = nesterov ? add(g, mul(next, momentum)) : next;
    }
    parameter.assign(sub(parameter, mul(direction, rate)));
  }
}

/**
 * Stochastic gradient descent: w ← w - lr·v with v ← momentum·v + g, as torch.optim.SGD.
 * @throws AnnealError if momentum is outside [0, 1).
 */
export function sgd(lr: number | Schedule, options: SgdOptions = {}): Optimizer {
  const { momentum = 0 } = options;
  if (!(momentum >= 0 && momentum < 1))
    throw new AnnealError(`sgd: momentum must be in [0, 1), not ${momentum}`);
  return new Sgd(lr, options);
}
