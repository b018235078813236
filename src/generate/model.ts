import type { Tensor } from '../core/tensor.js';
import type { CacheShape, KVCache } from '../nn/cache.js';

/** What generation and scoring need of a language model; `Transformer` is one. */
export interface GenerativeModel {
  readonly config: {
    /** Number of token ids. */
    readonly vocabulary: number;
    /** Longest sequence that the model is made for. */
    readonly context: number;
  };
  /**
   * Hidden states [B, T, dim] of int32 tokens [B, T]; continues the rows of a cache behind `lengths` [B] tokens
   * and writes into it. The first `counts` [B] of the new tokens of each row are no padding.
   */
  hidden(tokens: Tensor, options?: { cache?: { cache: KVCache; lengths: Tensor; counts?: Tensor } }): Tensor;
  /** Logits [..., vocabulary] of hidden states [..., dim]. */
  logits(hidden: Tensor): Tensor;
  /** Layers and heads of its KV cache. */
  cacheShape(): CacheShape;
}
