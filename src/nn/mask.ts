import { AnnealError } from '../core/errors.js';
import { add, equal, less, lessEqual, logicalAnd, logicalOr, where } from '../core/ops/elementwise.js';
import { arange } from '../core/ops/indexing.js';
import { scalar } from '../core/ops/leaf.js';
import { maskedScore } from '../core/ops/masks.js';
import { reshape } from '../core/ops/view.js';
import { formatShape, sameShape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';

/** Positions 0 … n-1 along the axis of the queries, [1, 1, n, 1], or of the keys, [1, 1, 1, n]. */
const queries = (n: number): Tensor => reshape(arange(n), [1, 1, n, 1]);
const keys = (n: number): Tensor => reshape(arange(n), [1, 1, 1, n]);

function checkInts(name: string, t: Tensor, shape: readonly number[]): void {
  if (t.dtype === 'int32' && sameShape(t.shape, shape)) return;
  throw new AnnealError(`${name} must be int32${formatShape(shape)}, not ${t.dtype}${formatShape(t.shape)}`);
}

/** bool [1, 1, length, length]: query t sees keys 0 … t. */
export const causalVisible = (length: number): Tensor => lessEqual(keys(length), queries(length));

/**
 * Attention within documents that are packed into one row: bool [B, 1, T, T], true where both positions of
 * int32 `documents` [B, T] bear the same number.
 */
export function documentVisible(documents: Tensor): Tensor {
  const [b, t] = documents.shape as [number, number];
  checkInts('documents', documents, [b, t]);
  return equal(reshape(documents, [b, 1, t, 1]), reshape(documents, [b, 1, 1, t]));
}

/** bool [B, 1, length, length]: the first `prefix[b]` positions of row b see each other both ways. */
export function prefixVisible(prefix: Tensor, length: number): Tensor {
  const [b] = prefix.shape as [number];
  checkInts('prefix', prefix, [b]);
  const end = reshape(prefix, [b, 1, 1, 1]);
  return logicalAnd(less(queries(length), end), less(keys(length), end));
}

/** What a mask is made of. */
export interface MaskOptions {
  /** Query t sees keys up to t. Default true. */
  causal?: boolean | undefined;
  /** int32 [B, T]: number of the document that a position belongs to; attention stays inside it. */
  documents?: Tensor | undefined;
  /** int32 [B]: the first n positions of a row see each other both ways. */
  prefix?: Tensor | undefined;
  /** Added to the scores; broadcasts to [B, H, T, T]. */
  mask?: Tensor | undefined;
}

/** A mask as attention takes it. */
export interface AttentionMask {
  causal: boolean;
  mask: Tensor | undefined;
}

/**
 * One mask for all layers: visible = (causal or prefix) and same document; the plain causal and bidirectional
 * cases need no tensor. `mask` is added to what results.
 */
export function attentionMask(length: number, options: MaskOptions): AttentionMask {
  const { causal = true, documents, prefix, mask } = options;
  if (!documents && (!prefix || !causal)) return { causal, mask };
  let visible = documents && documentVisible(documents);
  if (causal) {
    const order = causalVisible(length);
    const past = prefix ? logicalOr(order, prefixVisible(prefix, length)) : order;
    visible = visible ? logicalAnd(visible, past) : past;
  }
  const made = where(visible!, 0, scalar(maskedScore));
  return { causal: false, mask: mask ? add(made, mask) : made };
}
