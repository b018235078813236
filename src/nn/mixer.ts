import { reshape, transpose } from '../core/ops/view.js';
import type { Tensor } from '../core/tensor.js';
import type { CacheExtra, LayerCache } from './cache.js';
import type { AttentionMask } from './mask.js';
import type { RopeTables } from './rope.js';

/** What a layer's mixer needs besides its input; the same for all layers but for the cache. */
export interface MixingContext extends AttentionMask {
  /** B and T of the batch, whose tokens the mixer gets as rows [B·T, dim]. */
  rows: number;
  length: number;
  /** Rotary tables that broadcast to [B, H, T, headDim/2], where the model rotates. */
  rope?: RopeTables | undefined;
  /** No position sees a later one, whatever `causal` says of how `mask` is made. */
  isCausal: boolean;
  /** int32 [B, T]: number of the document that a position belongs to, where rows are packed. `mask` knows of it. */
  documents?: Tensor | undefined;
  /** This layer's part of the cache, which is assigned. */
  cache?: MixingCache | undefined;
  /** Keys and values of prompts that the rows continue; only for mixers that can (`continuesPrompts`). */
  past?: PromptKeys | undefined;
  /** Gets the keys and values [B, kvHeads, T, headDim] that attention computes, from mixers that can continue them. */
  onKeys?: ((keys: Tensor, values: Tensor) => void) | undefined;
}

/** What rows that continue prompts attend to before their own tokens. */
export interface PromptKeys {
  /** [P, kvHeads, S, headDim] of P prompts, padded to S tokens. */
  keys: Tensor;
  values: Tensor;
  /** int32 [B]: which prompt each row continues. */
  owners: Tensor;
}

/** A layer's cache in a pass that continues it. */
export interface MixingCache extends LayerCache {
  /** int32 [B]: tokens that each row has. */
  lengths: Tensor;
  /** The new tokens' positions follow those of the row: they are lengths, lengths + 1, … */
  isFollowing: boolean;
  /** int32 [B]: how many of the new tokens of each row are no padding. */
  counts: Tensor;
}

/** The half of a transformer's layer that moves information between positions: [B·T, dim] → [B·T, dim]. */
export interface SequenceMixer {
  apply(x: Tensor, context: MixingContext): Tensor;
  /** What it caches besides keys and values, by name. */
  readonly cacheExtras?: Readonly<Record<string, CacheExtra>>;
  /** Its cache is a state that every token changes: a row can be continued from where it is only. */
  readonly isStateful?: boolean;
  /** Keys and values are all that it needs of a prompt, so that many rows can share one that is computed once. */
  readonly continuesPrompts?: boolean;
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
  /** Width of a causal depthwise convolution on the keys (PaTH: on the directions w). 1: none. */
  keyConvolution: number;
}

/** [B·T, heads·d] as [B, heads, T, d]. With one token a row that is a reshape. */
export function splitHeads(x: Tensor, heads: number, { rows, length }: MixingContext): Tensor {
  const d = x.shape.at(-1)! / heads;
  if (length === 1) return reshape(x, [rows, heads, 1, d]);
  return transpose(reshape(x, [rows, length, heads, d]), [0, 2, 1, 3]);
}

/** The inverse of `splitHeads`. */
export function joinHeads(x: Tensor): Tensor {
  const [rows, heads, length, d] = x.shape as [number, number, number, number];
  const turned = length === 1 ? x : transpose(x, [0, 2, 1, 3]);
  return reshape(turned, [rows * length, heads * d]);
}
