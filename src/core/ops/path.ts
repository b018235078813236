import { AnnealError } from '../errors.js';
import { formatShape, sameShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { add, mul } from './elementwise.js';
import { causalMask } from './masks.js';
import { matmul } from './matmul.js';
import { pathBlocks, pathLogitsOp } from './path-logits.js';
import { pathBlock, pathMixOp } from './path-mix.js';
import { cumsum } from './reduce.js';
import { pad, slice } from './slice.js';
import { softmax } from './softmax.js';
import { reshape, transpose } from './view.js';

/** Options of `pathAttention`. */
export interface PathOptions {
  /** Factor on the logits. Default 1/√d. */
  scale?: number;
  /** Positions that are transformed together; any value gives the same result. Default 64, or 32 for heads below 64. */
  blockSize?: number;
  /** Logarithms of forget gates [B, H, L], ≤ 0: PaTH-FoX adds the sum over positions j+1 … i to logit (i, j). */
  logGate?: Tensor;
  /** `none` adds the gate as the paper does, `attention` multiplies it by `scale`, as fla's checkpoints need. */
  gateScale?: 'none' | 'attention';
  /** Added to the logits; broadcasts to [B, 1, L, L]: keeps packed documents apart. */
  mask?: Tensor;
}

function checkPath(q: Tensor, k: Tensor, v: Tensor, w: Tensor, beta: Tensor): void {
  const fail = (what: string) => {
    const shapes = [q, k, v, w, beta].map((t) => formatShape(t.shape)).join(', ');
    throw new AnnealError(`pathAttention(${shapes}): ${what}`);
  };
  if (q.rank !== 4 || k.rank !== 4 || v.rank !== 4) fail('q, k and v must be [batch, heads, length, size]');
  if (q.shape[0] !== k.shape[0] || q.shape[2] !== k.shape[2] || q.shape[3] !== k.shape[3])
    fail('q and k must agree in batch, length and head size');
  if (q.shape[1]! % k.shape[1]! !== 0) fail('the heads of q must be a multiple of those of k');
  if (!sameShape(v.shape.slice(0, 3), k.shape.slice(0, 3)))
    fail('k and v must agree in all but the head size');
  if (!sameShape(w.shape, k.shape)) fail('w must have the shape of k');
  if (!sameShape(beta.shape, k.shape.slice(0, 3))) fail('beta must be [batch, key heads, length]');
}

/**
 * PaTH attention (Yang et al. 2025): softmax over j ≤ i of scale·qᵢᵀ Hᵢ … Hⱼ₊₁ kⱼ with Hₜ = I - βₜ wₜ wₜᵀ, and no other
 * notion of position. Blockwise (section 3.3 there): matrix products only, exact for any block size.
 *
 * q is [B, H, L, d]; k and the unit vectors w are [B, Hkv, L, d], v [B, Hkv, L, dv], beta [B, Hkv, L] in [0, 2]; H is
 * a multiple of Hkv. Returns [B, H, L, dv]. Beta 0 everywhere is attention without positions.
 * @throws AnnealError if shapes do not fit.
 */
export function pathAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  w: Tensor,
  beta: Tensor,
  options: PathOptions = {},
): Tensor {
  checkPath(q, k, v, w, beta);
  if (isPlain(q, k, options)) {
    const c = pathBlock(q.shape[2]!, q.shape[3]!, v.shape[3]!);
    if (c !== undefined) return withoutScores([q, k, v, w, beta], c, options);
  }
  const [b, heads, length, d] = q.shape as [number, number, number, number];
  const kvHeads = k.shape[1]!;
  const group = heads / kvHeads;
  const { scale = 1 / Math.sqrt(d), blockSize = d < 64 ? 32 : 64 } = options;
  const c = Math.min(blockSize, length);
  const n = Math.ceil(length / c);
  // Padding on the right has beta 0 and is never attended to.
  const fill = n * c - length;
  const padded = (t: Tensor, axis: number) =>
    fill === 0
      ? t
      : pad(
          t,
          t.shape.map((_, i) => (i === axis ? [0, fill] : [0, 0]) as [number, number]),
        );
  const blocked = (t: Tensor) => reshape(padded(t, 2), [b * kvHeads, n, c, t.shape[3]!]);
  // The query heads of a group lie below each other in every block: they see the same transforms.
  const grouped = reshape(padded(mul(q, scale), 2), [b * kvHeads, group, n, c, d]);
  const queries =
    group === 1
      ? reshape(grouped, [b * kvHeads, n, c, d])
      : reshape(transpose(grouped, [0, 2, 1, 3, 4]), [b * kvHeads, n, group * c, d]);
  const blocks = pathBlocks(queries, blocked(k), blocked(w), reshape(padded(beta, 2), [b * kvHeads, n, c]));
  const logits = pathLogitsOp.apply([blocks.queries, blocks.keys, blocks.transforms, blocks.local], {})[0]!;
  const scores = biased(reshape(logits, [b, kvHeads, n, group, c, n * c]), length, scale, options);
  const mixed = matmul(reshape(softmax(scores, -1), [b, kvHeads, n * group * c, n * c]), padded(v, 2));
  const apart = reshape(mixed, [b, kvHeads, n, group, c, v.shape[3]!]);
  const joined = group === 1 ? apart : transpose(apart, [0, 1, 3, 2, 4, 5]);
  const y = reshape(joined, [b, heads, n * c, v.shape[3]!]);
  return fill === 0 ? y : slice(y, [null, null, [0, length]]);
}

