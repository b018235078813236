/** Sizes that a layout depends on: positions, head size, and positions of a block, which divides them. */
export interface PathSizes {
  length: number;
  d: number;
  block: number;
}

/**
 * What the passes of PaTH attention hand to one another, for each head: floats from the start of its part of the tensor.
 *
 * Blocks are the leaves of a binary tree. Where two of them separate at level l, the later one's queries are needed at the left
 * edge of its half, and the earlier one's keys at the right edge of theirs: `edges` has, for each level and block, whichever of
 * the two it needs. So queries and keys cross each transform once, and scores of a pair of blocks are one product.
 */
export interface PathLayout {
  n: number;
  /** Levels at which blocks separate: 0 if there is one block. */
  levels: number;
  /** [levels, length, d] */
  edges: number;
  /** The other one of the two, for levels above: [length, d]. */
  others: number;
  /** Transforms of 2^l blocks, levels one after the other: [n >> l, d, d]. */
  transforms: readonly number[];
  /** Solution of the block's triangular system, before it is scaled by β: [length, d + block]. */
  solution: number;
  /** Products of directions and queries [n, block, block], and transposed scores of blocks with themselves. */
  crossings: number;
  local: number;
  size: number;
}

/** Layout for n blocks of `block` positions. */
export function pathLayout({ length, d, block }: PathSizes): PathLayout {
  const n = length / block;
  const levels = Math.ceil(Math.log2(n));
  let size = 0;
  const take = (floats: number) => {
    const at = size;
    size += floats;
    return at;
  };
  return {
    n,
    levels,
    edges: take(levels * length * d),
    others: take(levels > 1 ? length * d : 0),
    transforms: Array.from({ length: Math.max(0, levels - 1) }, (_, l) => take((n >> l) * d * d)),
    solution: take(length * (d + block)),
    crossings: take(length * block),
    local: take(length * block),
    size,
  };
}

/** Layout of what the gradient's pass keeps for itself: gradients of the edges, the transforms and the local scores. */
export function pathWorkLayout(sizes: PathSizes): PathLayout {
  const { length, d, block } = sizes;
  const { n, levels } = pathLayout(sizes);
  const edges = levels * length * d;
  let size = edges;
  const transforms = Array.from({ length: Math.max(0, levels - 1) }, (_, l) => {
    const at = size;
    size += (n >> l) * d * d;
    return at;
  });
  const local = size;
  size += length * block;
  return { n, levels, edges: 0, transforms, local, size, others: 0, solution: 0, crossings: 0 };
}
