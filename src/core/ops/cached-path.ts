import { defineOp } from '../op.js';
import type { Tensor } from '../tensor.js';
import { after } from './after.js';
import { cacheWrite } from './cached-attention.js';
import { add, greaterEqual, mul, sub, where } from './elementwise.js';
import { arange } from './indexing.js';
import { concat, split } from './join.js';
import { scalar } from './leaf.js';
import { causalMask, maskedScore } from './masks.js';
import { matmul } from './matmul.js';
import { carriedQueries, type PathBlocks, pathBlocks, pathLogitsOp } from './path-logits.js';
import { softmax } from './softmax.js';
import { reshape, transpose } from './view.js';

/** Options of `cachedPathAttention`. */
export interface CachedPathOptions {
  /** Factor on the logits. Default 1/√d. */
  scale?: number;
  /** Positions that are transformed together. Default 64. */
  blockSize?: number;
  /** Added to the logits of the cache's positions, [B, H, 1, S], and of the new ones, [B, H, 1, T]: gates. */
  bias?: { past: Tensor; own: Tensor };
}

/** Blocks of a chunk, axis 1, one by one. */
const each = (t: Tensor): Tensor[] =>
  split(t, t.shape[1]!, 1).map((block) => reshape(block, [t.shape[0]!, ...t.shape.slice(2)]));

/** Keys [N, S, d] moved across blocks from left to right: k ← kPᵀ for each. */
const moved = (keys: Tensor, transforms: readonly Tensor[]): Tensor =>
  transforms.reduce((k, p) => matmul(k, p, { transposeB: true }), keys);

/**
 * PaTH attention of T new tokens a row, continuing a cache of keys that are kept as the last token sees them
 * (PaTH, section 3.4): every new token transforms all of them. q [B, H, T, d]; k, w [B, Hkv, T, d] and v [B, Hkv, T, dv];
 * beta [B, Hkv, T], 0 for padding; caches [B, Hkv, S, d] and [B, Hkv, S, dv]; `lengths` int32 [B].
 *
 * Returns the result [B, H, T, dv] and both caches as they are afterwards. Lengths plus T must not exceed S. Cached
 * keys change with every token: a row can be continued from where it is, never from an earlier point.
 */
export function cachedPathAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  w: Tensor,
  beta: Tensor,
  keyCache: Tensor,
  valueCache: Tensor,
  lengths: Tensor,
  options: CachedPathOptions = {},
): [y: Tensor, keyCache: Tensor, valueCache: Tensor] {
  const [, , length, d] = q.shape as [number, number, number, number];
  if (length === 1 && !options.bias && q.dtype === 'float32') {
    const { scale = 1 / Math.sqrt(d) } = options;
    const operands = [q, k, v, w, beta, keyCache, valueCache, lengths];
    const [y, keys, values] = pathStepOp.apply(operands, { scale });
    return [y!, keys!, values!];
  }
  return byBlocks(q, k, v, w, beta, keyCache, valueCache, lengths, options);
}

/**
 * One new token a row as a node of its own: kernels go over the caches once. q [B, H, 1, d], k, w, v, beta, both caches, lengths; see
 * `cachedPathAttention`.
 */
const pathStepOp = defineOp<{ scale: number }>({
  name: 'pathStep',
  infer: ([q, , v, , , keys, values]) => [
    { dtype: q!.dtype, shape: [...q!.shape.slice(0, 3), v!.shape[3]!] },
    keys!,
    values!,
  ],
  flops: ([q, , v, , , keys]) =>
    2 * q!.shape[0]! * q!.shape[1]! * keys!.shape[2]! * (3 * q!.shape[3]! + v!.shape[3]!),
  decompose: ([q, k, v, w, beta, keys, values, lengths], { scale }) =>
    byBlocks(q!, k!, v!, w!, beta!, keys!, values!, lengths!, { scale }),
  lower(b, node, { scale }) {
    const inputs = node.inputs.map((type, i) => ({ name: b.inputs[i]!, type }));
    const outputs = node.outputs.map((type, i) => ({ type, name: b.outputs[i] || b.fresh('unused') }));
    return b.kernel('pathStep', { scale }, inputs, outputs) !== undefined;
  },
  cases: [
    {
      inputs: [
        [2, 2, 1, 3],
        [2, 1, 1, 3],
        [2, 1, 1, 2],
        [2, 1, 1, 3],
        { shape: [2, 1, 1], low: 0.1, high: 1.9 },
        [2, 1, 4, 3],
        [2, 1, 4, 2],
        { shape: [2], dtype: 'int32', values: [3, 0] },
      ],
      attributes: { scale: 0.7 },
    },
  ],
});

