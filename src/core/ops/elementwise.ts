import { type DType, dtypes, isFloat } from '../dtype.js';
import { AnnealError } from '../errors.js';
import {
  type Attributes,
  checkDTypes,
  defineOp,
  floats,
  type HostValue,
  numbers,
  type OpCase,
  type PrimitiveDeclaration,
} from '../op.js';
import { broadcastShapes, type Shape, sizeOf, stridesOf } from '../shape.js';
import type { Tensor, TensorLike, TensorType } from '../tensor.js';
import { lift, liftPair, scalarValue } from './leaf.js';
import { unbroadcast } from './reduce.js';

/** Flat index into an operand of shape `from` for each element of `to`, by broadcasting. */
export function broadcastIndex(from: Shape, to: Shape): (flat: number) => number {
  if (sizeOf(from) === 1) return () => 0;
  const strides = stridesOf(from);
  const outer = stridesOf(to);
  const offset = to.length - from.length;
  if (from.length === to.length && from.every((dim, i) => dim === to[i])) return (flat) => flat;
  return (flat) => {
    let index = 0;
    let rest = flat;
    for (let i = 0; i < to.length; i++) {
      const position = Math.floor(rest / outer[i]!);
      rest -= position * outer[i]!;
      if (i >= offset && from[i - offset] !== 1) index += position * strides[i - offset]!;
    }
    return index;
  };
}

function mapElements(
  inputs: readonly HostValue[],
  shape: Shape,
  f: (...values: number[]) => number,
): Float64Array {
  const result = new Float64Array(sizeOf(shape));
  const at = inputs.map((input) => broadcastIndex(input.shape, shape));
  for (let i = 0; i < result.length; i++) result[i] = f(...inputs.map((input, k) => input.data[at[k]!(i)]!));
  return result;
}

interface UnarySpec {
  /** ONNX operator, or a lowering. */
  onnx: string;
  f: (x: number) => number;
  /** d/dx, given x and y = f(x); null: no gradient. */
  derivative: ((x: Tensor, y: Tensor, g: Tensor) => Tensor) | null;
  dtypes?: readonly DType[];
  /** ONNX Runtime has no float64 kernel. */
  float32Only?: boolean;
  cases?: readonly OpCase[];
}

const everyShape: readonly OpCase[] = [
  { inputs: [[2, 3]] },
  { inputs: [[]] },
  { inputs: [[0, 3]] },
  { inputs: [[1, 4, 1]] },
];
const ranged = (low: number, high: number): readonly OpCase[] => [
  { inputs: [{ shape: [2, 5], low, high }] },
  { inputs: [{ shape: [], low, high }] },
  { inputs: [{ shape: [0], low, high }] },
];

/** Declares an elementwise op of one operand and returns its function. */
function unary(name: string, spec: UnarySpec): (x: Tensor) => Tensor {
  const { derivative } = spec;
  const op = defineOp({
    name,
    infer([x]) {
      checkDTypes([x!], spec.dtypes ?? floats);
      return [x!];
    },
    vjp: derivative ? ({ inputs, outputs }, [g]) => [g && derivative(inputs[0]!, outputs[0]!, g)] : null,
    lower(b, node) {
      if (spec.float32Only) b.requireFloat32(node);
      b.result(spec.onnx, b.inputs);
    },
    evaluate: ([x]) => [x!.data.map(spec.f)],
    cases: spec.cases ?? everyShape,
  } as PrimitiveDeclaration<Attributes>);
  return (x) => op.apply([x], {})[0]!;
}

