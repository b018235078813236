import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats } from '../op.js';
import { formatShape, sameShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { add, mul, sub } from './elementwise.js';
import { concat, split } from './join.js';
import { lowerTriangle, matrix, zeros } from './masks.js';
import { matmul } from './matmul.js';
import { slice } from './slice.js';
import { unitTriangularInverse } from './triangular.js';
import { expandDims, reshape, tile } from './view.js';

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
