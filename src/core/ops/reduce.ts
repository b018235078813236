import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, type HostValue, numbers, type OpCase, type VjpContext } from '../op.js';
import { normalizeAxes, normalizeAxis, type Shape, sizeOf, stridesOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { cast, div, equal, mul, square, sub } from './elementwise.js';
import { broadcastTo, reshape } from './view.js';

type ReduceAttributes = { axes: readonly number[]; keepDims: boolean };
type Axes = number | readonly number[];

/** `shape` with the reduced axes removed, or kept as 1. */
function reducedShape(shape: Shape, axes: readonly number[], keepDims: boolean): number[] {
  if (keepDims) return shape.map((dim, i) => (axes.includes(i) ? 1 : dim));
  return shape.filter((_, i) => !axes.includes(i));
}

/** Calls `visit(output, input)` with flat indices for every input element. */
function eachReduced(
  shape: Shape,
  axes: readonly number[],
  visit: (out: number, index: number) => void,
): void {
  const kept = reducedShape(shape, axes, true);
  const outStrides = stridesOf(kept).map((stride, i) => (axes.includes(i) ? 0 : stride));
  const position = new Array<number>(shape.length).fill(0);
  const total = sizeOf(shape);
  let out = 0;
  for (let index = 0; index < total; index++) {
    visit(out, index);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      out += outStrides[axis]!;
      if (++position[axis]! < shape[axis]!) break;
      out -= outStrides[axis]! * shape[axis]!;
      position[axis] = 0;
    }
  }
}

function fold(
  x: HostValue,
  axes: readonly number[],
  start: number,
  f: (a: number, b: number) => number,
): Float64Array {
  const result = new Float64Array(sizeOf(reducedShape(x.shape, axes, true))).fill(start);
  eachReduced(x.shape, axes, (out, i) => {
    result[out] = f(result[out]!, x.data[i]!);
  });
  return result;
}

const reduceCases: readonly OpCase<ReduceAttributes>[] = [
  { inputs: [[2, 3, 4]], attributes: { axes: [1], keepDims: false } },
  { inputs: [[2, 3, 4]], attributes: { axes: [0, 2], keepDims: true } },
  { inputs: [[3]], attributes: { axes: [0], keepDims: false } },
  { inputs: [[1, 2]], attributes: { axes: [0, 1], keepDims: false } },
];

/** `t`, shaped as if the reduction had kept its axes. */
function keptAxes(t: Tensor, shape: Shape, { axes }: ReduceAttributes): Tensor {
  return reshape(t, reducedShape(shape, axes, true));
}

function declareReduction(
  name: string,
  onnx: string,
  evaluate: (x: HostValue, axes: readonly number[]) => Float64Array,
  vjp: (context: VjpContext<ReduceAttributes>, g: Tensor) => Tensor,
  cases: readonly OpCase<ReduceAttributes>[],
) {
  return defineOp<ReduceAttributes>({
    name,
    infer([x], { axes, keepDims }) {
      checkDTypes([x!], numbers);
      if (onnx !== 'ReduceSum' && axes.some((axis) => x!.shape[axis] === 0)) {
        throw new AnnealError(`${name} over an axis of size 0 has no value`);
      }
      return [{ dtype: x!.dtype, shape: reducedShape(x!.shape, axes, keepDims) }];
    },
    flops: ([x]) => sizeOf(x!.shape),
    vjp: (context, [g]) => [g && vjp(context, g)],
    lower(b, _node, { axes, keepDims }) {
      b.result(onnx, [b.inputs[0]!, b.ints(axes)], { keepdims: keepDims, noop_with_empty_axes: true });
    },
    evaluate: ([x], { axes }) => [evaluate(x!, axes)],
    cases,
  });
}