/** The same for any number of new tokens, by the blocks of `pathBlocks`. */
function byBlocks(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  w: Tensor,
  beta: Tensor,
  keyCache: Tensor,
  valueCache: Tensor,
  lengths: Tensor,
  options: CachedPathOptions = {},
): [y: Tensor, keyCache: Tensor, valueCache: Tensor] {
  const [b, heads, length, d] = q.shape as [number, number, number, number];
  const [, kvHeads, capacity] = keyCache.shape as [number, number, number, number];
  const group = heads / kvHeads;
  const { scale = 1 / Math.sqrt(d), bias } = options;
  const c = blockLength(length, options.blockSize ?? 64);
  const n = length / c;
  const batch = b * kvHeads;
  const past = reshape(keyCache, [batch, capacity, d]);
  const blocked = (t: Tensor) => reshape(t, [batch, n, c, t.shape[3]!]);
  const rows = transpose(reshape(mul(q, scale), [batch, group, n, c, d]), [0, 2, 1, 3, 4]);
  const blocks = pathBlocks(
    reshape(rows, [batch, n, group * c, d]),
    blocked(k),
    blocked(w),
    reshape(beta, [batch, n, c]),
  );
  const transforms = each(blocks.transforms);
  // Rows are ordered by block, query head of the group, position: [batch, n·group·c, ...].
  const split5 = (t: Tensor) => reshape(t, [b, kvHeads, n, group, c, t.shape.at(-1)!]);
  const isUnwritten = greaterEqual(
    reshape(arange(capacity), [1, 1, 1, 1, 1, capacity]),
    reshape(lengths, [b, 1, 1, 1, 1, 1]),
  );
  let toPast = add(
    split5(matmul(atLeftEdge(blocks, transforms), past, { transposeB: true })),
    where(isUnwritten, scalar(maskedScore, q.dtype), 0),
  );
  let toOwn = add(
    split5(pathLogitsOp.apply([blocks.queries, blocks.keys, blocks.transforms, blocks.local], {})[0]!),
    reshape(causalMask(length, length, q.dtype), [n, 1, c, length]),
  );
  if (bias) {
    toPast = add(toPast, reshape(bias.past, [b, kvHeads, 1, group, 1, capacity]));
    toOwn = add(toOwn, reshape(bias.own, [b, kvHeads, 1, group, 1, length]));
  }
  const shares = softmax(concat([toPast, toOwn], -1), -1);
  const flat = reshape(shares, [b, kvHeads, n * group * c, capacity + length]);
  const [pastShares, ownShares] = split(flat, [capacity, length], -1) as [Tensor, Tensor];
  const nextValues = cacheWrite(valueCache, v, lengths);
  // What lies past a row's length has no share: the new values may be written before this reads.
  const y = add(matmul(pastShares, nextValues), matmul(ownShares, v));
  const apart = transpose(split5(y), [0, 1, 3, 2, 4, 5]);
  // The old keys are read for the last time: their memory can take the new ones.
  const old = after(past, toPast);
  const transported = length === 1 ? reflected(old, w, beta) : moved(old, transforms);
  const keys = concat(
    each(blocks.keys).map((block, j) => moved(block, transforms.slice(j + 1))),
    1,
  );
  return [
    reshape(apart, [b, heads, length, v.shape[3]!]),
    cacheWrite(reshape(transported, keyCache.shape), reshape(keys, k.shape), lengths),
    nextValues,
  ];
}

/** The largest divisor of a length up to a limit: chunks have no padding of their own. */
function blockLength(length: number, limit: number): number {
  let c = Math.min(length, limit);
  while (length % c !== 0) c--;
  return c;
}

/** All queries of a chunk carried to its left edge, [N, n·R, d]. */
function atLeftEdge({ queries }: PathBlocks, transforms: readonly Tensor[]): Tensor {
  const own = each(queries);
  const below = carriedQueries(own, transforms)[0];
  return below ? concat([own[0]!, matmul(below, transforms[0]!)], 1) : own[0]!;
}

/** k ← k - β(k·w)w for one token: two passes over the cache instead of a product with a matrix. */
function reflected(keys: Tensor, w: Tensor, beta: Tensor): Tensor {
  const [batch, , d] = keys.shape as [number, number, number];
  const direction = reshape(w, [batch, 1, d]);
  const along = matmul(keys, mul(direction, reshape(beta, [batch, 1, 1])), { transposeB: true });
  return sub(keys, mul(along, direction));
}
