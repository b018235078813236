import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats, type HostValue, type OpCase } from '../op.js';
import { broadcastShapes, formatShape, type Shape, sizeOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { add, broadcastIndex } from './elementwise.js';
import { unbroadcast } from './reduce.js';
import { expandDims, reshape, squeeze } from './view.js';

/**
 * `triangle` is leave to save work: 'result' says that nobody minds what stands above the diagonal of the last two
 * axes of the result (shifted to end in the last corner), as long as it is finite where the operands are; 'left' that the left
 * operand (before its transpose) is zero there.
 */
export type MatmulAttributes = {
  transA: boolean;
  transB: boolean;
  alpha: number;
  triangle?: 'result' | 'left' | undefined;
};

/** The attributes as a backend's own operator wants them. */
const numbersOf = ({ transA, transB, alpha, triangle }: MatmulAttributes) => ({
  triangle: triangle === 'result' ? 1 : triangle === 'left' ? 2 : 0,
  transA: Number(transA),
  transB: Number(transB),
  alpha,
});

const plain: MatmulAttributes = { transA: false, transB: false, alpha: 1 };

/** Rows, inner size and columns of a product, after its transposes. */
export function matmulSizes(
  a: Shape,
  b: Shape,
  { transA, transB }: MatmulAttributes,
): [number, number, number, number] {
  const [am, ak] = transA ? [a.at(-1)!, a.at(-2)!] : [a.at(-2)!, a.at(-1)!];
  const [bk, bn] = transB ? [b.at(-1)!, b.at(-2)!] : [b.at(-2)!, b.at(-1)!];
  return [am, ak, bk, bn];
}

function inferMatmul(a: TensorType, b: TensorType, attributes: MatmulAttributes): TensorType {
  checkDTypes([a, b], floats);
  if (a.shape.length < 2 || b.shape.length < 2) throw new AnnealError('operands must have rank 2 or more');
  const [m, ka, kb, n] = matmulSizes(a.shape, b.shape, attributes);
  if (ka !== kb) {
    throw new AnnealError(
      `inner sizes ${ka} and ${kb} differ (${formatShape(a.shape)}${attributes.transA ? ' transposed' : ''} times ${formatShape(b.shape)}${attributes.transB ? ' transposed' : ''})`,
    );
  }
  return { dtype: a.dtype, shape: [...broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2)), m, n] };
}

function evaluateMatmul(
  a: HostValue,
  b: HostValue,
  attributes: MatmulAttributes,
  shape: Shape,
): Float64Array {
  const { transA, transB, alpha } = attributes;
  const [m, k, , n] = matmulSizes(a.shape, b.shape, attributes);
  const batch = shape.slice(0, -2);
  const atA = broadcastIndex(a.shape.slice(0, -2), batch);
  const atB = broadcastIndex(b.shape.slice(0, -2), batch);
  const result = new Float64Array(sizeOf(shape));
  for (let p = 0; p < sizeOf(batch); p++) {
    const offsetA = atA(p) * m * k;
    const offsetB = atB(p) * k * n;
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let total = 0;
        for (let l = 0; l < k; l++) {
          const x = a.data[offsetA + (transA ? l * m + i : i * k + l)]!;
          total += x * b.data[offsetB + (transB ? j * k + l : l * n + j)]!;
        }
        result[(p * m + i) * n + j] = alpha * total;
      }
    }
  }
  return result;
}

/** Multiply-adds count as two operations. */
function matmulFlops(
  [a]: readonly TensorType[],
  { transA }: MatmulAttributes,
  [y]: readonly TensorType[],
): number {
  return 2 * sizeOf(y!.shape) * (transA ? a!.shape.at(-2)! : a!.shape.at(-1)!);
}

/** Gradient of the second operand where it has no batch axes: one product over all rows at once. */
function flatWeightGradient(a: Tensor, g: Tensor, alpha: number): Tensor {
  const rows = sizeOf(a.shape.slice(0, -1));
  return product(reshape(a, [rows, a.shape.at(-1)!]), reshape(g, [rows, g.shape.at(-1)!]), {
    transA: true,
    transB: false,
    alpha,
  });
}

const matmulCases: readonly OpCase<MatmulAttributes>[] = [
  {
    inputs: [
      [2, 3],
      [3, 4],
    ],
    attributes: plain,
  },
  {
    inputs: [
      [2, 3, 4],
      [4, 5],
    ],
    attributes: plain,
  },
  {
    inputs: [
      [2, 1, 3, 4],
      [3, 4, 2],
    ],
    attributes: plain,
  },
  {
    inputs: [
      [3, 2],
      [3, 4],
    ],
    attributes: { transA: true, transB: false, alpha: 0.5 },
  },
  {
    inputs: [
      [2, 2, 3],
      [2, 4, 3],
    ],
    attributes: { transA: false, transB: true, alpha: 2 },
  },
  {
    inputs: [
      [4, 3, 2],
      [5, 3],
    ],
    attributes: { transA: true, transB: true, alpha: 1 },
  },
  {
    inputs: [
      [2, 0],
      [0, 3],
    ],
    attributes: plain,
  },
];

