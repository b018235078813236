import { AnnealError } from './errors.js';

/** Sizes of the axes, outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const dim of shape) size *= dim;
  return size;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/** `[2,3]`, as shapes appear in messages and printed programs. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(',')}]`;
}

/** Row-major strides, in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i]!;
  }
  return strides;
}

/** The NumPy broadcast of two shapes, or undefined where they do not fit. */
export function tryBroadcast(a: Shape, b: Shape): number[] | undefined {
  const rank = Math.max(a.length, b.length);
  const result = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x !== y && x !== 1 && y !== 1) return undefined;
    result[i] = x === 1 ? y : x;
  }
  return result;
}

/** The NumPy broadcast of two shapes. Throws where they do not fit. */
export function broadcastShapes(a: Shape, b: Shape): number[] {
  const result = tryBroadcast(a, b);
  if (!result) {
    throw new AnnealError(
      `shapes ${formatShape(a)} and ${formatShape(b)} do not broadcast: each pair of axes, from the right, must be equal or 1`,
    );
  }
  return result;
}

/** A non-negative axis for `axis` in -rank … rank-1. */
export function normalizeAxis(axis: number, rank: number): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
    throw new AnnealError(`axis ${axis} is outside a tensor of rank ${rank}`);
  }
  return axis < 0 ? axis + rank : axis;
}

/** Sorted, distinct, non-negative axes; undefined means all of them. */
export function normalizeAxes(axes: number | readonly number[] | undefined, rank: number): number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, i) => i);
  const list = (typeof axes === 'number' ? [axes] : axes).map((axis) => normalizeAxis(axis, rank));
  const sorted = [...new Set(list)].sort((a, b) => a - b);
  if (sorted.length !== list.length) throw new AnnealError(`axes [${axes}] name one axis twice`);
  return sorted;
}

/** Checks that every size is a non-negative integer. */
export function checkShape(shape: Shape): void {
  for (const dim of shape) {
    if (!Number.isSafeInteger(dim) || dim < 0) {
      throw new AnnealError(
        `shape ${formatShape(shape)} has a size that is not a non-negative integer: ${dim}`,
      );
    }
  }
}