const sumOp = declareReduction(
  'sum',
  'ReduceSum',
  (x, axes) => fold(x, axes, 0, (a, b) => a + b),
  ({ inputs: [x], attributes }, g) => broadcastTo(keptAxes(g, x!.shape, attributes), x!.shape),
  [...reduceCases, { inputs: [[0, 3]], attributes: { axes: [0], keepDims: false } }],
);

const countOf = (shape: Shape, axes: readonly number[]) => axes.reduce((n, axis) => n * shape[axis]!, 1);

const meanOp = declareReduction(
  'mean',
  'ReduceMean',
  (x, axes) => fold(x, axes, 0, (a, b) => a + b).map((v) => v / countOf(x.shape, axes)),
  ({ inputs: [x], attributes }, g) =>
    broadcastTo(mul(keptAxes(g, x!.shape, attributes), 1 / countOf(x!.shape, attributes.axes)), x!.shape),
  reduceCases,
);

/** Ties share the gradient equally. */
function extremumVjp(
  { inputs: [x], outputs: [y], attributes }: VjpContext<ReduceAttributes>,
  g: Tensor,
): Tensor {
  const hit = cast(equal(x!, keptAxes(y!, x!.shape, attributes)), x!.dtype);
  const share = div(keptAxes(g, x!.shape, attributes), sum(hit, attributes.axes, true));
  return mul(hit, share);
}
const nanMax = (a: number, b: number) => (Number.isNaN(a + b) ? Number.NaN : Math.max(a, b));
const nanMin = (a: number, b: number) => (Number.isNaN(a + b) ? Number.NaN : Math.min(a, b));
const maxOp = declareReduction(
  'max',
  'ReduceMax',
  (x, axes) => fold(x, axes, -Infinity, nanMax),
  extremumVjp,
  reduceCases,
);
const minOp = declareReduction(
  'min',
  'ReduceMin',
  (x, axes) => fold(x, axes, Infinity, nanMin),
  extremumVjp,
  reduceCases,
);

function reducer(op: typeof sumOp) {
  return (x: Tensor, axes?: Axes, keepDims = false): Tensor => {
    const list = normalizeAxes(axes, x.rank);
    if (list.length === 0) return x;
    return op.apply([x], { axes: list, keepDims })[0]!;
  };
}

/** Sum over `axes` (default: all of them). */
export const sum = reducer(sumOp);
/** Mean over `axes` (default: all of them). */
export const mean = reducer(meanOp);
/** Largest value over `axes` (default: all of them); ties share the gradient. */
export const max = reducer(maxOp);
/** Smallest value over `axes` (default: all of them); ties share the gradient. */
export const min = reducer(minOp);

/** Sums a gradient over the axes along which its operand was broadcast. */
export function unbroadcast(g: Tensor, shape: Shape): Tensor {
  const extra = g.rank - shape.length;
  const axes: number[] = [];
  for (let i = 0; i < g.rank; i++) {
    if (i < extra || (shape[i - extra] === 1 && g.shape[i] !== 1)) axes.push(i);
  }
  return axes.length === 0 ? g : reshape(sum(g, axes, true), shape);
}

type AxisAttributes = { axis: number; keepDims: boolean };

function declareArg(name: string, onnx: string, better: (a: number, b: number) => boolean) {
  return defineOp<AxisAttributes>({
    name,
    infer([x], { axis, keepDims }) {
      checkDTypes([x!], numbers);
      if (x!.shape[axis] === 0) throw new AnnealError(`${name} over an axis of size 0 has no value`);
      return [{ dtype: 'int32', shape: reducedShape(x!.shape, [axis], keepDims) }];
    },
    vjp: null,
    lower(b, _node, { axis, keepDims }) {
      const index = b.emit(onnx, b.inputs, { axis, keepdims: keepDims });
      b.result('Cast', [index], { to: 6 });
    },
    evaluate([x], { axis }) {
      const best = fold(x!, [axis], Number.NaN, (a, b) => (Number.isNaN(a) || better(b, a) ? b : a));
      const result = new Float64Array(best.length).fill(-1);
      const stride = stridesOf(x!.shape)[axis]!;
      eachReduced(x!.shape, [axis], (out, i) => {
        if (result[out] === -1 && x!.data[i] === best[out])
          result[out] = Math.floor(i / stride) % x!.shape[axis]!;
      });
      return [result];
    },
    cases: [
      { inputs: [[2, 5]], attributes: { axis: 1, keepDims: false } },
      { inputs: [{ shape: [4], values: [1, 3, 3, 1] }], attributes: { axis: 0, keepDims: true } },
    ],
  });
}
const argmaxOp = declareArg('argmax', 'ArgMax', (a, b) => a > b);
const argminOp = declareArg('argmin', 'ArgMin', (a, b) => a < b);

