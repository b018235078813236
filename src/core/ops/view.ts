import { AnnealError } from '../errors.js';
import { defineOp, type HostValue } from '../op.js';
import {
  checkShape,
  formatShape,
  normalizeAxis,
  type Shape,
  sameShape,
  sizeOf,
  stridesOf,
  tryBroadcast,
} from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { broadcastIndex } from './elementwise.js';
import { scalar } from './leaf.js';
import { unbroadcast } from './reduce.js';

const reshapeOp = defineOp<{ shape: Shape }>({
  name: 'reshape',
  view: true,
  flops: () => 0,
  infer([x], { shape }) {
    checkShape(shape);
    if (sizeOf(shape) !== sizeOf(x!.shape)) {
      throw new AnnealError(`${sizeOf(x!.shape)} elements do not fill shape ${formatShape(shape)}`);
    }
    return [{ dtype: x!.dtype, shape }];
  },
  vjp: ({ inputs: [x] }, [g]) => [g && reshape(g, x!.shape)],
  lower: (b, _node, { shape }) => b.result('Reshape', [b.inputs[0]!, b.ints(shape)], { allowzero: true }),
  evaluate: ([x]) => [x!.data],
  cases: [
    { inputs: [[2, 3, 4]], attributes: { shape: [6, 4] } },
    { inputs: [[]], attributes: { shape: [1, 1] } },
    { inputs: [[0, 3]], attributes: { shape: [3, 0, 2] } },
  ],
});

/** The same elements in another shape; one size may be -1 and is then computed. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const unknown = shape.indexOf(-1);
  let target = shape;
  if (unknown >= 0) {
    const known = shape.reduce((n, dim, i) => (i === unknown ? n : n * dim), 1);
    const size = known === 0 ? 0 : x.size / known;
    if (!Number.isInteger(size)) {
      throw new AnnealError(`reshape: ${formatShape(x.shape)} does not divide into ${formatShape(shape)}`);
    }
    target = shape.map((dim, i) => (i === unknown ? size : dim));
  }
  return sameShape(x.shape, target) ? x : reshapeOp.apply([x], { shape: [...target] })[0]!;
}

const transposeOp = defineOp<{ permutation: readonly number[] }>({
  name: 'transpose',
  view: true,
  flops: () => 0,
  infer([x], { permutation }) {
    const sorted = [...permutation].sort((a, b) => a - b);
    if (permutation.length !== x!.shape.length || sorted.some((axis, i) => axis !== i)) {
      throw new AnnealError(
        `[${permutation}] is not a permutation of the axes of a rank ${x!.shape.length} tensor`,
      );
    }
    return [{ dtype: x!.dtype, shape: permutation.map((axis) => x!.shape[axis]!) }];
  },
  vjp({ attributes: { permutation } }, [g]) {
    const inverse = permutation.map((_, i) => permutation.indexOf(i));
    return [g && transpose(g, inverse)];
  },
  lower: (b, _node, { permutation }) => b.result('Transpose', b.inputs, { perm: permutation }),
  evaluate([x], { permutation }, [out]) {
    const strides = stridesOf(x!.shape);
    return [
      gatherStrided(
        x!,
        out!.shape,
        permutation.map((axis) => strides[axis]!),
        0,
      ),
    ];
  },
  cases: [
    { inputs: [[2, 3, 4]], attributes: { permutation: [2, 0, 1] } },
    { inputs: [[2, 3]], attributes: { permutation: [1, 0] } },
    { inputs: [[2, 1, 3, 2]], attributes: { permutation: [0, 2, 1, 3] } },
    { inputs: [[0, 3]], attributes: { permutation: [1, 0] } },
  ],
});

/** Elements of `x` at `start + Σ position·stride`, for every position of `shape`. */
export function gatherStrided(
  x: HostValue,
  shape: Shape,
  strides: readonly number[],
  start: number,
): Float64Array {
  const result = new Float64Array(sizeOf(shape));
  const outer = stridesOf(shape);
  for (let i = 0; i < result.length; i++) {
    let index = start;
    let rest = i;
    for (let axis = 0; axis < shape.length; axis++) {
      const position = Math.floor(rest / outer[axis]!);
      rest -= position * outer[axis]!;
      index += position * strides[axis]!;
    }
    result[i] = x.data[index]!;
  }
  return result;
}

/** Axes in a new order; without `permutation` the last two are exchanged. */
export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  const axes = Array.from({ length: x.rank }, (_, i) => i);
  if (!permutation) {
    if (x.rank < 2) return x;
    axes.push(...axes.splice(-2).reverse());
  }
  const order = permutation ? permutation.map((axis) => normalizeAxis(axis, x.rank)) : axes;
  if (order.length === x.rank && order.every((axis, i) => axis === i)) return x;
  return transposeOp.apply([x], { permutation: order })[0]!;
}

const broadcastOp = defineOp<{ shape: Shape }>({
  name: 'broadcastTo',
  flops: () => 0,
  infer([x], { shape }) {
    const result = tryBroadcast(x!.shape, shape);
    if (!result || !sameShape(result, shape)) {
      throw new AnnealError(`shape ${formatShape(x!.shape)} does not broadcast to ${formatShape(shape)}`);
    }
    return [{ dtype: x!.dtype, shape }];
  },
  vjp: ({ inputs: [x] }, [g]) => [g && unbroadcast(g, x!.shape)],
  lower: (b, _node, { shape }) => b.result('Expand', [b.inputs[0]!, b.ints(shape)]),
  evaluate([x], { shape }) {
    const at = broadcastIndex(x!.shape, shape);
    return [new Float64Array(sizeOf(shape)).map((_, i) => x!.data[at(i)]!)];
  },
  cases: [
    { inputs: [[3]], attributes: { shape: [2, 3] } },
    { inputs: [[2, 1, 3]], attributes: { shape: [2, 4, 3] } },
    { inputs: [[]], attributes: { shape: [2, 0] } },
  ],
});

/** x repeated along axes of size 1 and new leading axes until it has `shape`. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : broadcastOp.apply([x], { shape: [...shape] })[0]!;
}

/** x with a new axis of size 1. */
export function expandDims(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis(axis, x.rank + 1);
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

/** x without its axes of size 1, or without the given ones. */
export function squeeze(x: Tensor, axes?: readonly number[]): Tensor {
  const gone = axes?.map((axis) => normalizeAxis(axis, x.rank));
  return reshape(
    x,
    x.shape.filter((dim, i) => (gone ? !gone.includes(i) : dim !== 1)),
  );
}

/** x repeated `times[i]` times along each axis, as a whole (ABAB). */
export function tile(x: Tensor, times: readonly number[]): Tensor {
  if (times.length !== x.rank)
    throw new AnnealError(`tile: ${times.length} counts for a tensor of rank ${x.rank}`);
  const spread = reshape(
    x,
    x.shape.flatMap((dim) => [1, dim]),
  );
  const repeated = broadcastTo(
    spread,
    x.shape.flatMap((dim, i) => [times[i]!, dim]),
  );
  return reshape(
    repeated,
    x.shape.map((dim, i) => dim * times[i]!),
  );
}

/** Zeros of the type of x. */
export function zerosLike(x: TensorType): Tensor {
  return broadcastTo(scalar(0, x.dtype), x.shape);
}
