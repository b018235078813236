import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats } from '../op.js';
import type { Tensor, TensorType } from '../tensor.js';
import { silu } from './activation.js';
import { mul } from './elementwise.js';
import { concat } from './join.js';
import { matmul } from './matmul.js';

/** Columns of each weight. @throws AnnealError if one does not fit x. */
function columnsOf([x, ...weights]: readonly TensorType[]): number[] {
  checkDTypes([x!, ...weights], floats);
  const fits = ({ shape }: TensorType) => shape.length === 2 && shape[0] === x!.shape[1];
  if (x!.shape.length !== 2 || !weights.every(fits))
    throw new AnnealError('x must be a matrix, and the weights as high as it is wide');
  return weights.map(({ shape }) => shape[1]!);
}

const jointMatmulOp = defineOp({
  name: 'jointMatmul',
  infer(inputs) {
    const [x] = inputs;
    const total = columnsOf(inputs).reduce((a, b) => a + b, 0);
    return [{ dtype: x!.dtype, shape: [x!.shape[0]!, total] }];
  },
  flops: ([x], _, [y]) => 2 * x!.shape[1]! * y!.shape[0]! * y!.shape[1]!,
  decompose: ([x, ...weights]: readonly Tensor[]) => [
    concat(
      weights.map((w) => matmul(x!, w)),
      1,
    ),
  ],
  lower: (b, node) => b.resultKernel(node),
  cases: [
    {
      inputs: [
        [2, 3],
        [3, 4],
        [3, 2],
      ],
    },
    {
      inputs: [
        [66, 40],
        [40, 64],
        [40, 128],
        [40, 64],
      ],
      // Of a kernel's size. The gradient is that of the parts, which the case before checks: it does not depend on sizes.
      gradient: false,
    },
  ],
});

/** x [m, k] times each weight [k, n], side by side: [m, Σ n]. */
export const jointMatmul = (x: Tensor, weights: readonly Tensor[]): Tensor =>
  jointMatmulOp.apply([x, ...weights], {})[0]!;

/** Made by the pass that finds it in graphs that need none of its intermediate values. */
export const swigluOp = defineOp({
  name: 'swiglu',
  infer(inputs) {
    const [gate, up] = columnsOf(inputs);
    if (inputs.length !== 3 || gate !== up) throw new AnnealError('there must be two weights of one shape');
    return [{ dtype: inputs[0]!.dtype, shape: [inputs[0]!.shape[0]!, gate!] }];
  },
  flops: ([x], _, [y]) => (4 * x!.shape[1]! + 6) * y!.shape[0]! * y!.shape[1]!,
  decompose: ([x, gate, up]: readonly Tensor[]) => [mul(silu(matmul(x!, gate!)), matmul(x!, up!))],
  lower: (b, node) => b.resultKernel(node),
  cases: [
    {
      inputs: [
        [2, 3],
        [3, 4],
        [3, 4],
      ],
    },
    {
      inputs: [
        [67, 48],
        [48, 96],
        [48, 96],
      ],
      tolerance: 4e-6,
      // As above.
      gradient: false,
    },
  ],
});