/** -x */
export const neg = unary('neg', {
  onnx: 'Neg',
  f: (x) => -x,
  derivative: (_x, _y, g) => neg(g),
  dtypes: numbers,
});
/** e^x */
export const exp = unary('exp', { onnx: 'Exp', f: Math.exp, derivative: (_x, y, g) => mul(g, y) });
/** Natural logarithm. */
export const log = unary('log', {
  onnx: 'Log',
  f: Math.log,
  derivative: (x, _y, g) => div(g, x),
  cases: ranged(0.2, 3),
});
/** Square root. */
export const sqrt = unary('sqrt', {
  onnx: 'Sqrt',
  f: Math.sqrt,
  derivative: (_x, y, g) => div(mul(g, 0.5), y),
  cases: ranged(0.2, 3),
});
/** 1/x */
export const reciprocal = unary('reciprocal', {
  onnx: 'Reciprocal',
  f: (x) => 1 / x,
  derivative: (_x, y, g) => neg(mul(g, mul(y, y))),
  cases: ranged(0.3, 3),
});
/** Sine, of radians. */
export const sin = unary('sin', { onnx: 'Sin', f: Math.sin, derivative: (x, _y, g) => mul(g, cos(x)) });
/** Cosine, of radians. */
export const cos = unary('cos', { onnx: 'Cos', f: Math.cos, derivative: (x, _y, g) => neg(mul(g, sin(x))) });
/** Tangent, of radians. */
export const tan = unary('tan', {
  onnx: 'Tan',
  float32Only: true,
  f: Math.tan,
  derivative: (_x, y, g) => mul(g, add(mul(y, y), 1)),
  cases: ranged(-1.2, 1.2),
});
/** Arc tangent, in radians. */
export const atan = unary('atan', {
  onnx: 'Atan',
  float32Only: true,
  f: Math.atan,
  derivative: (x, _y, g) => div(g, add(mul(x, x), 1)),
});
/** Hyperbolic tangent. */
export const tanh = unary('tanh', {
  onnx: 'Tanh',
  f: Math.tanh,
  derivative: (_x, y, g) => mul(g, sub(1, mul(y, y))),
});
/** 1 / (1 + e^-x) */
export const sigmoid = unary('sigmoid', {
  onnx: 'Sigmoid',
  f: (x) => 1 / (1 + Math.exp(-x)),
  derivative: (_x, y, g) => mul(g, mul(y, sub(1, y))),
});
/** Gauss error function. */
export const erf = unary('erf', {
  onnx: 'Erf',
  float32Only: true,
  f: erfReference,
  derivative: (x, _y, g) => mul(g, mul(exp(neg(mul(x, x))), 2 / Math.sqrt(Math.PI))),
});
/** log(1 + e^x), without overflow. */
export const softplus = unary('softplus', {
  onnx: 'Softplus',
  float32Only: true,
  f: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  derivative: (x, _y, g) => mul(g, sigmoid(x)),
});
/** |x|; the gradient at 0 is 0. */
export const abs = unary('abs', {
  onnx: 'Abs',
  f: Math.abs,
  derivative: (x, _y, g) => mul(g, sign(x)),
  dtypes: numbers,
  cases: [{ inputs: [{ shape: [4], values: [-2, -0.5, 0.5, 3] }] }, { inputs: [[0]] }],
});
const flat: readonly OpCase[] = [
  { inputs: [{ shape: [6], values: [-1.6, -0.4, 0.3, 0.7, 1.2, 2.6] }] },
  { inputs: [[0]] },
];
/** -1, 0 or 1. No gradient. */
export const sign = unary('sign', {
  onnx: 'Sign',
  f: Math.sign,
  derivative: null,
  dtypes: numbers,
  cases: flat,
});
/** Largest integer not above x. No gradient. */
export const floor = unary('floor', { onnx: 'Floor', f: Math.floor, derivative: null, cases: flat });
/** Smallest integer not below x. No gradient. */
export const ceil = unary('ceil', { onnx: 'Ceil', f: Math.ceil, derivative: null, cases: flat });
/** Nearest integer, halves to even. No gradient. */
export const round = unary('round', {
  onnx: 'Round',
  f: (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)),
  derivative: null,
  cases: [{ inputs: [{ shape: [6], values: [-1.5, -0.4, 0.5, 0.7, 1.5, 2.5] }] }],
});
/** Logical negation. */
export const logicalNot = unary('not', {
  onnx: 'Not',
  f: (x) => (x ? 0 : 1),
  derivative: null,
  dtypes: ['bool'],
  cases: [{ inputs: [{ shape: [2], dtype: 'bool', values: [0, 1] }] }],
});
/** Whether a value is NaN. */
export const isNan = defineUnaryTest('isNan', 'IsNaN', (x) => Number.isNaN(x));