/** Nothing but the definition: what `pathMix` computes. */
const isPlain = (q: Tensor, k: Tensor, { mask, logGate, blockSize }: PathOptions): boolean =>
  q.dtype === 'float32' && q.shape[1] === k.shape[1] && !mask && !logGate && blockSize === undefined;

/** By `pathMix`: heads of the batch along one axis, padded on the right with beta 0. */
function withoutScores(operands: readonly Tensor[], c: number, options: PathOptions): Tensor {
  const [b, heads, length, d] = operands[0]!.shape as [number, number, number, number];
  const fill = Math.ceil(length / c) * c - length;
  const [q, k, v, w, beta] = operands.map((t) => {
    const flat = reshape(t, [b * heads, ...t.shape.slice(2)]);
    return fill === 0
      ? flat
      : pad(flat, [[0, 0], [0, fill], ...flat.shape.slice(2).map(() => [0, 0] as [number, number])]);
  }) as [Tensor, Tensor, Tensor, Tensor, Tensor];
  const { scale = 1 / Math.sqrt(d) } = options;
  const y = pathMixOp.apply([mul(q, scale), k, v, w, beta], { block: c })[0]!;
  const own = fill === 0 ? y : slice(y, [null, [0, length]]);
  return reshape(own, [b, heads, length, v.shape[2]!]);
}

/** Masks and gates added to logits [B, Hkv, n, group, C, n·C]. */
function biased(logits: Tensor, length: number, scale: number, options: PathOptions): Tensor {
  const [b, kvHeads, n, group, c, keys] = logits.shape as [number, number, number, number, number, number];
  const { mask, logGate, gateScale = 'none' } = options;
  let bias = reshape(causalMask(keys, keys, logits.dtype), [n, 1, c, keys]);
  if (mask) {
    const whole = mask.shape.at(-2) === 1 ? mask : pad(mask, sides(mask.rank, keys - length));
    const lead = mask.rank === 4 ? mask.shape[0]! : 1;
    bias = add(bias, reshape(whole, [lead, 1, n, 1, c, keys]));
  }
  const scores = add(logits, bias);
  if (!logGate) return scores;
  // Σ of the gates j+1 … i is cᵢ - cⱼ, and cᵢ is the same along a row of the softmax.
  const fill = keys - length;
  const gates =
    fill === 0
      ? logGate
      : pad(logGate, [
          [0, 0],
          [0, 0],
          [0, fill],
        ]);
  const perKey = mul(cumsum(gates, 2), gateScale === 'attention' ? -scale : -1);
  return add(scores, reshape(perKey, [b, kvHeads, 1, group, 1, keys]));
}

const sides = (rank: number, fill: number): [number, number][] =>
  Array.from({ length: rank }, (_, axis) => [0, axis >= rank - 2 ? fill : 0]);
