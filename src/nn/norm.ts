import { layerNorm, rmsNorm } from '../core/ops/normalization.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import { parameter } from './init.js';

/** A normalisation of the last axis. */
export interface Norm {
  apply(x: Tensor): Tensor;
}

/** x / sqrt(mean(x²) + epsilon) · weight (Zhang and Sennrich 2019). The weight starts at 1. */
export class RMSNorm implements Norm {
  readonly weight: Variable;

  constructor(
    readonly dim: number,
    readonly epsilon = 1e-5,
  ) {
    this.weight = parameter([dim], 'vector', 1);
  }

  apply(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, this.epsilon);
  }
}

/** (x - mean) / sqrt(variance + epsilon) · weight + bias (Ba et al. 2016). Weight 1 and bias 0 at the start. */
export class LayerNorm implements Norm {
  readonly weight: Variable;
  readonly bias: Variable;

  constructor(
    readonly dim: number,
    readonly epsilon = 1e-5,
  ) {
    this.weight = parameter([dim], 'vector', 1);
    this.bias = parameter([dim], 'vector');
  }

  apply(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.epsilon);
  }
}

/** Norms by the word that a model's config names them with. */
export const norms = {
  rms: (dim: number, epsilon?: number): Norm => new RMSNorm(dim, epsilon),
  layer: (dim: number, epsilon?: number): Norm => new LayerNorm(dim, epsilon),
} as const;