function defineUnaryTest(name: string, onnx: string, f: (x: number) => boolean): (x: Tensor) => Tensor {
  const op = defineOp({
    name,
    infer: ([x]) => [{ dtype: 'bool', shape: x!.shape }],
    vjp: null,
    lower: (b) => b.result(onnx, b.inputs),
    evaluate: ([x]) => [x!.data.map((v) => Number(f(v)))],
    cases: [{ inputs: [{ shape: [3], values: [1, Number.NaN, 0] }] }],
  });
  return (x) => op.apply([x], {})[0]!;
}

/** erf to double precision: Taylor series near 0, continued fraction of erfc elsewhere. */
function erfReference(x: number): number {
  const a = Math.abs(x);
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum) && n < 200; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let k = 60; k > 0; k--) fraction = k / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / ((a + fraction) * Math.sqrt(Math.PI)));
}

interface BinarySpec {
  onnx: string;
  f: (a: number, b: number) => number;
  /** Gradients of both operands before the sum over broadcast axes; null: none flows. */
  derivatives:
    | ((a: Tensor, b: Tensor, y: Tensor, g: Tensor) => [(() => Tensor) | null, (() => Tensor) | null])
    | null;
  dtypes?: readonly DType[];
  result?: DType;
  cases?: readonly OpCase[];
}

const pairs: readonly OpCase[] = [
  {
    inputs: [
      [2, 3],
      [2, 3],
    ],
  },
  { inputs: [[2, 3], [3]] },
  {
    inputs: [
      [2, 1, 3],
      [4, 1],
    ],
  },
  { inputs: [[], [2, 2]] },
  {
    inputs: [
      [0, 3],
      [1, 3],
    ],
  },
];

/** Declares an elementwise op of two operands that broadcast, and returns its function. */
function binary(name: string, spec: BinarySpec): (a: TensorLike, b: TensorLike) => Tensor {
  const { derivatives } = spec;
  const op = defineOp({
    name,
    infer([a, b]) {
      checkDTypes([a!, b!], spec.dtypes ?? numbers);
      return [{ dtype: spec.result ?? a!.dtype, shape: broadcastShapes(a!.shape, b!.shape) }];
    },
    vjp: derivatives
      ? ({ inputs: [a, b], outputs: [y], needs }, [g]) => {
          if (!g) return [];
          const rules = derivatives(a!, b!, y!, g);
          return [a!, b!].map((x, i) => {
            const rule = rules[i];
            return needs(i) && rule ? unbroadcast(rule(), x.shape) : undefined;
          });
        }
      : null,
    lower: (b) => b.result(spec.onnx, b.inputs),
    evaluate(inputs, _attributes, [out]) {
      const values = mapElements(inputs, out!.shape, spec.f);
      return [isFloat(out!.dtype) ? values : values.map(Math.trunc)];
    },
    cases: spec.cases ?? pairs,
  } as PrimitiveDeclaration<Attributes>);
  return (a, b) => op.apply(liftPair(a, b), {})[0]!;
}

/** a + b */
export const add = binary('add', {
  onnx: 'Add',
  f: (a, b) => a + b,
  derivatives: (_a, _b, _y, g) => [() => g, () => g],
});
/** a - b */
export const sub = binary('sub', {
  onnx: 'Sub',
  f: (a, b) => a - b,
  derivatives: (_a, _b, _y, g) => [() => g, () => neg(g)],
});
/** a b, element by element */
export const mul = binary('mul', {
  onnx: 'Mul',
  f: (a, b) => a * b,
  derivatives: (a, b, _y, g) => [() => mul(g, b), () => mul(g, a)],
});
/** a / b; integers truncate towards zero. */
export const div = binary('div', {
  onnx: 'Div',
  f: (a, b) => a / b,
  derivatives: (_a, b, y, g) => [() => div(g, b), () => neg(mul(g, div(y, b)))],
  cases: [
    { inputs: [[2, 3], { shape: [3], low: 0.4, high: 2 }] },
    { inputs: [[3], { shape: [2, 3], low: 0.4, high: 2 }] },
    { inputs: [[], { shape: [2, 2], low: -2, high: -0.4 }] },
  ],
});
/** b·a^(b-1), which is 0 for b = 0 also where a = 0. */
function powerDerivative(a: Tensor, b: Tensor): Tensor {
  const derivative = mul(b, pow(a, sub(b, 1)));
  const exponent = scalarValue(b);
  return exponent === undefined || exponent === 0 ? where(equal(b, 0), 0, derivative) : derivative;
}

