import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats } from '../op.js';
import { sizeOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { mul, sub } from './elementwise.js';
import { lowerTriangle, matrix } from './masks.js';
import { matmul } from './matmul.js';

const triInverseOp = defineOp({
  name: 'unitTriangularInverse',
  infer([x]: readonly TensorType[]) {
    checkDTypes([x!], floats);
    if (x!.shape.length < 2 || x!.shape.at(-1) !== x!.shape.at(-2))
      throw new AnnealError('needs square matrices');
    return [x!];
  },
  flops: (_inputs, _attributes, [y]) =>
    4 *
    sizeOf(y!.shape) *
    y!.shape.at(-1)! *
    Math.max(0, Math.ceil(Math.log2(Math.max(y!.shape.at(-1)!, 1))) - 1),
  decompose([x]: readonly Tensor[]) {
    const c = x!.shape.at(-1)!;
    const merge = (s: number) =>
      matrix(c, c, x!.dtype, (i, j) =>
        Math.floor(i / s) % 2 === 1 && Math.floor(j / s) === Math.floor(i / s) - 1 ? 1 : 0,
      );
    const identityMatrix = matrix(c, c, x!.dtype, (i, j) => (i === j ? 1 : 0));
    let y = sub(identityMatrix, mul(x!, merge(1)));
    // Each step turns the inverses of the s×s diagonal blocks into those of the 2s×2s blocks.
    for (let s = 2; s < c; s *= 2) y = sub(y, matmul(matmul(y, mul(x!, merge(s))), y));
    return [y];
  },
  vjp({ outputs: [y] }, [g]) {
    if (!g) return [];
    const c = y!.shape.at(-1)!;
    const full = matmul(matmul(y!, g, { transposeA: true }), y!, { transposeB: true, scale: -1 });
    return [mul(full, lowerTriangle(c, c, -1, y!.dtype))];
  },
  cases: [{ inputs: [[2, 5, 5]] }, { inputs: [[8, 8]] }, { inputs: [[1, 1]] }],
});

/**
 * Inverse of unit lower triangular matrices [..., n, n]. Only the part strictly below the diagonal is
 * read; the diagonal counts as 1. Masked merging of block inverses: unlike Neumann doubling it is stable
 * where the entries are near 2 (its intermediates are inverses of diagonal blocks).
 */
export const unitTriangularInverse = (x: Tensor): Tensor => triInverseOp.apply([x], {})[0]!;
