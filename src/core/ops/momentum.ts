import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp } from '../op.js';
import { formatShape, sameShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { add, mul } from './elementwise.js';
import { perElement } from './softmax.js';

type Factors = { decay: number; fresh: number };

/** B' = decay·B + fresh·g and Nesterov's direction decay·B' + fresh·g: momentum and gradient are read once. */
export const momentumOp = defineOp<Factors>({
  name: 'momentum',
  infer([b, g]) {
    checkDTypes([b!, g!], ['float32', 'float64']);
    if (!sameShape(b!.shape, g!.shape))
      throw new AnnealError(
        `the momentum is ${formatShape(b!.shape)}, its gradient ${formatShape(g!.shape)}`,
      );
    return [b!, b!];
  },
  flops: perElement(5),
  decompose([b, g], { decay, fresh }) {
    const scaled = mul(g!, fresh);
    const next = add(mul(b!, decay), scaled);
    return [next, add(mul(next, decay), scaled)];
  },
  lower: (b, node, factors) => b.resultKernel(node, 'momentum', factors),
  cases: [
    {
      inputs: [
        [2, 5],
        [2, 5],
      ],
      attributes: { decay: 0.95, fresh: 0.05 },
    },
  ],
});

/** The momentum after a gradient, and Nesterov's direction: the momentum as it will be after the next one like it. */
export function nesterov(
  momentum: Tensor,
  gradient: Tensor,
  factors: Factors,
): [next: Tensor, direction: Tensor] {
  return momentumOp.apply([momentum, gradient], factors) as [Tensor, Tensor];
}
