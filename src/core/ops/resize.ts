import { type DType, isFloat } from '../dtype.js';
import { AnnealError } from '../errors.js';
import { toFloat16 } from '../float16.js';
import { checkShape, formatShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { constant } from './leaf.js';
import { matmul } from './matmul.js';
import { slice } from './slice.js';
import { broadcastTo, reshape } from './view.js';

/** A constant matrix whose row i has the given weights, `[column, weight]`; weights of a column add up. */
function weightMatrix(rows: (readonly [number, number])[][], columns: number, dtype: DType): Tensor {
  const data = new Float64Array(rows.length * columns);
  for (const [i, row] of rows.entries()) {
    for (const [column, weight] of row) data[i * columns + column]! += weight;
  }
  const shape = [rows.length, columns];
  if (dtype === 'float64') return constant(data, shape, dtype);
  const single = Float32Array.from(data);
  return constant(dtype === 'float16' ? toFloat16(single) : single, shape, dtype);
}

/** A matrix along one of the last two axes. */
const alongAxis = (x: Tensor, axis: number, matrix: Tensor) =>
  axis === x.rank - 1 ? matmul(x, matrix, { transposeB: true }) : matmul(matrix, x);

function nearestAlong(x: Tensor, axis: number, size: number): Tensor {
  const from = x.shape[axis]!;
  if (size % from === 0) {
    const [head, tail] = [x.shape.slice(0, axis), x.shape.slice(axis + 1)];
    const repeated = broadcastTo(reshape(x, [...head, from, 1, ...tail]), [
      ...head,
      from,
      size / from,
      ...tail,
    ]);
    return reshape(repeated, [...head, size, ...tail]);
  }
  if (from % size === 0)
    return slice(
      x,
      x.shape.map((_, i) => (i === axis ? [null, null, from / size] : null)),
    );
  const rows = Array.from({ length: size }, (_, i) => [[Math.floor((i * from) / size), 1] as const]);
  return alongAxis(x, axis, weightMatrix(rows, from, x.dtype));
}

function bilinearAlong(x: Tensor, axis: number, size: number): Tensor {
  const from = x.shape[axis]!;
  if (size === from) return x;
  const rows = Array.from({ length: size }, (_, i) => {
    const at = Math.max(0, ((i + 0.5) * from) / size - 0.5);
    const low = Math.min(Math.floor(at), from - 1);
    const weight = at - low;
    return [[low, 1 - weight] as const, [Math.min(low + 1, from - 1), weight] as const];
  });
  return alongAxis(x, axis, weightMatrix(rows, from, x.dtype));
}

function resize(
  name: string,
  along: typeof nearestAlong,
  x: Tensor,
  size: readonly [number, number],
): Tensor {
  checkShape(size);
  if (x.rank < 2 || !isFloat(x.dtype) || x.shape.slice(-2).includes(0) || size.includes(0)) {
    const given = `${x.dtype}${formatShape(x.shape)} to ${formatShape(size)}`;
    throw new AnnealError(`${name}: wants floats [..., H, W] and sizes of at least 1, not ${given}`);
  }
  return along(along(x, x.rank - 2, size[0]), x.rank - 1, size[1]);
}

/**
 * The last two axes brought to `size` [H, W] by repeating or dropping elements: position i takes
 * floor(i · input / output), as `F.interpolate(mode='nearest')` in PyTorch.
 * @throws AnnealError on tensors of rank below 2, integers and empty sizes.
 */
export const resizeNearest = (x: Tensor, size: readonly [number, number]): Tensor =>
  resize('resizeNearest', nearestAlong, x, size);

/**
 * The last two axes brought to `size` [H, W] by linear interpolation between the centres of elements, without
 * smoothing when shrinking: `F.interpolate(mode='bilinear', align_corners=False)` in PyTorch.
 * @throws AnnealError on tensors of rank below 2, integers and empty sizes.
 */
export const resizeBilinear = (x: Tensor, size: readonly [number, number]): Tensor =>
  resize('resizeBilinear', bilinearAlong, x, size);
