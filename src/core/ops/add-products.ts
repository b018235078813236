import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats } from '../op.js';
import { formatShape, sameShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { add, mul } from './elementwise.js';
import { split } from './join.js';
import { product } from './matmul.js';
import { reshape } from './view.js';

type Attributes = { count: number };

const plain = { transA: false, transB: false, alpha: 1 };

/** w·keep + p·y for each w, or w·keep + y·p where y is tall; operands: all w, all y, the stack of p, keep if there is one. */
export const addProductsOp = defineOp<Attributes>({
  name: 'addProducts',
  infer(inputs, { count }) {
    checkDTypes(inputs, floats);
    const ws = inputs.slice(0, count);
    const [p, keep] = inputs.slice(2 * count);
    ws.forEach((w, i) => {
      const y = inputs[count + i]!;
      const m = Math.min(...y.shape);
      if (w.shape.length !== 2 || !sameShape(w.shape, y.shape) || !sameShape(p!.shape, [count, m, m]))
        throw new AnnealError(
          `${formatShape(w.shape)} does not go with ${formatShape(y.shape)} and a stack ${formatShape(p!.shape)}`,
        );
    });
    if (keep && keep.shape.length > 0) throw new AnnealError('keep must be a scalar');
    return ws;
  },
  flops: (inputs, { count }) =>
    inputs.slice(0, count).reduce((sum, { shape: [m, n] }) => sum + 2 * m! * n! * (1 + Math.min(m!, n!)), 0),
  decompose(inputs, { count }) {
    const [p, keep] = inputs.slice(2 * count) as [Tensor, Tensor?];
    return split(p, count, 0).map((one, i) => {
      const [w, y] = [inputs[i]!, inputs[count + i]!];
      const small = reshape(one, p.shape.slice(1));
      const isTall = y.shape[0]! > y.shape[1]!;
      return add(keep ? mul(w, keep) : w, isTall ? product(y, small, plain) : product(small, y, plain));
    });
  },
  lower: (b, node) => b.resultKernel(node),
  cases: [
    {
      inputs: [[3, 5], [4, 3], [3, 5], [4, 3], [2, 3, 3], []],
      attributes: { count: 2 },
    },
    {
      inputs: [
        [2, 2],
        [2, 2],
        [1, 2, 2],
      ],
      attributes: { count: 1 },
    },
  ],
});

/**
 * w·keep + p·y for matrices w and y of equal sizes, with p[i] [m, m] on the smaller side of y[i], which is m for all. One
 * pass over each w, which may be written in place.
 * @throws AnnealError for sizes that do not fit.
 */
export function addProducts(
  ws: readonly Tensor[],
  ys: readonly Tensor[],
  p: Tensor,
  keep?: Tensor,
): readonly Tensor[] {
  return addProductsOp.apply([...ws, ...ys, p, ...(keep ? [keep] : [])], { count: ws.length });
}
