import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp } from '../op.js';
import { formatShape, sameShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { add, div, mul, sqrt, square, sub } from './elementwise.js';
import { perElement } from './softmax.js';

type Betas = { beta1: number; beta2: number };

/**
 * One update of AdamW (Loshchilov and Hutter 2019): the parameter and its two moments, from the gradient and
 * four scalars. With m' = β₁m + (1-β₁)g·factor and v' = β₂v + (1-β₂)(g·factor)², the parameter becomes
 * p·keep - m'·rate/(√v' + epsilon). The bias corrections are part of `rate` and `epsilon`.
 */
export const adamwOp = defineOp<Betas>({
  name: 'adamw',
  infer([p, m, v, g, ...scalars]) {
    checkDTypes([p!, m!, v!, g!, ...scalars], ['float32', 'float64']);
    for (const t of [m!, v!, g!]) {
      if (!sameShape(t.shape, p!.shape)) {
        throw new AnnealError(
          `a moment or gradient is ${formatShape(t.shape)}, its parameter ${formatShape(p!.shape)}`,
        );
      }
    }
    if (scalars.length !== 4 || scalars.some((t) => t.shape.length > 0)) {
      throw new AnnealError('keep, rate, epsilon and factor must be scalars');
    }
    return [p!, m!, v!];
  },
  flops: perElement(14),
  decompose([p, m, v, g, keep, rate, epsilon, factor], { beta1, beta2 }) {
    const nextM = add(mul(m!, beta1), mul(g!, mul(factor!, 1 - beta1)));
    // (g·√(1-β₂))² instead of g²·(1-β₂): one pass less.
    const nextV = add(mul(v!, beta2), square(mul(g!, mul(factor!, Math.sqrt(1 - beta2)))));
    const moved = div(mul(nextM, rate!), add(sqrt(nextV), epsilon!));
    return [sub(mul(p!, keep!), moved), nextM, nextV];
  },
  lower: (b, node, betas) => b.resultKernel(node, 'adamw', betas),
  cases: [
    {
      inputs: [
        [2, 5],
        [2, 5],
        { shape: [2, 5], low: 0.5, high: 2 },
        [2, 5],
        [],
        [],
        { shape: [], low: 0.5, high: 1 },
        [],
      ],
      attributes: { beta1: 0.9, beta2: 0.99 },
    },
  ],
});

/** The new parameter, first and second moment. */
export function adamwUpdate(
  state: { parameter: Tensor; m: Tensor; v: Tensor },
  gradient: Tensor,
  scalars: { keep: Tensor; rate: Tensor; epsilon: Tensor; factor: Tensor },
  betas: Betas,
): { parameter: Tensor; m: Tensor; v: Tensor } {
  const { keep, rate, epsilon, factor } = scalars;
  const inputs = [state.parameter, state.m, state.v, gradient, keep, rate, epsilon, factor];
  const [parameter, m, v] = adamwOp.apply(inputs, betas) as [Tensor, Tensor, Tensor];
  return { parameter, m, v };
}
