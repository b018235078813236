import { add, cast, equal, greater, mul, where } from '../core/ops/elementwise.js';
import { arange, takeAlongAxis } from '../core/ops/indexing.js';
import { concat } from '../core/ops/join.js';
import { zeros } from '../core/ops/masks.js';
import { slice } from '../core/ops/slice.js';
import { broadcastTo, reshape } from '../core/ops/view.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import { parameter } from './init.js';

/** What a convolution over time needs to know of the sequence. */
export interface ConvolutionContext {
  /** int32 [B, T]: the window does not reach across documents. */
  documents?: Tensor | undefined;
  /**
   * The inputs before these, [B, width-1, channels], which are assigned. int32 [B] each: tokens that a row has (at 0 the
   * inputs before are another sequence's), and how many of the new ones are valid.
   */
  window?: { before: Variable; lengths: Tensor; counts: Tensor } | undefined;
}

/**
 * Depthwise causal convolution: each channel is a weighted sum of its last `width` values,
 * y(t) = Σ weight(m) · x(t - width + 1 + m), with zeros before the start.
 */
export class ShortConvolution {
  /** [width, channels] */
  readonly weight: Variable;

  constructor(
    readonly channels: number,
    readonly width: number,
  ) {
    this.weight = parameter([width, channels], 'vector');
  }

  /** [B, T, channels] → [B, T, channels]. */
  apply(x: Tensor, { documents, window }: ConvolutionContext = {}): Tensor {
    const [b, t] = x.shape as [number, number, number];
    const reach = this.width - 1;
    if (reach === 0) return mul(x, this.weight);
    const before = window
      ? ownInputs(window.before, window.lengths)
      : zeros([b, reach, this.channels], x.dtype);
    const all = concat([before, x], 1);
    const terms = Array.from({ length: this.width }, (_, m) => {
      const shifted = m === reach ? x : slice(all, [null, [m, m + t]]);
      const term = mul(shifted, slice(this.weight, [[m, m + 1]]));
      return documents && m < reach ? mul(term, sameDocument(documents, reach - m)) : term;
    });
    if (window) window.before.assign(lastValid(all, window.counts, reach));
    return terms.reduce((sum, term) => add(sum, term));
  }
}

/** [B, T, 1]: 1 where the position `back` before belongs to the same document. */
function sameDocument(documents: Tensor, back: number): Tensor {
  const [b, t] = documents.shape as [number, number];
  const none = broadcastTo(reshape(arange(1), [1, 1]).sub(1), [b, Math.min(back, t)]);
  const earlier = back < t ? concat([none, slice(documents, [null, [0, t - back]])], 1) : none;
  return reshape(where(equal(documents, earlier), 1, 0), [b, t, 1]);
}

/** The inputs before, zero where a row begins. */
const ownInputs = (before: Tensor, lengths: Tensor): Tensor =>
  mul(before, cast(greater(reshape(lengths, [-1, 1, 1]), 0), before.dtype));

/** The last `reach` of the inputs up to the valid ones: positions counts … counts + reach - 1 of what came before and now. */
function lastValid(all: Tensor, counts: Tensor, reach: number): Tensor {
  const [b, , channels] = all.shape as [number, number, number];
  const at = add(reshape(counts, [b, 1, 1]), reshape(arange(reach), [1, reach, 1]));
  return takeAlongAxis(all, broadcastTo(at, [b, reach, channels]), 1);
}