/** Index of the first largest value along `axis`, as int32. */
export const argmax = (x: Tensor, axis = -1, keepDims = false): Tensor =>
  argmaxOp.apply([x], { axis: normalizeAxis(axis, x.rank), keepDims })[0]!;
/** Index of the first smallest value along `axis`, as int32. */
export const argmin = (x: Tensor, axis = -1, keepDims = false): Tensor =>
  argminOp.apply([x], { axis: normalizeAxis(axis, x.rank), keepDims })[0]!;

type CumsumAttributes = { axis: number; exclusive: boolean; reverse: boolean };

const cumsumOp = defineOp<CumsumAttributes>({
  name: 'cumsum',
  infer([x]: readonly TensorType[]) {
    checkDTypes([x!], ['float32', 'float64', 'int32']);
    return [x!];
  },
  vjp(context, [g]) {
    const { axis, exclusive, reverse } = context.attributes;
    return [g && cumsum(g, axis, { exclusive, reverse: !reverse })];
  },
  lower(b, _node, { axis, exclusive, reverse }) {
    b.result('CumSum', [b.inputs[0]!, b.scalar(axis, 'int64')], { exclusive, reverse });
  },
  evaluate([x], { axis, exclusive, reverse }) {
    const length = x!.shape[axis]!;
    const stride = stridesOf(x!.shape)[axis]!;
    const result = new Float64Array(x!.data.length);
    for (let i = 0; i < result.length; i++) {
      const at = Math.floor(i / stride) % length;
      for (let j = 0; j < length; j++) {
        const counts = reverse ? j > at || (!exclusive && j === at) : j < at || (!exclusive && j === at);
        if (counts) result[i] = result[i]! + x!.data[i + (j - at) * stride]!;
      }
    }
    return [result];
  },
  cases: [
    { inputs: [[2, 4]], attributes: { axis: 1, exclusive: false, reverse: false } },
    { inputs: [[3, 2]], attributes: { axis: 0, exclusive: true, reverse: false } },
    { inputs: [[2, 3]], attributes: { axis: 1, exclusive: false, reverse: true } },
    { inputs: [[2, 3]], attributes: { axis: 1, exclusive: true, reverse: true } },
  ],
});

/** Running sum along `axis`; `exclusive` leaves the element itself out, `reverse` starts from the end. */
export function cumsum(
  x: Tensor,
  axis = -1,
  options: { exclusive?: boolean; reverse?: boolean } = {},
): Tensor {
  const { exclusive = false, reverse = false } = options;
  return cumsumOp.apply([x], { axis: normalizeAxis(axis, x.rank), exclusive, reverse })[0]!;
}

/** Variance over `axes`, divided by n - `correction` (0: population). */
export function variance(
  x: Tensor,
  axes?: Axes,
  options: { correction?: number; keepDims?: boolean } = {},
): Tensor {
  const list = normalizeAxes(axes, x.rank);
  const squared = square(sub(x, mean(x, list, true)));
  const n = countOf(x.shape, list) - (options.correction ?? 0);
  return mul(sum(squared, list, options.keepDims ?? false), 1 / n);
}
