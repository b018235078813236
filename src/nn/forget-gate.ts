import { cacheWrite } from '../core/ops/cached-attention.js';
import { add, cast, greater, maximum, mul, neg, softplus, sub } from '../core/ops/elementwise.js';
import { takeAlongAxis } from '../core/ops/indexing.js';
import { cumsum } from '../core/ops/reduce.js';
import { broadcastTo, reshape, transpose } from '../core/ops/view.js';
import type { Tensor } from '../core/tensor.js';
import { Linear } from './linear.js';
import type { MixingContext } from './mixer.js';

/**
 * Forget gates of a forgetting transformer (Lin et al. 2025, "Forgetting Transformer: Softmax Attention with a Forget Gate"): f = σ(w·x + b) for
 * each head and position, and log f of the positions j+1 … i added to the score of key j for query i.
 */
export class ForgetGate {
  readonly projection: Linear;

  constructor(
    dim: number,
    readonly heads: number,
  ) {
    this.projection = new Linear(dim, heads, { bias: true, role: 'vector' });
  }

  /** log f [B, H, T] of rows x [B·T, dim]. */
  logGates(x: Tensor, { rows, length }: MixingContext): Tensor {
    // log σ(z) = -softplus(-z).
    const log = neg(softplus(neg(this.projection.apply(x))));
    return transpose(reshape(log, [rows, length, this.heads]), [0, 2, 1]);
  }

  /** What is added to the scores of each key, [B, H, 1, T]: minus the running sum, since the query's own part is the same for all keys. */
  keyBias(x: Tensor, context: MixingContext): Tensor {
    const { rows, length } = context;
    return reshape(neg(cumsum(this.logGates(x, context), 2)), [rows, this.heads, 1, length]);
  }

  /** The same for the keys of the cache, [B, H, 1, S], and the new ones, [B, H, 1, T]; the cache's `gates` are assigned. */
  cachedBias(x: Tensor, context: MixingContext): { past: Tensor; own: Tensor } {
    const { rows, length } = context;
    const { extras, lengths } = context.cache!;
    const sums = extras.gates!;
    const capacity = sums.shape[2]!;
    const last = broadcastTo(reshape(maximum(sub(lengths, 1), 0), [rows, 1, 1, 1]), [rows, this.heads, 1, 1]);
    const some = cast(greater(reshape(lengths, [rows, 1, 1, 1]), 0), 'float32');
    const start = mul(takeAlongAxis(sums, last, 2), some);
    const own = add(reshape(cumsum(this.logGates(x, context), 2), [rows, this.heads, length, 1]), start);
    const next = cacheWrite(sums, own, lengths);
    sums.assign(next);
    return {
      past: neg(reshape(next, [rows, this.heads, 1, capacity])),
      own: neg(reshape(own, [rows, this.heads, 1, length])),
    };
  }
}
