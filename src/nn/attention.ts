import { attention, attentionParts } from '../core/ops/attention.js';
import { cachedAttention, cacheWrite } from '../core/ops/cached-attention.js';
import { canDecodeTogether, decodeAttention } from '../core/ops/decode-attention.js';
import { add, greater, where } from '../core/ops/elementwise.js';
import { arange, gather } from '../core/ops/indexing.js';
import { concat } from '../core/ops/join.js';
import { constant, scalar } from '../core/ops/leaf.js';
import { maskedScore } from '../core/ops/masks.js';
import { rotary } from '../core/ops/rotary.js';
import { reshape } from '../core/ops/view.js';
import type { Tensor } from '../core/tensor.js';
import type { CacheExtra } from './cache.js';
import { ForgetGate } from './forget-gate.js';
import { headParts, keyConvolution } from './heads.js';
import { joint, type Projection } from './linear.js';
import {
  joinHeads,
  type MixerOptions,
  type MixingContext,
  type PromptKeys,
  type SequenceMixer,
  splitHeads,
} from './mixer.js';
import type { RMSNorm } from './norm.js';
import type { ShortConvolution } from './short-convolution.js';

/** How scores know of distance, besides rotations. */
export type ScoreBias = 'none' | 'alibi' | 'forget';

/** Slopes of ALiBi (Press et al. 2022): a geometric sequence that ends at 2⁻⁸, for any number of heads. */
export function alibiSlopes(heads: number): number[] {
  const powers = (n: number) => Array.from({ length: n }, (_, i) => 2 ** ((-8 * (i + 1)) / n));
  const whole = 2 ** Math.floor(Math.log2(heads));
  // Between two powers of two: the slopes of the smaller, then every second one of the larger.
  const more = powers(2 * whole).filter((_, i) => i % 2 === 0);
  return [...powers(whole), ...more.slice(0, heads - whole)];
}

/** ALiBi as a term of each key, [1, H, 1, n]: slope · position, the same up to a constant of each query. */
function alibiBias(heads: number, n: number): Tensor {
  const slopes = alibiSlopes(heads);
  const data = Float32Array.from({ length: heads * n }, (_, i) => slopes[Math.floor(i / n)]! * (i % n));
  return constant(data, [1, heads, 1, n], 'float32');
}

/** 0 where query t of row b sees position j of a cache, j ≤ lengths[b] + t - `before`, else `maskedScore`: [B, 1, T, S]. */
export function cacheMask(lengths: Tensor, length: number, capacity: number, before = 0): Tensor {
  const last = add(reshape(lengths, [-1, 1, 1, 1]), reshape(arange(length).sub(before), [1, 1, length, 1]));
  const isHidden = greater(reshape(arange(capacity), [1, 1, 1, capacity]), last);
  return where(isHidden, scalar(maskedScore), 0);
}

/** Keys after the optional convolution over time: rows [B·T, heads·d]. */
export function convolved(
  x: Tensor,
  convolution: ShortConvolution | undefined,
  { rows, length, documents, cache }: MixingContext,
): Tensor {
  if (!convolution) return x;
  const channels = x.shape.at(-1)!;
  const window = cache && { before: cache.extras.window!, lengths: cache.lengths, counts: cache.counts };
  const y = convolution.apply(reshape(x, [rows, length, channels]), { documents, window });
  return reshape(y, [rows * length, channels]);
}

/** What a mixer caches for a convolution, its last inputs, and for forget gates, those of every token. */
export function extrasOf(
  convolution: ShortConvolution | undefined,
  gate: ForgetGate | undefined,
  heads: number,
): Record<string, CacheExtra> {
  return {
    ...(convolution && { window: { shape: [convolution.width - 1, convolution.channels] } }),
    ...(gate && { gates: { perToken: true, heads, size: 1 } }),
  };
}

/** Keys and values [B, Hkv, S + T, d]: those of the prompt that each row continues, then its own. */
function continued({ keys, values, owners }: PromptKeys, k: Tensor, v: Tensor): [Tensor, Tensor] {
  return [concat([gather(keys, owners), k], 2), concat([gather(values, owners), v], 2)];
}

/**
 * Softmax attention with grouped queries: `kvHeads` keys and values serve `heads` queries (Ainslie et al. 2023).
 * Scores may carry ALiBi or forget gates, keys a short convolution.
 */