/** a^b. The gradient of b needs a > 0. */
export const pow = binary('pow', {
  onnx: 'Pow',
  f: (a, b) => a ** b,
  derivatives: (a, b, y, g) => [
    () => mul(g, powerDerivative(a, b)),
    // 0^b has derivative 0 with respect to b > 0; log(0) must not turn it into NaN.
    () => mul(g, mul(y, log(where(greater(a, 0), a, 1)))),
  ],
  dtypes: floats,
  cases: [
    {
      inputs: [
        { shape: [2, 3], low: 0.3, high: 2 },
        { shape: [3], low: -1.5, high: 2.5 },
      ],
    },
    { inputs: [{ shape: [4], low: 0.3, high: 2 }, []] },
  ],
});
const apart: readonly OpCase[] = [
  {
    inputs: [
      { shape: [4], values: [1, -2, 3, 0.5] },
      { shape: [4], values: [0.5, -1, 3.5, -0.5] },
    ],
  },
  {
    inputs: [
      { shape: [2, 2], values: [1, -2, 3, 0.5] },
      { shape: [2], values: [0.25, -1] },
    ],
  },
];
/** The smaller operand; ties give the gradient to the first. */
export const minimum = binary('minimum', {
  onnx: 'Min',
  f: (a, b) => (Number.isNaN(a + b) ? Number.NaN : Math.min(a, b)),
  derivatives: (a, b, _y, g) => [() => where(lessEqual(a, b), g, 0), () => where(lessEqual(a, b), 0, g)],
  cases: apart,
});
/** The larger operand; ties give the gradient to the first. */
export const maximum = binary('maximum', {
  onnx: 'Max',
  f: (a, b) => (Number.isNaN(a + b) ? Number.NaN : Math.max(a, b)),
  derivatives: (a, b, _y, g) => [
    () => where(greaterEqual(a, b), g, 0),
    () => where(greaterEqual(a, b), 0, g),
  ],
  cases: apart,
});

const ties: readonly OpCase[] = [
  {
    inputs: [
      { shape: [4], values: [1, 2, 3, -1] },
      { shape: [4], values: [1, 3, 2, -1] },
    ],
  },
  {
    inputs: [
      { shape: [2, 2], values: [1, 2, 3, 4] },
      { shape: [], values: [2] },
    ],
  },
];
const comparison = (name: string, onnx: string, f: (a: number, b: number) => boolean) =>
  binary(name, { onnx, f: (a, b) => Number(f(a, b)), derivatives: null, result: 'bool', cases: ties });
/** a = b, as bool */
export const equal = comparison('equal', 'Equal', (a, b) => a === b);
/** a < b, as bool */
export const less = comparison('less', 'Less', (a, b) => a < b);
/** a ≤ b, as bool */
export const lessEqual = comparison('lessEqual', 'LessOrEqual', (a, b) => a <= b);
/** a > b, as bool */
export const greater = comparison('greater', 'Greater', (a, b) => a > b);
/** a ≥ b, as bool */
export const greaterEqual = comparison('greaterEqual', 'GreaterOrEqual', (a, b) => a >= b);
/** a ≠ b, as bool */
export const notEqual = (a: TensorLike, b: TensorLike): Tensor => logicalNot(equal(a, b));

const truth: readonly OpCase[] = [
  {
    inputs: [
      { shape: [4], dtype: 'bool', values: [0, 0, 1, 1] },
      { shape: [4], dtype: 'bool', values: [0, 1, 0, 1] },
    ],
  },
];
const logic = (name: string, onnx: string, f: (a: number, b: number) => number) =>
  binary(name, { onnx, f, derivatives: null, dtypes: ['bool'], cases: truth });
/** a and b, of bools */
export const logicalAnd = logic('and', 'And', (a, b) => a & b);
/** a or b, of bools */
export const logicalOr = logic('or', 'Or', (a, b) => a | b);
/** Exactly one of a and b, of bools */
export const logicalXor = logic('xor', 'Xor', (a, b) => a ^ b);

