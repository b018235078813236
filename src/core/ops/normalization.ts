import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats } from '../op.js';
import { normalizeAxis } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { add, div, mul, rsqrt, sqrt, square, sub } from './elementwise.js';
import { matmul } from './matmul.js';
import { mean, sum } from './reduce.js';
import { perElement, sameType } from './softmax.js';
import { reshape } from './view.js';

type Axis = { axis: number };
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
    const [y, r] = b.outputs;
    const inputs = node.inputs.map((type, i) => ({ name: b.inputs[i]!, type }));
    // A gradient wants 1/rms too, which the operator does not leave.
    if (!r && b.kernel('rmsNorm', { epsilon }, inputs, [{ name: y!, type: node.outputs[0]! }])) return true;
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

/** Rows that a kernel adds up at a time: small enough to share the work, large enough for few sums. */
const rowsOfSum = 64;

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
  lower(b, node) {
    const [x, w] = node.inputs as [Tensor, Tensor];
    const [dx, dw = ''] = b.outputs;
    // The operator leaves one sum per block of rows, which it can compute in any order.
    const shape = [Math.ceil(x.size / w.size / rowsOfSum), w.size];
    const inputs = node.inputs.map((type, i) => ({ name: b.inputs[i]!, type }));
    const sums = { type: { dtype: w.dtype, shape } };
    const made = b.kernel('rmsNormGrad', { block: rowsOfSum }, inputs, [{ name: dx!, type: x }, sums]);
    if (!made) return false;
    if (dw !== '') {
      b.emitAll('ReduceSum', [made[1]!, b.ints([0])], { attributes: { keepdims: false }, outputs: [dw] });
    }
    return true;
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