export class Attention implements SequenceMixer {
  readonly heads: number;
  readonly kvHeads: number;
  q: Projection;
  k: Projection;
  v: Projection;
  o: Projection;
  readonly qNorm: RMSNorm | undefined;
  readonly kNorm: RMSNorm | undefined;
  readonly kConvolution: ShortConvolution | undefined;
  readonly gate: ForgetGate | undefined;
  readonly #bias: ScoreBias;

  constructor(options: MixerOptions, bias: ScoreBias = 'none') {
    const { dim, heads, kvHeads } = options;
    this.heads = heads;
    this.kvHeads = kvHeads;
    const { q, k, v, o, qNorm, kNorm } = headParts(options);
    [this.q, this.k, this.v, this.o] = [q, k, v, o];
    [this.qNorm, this.kNorm] = [qNorm, kNorm];
    this.kConvolution = keyConvolution(options);
    this.gate = bias === 'forget' ? new ForgetGate(dim, heads) : undefined;
    this.#bias = bias;
  }

  get cacheExtras(): Record<string, CacheExtra> {
    return extrasOf(this.kConvolution, this.gate, this.heads);
  }

  get isStateful(): boolean {
    return this.kConvolution !== undefined;
  }

  get continuesPrompts(): boolean {
    return this.#bias === 'none' && this.kConvolution === undefined;
  }

  apply(x: Tensor, context: MixingContext): Tensor {
    const { rope, cache, causal, mask, past, onKeys } = context;
    if (this.#decodesTogether(context)) return this.o.apply(this.#decoded(x, context));
    const turned = (t: Tensor, norm: RMSNorm | undefined) => {
      const normal = norm ? norm.apply(t) : t;
      return rope ? rotary(normal, rope.cos, rope.sin) : normal;
    };
    const q = turned(splitHeads(this.q.apply(x), this.heads, context), this.qNorm); // [B, H, T, d]
    const unturned = convolved(this.k.apply(x), this.kConvolution, context);
    const k = turned(splitHeads(unturned, this.kvHeads, context), this.kNorm); // [B, Hkv, T, d]
    const v = splitHeads(this.v.apply(x), this.kvHeads, context);
    if (cache) return this.o.apply(joinHeads(this.#continued(q, k, v, x, context)));
    onKeys?.(k, v);
    const bias = this.#keyBias(x, context);
    const added = mask && bias ? add(mask, bias) : (mask ?? bias);
    const [keys, values] = past ? continued(past, k, v) : [k, v];
    return this.o.apply(joinHeads(attention(q, keys, values, added ? { causal, mask: added } : { causal })));
  }

  /** One new token a row, and nothing between the projections and the rotation: there is a kernel for all of it. */
  #decodesTogether({ rope, cache, length }: MixingContext): boolean {
    const isPlain = this.#bias === 'none' && !this.qNorm && !this.kNorm && !this.kConvolution;
    const headDim = this.q.outputs / this.heads;
    return isPlain && length === 1 && canDecodeTogether(headDim) && !!rope?.all && !!cache?.isFollowing;
  }

  #decoded(x: Tensor, { rope, cache }: MixingContext): Tensor {
    const { keys, values, lengths } = cache!;
    const qkv = joint([this.q, this.k, this.v], x);
    const [y, nextKeys, nextValues] = decodeAttention(qkv, keys, values, lengths, rope!.all!, {
      heads: this.heads,
    });
    keys.assign(nextKeys);
    values.assign(nextValues);
    return y;
  }

  #keyBias(x: Tensor, context: MixingContext): Tensor | undefined {
    if (this.gate) return this.gate.keyBias(x, context);
    return this.#bias === 'alibi' ? alibiBias(this.heads, context.length) : undefined;
  }

  #continued(q: Tensor, k: Tensor, v: Tensor, x: Tensor, context: MixingContext): Tensor {
    const { keys, values, lengths } = context.cache!;
    if (this.#bias === 'none') {
      const [y, nextKeys, nextValues] = cachedAttention(q, k, v, keys, values, lengths);
      keys.assign(nextKeys);
      values.assign(nextValues);
      return y;
    }
    const capacity = keys.shape[2]!;
    const bias = this.gate ? this.gate.cachedBias(x, context).past : alibiBias(this.heads, capacity);
    const [nextKeys, nextValues] = [cacheWrite(keys, k, lengths), cacheWrite(values, v, lengths)];
    keys.assign(nextKeys);
    values.assign(nextValues);
    const mask = add(cacheMask(lengths, context.length, capacity), bias);
    return attentionParts(q, nextKeys, nextValues, mask, 1 / Math.sqrt(q.shape.at(-1)!));
  }
}
