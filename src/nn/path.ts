import { AnnealError } from '../core/errors.js';
import { silu } from '../core/ops/activation.js';
import { cachedPathAttention } from '../core/ops/cached-path.js';
import { cast, less, minimum, mul, sigmoid } from '../core/ops/elementwise.js';
import { arange } from '../core/ops/indexing.js';
import { l2Normalize } from '../core/ops/normalization.js';
import { pathAttention } from '../core/ops/path.js';
import { reshape, transpose } from '../core/ops/view.js';
import type { Tensor } from '../core/tensor.js';
import { convolved, extrasOf } from './attention.js';
import type { CacheExtra } from './cache.js';
import { ForgetGate } from './forget-gate.js';
import { headParts, keyConvolution } from './heads.js';
import { Linear, type Projection } from './linear.js';
import { joinHeads, type MixerOptions, type MixingContext, type SequenceMixer, splitHeads } from './mixer.js';
import type { RMSNorm } from './norm.js';
import type { ShortConvolution } from './short-convolution.js';

/** Rank of the map to the directions w. */
export const directionRank = 32;

/** Whether that map has this rank: where every query head has a key head of its own, and it saves parameters. */
export const hasLowRank = ({
  dim,
  heads,
  kvHeads,
  headDim,
}: Pick<MixerOptions, 'dim' | 'heads' | 'kvHeads' | 'headDim'>) =>
  heads === kvHeads && directionRank < Math.min(dim, kvHeads * headDim);

/**
 * PaTH attention (Yang et al. 2025, section 3 and appendix): each token reflects the keys before it along its own
 * direction w, by its own amount β in (0, 2); with `forget`, PaTH-FoX. Directions come from a map of low rank, a short
 * convolution, SiLU and normalisation; with grouped queries the map has full rank.
 */
export class PathAttention implements SequenceMixer {
  readonly heads: number;
  readonly kvHeads: number;
  q: Projection;
  k: Projection;
  v: Projection;
  o: Projection;
  /** Two maps in a row, or one of full rank. */
  readonly w: Projection[];
  readonly wConvolution: ShortConvolution | undefined;
  readonly beta: Linear;
  readonly qNorm: RMSNorm | undefined;
  readonly kNorm: RMSNorm | undefined;
  readonly gate: ForgetGate | undefined;
  readonly #betaMax: number;
  readonly isStateful = true;

  constructor(options: MixerOptions, { forget = false, betaMax = 2 } = {}) {
    const { dim, heads, kvHeads, headDim } = options;
    this.heads = heads;
    this.kvHeads = kvHeads;
    const width = kvHeads * headDim;
    const { q, k, v, o, qNorm, kNorm } = headParts(options);
    [this.q, this.k, this.v, this.o] = [q, k, v, o];
    this.w = hasLowRank(options)
      ? [new Linear(dim, directionRank), new Linear(directionRank, width)]
      : [new Linear(dim, width)];
    this.wConvolution = keyConvolution(options);
    this.beta = new Linear(dim, kvHeads, { bias: true, role: 'vector' });
    [this.qNorm, this.kNorm] = [qNorm, kNorm];
    this.gate = forget ? new ForgetGate(dim, heads) : undefined;
    this.#betaMax = betaMax;
  }

  get cacheExtras(): Record<string, CacheExtra> {
    return extrasOf(this.wConvolution, this.gate, this.heads);
  }

  /** [B·T, dim] → [B·T, dim]. Throws AnnealError for a pass that is not causal: a token acts on those before it only. */
  apply(x: Tensor, context: MixingContext): Tensor {
    const { cache, mask, isCausal } = context;
    if (!isCausal) throw new AnnealError('PaTH attention is causal; prefix and causal: false need another');
    const normal = (t: Tensor, norm: RMSNorm | undefined) => (norm ? norm.apply(t) : t);
    const q = normal(splitHeads(this.q.apply(x), this.heads, context), this.qNorm);
    const k = normal(splitHeads(this.k.apply(x), this.kvHeads, context), this.kNorm);
    const v = splitHeads(this.v.apply(x), this.kvHeads, context);
    const raw = this.w.reduce((t, map) => map.apply(t), x);
    // An epsilon far below any square sum: a direction shorter than 1 would turn reflections into projections.
    const w = l2Normalize(
      splitHeads(silu(convolved(raw, this.wConvolution, context)), this.kvHeads, context),
      -1,
      1e-12,
    );
    const beta = this.#beta(x, context);
    if (!cache) {
      const logGate = this.gate?.logGates(x, context);
      const options = { ...(mask && { mask }), ...(logGate && { logGate }) };
      return this.o.apply(joinHeads(pathAttention(q, k, v, w, beta, options)));
    }
    const bias = this.gate?.cachedBias(x, context);
    const options = bias ? { bias } : {};
    const [y, keys, values] = cachedPathAttention(
      q,
      k,
      v,
      w,
      beta,
      cache.keys,
      cache.values,
      cache.lengths,
      options,
    );
    cache.keys.assign(keys);
    cache.values.assign(values);
    return this.o.apply(joinHeads(y));
  }

  /** β [B, Hkv, T] in (0, 2); 0 for the padding of a cached pass, which must not move the cached keys. */
  #beta(x: Tensor, { rows, length, cache }: MixingContext): Tensor {
    const raw = mul(sigmoid(this.beta.apply(x)), 2);
    const bounded = this.#betaMax < 2 ? minimum(raw, this.#betaMax) : raw;
    const beta = transpose(reshape(bounded, [rows, length, this.kvHeads]), [0, 2, 1]);
    if (!cache) return beta;
    const isToken = less(reshape(arange(length), [1, 1, length]), reshape(cache.counts, [rows, 1, 1]));
    return mul(beta, cast(isToken, 'float32'));
  }
}
