import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats } from '../op.js';
import { formatShape, sameShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { add, mul, sub } from './elementwise.js';
import { concat, split } from './join.js';
import { causalMask, lowerTriangle, matrix, zeros } from './masks.js';
import { matmul } from './matmul.js';
import { cumsum } from './reduce.js';
import { pad, slice } from './slice.js';
import { softmax } from './softmax.js';
import { unitTriangularInverse } from './triangular.js';
import { expandDims, reshape, tile, transpose } from './view.js';

/** Blocks of a sequence, axis 1, one by one: [N, n, ...] as n times [N, ...]. */
const blocksOf = (t: Tensor): Tensor[] =>
  split(t, t.shape[1]!, 1).map((block) => reshape(block, [t.shape[0]!, ...t.shape.slice(2)]));

/**
 * For each block j the queries of all later blocks, carried back to its right edge: from right to left, each
 * step appends a block's queries and carries the ones below it across the block. The last entry, where asked
 * for, holds all queries at the left edge of the sequence.
 */
export function carriedQueries(
  queries: readonly Tensor[],
  transforms: readonly Tensor[],
): (Tensor | undefined)[] {
  const carried: (Tensor | undefined)[] = new Array(queries.length).fill(undefined);
  for (let j = queries.length - 2; j >= 0; j--) {
    const below = carried[j + 1];
    const next = queries[j + 1]!;
    carried[j] = below ? concat([next, matmul(below, transforms[j + 1]!)], 1) : next;
  }
  return carried;
}

export const pathLogitsOp = defineOp({
  name: 'pathLogits',
  infer([queries, keys, transforms, local]) {
    checkDTypes([queries!, keys!, transforms!, local!], floats);
    const [batch, n, rows, d] = queries!.shape as [number, number, number, number];
    const columns = keys!.shape[2]!;
    const expected = [
      [batch, n, columns, d],
      [batch, n, d, d],
      [batch, n, rows, columns],
    ];
    [keys!, transforms!, local!].forEach((t, i) => {
      if (!sameShape(t.shape, expected[i]!))
        throw new AnnealError(`operand ${i + 1} must be ${formatShape(expected[i]!)}`);
    });
    return [{ dtype: queries!.dtype, shape: [batch, n * rows, n * columns] }];
  },
  flops([queries, keys]) {
    const [batch, n, rows, d] = queries!.shape as [number, number, number, number];
    return batch * n * (n - 1) * rows * d * (keys!.shape[2]! + d);
  },
  decompose([queries, keys, transforms, local]) {
    const [batch, n, rows] = queries!.shape as [number, number, number];
    const columns = keys!.shape[2]!;
    const [ks, locals] = [blocksOf(keys!), blocksOf(local!)];
    const carried = carriedQueries(blocksOf(queries!), blocksOf(transforms!));
    const column = (j: number) => {
      const parts = j > 0 ? [zeros([batch, j * rows, columns], queries!.dtype)] : [];
      parts.push(locals[j]!);
      if (carried[j]) parts.push(matmul(carried[j]!, ks[j]!, { transposeB: true }));
      return concat(parts, 1);
    };
    return [
      concat(
        Array.from({ length: n }, (_, j) => column(j)),
        2,
      ),
    ];
  },
  /** The sweep in the other direction; the carried queries are computed again rather than kept. */
  vjp({ inputs: [queries, keys, transforms] }, [g]) {
    if (!g) return [];
    const [batch, n, rows, d] = queries!.shape as [number, number, number, number];
    const columns = keys!.shape[2]!;
    const [ks, ps] = [blocksOf(keys!), blocksOf(transforms!)];
    const carried = carriedQueries(blocksOf(queries!), ps);
    const none = zeros([batch, rows, d], queries!.dtype);
    const toQueries: Tensor[] = [none];
    const toKeys: Tensor[] = [];
    const toTransforms: Tensor[] = [zeros([batch, d, d], queries!.dtype)];
    const toLocal: Tensor[] = [];
    let fromLeft: Tensor | undefined;
    for (let j = 0; j < n; j++) {
      const [top, left] = [j * rows, j * columns];
      const part = (from: number, to: number) => slice(g, [null, [from, to], [left, left + columns]]);
      toLocal.push(part(top, top + rows));
      const below = carried[j];
      if (!below) {
        toKeys.push(zeros([batch, columns, d], queries!.dtype));
        break;
      }
      const toColumn = part(top + rows, n * rows);
      toKeys.push(matmul(toColumn, below, { transposeA: true }));
      const own = matmul(toColumn, ks[j]!);
      const toBelow: Tensor = fromLeft ? add(own, matmul(fromLeft, ps[j]!, { transposeB: true })) : own;
      // `below` is block j+1's queries on top of the ones carried across block j+1.
      toQueries.push(slice(toBelow, [null, [0, rows]]));
      const across = carried[j + 1];
      if (!across) {
        toTransforms.push(zeros([batch, d, d], queries!.dtype));
        continue;
      }
      fromLeft = slice(toBelow, [null, [rows, null]]);
      toTransforms.push(matmul(across, fromLeft, { transposeA: true }));
    }
    const joined = (list: readonly Tensor[]) =>
      reshape(concat(list, 1), [batch, n, -1, list[0]!.shape.at(-1)!]);
    // One block needs no transport, two none across a block between them.
    return [
      n > 1 ? joined(toQueries) : undefined,
      n > 1 ? joined(toKeys) : undefined,
      n > 2 ? joined(toTransforms) : undefined,
      joined(toLocal),
    ];
  },
  cases: [
    {
      inputs: [
        [2, 1, 2, 3],
        [2, 1, 2, 3],
        [2, 1, 3, 3],
        [2, 1, 2, 2],
      ],
    },
    {
      inputs: [
        [2, 4, 4, 3],
        [2, 4, 2, 3],
        [2, 4, 3, 3],
        [2, 4, 4, 2],
      ],
    },
  ],
});

/** What a block does to queries and keys that pass it; see `pathBlocks`. */
export interface PathBlocks {
  /** Queries at the left edge of their own block [N, n, R, d]. */
  queries: Tensor;
  /** Keys at the right edge of their own block [N, n, C, d]. */
  keys: Tensor;
  /** Transform of a whole block, for rows: q ← q P [N, n, d, d]. */
  transforms: Tensor;
  /** Logits within blocks [N, n, R, C]; the part above the diagonal is not masked. */
  local: Tensor;
}

/**
 * The UT transform of every block (PaTH, sections 3.2 and 3.3): queries [N, n, R, d] with R = group·C rows a block,
 * keys and directions w [N, n, C, d], beta [N, n, C].
 */
export function pathBlocks(q: Tensor, k: Tensor, w: Tensor, beta: Tensor): PathBlocks {
  const [rows, c] = [q.shape[2]!, k.shape[2]!];
  const d = q.shape[3]!;
  const below = lowerTriangle(c, c, 0, q.dtype);
  // (I + stril(βWWᵀ))⁻¹ β: how earlier reflections of a block act through later ones.
  const inverse = unitTriangularInverse(mul(matmul(w, w, { transposeB: true }), expandDims(beta, -1)));
  const t = mul(inverse, expandDims(beta, -2));
  const qw = mul(matmul(q, w, { transposeB: true }), tile(below, [rows / c, 1]));
  const wk = mul(matmul(w, k, { transposeB: true }), lowerTriangle(c, c, -1, q.dtype));
  const qt = matmul(qw, t);
  const u = matmul(t, w);
  const identity = matrix(d, d, q.dtype, (i, j) => (i === j ? 1 : 0));
  return {
    queries: sub(q, matmul(qt, w)),
    keys: sub(k, matmul(matmul(t, wk), w, { transposeA: true })),
    transforms: sub(identity, matmul(w, u, { transposeA: true })),
    local: sub(matmul(q, k, { transposeB: true }), matmul(qt, wk)),
  };
}

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
