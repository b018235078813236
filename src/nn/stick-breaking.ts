import { AnnealError } from '../core/errors.js';
import { cacheWrite } from '../core/ops/cached-attention.js';
import { brokenStick, stickBreakingAttention } from '../core/ops/stick-breaking.js';
import type { Tensor } from '../core/tensor.js';
import { cacheMask, convolved, windowExtra } from './attention.js';
import type { CacheExtra } from './cache.js';
import { Linear, type Projection } from './linear.js';
import { joinHeads, type MixerOptions, type MixingContext, type SequenceMixer, splitHeads } from './mixer.js';
import { RMSNorm } from './norm.js';
import { ShortConvolution } from './short-convolution.js';

/** Stick-breaking attention (Tan et al. 2024): no softmax, no positions. What is left of the stick goes to the token's own value. */
export class StickBreaking implements SequenceMixer {
  readonly heads: number;
  readonly kvHeads: number;
  q: Projection;
  k: Projection;
  v: Projection;
  o: Projection;
  readonly qNorm: RMSNorm | undefined;
  readonly kNorm: RMSNorm | undefined;
  readonly kConvolution: ShortConvolution | undefined;

  constructor(options: MixerOptions) {
    const { dim, heads, kvHeads, headDim, qkvBias, qkNorm, normEpsilon, keyConvolution } = options;
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.q = new Linear(dim, heads * headDim, { bias: qkvBias });
    this.k = new Linear(dim, kvHeads * headDim, { bias: qkvBias });
    this.v = new Linear(dim, kvHeads * headDim, { bias: qkvBias });
    this.o = new Linear(heads * headDim, dim, { residual: true });
    this.qNorm = qkNorm ? new RMSNorm(headDim, normEpsilon) : undefined;
    this.kNorm = qkNorm ? new RMSNorm(headDim, normEpsilon) : undefined;
    this.kConvolution =
      keyConvolution > 1 ? new ShortConvolution(kvHeads * headDim, keyConvolution) : undefined;
  }

  get cacheExtras(): Record<string, CacheExtra> {
    return this.kConvolution ? windowExtra(this.kConvolution.channels, this.kConvolution.width) : {};
  }

  get isStateful(): boolean {
    return this.kConvolution !== undefined;
  }

  /** [B·T, dim] → [B·T, dim]. Throws AnnealError for a pass that is not causal. */
  apply(x: Tensor, context: MixingContext): Tensor {
    const { cache, mask, isCausal, length } = context;
    if (!isCausal)
      throw new AnnealError('stick-breaking attention is causal; prefix and causal: false need another');
    const normal = (t: Tensor, norm: RMSNorm | undefined) => (norm ? norm.apply(t) : t);
    const q = normal(splitHeads(this.q.apply(x), this.heads, context), this.qNorm);
    const keys = convolved(this.k.apply(x), this.kConvolution, context);
    const k = normal(splitHeads(keys, this.kvHeads, context), this.kNorm);
    const v = splitHeads(this.v.apply(x), this.kvHeads, context);
    if (!cache) return this.o.apply(joinHeads(stickBreakingAttention(q, k, v, mask ? { mask } : {})));
    const [nextKeys, nextValues] = [
      cacheWrite(cache.keys, k, cache.lengths),
      cacheWrite(cache.values, v, cache.lengths),
    ];
    cache.keys.assign(nextKeys);
    cache.values.assign(nextValues);
    // A token does not attend to itself: its own value gets the rest.
    const hidden = cacheMask(cache.lengths, length, nextKeys.shape[2]!, 1);
    return this.o.apply(joinHeads(brokenStick(q, nextKeys, nextValues, v, hidden)));
  }
}
