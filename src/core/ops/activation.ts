import { defineOp, type OpCase } from '../op.js';
import type { Tensor } from '../tensor.js';
import { add, div, erf, exp, maximum, mul, neg, sigmoid, sign, square, sub } from './elementwise.js';
import { perElement, sameType } from './softmax.js';

const elementCases: readonly OpCase[] = [
  { inputs: [[2, 5]] },
  { inputs: [{ shape: [7], values: [-30, -3, -0.7, 0.1, 0.9, 3, 30] }] },
  { inputs: [[0, 2]] },
  { inputs: [[]] },
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
  lower: (b, node) => b.resultKernel(node),
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
  lower: (b, node) => b.resultKernel(node),
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
    // The runtime's operator takes float32 of one axis or more.
    const y = node.outputs[0]!;
    if (b.resultKernel(node)) return true;
    if (!b.allowsMicrosoft || y.dtype !== 'float32' || y.rank === 0) return false;
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
  lower: (b, node) => b.resultKernel(node),
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
