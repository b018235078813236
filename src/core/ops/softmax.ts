import { checkDTypes, defineOp, floats, type OpCase } from '../op.js';
import { normalizeAxis, sizeOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { add, div, exp, log, mul, sub } from './elementwise.js';
import { max, sum } from './reduce.js';
import { reshape } from './view.js';

type Axis = { axis: number };
/** The type of the first operand, which must be a float. */
export const sameType = ([x]: readonly TensorType[]) => {
  checkDTypes([x!], floats);
  return [x!];
};
const axisCases: readonly OpCase<Axis>[] = [
  { inputs: [[2, 5]], attributes: { axis: 1 } },
  { inputs: [[3, 2, 4]], attributes: { axis: 1 } },
  { inputs: [{ shape: [2, 3], values: [80, -80, 0, 1, 1, 1] }], attributes: { axis: 1 } },
];
/** `n` operations per output element. */
export const perElement =
  (n: number) =>
  (_: readonly TensorType[], _a: unknown, [y]: readonly TensorType[]) =>
    n * sizeOf(y!.shape);

const softmaxOp = defineOp<Axis>({
  name: 'softmax',
  infer: sameType,
  flops: perElement(5),
  decompose([x], { axis }) {
    const e = exp(sub(x!, max(x!, axis, true)));
    return [div(e, sum(e, axis, true))];
  },
  vjp({ outputs: [y], attributes }, [g]) {
    return g ? softmaxGradOp.apply([y!, g], attributes) : [];
  },
  lower(b, _node, { axis }) {
    b.result('Softmax', b.inputs, { axis });
    return true;
  },
  cases: axisCases,
});

/** y·(g - Σ g·y): what a softmax sends back. */
export const softmaxGradOp = defineOp<Axis>({
  name: 'softmaxGrad',
  infer: sameType,
  flops: perElement(4),
  decompose([y, g], { axis }) {
    return [mul(y!, sub(g!, sum(mul(g!, y!), axis, true)))];
  },
  lower: (b, node, { axis }) => axis === node.outputs[0]!.rank - 1 && b.resultKernel(node),
  cases: [
    {
      inputs: [
        [2, 4],
        [2, 4],
      ],
      attributes: { axis: 1 },
    },
  ],
});

/** exp(x) / Σ exp(x) along `axis`. */
export const softmax = (x: Tensor, axis = -1): Tensor =>
  softmaxOp.apply([x], { axis: normalizeAxis(axis, x.rank) })[0]!;

const logSoftmaxOp = defineOp<Axis>({
  name: 'logSoftmax',
  infer: sameType,
  flops: perElement(5),
  decompose([x], { axis }) {
    const shifted = sub(x!, max(x!, axis, true));
    return [sub(shifted, log(sum(exp(shifted), axis, true)))];
  },
  vjp({ outputs: [y], attributes: { axis } }, [g]) {
    return [g && sub(g, mul(exp(y!), sum(g, axis, true)))];
  },
  lower(b, _node, { axis }) {
    b.result('LogSoftmax', b.inputs, { axis });
    return true;
  },
  cases: axisCases,
});

/** log softmax(x) along `axis`, without underflow. */
export const logSoftmax = (x: Tensor, axis = -1): Tensor =>
  logSoftmaxOp.apply([x], { axis: normalizeAxis(axis, x.rank) })[0]!;

const logSumExpOp = defineOp<Axis>({
  name: 'logSumExp',
  infer([x], { axis }) {
    checkDTypes([x!], floats);
    return [{ dtype: x!.dtype, shape: x!.shape.map((dim, i) => (i === axis ? 1 : dim)) }];
  },
  decompose([x], { axis }) {
    const top = max(x!, axis, true);
    return [add(log(sum(exp(sub(x!, top)), axis, true)), top)];
  },
  vjp({ inputs: [x], outputs: [y] }, [g]) {
    return [g && mul(g, exp(sub(x!, y!)))];
  },
  cases: axisCases,
});

/** log Σ exp(x) along `axis`, without overflow. */
export function logSumExp(x: Tensor, axis = -1, keepDims = false): Tensor {
  const at = normalizeAxis(axis, x.rank);
  const y = logSumExpOp.apply([x], { axis: at })[0]!;
  return keepDims
    ? y
    : reshape(
        y,
        x.shape.filter((_, i) => i !== at),
      );
}