export const matmulOp = defineOp<MatmulAttributes>({
  name: 'matmul',
  infer: ([a, b], attributes) => [inferMatmul(a!, b!, attributes)],
  flops: matmulFlops,
  vjp({ inputs: [a, b], attributes: { transA, transB, alpha }, needs }, [g]) {
    if (!g) return [];
    const gradA = () =>
      transA
        ? product(b!, g, { transA: transB, transB: true, alpha })
        : product(g, b!, { transA: false, transB: !transB, alpha });
    const gradB = () => {
      if (!transA && !transB && b!.rank === 2) return flatWeightGradient(a!, g, alpha);
      return transB
        ? product(g, a!, { transA: true, transB: transA, alpha })
        : product(a!, g, { transA: !transA, transB: false, alpha });
    };
    return [
      needs(0) ? unbroadcast(gradA(), a!.shape) : undefined,
      needs(1) ? unbroadcast(gradB(), b!.shape) : undefined,
    ];
  },
  lower(b, node, { transA, transB, alpha }) {
    if (b.resultKernel(node, 'matmul', numbersOf(node.attributes as MatmulAttributes))) return;
    const simple = !transA && !transB && alpha === 1;
    // ONNX Runtime's fused product exists for float32 only.
    if (simple) return b.result('MatMul', b.inputs);
    if (b.allowsMicrosoft && node.inputs[0]!.dtype === 'float32') {
      return b.resultMicrosoft('FusedMatMul', b.inputs, { transA, transB, alpha: { float: alpha } });
    }
    const turned = node.inputs.map((x, i) => {
      if (!(i === 0 ? transA : transB)) return b.inputs[i]!;
      const axes = x.shape.map((_, axis) => axis);
      axes.push(...axes.splice(-2).reverse());
      return b.emit('Transpose', [b.inputs[i]!], { perm: axes });
    });
    if (alpha === 1) return b.result('MatMul', turned);
    return b.result('Mul', [b.emit('MatMul', turned), b.scalar(alpha, node.outputs[0]!.dtype)]);
  },
  evaluate: ([a, b], attributes, [y]) => [evaluateMatmul(a!, b!, attributes, y!.shape)],
  cases: matmulCases,
});

/** alpha · op(a) · op(b), with batch axes that broadcast and transposes of the last two axes folded in. */
export function product(a: Tensor, b: Tensor, attributes: MatmulAttributes): Tensor {
  return matmulOp.apply([a, b], attributes)[0]!;
}

/** Options of `matmul`: the last two axes of an operand exchanged, and a factor on the result. */
export interface MatmulOptions {
  transposeA?: boolean;
  transposeB?: boolean;
  scale?: number;
}

/** The same with `triangle` (see MatmulAttributes), for ops that know their operands. */
export const triangularProduct = (
  a: Tensor,
  b: Tensor,
  triangle: MatmulAttributes['triangle'],
  { transposeA = false, transposeB = false, scale = 1 }: MatmulOptions = {},
): Tensor => product(a, b, { transA: transposeA, transB: transposeB, alpha: scale, triangle });

/**
 * Matrix product over the last two axes; leading axes broadcast. A vector stands for a row on the
 * left and a column on the right, as in NumPy.
 * @throws AnnealError if the inner sizes differ.
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false, scale = 1 } = options;
  const left = a.rank === 1 ? expandDims(a, 0) : a;
  const right = b.rank === 1 ? expandDims(b, 1) : b;
  const attributes = { transA: transposeA && a.rank > 1, transB: transposeB && b.rank > 1, alpha: scale };
  const y = product(left, right, attributes);
  const gone = [...(a.rank === 1 ? [-2] : []), ...(b.rank === 1 ? [-1] : [])];
  return gone.length > 0 ? squeeze(y, gone) : y;
}

/**
 * alpha · op(a) · op(b) + c for matrices, in one node. `c` has the shape of the result or of its rows.
 * Made by the pass that merges an addition into the product before it.
 */
export const gemmOp = defineOp<MatmulAttributes>({
  name: 'gemm',
  infer([a, b, c], attributes) {
    const y = inferMatmul(a!, b!, attributes);
    if (y.shape.length !== 2) throw new AnnealError('operands must be matrices');
    broadcastShapes(c!.shape, y.shape);
    return [y];
  },
  flops: matmulFlops,
  decompose: ([a, b, c], attributes) => [add(product(a!, b!, attributes), c!)],
  lower(b, node, attributes) {
    const { transA, transB, alpha } = attributes;
    if (b.resultKernel(node, 'gemm', numbersOf(attributes))) return true;
    b.result('Gemm', b.inputs, { transA, transB, alpha: { float: alpha } });
    return true;
  },
  cases: [
    {
      inputs: [
        [2, 3],
        [3, 4],
        [2, 4],
      ],
      attributes: plain,
    },
    { inputs: [[3, 2], [4, 3], [4]], attributes: { transA: true, transB: true, alpha: 0.5 } },
  ],
});
