import type { DType } from '../dtype.js';
import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats } from '../op.js';
import { broadcastShapes, formatShape, sameShape } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { add, equal, mul, where } from './elementwise.js';
import { arange } from './indexing.js';
import { concat, stack } from './join.js';
import { scalar } from './leaf.js';
import { matmulSizes, product } from './matmul.js';
import { reshape } from './view.js';

/** scale · (weight · a·b + c) + identity · I; the flags tell whether c and factors for each matrix follow a and b. */
type SymmetricAttributes = {
  transA: boolean;
  transB: boolean;
  weight: number;
  scale: number;
  identity: number;
  addend: boolean;
  scaled: boolean;
};

/** The operands by their roles. */
function rolesOf<T>([a, b, ...rest]: readonly T[], { addend, scaled }: SymmetricAttributes) {
  const c = addend ? rest.shift() : undefined;
  return { a: a!, b: b!, c, scales: scaled ? rest.shift() : undefined };
}

/** `value` on the diagonal of [n, n], from two ranges: as a constant it would be as large in a model as a weight. */
export function diagonal(n: number, value: number, dtype: DType): Tensor {
  const isDiagonal = equal(reshape(arange(n), [n, 1]), reshape(arange(n), [1, n]));
  return where(isDiagonal, scalar(value, dtype), scalar(0, dtype));
}

/**
 * s·scale · (weight · op(a)·op(b) + c) + identity · I for operands whose product is symmetric, as is c, with a factor s for each
 * matrix. A kernel computes the blocks on and below the diagonal and copies them; elsewhere it is an ordinary product.
 */
export const symmetricProductOp = defineOp<SymmetricAttributes>({
  name: 'symmetricProduct',
  infer(inputs, attributes) {
    const { a, b, c, scales } = rolesOf(inputs, attributes);
    const { transA, transB } = attributes;
    const [m, ka, kb, n] = matmulSizes(a.shape, b.shape, { transA, transB, alpha: 1 });
    checkDTypes(inputs, floats);
    if (ka !== kb || m !== n) {
      throw new AnnealError(
        `operands ${formatShape(a.shape)} and ${formatShape(b.shape)} have no symmetric product`,
      );
    }
    const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2));
    const shape = [...batch, m, n];
    if (c && !sameShape(c.shape, shape))
      throw new AnnealError(`the addend is ${formatShape(c.shape)}, the product ${formatShape(shape)}`);
    if (scales && !sameShape(scales.shape, [...batch, 1, 1]))
      throw new AnnealError(
        `factors are ${formatShape(scales.shape)}, not one for each matrix ${formatShape([...batch, 1, 1])}`,
      );
    return [{ dtype: a.dtype, shape }];
  },
  // Half of the products of an ordinary one.
  flops: ([a], { transA }, [y]) =>
    y!.shape.reduce((size, dim) => size * dim, 1) * (transA ? a!.shape.at(-2)! : a!.shape.at(-1)!),
  decompose(inputs, attributes) {
    const { a, b, c, scales } = rolesOf(inputs, attributes);
    const { transA, transB, weight, scale, identity } = attributes;
    let y = product(a, b, { transA, transB, alpha: weight });
    if (c) y = add(y, c);
    if (scale !== 1) y = mul(y, scale);
    if (scales) y = mul(y, scales);
    if (identity !== 0) y = add(y, diagonal(y.shape.at(-1)!, identity, y.dtype));
    return [y];
  },
  lower: (b, node, { transA, transB, addend, scaled, ...numbers }) =>
    b.resultKernel(node, 'symmetricProduct', {
      ...numbers,
      transA: Number(transA),
      transB: Number(transB),
      addend: Number(addend),
      scaled: Number(scaled),
    }),
  cases: [
    {
      inputs: [
        [2, 3, 4],
        [2, 4, 3],
      ],
      attributes: attributesOf({ scale: 0.5 }),
    },
    {
      inputs: [
        [4, 3],
        [4, 3],
        [3, 3],
      ],
      attributes: {
        ...attributesOf({ transposeA: true, weight: -2, scale: 0.5, identity: 3 }),
        addend: true,
      },
    },
    {
      inputs: [
        [2, 3, 4],
        [2, 3, 4],
        [2, 3, 3],
        [2, 1, 1],
      ],
      attributes: {
        ...attributesOf({ transposeB: true }),
        addend: true,
        scaled: true,
      },
    },
  ],
});

