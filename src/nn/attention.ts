import { attention } from '../core/ops/attention.js';
import { cachedAttention } from '../core/ops/cached-attention.js';
import { rotary } from '../core/ops/rotary.js';
import { reshape, transpose } from '../core/ops/view.js';
import type { Tensor } from '../core/tensor.js';
import type { LayerCache } from './cache.js';
import { Linear, type Projection } from './linear.js';
import type { AttentionMask } from './mask.js';
import { RMSNorm } from './norm.js';
import type { RopeTables } from './rope.js';

/** What a layer's mixer needs besides its input; the same for all layers but for the cache. */
export interface MixingContext extends AttentionMask {
  /** B and T of the batch, whose tokens the mixer gets as rows [B·T, dim]. */
  rows: number;
  length: number;
  /** Rotary tables that broadcast to [B, H, T, headDim/2], where the model rotates. */
  rope?: RopeTables | undefined;
  /** This layer's keys and values so far, and int32 [B]: how many tokens each row has. It is assigned. */
  cache?: (LayerCache & { lengths: Tensor }) | undefined;
}

/** The half of a transformer's layer that moves information between positions: [B·T, dim] → [B·T, dim]. */
export interface SequenceMixer {
  apply(x: Tensor, context: MixingContext): Tensor;
}

/** What a mixer is built from. */
export interface MixerOptions {
  dim: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Biases of the query, key and value projections. */
  qkvBias: boolean;
  /** RMSNorm of each query and key head, before the rotation. */
  qkNorm: boolean;
  normEpsilon: number;
}

/** [B·T, heads·d] as [B, heads, T, d]. With one token a row that is a reshape. */
function splitHeads(x: Tensor, heads: number, { rows, length }: MixingContext): Tensor {
  const d = x.shape.at(-1)! / heads;
  if (length === 1) return reshape(x, [rows, heads, 1, d]);
  return transpose(reshape(x, [rows, length, heads, d]), [0, 2, 1, 3]);
}

/** The inverse of `splitHeads`. */
function joinHeads(x: Tensor): Tensor {
  const [rows, heads, length, d] = x.shape as [number, number, number, number];
  const turned = length === 1 ? x : transpose(x, [0, 2, 1, 3]);
  return reshape(turned, [rows * length, heads * d]);
}

/**
 * Softmax attention with grouped queries: `kvHeads` keys and values serve `heads` queries
 * (Ainslie et al. 2023).
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

  constructor({ dim, heads, kvHeads, headDim, qkvBias, qkNorm, normEpsilon }: MixerOptions) {
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.q = new Linear(dim, heads * headDim, { bias: qkvBias });
    this.k = new Linear(dim, kvHeads * headDim, { bias: qkvBias });
    this.v = new Linear(dim, kvHeads * headDim, { bias: qkvBias });
    this.o = new Linear(heads * headDim, dim, { residual: true });
    this.qNorm = qkNorm ? new RMSNorm(headDim, normEpsilon) : undefined;
    this.kNorm = qkNorm ? new RMSNorm(headDim, normEpsilon) : undefined;
  }

  apply(x: Tensor, context: MixingContext): Tensor {
    const { rope, cache, causal, mask } = context;
    const turned = (t: Tensor, norm: RMSNorm | undefined) => {
      const normal = norm ? norm.apply(t) : t;
      return rope ? rotary(normal, rope.cos, rope.sin) : normal;
    };
    const q = turned(splitHeads(this.q.apply(x), this.heads, context), this.qNorm); // [B, H, T, d]
    const k = turned(splitHeads(this.k.apply(x), this.kvHeads, context), this.kNorm); // [B, Hkv, T, d]
    const v = splitHeads(this.v.apply(x), this.kvHeads, context);
    if (!cache) return this.o.apply(joinHeads(attention(q, k, v, mask ? { causal, mask } : { causal })));
    const [y, keys, values] = cachedAttention(q, k, v, cache.keys, cache.values, cache.lengths);
    cache.keys.assign(keys);
    cache.values.assign(values);
    return this.o.apply(joinHeads(y));
  }
}

/** Mixers by the word that a model's config names them with: a new kind is a file and an entry here. */
export const mixers = {
  softmax: (options: MixerOptions): SequenceMixer => new Attention(options),
} as const;

/** A word for a mixer. */
export type MixerKind = keyof typeof mixers;
