import { AnnealError } from '../core/errors.js';
import { adamwUpdate } from '../core/ops/adamw.js';
import { add, div, mul, sqrt, sub, tanh } from '../core/ops/elementwise.js';
import { scalar } from '../core/ops/leaf.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import { Optimizer, type OptimizerOptions } from './optimizer.js';

/** Settings of AdamW. */
export interface AdamWOptions extends OptimizerOptions {
  /** Decay of the mean of the gradients. Default 0.9. */
  beta1?: number;
  /** Decay of the mean of their squares. Default 0.999. */
  beta2?: number;
  /** Added to the root of the second moment. Default 1e-8. */
  epsilon?: number;
  /** Decoupled weight decay: each update first shrinks the parameter by lr·weightDecay. Default 0.01. */
  weightDecay?: number;
  /** Which parameters decay. Default: those with two axes or more, so neither gains nor biases. */
  decays?: (parameter: Variable) => boolean;
}

/** 1 - base^step. The difference itself loses digits in float32 where base^step is near 1; a tanh does not. */
function oneMinusPower(base: number, step: Tensor): Tensor {
  if (base === 0) return scalar(1);
  const t = tanh(mul(step, -Math.log(base) / 2));
  return div(mul(t, 2), add(t, 1));
}

class AdamW extends Optimizer {
  protected readonly name = 'adamw';

  constructor(private readonly options: AdamWOptions) {
    super(options);
  }

  /** Loshchilov and Hutter 2019, Algorithm 2, with both bias corrections (Kingma and Ba 2015). */
  protected update(parameter: Variable, gradient: Tensor, rate: Tensor, step: Tensor): void {
    const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0.01 } = this.options;
    const { decays = (p) => p.rank >= 2 } = this.options;
    const m = this.slot(parameter, 'm');
    const v = this.slot(parameter, 'v');
    // m̂/(√v̂ + ε) = (m/(√v + ε'))·c with the bias corrections moved into scalars: equal ones of all
    // parameters become one node, and each parameter is passed over once less.
    const correction1 = oneMinusPower(beta1, step);
    const correction2 = sqrt(oneMinusPower(beta2, step));
    const isDecayed = decays(parameter) && weightDecay !== 0;
    const scalars = {
      keep: isDecayed ? sub(1, mul(rate, weightDecay)) : scalar(1),
      rate: div(mul(rate, correction2), correction1),
      epsilon: mul(correction2, epsilon),
      factor: scalar(1),
    };
    const next = adamwUpdate({ parameter, m, v }, gradient, scalars, { beta1, beta2 });
    m.assign(next.m);
    v.assign(next.v);
    parameter.assign(next.parameter);
  }
}

/**
 * Adam with decoupled weight decay, as torch.optim.AdamW.
 * @throws AnnealError if a beta is outside [0, 1).
 */
export function adamW(options: AdamWOptions): Optimizer {
  for (const key of ['beta1', 'beta2'] as const) {
    const value = options[key] ?? 0;
    if (!(value >= 0 && value < 1)) throw new AnnealError(`adamW: ${key} must be in [0, 1), not ${value}`);
  }
  return new AdamW(options);
}
