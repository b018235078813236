import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats, type OpCase } from '../op.js';
import { normalizeAxis, sizeOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import {
  add,
  div,
  erf,
  exp,
  log,
  maximum,
  mul,
  neg,
  rsqrt,
  sigmoid,
  sign,
  sqrt,
  square,
  sub,
} from './elementwise.js';
import { matmul } from './matmul.js';
import { max, mean, sum } from './reduce.js';
import { reshape } from './view.js';

type Axis = { axis: number };
const sameType = ([x]: readonly TensorType[]) => {
  checkDTypes([x!], floats);
  return [x!];
};
const axisCases: readonly OpCase<Axis>[] = [
  { inputs: [[2, 5]], attributes: { axis: 1 } },
  { inputs: [[3, 2, 4]], attributes: { axis: 1 } },
  { inputs: [{ shape: [2, 3], values: [80, -80, 0, 1, 1, 1] }], attributes: { axis: 1 } },
];
const perElement =
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

const softmaxGradOp = defineOp<Axis>({
  name: 'softmaxGrad',
  infer: sameType,
  flops: perElement(4),
  decompose([y, g], { axis }) {
    return [mul(y!, sub(g!, sum(mul(g!, y!), axis, true)))];
  },
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

const elementCases: readonly OpCase[] = [
  { inputs: [[2, 5]] },
  { inputs: [{ shape: [7], values: [-30, -3, -0.7, 0.1, 0.9, 3, 30] }] },
  { inputs: [[0, 2]] },
];
const gradCases: readonly OpCase[] = [
  {
    inputs: [
      [2, 3],
      [2, 3],
    ],
  },
];

/** x·sigmoid(x) and its gradient, as named nodes. */
const siluOp = defineOp({
  name: 'silu',
  infer: sameType,
  flops: perElement(5),
  decompose([x]: readonly Tensor[]) {
    // ONNX Runtime fuses x·sigmoid(x) into an operator that exists for float32 only.
    return [x!.dtype === 'float64' ? div(x!, add(exp(neg(x!)), 1)) : mul(x!, sigmoid(x!))];
  },
  vjp: ({ inputs: [x] }, [g]) => (g ? siluGradOp.apply([x!, g], {}) : []),
  cases: elementCases,
});
const siluGradOp = defineOp({
  name: 'siluGrad',
  infer: sameType,
  flops: perElement(6),
  decompose([x, g]: readonly Tensor[]) {
    const s = sigmoid(x!);
    return [mul(g!, mul(s, add(mul(x!, sub(1, s)), 1)))];
  },
  cases: gradCases,
});
/** x · sigmoid(x), also called swish. */
export const silu = (x: Tensor): Tensor => siluOp.apply([x], {})[0]!;

const k0 = 2 * Math.sqrt(2 / Math.PI);
const k1 = k0 * 0.044715;

/** GELU by tanh, written as x·sigmoid(k0·x + k1·x³): the same function with one fewer pass. */
const geluTanhOp = defineOp({
  name: 'geluTanh',
  infer: sameType,
  flops: perElement(8),
  decompose: ([x]: readonly Tensor[]) => [mul(x!, sigmoid(mul(x!, add(mul(square(x!), k1), k0))))],
  vjp: ({ inputs: [x], outputs: [y] }, [g]) => (g ? geluTanhGradOp.apply([x!, y!, g], {}) : []),
  lower(b, node) {
    if (!b.allowsMicrosoft || node.outputs[0]!.dtype !== 'float32') return false;
    b.resultMicrosoft('FastGelu', b.inputs);
    return true;
  },
  cases: elementCases,
});
const geluTanhGradOp = defineOp({
  name: 'geluTanhGrad',
  infer: sameType,
  flops: perElement(12),
  decompose([x, y, g]: readonly Tensor[]) {
    const x2 = square(x!);
    const s = sigmoid(mul(x!, add(mul(x2, k1), k0)));
    return [mul(g!, add(s, mul(mul(y!, sub(1, s)), add(mul(x2, 3 * k1), k0))))];
  },
  cases: [
    {
      inputs: [
        [2, 3],
        [2, 3],
        [2, 3],
      ],
    },
  ],
});

/** GELU by the error function. */
const geluErfOp = defineOp({
  name: 'geluErf',
  infer: sameType,
  flops: perElement(8),
  decompose: ([x]: readonly Tensor[]) => [mul(mul(x!, 0.5), add(erf(mul(x!, Math.SQRT1_2)), 1))],
  vjp({ inputs: [x] }, [g]) {
    if (!g) return [];
    const cdf = mul(add(erf(mul(x!, Math.SQRT1_2)), 1), 0.5);
    const density = mul(exp(mul(square(x!), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return [mul(g, add(cdf, mul(x!, density)))];
  },
  lower(b, node) {
    if (node.outputs[0]!.dtype !== 'float32') return false;
    b.result('Gelu', b.inputs, { approximate: 'none' });
    return true;
  },
  cases: elementCases,
});

/** Gaussian error linear unit, by its tanh approximation (default) or exactly. */
export const gelu = (x: Tensor, approximate: 'tanh' | 'none' = 'tanh'): Tensor =>
  (approximate === 'tanh' ? geluTanhOp : geluErfOp).apply([x], {})[0]!;

/** max(x, 0); the gradient at 0 is 0. */
export const relu = (x: Tensor): Tensor => reluOp.apply([x], {})[0]!;
const kinkFree: readonly OpCase[] = [
  { inputs: [{ shape: [5], values: [-2, -0.3, 0.4, 1, 3] }] },
  { inputs: [[0]] },
];
const reluOp = defineOp({
  name: 'relu',
  infer: sameType,
  decompose: ([x]: readonly Tensor[]) => [maximum(x!, 0)],
  // sign(relu(x)) is the 0/1 mask: cheaper than a comparison and a select.
  vjp: ({ outputs: [y] }, [g]) => [g && mul(g, sign(y!))],
  lower(b) {
    b.result('Relu', b.inputs);
    return true;
  },
  cases: kinkFree,
});
const reluSquaredOp = defineOp({
  name: 'reluSquared',
  infer: sameType,
  flops: perElement(2),
  decompose: ([x]: readonly Tensor[]) => [square(relu(x!))],
  vjp: ({ inputs: [x] }, [g]) => [g && mul(g, mul(relu(x!), 2))],
  cases: kinkFree,
});
/** max(x, 0)², as in Primer. */
export const reluSquared = (x: Tensor): Tensor => reluSquaredOp.apply([x], {})[0]!;

type Normal = { epsilon: number };

const rmsNormOp = defineOp<Normal>({
  name: 'rmsNorm',
  infer([x, w]) {
    checkDTypes([x!, w!], floats);
    if (w!.shape.length !== 1 || w!.shape[0] !== x!.shape.at(-1))
      throw new AnnealError('the weight must be as long as the last axis');
    return [x!, { dtype: x!.dtype, shape: [...x!.shape.slice(0, -1), 1] }];
  },
  flops: perElement(5),
  decompose([x, w], { epsilon }) {
    const r = rsqrt(add(mean(square(x!), -1, true), epsilon));
    return [mul(mul(x!, r), w!), r];
  },
  vjp({ inputs: [x, w], outputs: [, r], attributes, needs }, [g, gr]) {
    // A gradient into r comes only from differentiating a gradient; the decomposition handles it.
    if (gr || !g) return rmsNormByParts(x!, w!, attributes, [g, gr]);
    const [dx, dw] = rmsNormGradOp.apply([x!, w!, r!, g], {});
    return [dx, needs(1) ? dw : undefined];
  },
  lower(b, node, { epsilon }) {
    if (!b.allowsMicrosoft || node.outputs[0]!.dtype !== 'float32') return false;
    b.emitAll('SimplifiedLayerNormalization', b.inputs, {
      attributes: { axis: -1, epsilon: { float: epsilon }, stash_type: 1 },
      outputs: b.outputs[1] ? b.outputs : b.outputs.slice(0, 1),
    });
    return true;
  },
  cases: [
    { inputs: [[2, 4], [4]], attributes: { epsilon: 1e-5 } },
    { inputs: [[2, 3, 5], [5]], attributes: { epsilon: 1e-2 } },
  ],
});

const rmsNormGradOp = defineOp({
  name: 'rmsNormGrad',
  infer: ([x, w]: readonly TensorType[]) => [x!, w!],
  flops: perElement(8),
  decompose([x, w, r, g]: readonly Tensor[]) {
    const d = x!.shape.at(-1)!;
    const normal = mul(x!, r!);
    const t = mul(g!, normal);
    // Row means of g·w·x̂ as a product with w/d: one pass instead of two.
    const m = matmul(t, mul(reshape(w!, [d, 1]), 1 / d));
    const dx = mul(r!, sub(mul(g!, w!), mul(normal, m)));
    return [dx, reshape(sum(reshape(t, [-1, d]), 0), [d])];
  },
  cases: [{ inputs: [[3, 4], [4], { shape: [3, 1], low: 0.5, high: 2 }, [3, 4]] }],
});

function rmsNormByParts(x: Tensor, w: Tensor, { epsilon }: Normal, [g, gr]: readonly (Tensor | undefined)[]) {
  const d = x.shape.at(-1)!;
  const r = rsqrt(add(mean(square(x), -1, true), epsilon));
  const normal = mul(x, r);
  let dr = gr;
  if (g) {
    const toR = sum(mul(mul(g, w), x), -1, true);
    dr = dr ? add(dr, toR) : toR;
  }
  if (!dr) return [];
  const throughR = mul(x, mul(mul(dr, mul(r, mul(r, r))), -1 / d));
  const dx = g ? add(mul(mul(g, w), r), throughR) : throughR;
  return [dx, g && reshape(sum(reshape(mul(g, normal), [-1, d]), 0), [d])];
}

/** x / sqrt(mean(x²) + epsilon) · weight over the last axis (Zhang and Sennrich 2019). */
export function rmsNorm(x: Tensor, weight: Tensor, epsilon = 1e-6): Tensor {
  return rmsNormOp.apply([x, weight], { epsilon })[0]!;
}

const layerNormOp = defineOp<Normal>({
  name: 'layerNorm',
  infer([x, w, b]) {
    checkDTypes([x!, w!, b!], floats);
    for (const p of [w!, b!]) {
      if (p.shape.length !== 1 || p.shape[0] !== x!.shape.at(-1))
        throw new AnnealError('weight and bias must be as long as the last axis');
    }
    return [x!];
  },
  flops: perElement(8),
  decompose([x, w, b], { epsilon }) {
    const centred = sub(x!, mean(x!, -1, true));
    const r = rsqrt(add(mean(square(centred), -1, true), epsilon));
    return [add(mul(mul(centred, r), w!), b!)];
  },
  vjp({ inputs: [x, w], attributes: { epsilon } }, [g]) {
    if (!g) return [];
    const d = x!.shape.at(-1)!;
    const centred = sub(x!, mean(x!, -1, true));
    const r = rsqrt(add(mean(square(centred), -1, true), epsilon));
    const normal = mul(centred, r);
    const gw = mul(g, w!);
    const inner = sub(sub(gw, mean(gw, -1, true)), mul(normal, mean(mul(gw, normal), -1, true)));
    const rows = (t: Tensor) => reshape(sum(reshape(t, [-1, d]), 0), [d]);
    return [mul(r, inner), rows(mul(g, normal)), rows(g)];
  },
  lower(b, node, { epsilon }) {
    if (node.outputs[0]!.dtype !== 'float32') return false;
    b.result('LayerNormalization', b.inputs, { axis: -1, epsilon: { float: epsilon } });
    return true;
  },
  cases: [
    { inputs: [[2, 4], [4], [4]], attributes: { epsilon: 1e-5 } },
    { inputs: [[2, 2, 5], [5], [5]], attributes: { epsilon: 1e-2 } },
  ],
});

/** (x - mean) / sqrt(variance + epsilon) · weight + bias over the last axis (Ba et al. 2016). */
export const layerNorm = (x: Tensor, weight: Tensor, bias: Tensor, epsilon = 1e-5): Tensor =>
  layerNormOp.apply([x, weight, bias], { epsilon })[0]!;

const l2Op = defineOp<Normal & Axis>({
  name: 'l2Normalize',
  infer: sameType,
  flops: perElement(4),
  decompose: ([x], { axis, epsilon }) => [div(x!, sqrt(add(sum(square(x!), axis, true), epsilon)))],
  vjp({ inputs: [x], outputs: [y], attributes: { axis, epsilon } }, [g]) {
    if (!g) return [];
    const r = rsqrt(add(sum(square(x!), axis, true), epsilon));
    return [mul(r, sub(g, mul(y!, sum(mul(g, y!), axis, true))))];
  },
  cases: [
    { inputs: [[2, 4]], attributes: { axis: 1, epsilon: 1e-6 } },
    { inputs: [[3, 2]], attributes: { axis: 0, epsilon: 1e-2 } },
  ],
});

/** x / sqrt(Σx² + epsilon) along `axis`. */
export const l2Normalize = (x: Tensor, axis = -1, epsilon = 1e-6): Tensor =>
  l2Op.apply([x], { axis: normalizeAxis(axis, x.rank), epsilon })[0]!;
