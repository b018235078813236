import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats } from '../op.js';
import { broadcastShapes, formatShape, sameShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { add } from './elementwise.js';
import { type MatmulAttributes, type MatmulOptions, matmulSizes, product } from './matmul.js';

type SymmetricAttributes = Omit<MatmulAttributes, 'triangle'>;

/** What the backend's own operator is told: 3 stands for a symmetric result. */
const numbersOf = ({ transA, transB, alpha }: SymmetricAttributes) => ({
  triangle: 3,
  transA: Number(transA),
  transB: Number(transB),
  alpha,
});

/**
 * alpha · op(a) · op(b) + c for operands whose product is symmetric, as is c. A kernel computes the blocks on and below
 * the diagonal and copies them; elsewhere it is an ordinary product.
 */
export const symmetricProductOp = defineOp<SymmetricAttributes>({
  name: 'symmetricProduct',
  infer([a, b, c], attributes) {
    const [m, ka, kb, n] = matmulSizes(a!.shape, b!.shape, attributes);
    checkDTypes(c ? [a!, b!, c] : [a!, b!], floats);
    if (ka !== kb || m !== n) {
      throw new AnnealError(
        `operands ${formatShape(a!.shape)} and ${formatShape(b!.shape)} have no symmetric product`,
      );
    }
    const shape = [...broadcastShapes(a!.shape.slice(0, -2), b!.shape.slice(0, -2)), m, n];
    if (c && !sameShape(c.shape, shape))
      throw new AnnealError(`the addend is ${formatShape(c.shape)}, the product ${formatShape(shape)}`);
    return [{ dtype: a!.dtype, shape }];
  },
  // Half of the products of an ordinary one.
  flops: ([a], { transA }, [y]) =>
    y!.shape.reduce((size, dim) => size * dim, 1) * (transA ? a!.shape.at(-2)! : a!.shape.at(-1)!),
  decompose([a, b, c], attributes) {
    const y = product(a!, b!, attributes);
    return [c ? add(y, c) : y];
  },
  lower: (b, node, attributes) =>
    b.resultKernel(node, node.inputs.length === 3 ? 'gemm' : 'matmul', numbersOf(attributes)),
  cases: [
    {
      inputs: [
        [2, 3, 4],
        [2, 4, 3],
      ],
      attributes: { transA: false, transB: false, alpha: 0.5 },
    },
    {
      inputs: [
        [4, 3],
        [4, 3],
        [3, 3],
      ],
      attributes: { transA: true, transB: false, alpha: 1 },
    },
  ],
});

/**
 * A product that the caller knows to be symmetric, such as X·Xᵀ or a product of polynomials of one symmetric matrix;
 * `addend`, symmetric too, is added. Half of the result may be computed and copied: for operands without a symmetric
 * product the result is undefined.
 * @throws AnnealError if the result would not be square, or has another shape than the addend.
 */
export function symmetricProduct(
  a: Tensor,
  b: Tensor,
  options: MatmulOptions & { addend?: Tensor } = {},
): Tensor {
  const { transposeA = false, transposeB = false, scale = 1, addend } = options;
  const attributes = { transA: transposeA, transB: transposeB, alpha: scale };
  return symmetricProductOp.apply(addend ? [a, b, addend] : [a, b], attributes)[0]!;
}