const whereOp = defineOp({
  name: 'where',
  infer([condition, a, b]) {
    if (condition!.dtype !== 'bool') throw new AnnealError(`the condition is ${condition!.dtype}, not bool`);
    checkDTypes([a!, b!]);
    const shape = broadcastShapes(broadcastShapes(condition!.shape, a!.shape), b!.shape);
    return [{ dtype: a!.dtype, shape }];
  },
  vjp({ inputs: [condition, a, b], needs }, [g]) {
    if (!g) return [];
    return [
      undefined,
      needs(1) ? unbroadcast(where(condition!, g, 0), a!.shape) : undefined,
      needs(2) ? unbroadcast(where(condition!, 0, g), b!.shape) : undefined,
    ];
  },
  lower: (b) => b.result('Where', b.inputs),
  evaluate: (inputs, _attributes, [out]) => [mapElements(inputs, out!.shape, (c, a, b) => (c ? a! : b!))],
  cases: [
    { inputs: [{ shape: [2, 3], dtype: 'bool', values: [0, 1, 1, 0, 0, 1] }, [2, 3], [3]] },
    { inputs: [{ shape: [2, 1], dtype: 'bool', values: [0, 1] }, [], [2, 3]] },
  ],
} as PrimitiveDeclaration<Attributes>);

/** `a` where the bool `condition` holds, else `b`; all three broadcast. */
export function where(condition: Tensor, a: TensorLike, b: TensorLike): Tensor {
  const [x, y] = liftPair(a, b);
  return whereOp.apply([condition, x, y], {})[0]!;
}

const castOp = defineOp<{ dtype: DType }>({
  name: 'cast',
  infer: ([x], { dtype }) => [{ dtype, shape: x!.shape }],
  vjp({ inputs: [x] }, [g]) {
    return [g && isFloat(x!.dtype) && isFloat(g.dtype) ? cast(g, x!.dtype) : undefined];
  },
  lower: (b, _node, { dtype }) => b.result('Cast', b.inputs, { to: dtypes[dtype].onnx }),
  evaluate([x], { dtype }) {
    if (dtype === 'bool') return [x!.data.map((v) => Number(v !== 0))];
    return [isFloat(dtype) ? x!.data : x!.data.map(Math.trunc)];
  },
  cases: [
    { inputs: [[3]], attributes: { dtype: 'float32' } },
    { inputs: [{ shape: [3], values: [-1.5, 0, 2.7] }], attributes: { dtype: 'int32' }, gradient: false },
    { inputs: [{ shape: [3], values: [-1.5, 0, 2] }], attributes: { dtype: 'bool' }, gradient: false },
    { inputs: [{ shape: [2], dtype: 'bool', values: [0, 1] }], attributes: { dtype: 'float32' } },
  ],
});

/** The same values in another dtype; floats become integers by truncation. */
export function cast(x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x : castOp.apply([x], { dtype })[0]!;
}

const passThrough = (name: string, vjp: PrimitiveDeclaration<Attributes>['vjp'], view: boolean) =>
  defineOp({
    name,
    infer: ([x]: readonly TensorType[]) => [x!],
    vjp,
    view,
    flops: () => 0,
    lower: (b) => b.result('Identity', b.inputs),
    evaluate: ([x]) => [x!.data],
    cases: [{ inputs: [[2, 2]], gradient: vjp !== null }],
  } as PrimitiveDeclaration<Attributes>);
const stopGradientOp = passThrough('stopGradient', null, true);
const identityOp = passThrough('identity', (_context, [g]) => [g], true);
const accumulateOp = passThrough('accumulate', (_context, [g]) => [g], true);

/** x, as a constant in the eyes of differentiation. */
export const stopGradient = (x: Tensor): Tensor => stopGradientOp.apply([x], {})[0]!;
/** x, as a node of its own. */
export const identity = (x: Tensor): Tensor => identityOp.apply([x], {})[0]!;
/**
 * The mean of x over the micro-batches of a program that has `microBatches`; x itself elsewhere.
 * Everything computed from it runs once, after the last micro-batch.
 */
export const accumulate = (x: Tensor): Tensor => accumulateOp.apply([x], {})[0]!;

/** 1/sqrt(x) */
export const rsqrt = (x: Tensor): Tensor => reciprocal(sqrt(x));
/** x², cheaper than `pow(x, 2)`. */
export const square = (x: Tensor): Tensor => mul(x, x);
/** x limited to low … high. */
export const clip = (x: Tensor, low: number, high: number): Tensor =>
  minimum(maximum(x, lift(low, x.dtype)), lift(high, x.dtype));
