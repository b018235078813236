import { AnnealError } from '../core/errors.js';
import { cacheWrite } from '../core/ops/cached-attention.js';
import { brokenStick, stickBreakingAttention } from '../core/ops/stick-breaking.js';
import type { Tensor } from '../core/tensor.js';
import { cacheMask, convolved, extrasOf } from './attention.js';
import type { CacheExtra } from './cache.js';
import { headParts, keyConvolution } from './heads.js';
import type { Projection } from './linear.js';
import { joinHeads, type MixerOptions, type MixingContext, type SequenceMixer, splitHeads } from './mixer.js';
import type { RMSNorm } from './norm.js';
import type { ShortConvolution } from './short-convolution.js';

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
    this.heads = options.heads;
    this.kvHeads = options.kvHeads;
    const { q, k, v, o, qNorm, kNorm } = headParts(options);
    [this.q, this.k, this.v, this.o] = [q, k, v, o];
    [this.qNorm, this.kNorm] = [qNorm, kNorm];
    this.kConvolution = keyConvolution(options);
  }

  get cacheExtras(): Record<string, CacheExtra> {
    return extrasOf(this.kConvolution, undefined, this.heads);
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
