import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats, type OpCase } from '../op.js';
import { formatShape, type Shape, sameShape, sizeOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { convTransposeOp } from './conv.js';
import { type Padding, type PerAxis, perAxis, resolvePadding, samePadding } from './conv-functions.js';
import { add, equal, logicalAnd, logicalNot, logicalOr, maximum, mul, where } from './elementwise.js';
import { stack } from './join.js';
import { scalar } from './leaf.js';
import { mean } from './reduce.js';
import { pad, placeStrided, slice } from './slice.js';
import { broadcastTo, reshape, transpose } from './view.js';

type PoolAttributes = {
  kernel: readonly number[];
  strides: readonly number[];
  padsBefore: readonly number[];
  padsAfter: readonly number[];
};

function inferPool(x: TensorType, { kernel, strides, padsBefore, padsAfter }: PoolAttributes): TensorType {
  checkDTypes([x], floats);
  const rank = x.shape.length - 2;
  if (rank < 1) throw new AnnealError('x must have the shape [N, C, ...] with an axis to pool over');
  for (const list of [kernel, strides, padsBefore, padsAfter]) {
    const least = list === kernel || list === strides ? 1 : 0;
    if (list.length !== rank || list.some((v) => !Number.isInteger(v) || v < least)) {
      throw new AnnealError(`kernel, stride and padding must be ${rank} integers each, not [${list}]`);
    }
  }
  const spatial = kernel.map((k, i) => {
    // Wider padding would make windows without a single element of x.
    if (padsBefore[i]! >= k || padsAfter[i]! >= k) {
      throw new AnnealError(`padding ${padsBefore[i]}, ${padsAfter[i]} must be smaller than the kernel ${k}`);
    }
    const room = x.shape[i + 2]! + padsBefore[i]! + padsAfter[i]!;
    if (k > room) {
      throw new AnnealError(
        `the kernel spans ${k} along axis ${i + 2}, but x has ${room} there with its padding`,
      );
    }
    return Math.floor((room - k) / strides[i]!) + 1;
  });
  return { dtype: x.dtype, shape: [...x.shape.slice(0, 2), ...spatial] };
}

const padded = (x: Tensor, { padsBefore, padsAfter }: PoolAttributes, value: number) =>
  pad(x, [[0, 0], [0, 0], ...padsBefore.map((before, i) => [before, padsAfter[i]!] as const)], value);

/** Every offset inside the kernel, in row-major order. */
function offsetsOf(kernel: readonly number[]): number[][] {
  return kernel.reduce<number[][]>(
    (list, k) => list.flatMap((offset) => Array.from({ length: k }, (_, i) => [...offset, i])),
    [[]],
  );
}

/** For each kernel offset the elements of the padded x that it meets, one for each element of the result. */
function windows(x: Tensor, a: PoolAttributes, output: Shape, value: number): Tensor[] {
  const source = padded(x, a, value);
  return offsetsOf(a.kernel).map((offset) => {
    const cuts = offset.map((at, i) => {
      const step = a.strides[i]!;
      return [at, at + (output[i + 2]! - 1) * step + 1, step] as const;
    });
    return slice(source, [null, null, ...cuts]);
  });
}

function poolFlops(_: readonly TensorType[], { kernel }: PoolAttributes, [y]: readonly TensorType[]): number {
  return sizeOf(kernel) * sizeOf(y!.shape);
}

const onnxAttributes = ({ kernel, strides, padsBefore, padsAfter }: PoolAttributes) => ({
  kernel_shape: kernel,
  strides,
  pads: [...padsBefore, ...padsAfter],
});

type Sizes = readonly number[];

const geometry = (shape: Shape, kernel: Sizes, strides: Sizes, padsBefore: Sizes, padsAfter: Sizes) => ({
  shape,
  attributes: { kernel, strides, padsBefore, padsAfter },
});

/** Shapes that both ops are tested with: windows that overlap, leave gaps and leave a remainder. */
const geometries: readonly { shape: Shape; attributes: PoolAttributes }[] = [
  geometry([2, 2, 6], [2], [2], [0], [0]),
  geometry([1, 1, 6], [3], [2], [1], [0]),
  geometry([2, 3, 4, 4], [2, 2], [2, 2], [0, 0], [0, 0]),
  geometry([1, 2, 5, 6], [3, 2], [2, 3], [1, 0], [1, 1]),
  geometry([1, 2, 4, 3], [3, 2], [3, 2], [1, 1], [0, 1]),
  geometry([1, 2, 4, 5], [3, 2], [1, 2], [0, 0], [0, 0]),
  geometry([2, 1, 3, 4], [1, 1], [2, 1], [0, 0], [0, 0]),
];

const averagePoolOp = defineOp<PoolAttributes>({
  name: 'averagePool',
  infer: ([x], attributes) => [inferPool(x!, attributes)],
  flops: poolFlops,
  decompose([x], attributes) {
    const { shape } = inferPool(x!, attributes);
    const total = windows(x!, attributes, shape, 0).reduce((sum, window) => add(sum, window));
    return [mul(total, 1 / sizeOf(attributes.kernel))];
  },
  vjp({ inputs: [x], attributes: { kernel, strides, padsBefore, padsAfter } }, [g]) {
    if (!g) return [];
    // Each gradient is spread evenly over its window: a transposed convolution, alike for all channels.
    const [batch, channels, ...sizes] = x!.shape as [number, number, ...number[]];
    const planes = reshape(g, [batch * channels, 1, ...g.shape.slice(2)]);
    const even = broadcastTo(scalar(1 / sizeOf(kernel), g.dtype), [1, 1, ...kernel]);
    const spread = convTransposeOp.apply([planes, even], {
      strides,
      padsBefore,
      padsAfter,
      dilations: kernel.map(() => 1),
      groups: 1,
      outputPadding: kernel.map((k, i) => (sizes[i]! + padsBefore[i]! + padsAfter[i]! - k) % strides[i]!),
    })[0]!;
    return [reshape(spread, x!.shape)];
  },
  lower(b, node, attributes) {
    // ONNX Runtime has no AveragePool of float64.
    if (node.outputs[0]!.dtype === 'float64') return false;
    b.result('AveragePool', b.inputs, { ...onnxAttributes(attributes), count_include_pad: true });
    return true;
  },
  cases: geometries.map(({ shape, attributes }) => ({ inputs: [shape], attributes })),
});

/** Padding that no element loses against. As float32 it is -Infinity, which attributes cannot be. */
const lowest = -Number.MAX_VALUE;

/** Distinct values well apart, in a scrambled order: no window has a tie or a near one. */
function apart(shape: Shape): number[] {
  const n = sizeOf(shape);
  return Array.from({ length: n }, (_, i) => ((i * 37) % n) / 4 - n / 8);
}

const maxPoolCases: readonly OpCase<PoolAttributes>[] = [
  ...geometries.map(({ shape, attributes }) => ({ inputs: [{ shape, values: apart(shape) }], attributes })),
  {
    // Ties, below zero so that padding must not win.
    inputs: [{ shape: [1, 1, 5], values: [-1, -1, -2, -2, -2] }],
    attributes: { kernel: [3], strides: [1], padsBefore: [1], padsAfter: [1] },
    gradient: false,
  },
];

/** The reverse of `windows`: a sum of tensors of shape `shape`, each zero except where its window lies. */
function putBack(parts: readonly Tensor[], shape: Shape, a: PoolAttributes): Tensor {
  const { kernel, strides, padsBefore, padsAfter } = a;
  const room = shape.map((dim, i) => (i < 2 ? dim : dim + padsBefore[i - 2]! + padsAfter[i - 2]!));
  const inside = shape.map((dim, i) =>
    i < 2 ? null : ([padsBefore[i - 2]!, padsBefore[i - 2]! + dim] as const),
  );
  if (sameShape(kernel, strides)) {
    // Windows that tile x need no sum: [N, C, h, w, kh·kw] -> [N, C, h, kh, w, kw] -> [N, C, h·kh, w·kw].
    const [batch, channels, ...counts] = parts[0]!.shape as [number, number, ...number[]];
    const blocks = reshape(stack(parts, -1), [batch, channels, ...counts, ...kernel]);
    const order = kernel.flatMap((_, i) => [2 + i, 2 + kernel.length + i]);
    const tiles = counts.map((count, i) => count * kernel[i]!);
    const tiled = reshape(transpose(blocks, [0, 1, ...order]), [batch, channels, ...tiles]);
    return slice(
      pad(
        tiled,
        tiled.shape.map((dim, i) => [0, room[i]! - dim] as const),
      ),
      inside,
    );
  }
  const placed = offsetsOf(kernel).map((offset, i) =>
    placeStrided(parts[i]!, room, [0, 0, ...offset], [1, 1, ...strides]),
  );
  return slice(
    placed.reduce((total, part) => add(total, part)),
    inside,
  );
}

const maxPoolOp = defineOp<PoolAttributes>({
  name: 'maxPool',
  infer: ([x], attributes) => [inferPool(x!, attributes)],
  flops: poolFlops,
  decompose([x], attributes) {
    const { shape } = inferPool(x!, attributes);
    return [windows(x!, attributes, shape, lowest).reduce((best, window) => maximum(best, window))];
  },
  vjp({ inputs: [x], outputs: [y], attributes }, [g]) {
    if (!g) return [];
    let taken: Tensor | undefined;
    const shares = windows(x!, attributes, y!.shape, lowest).map((window) => {
      // The first of equal maxima takes the whole gradient.
      const hit = equal(window, y!);
      const share = where(taken ? logicalAnd(hit, logicalNot(taken)) : hit, g, 0);
      taken = taken ? logicalOr(taken, hit) : hit;
      return share;
    });
    return [putBack(shares, x!.shape, attributes)];
  },
  lower(b, _node, attributes) {
    b.result('MaxPool', b.inputs, onnxAttributes(attributes));
    return true;
  },
  cases: maxPoolCases,
});

/** Options of pooling. */
export interface PoolOptions {
  /** Step between windows. Default: the kernel, for windows that do not overlap. */
  stride?: PerAxis;
  /** Padding, smaller than the kernel. Default 0. */
  padding?: Padding;
}

function pool(op: typeof maxPoolOp, x: Tensor, kernel: PerAxis, options: PoolOptions): Tensor {
  const rank = x.rank - 2;
  if (rank !== 1 && rank !== 2) {
    throw new AnnealError(`${op.name}: wants x [N, C, L] or [N, C, H, W], not ${formatShape(x.shape)}`);
  }
  const sizes = perAxis(kernel, rank);
  const strides = perAxis(options.stride ?? kernel, rank);
  const totals = x.shape.slice(2).map((size, i) => samePadding(size, sizes[i]!, strides[i]!));
  const pads = resolvePadding(op.name, options.padding ?? 0, totals);
  return op.apply([x], { kernel: sizes, strides, ...pads })[0]!;
}

/**
 * Mean over windows of the last one or two axes: x [N, C, L] or [N, C, H, W] ->
 * [N, C, floor((L + padding - kernel) / stride) + 1, …]. Padding is zeros that count in the mean, as
 * they do in PyTorch.
 * @throws AnnealError if the kernel is larger than the padded x or the padding not smaller than the kernel.
 */
export const averagePool = (x: Tensor, kernel: PerAxis, options: PoolOptions = {}): Tensor =>
  pool(averagePoolOp, x, kernel, options);

/**
 * Largest value of windows of the last one or two axes, with the shapes of `averagePool`. Padding never
 * wins; the first of equal maxima gets the gradient.
 * @throws AnnealError if the kernel is larger than the padded x or the padding not smaller than the kernel.
 */
export const maxPool = (x: Tensor, kernel: PerAxis, options: PoolOptions = {}): Tensor =>
  pool(maxPoolOp, x, kernel, options);

/** Mean over all axes after the first two: [N, C, …] -> [N, C], or with axes of size 1 if `keepDims`. */
export function globalAveragePool(x: Tensor, keepDims = false): Tensor {
  if (x.rank < 3)
    throw new AnnealError(`globalAveragePool: wants x [N, C, ...], not ${formatShape(x.shape)}`);
  return mean(
    x,
    x.shape.slice(2).map((_, i) => i + 2),
    keepDims,
  );
}
