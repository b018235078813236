import { allocate, type DType } from '../dtype.js';
import type { Tensor } from '../tensor.js';
import { cast } from './elementwise.js';
import { constant, scalar } from './leaf.js';
import { broadcastTo } from './view.js';

/** Constant matrix [rows, columns] of `f(row, column)`. */
export function matrix(
  rows: number,
  columns: number,
  dtype: DType,
  f: (i: number, j: number) => number,
): Tensor {
  const data = allocate(dtype === 'float16' ? 'float32' : dtype, rows * columns);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) data[i * columns + j] = f(i, j);
  const t = constant(data, [rows, columns], dtype === 'float16' ? 'float32' : dtype);
  return cast(t, dtype);
}

/** 1 on and below the diagonal shifted by `offset`, else 0 (NumPy's tri). */
export const lowerTriangle = (rows: number, columns = rows, offset = 0, dtype: DType = 'float32'): Tensor =>
  matrix(rows, columns, dtype, (i, j) => (j - i <= offset ? 1 : 0));
/** 1 on and above the diagonal shifted by `offset`, else 0. */
export const upperTriangle = (rows: number, columns = rows, offset = 0, dtype: DType = 'float32'): Tensor =>
  matrix(rows, columns, dtype, (i, j) => (j - i >= offset ? 1 : 0));
/** 1 where -below ≤ column - row ≤ above, else 0. */
export const bandMask = (
  rows: number,
  columns: number,
  below: number,
  above: number,
  dtype: DType = 'float32',
): Tensor => matrix(rows, columns, dtype, (i, j) => (j - i >= -below && j - i <= above ? 1 : 0));

/**
 * Score of a masked position: exp of it is exactly 0, and unlike -Infinity it stays finite in gradients.
 */
export const maskedScore = -1e9;

/** Additive causal mask: query i of `queries` sees keys up to i + keys - queries. */
export const causalMask = (queries: number, keys = queries, dtype: DType = 'float32'): Tensor =>
  matrix(queries, keys, dtype, (i, j) => (j - i <= keys - queries ? 0 : maskedScore));

/** Zeros of a shape. */
export const zeros = (shape: readonly number[], dtype: DType = 'float32'): Tensor =>
  broadcastTo(scalar(0, dtype), shape);
/** Ones of a shape. */
export const ones = (shape: readonly number[], dtype: DType = 'float32'): Tensor =>
  broadcastTo(scalar(1, dtype), shape);
/** A shape filled with one value. */
export const full = (shape: readonly number[], value: number, dtype: DType = 'float32'): Tensor =>
  broadcastTo(scalar(value, dtype), shape);