/** What is done to a symmetric product: scale · (weight · a·b + addend) + identity · I. */
export interface SymmetricOptions {
  transposeA?: boolean;
  transposeB?: boolean;
  /** Default 1. */
  weight?: number;
  /** Symmetric, too. */
  addend?: Tensor;
  /** A number, or a tensor [..., 1, 1] with one for each matrix. Default 1. */
  scale?: number | Tensor;
  /** What is added to the diagonal. Default 0. */
  identity?: number;
}

function attributesOf(options: SymmetricOptions): SymmetricAttributes {
  const { transposeA = false, transposeB = false, weight = 1, scale = 1, identity = 0, addend } = options;
  const isNumber = typeof scale === 'number';
  return {
    transA: transposeA,
    transB: transposeB,
    weight,
    scale: isNumber ? scale : 1,
    identity,
    addend: addend !== undefined,
    scaled: !isNumber,
  };
}

/**
 * A product that the caller knows to be symmetric, such as X·Xᵀ or a product of polynomials of one symmetric matrix, and
 * what is added to it. Half of the result may be computed and copied: for operands without a symmetric product the result
 * is undefined.
 * @throws AnnealError if the result would not be square, or has another shape than the addend.
 */
export function symmetricProduct(a: Tensor, b: Tensor, options: SymmetricOptions = {}): Tensor {
  const extra = [options.addend, options.scale].filter((x): x is Tensor => typeof x === 'object');
  return symmetricProductOp.apply([a, b, ...extra], attributesOf(options))[0]!;
}

const isTall = ({ shape }: TensorType) => shape.at(-2)! > shape.at(-1)!;

/** X·Xᵀ, or XᵀX where X is tall: of the smaller side. */
export const gramMatrix = (x: Tensor, scale: number | Tensor = 1): Tensor =>
  symmetricProduct(x, x, isTall(x) ? { transposeA: true, scale } : { transposeB: true, scale });

/** Operands of one node: a backend's own operators do not take any number. */
const mostAtOnce = 16;

/** Gram matrices of the smaller sides of several matrices as one stack: a kernel hands out the work on all of them together. */
export const gramMatricesOp = defineOp<Record<never, never>>({
  name: 'gramMatrices',
  infer(inputs) {
    checkDTypes(inputs, floats);
    const [first] = inputs;
    const smaller = (x: TensorType) => Math.min(...x.shape.slice(-2));
    const batch = first!.shape.slice(0, -2);
    for (const x of inputs) {
      if (x.shape.length < 2 || smaller(x) !== smaller(first!) || !sameShape(x.shape.slice(0, -2), batch))
        throw new AnnealError(
          `${formatShape(x.shape)} and ${formatShape(first!.shape)} have no smaller side in common`,
        );
    }
    return [{ dtype: first!.dtype, shape: [inputs.length, ...batch, smaller(first!), smaller(first!)] }];
  },
  flops: (inputs, _attributes, [y]) =>
    inputs.reduce((sum, { shape }) => sum + shape.reduce((size, dim) => size * dim, 1) * y!.shape.at(-1)!, 0),
  decompose: (inputs) => [
    stack(
      inputs.map((x) => gramMatrix(x)),
      0,
    ),
  ],
  lower: (b, node) => b.resultKernel(node),
  cases: [
    {
      inputs: [
        [3, 5],
        [4, 3],
        [3, 3],
      ],
      attributes: {},
    },
    {
      inputs: [
        [2, 3, 5],
        [2, 3, 5],
      ],
      attributes: {},
    },
  ],
});

/**
 * Gram matrices [n, ..., m, m] of n matrices whose smaller side is m.
 * @throws AnnealError if their smaller sides differ, or what stands in front of them does.
 */
export function gramMatrices(xs: readonly Tensor[]): Tensor {
  const stacks: Tensor[] = [];
  for (let at = 0; at < xs.length; at += mostAtOnce)
    stacks.push(gramMatricesOp.apply(xs.slice(at, at + mostAtOnce), {})[0]!);
  return concat(stacks, 0);
}
