import { gelu, reluSquared, silu } from '../core/ops/activation.js';
import { mul } from '../core/ops/elementwise.js';
import type { Tensor } from '../core/tensor.js';
import { Linear, type Projection } from './linear.js';

/** The position-wise half of a transformer's layer: [..., dim] → [..., dim]. */
export interface FeedForward {
  apply(x: Tensor): Tensor;
}

/** down(silu(gate x) · up x) (Shazeer 2020, GLU Variants Improve Transformer). No biases. */
export class SwiGLU implements FeedForward {
  gate: Projection;
  up: Projection;
  down: Projection;

  constructor(dim: number, hidden: number) {
    this.gate = new Linear(dim, hidden);
    this.up = new Linear(dim, hidden);
    this.down = new Linear(hidden, dim, { residual: true });
  }

  apply(x: Tensor): Tensor {
    return this.down.apply(mul(silu(this.gate.apply(x)), this.up.apply(x)));
  }
}

/** down(f(up x)) with an elementwise f. No biases. */
export class MLP implements FeedForward {
  up: Projection;
  down: Projection;

  constructor(
    dim: number,
    hidden: number,
    /** Not enumerated by a walk: a function holds no variables. */
    readonly activation: (x: Tensor) => Tensor,
  ) {
    this.up = new Linear(dim, hidden);
    this.down = new Linear(hidden, dim, { residual: true });
  }

  apply(x: Tensor): Tensor {
    return this.down.apply(this.activation(this.up.apply(x)));
  }
}

/** MLPs by the word that a model's config names them with. */
export const mlps = {
  swiglu: (dim: number, hidden: number): FeedForward => new SwiGLU(dim, hidden),
  /** GELU in its tanh form. */
  gelu: (dim: number, hidden: number): FeedForward => new MLP(dim, hidden, (x) => gelu(x)),
  /** max(x, 0)² (So et al. 2021, Primer). */
  relu2: (dim: number, hidden: number): FeedForward => new MLP(dim, hidden, reluSquared),
} as const;
