import { gather } from '../core/ops/indexing.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import { parameter } from './init.js';
import { timesTransposed } from './output-major.js';

/** A table of vectors that also serves as a tied output head. */
export interface TokenEmbedding {
  /** Number of vectors. */
  readonly count: number;
  readonly dim: number;
  /** int32 [...] → [..., dim] */
  apply(tokens: Tensor): Tensor;
  /** [..., dim] → [..., count]: products with every vector. */
  logits(x: Tensor): Tensor;
}

/** A learned table [count, dim]. Zero until it is initialised or loaded. */
export class Embedding implements TokenEmbedding {
  readonly weight: Variable;

  constructor(
    readonly count: number,
    readonly dim: number,
  ) {
    this.weight = parameter([count, dim], 'embedding');
  }

  apply(tokens: Tensor): Tensor {
    return gather(this.weight, tokens);
  }

  logits(x: Tensor): Tensor {
    return timesTransposed(x, this.weight);
  }
}
