import type { TypedArray } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import type { Variable } from '../core/variable.js';
import { type ElementType, storedAs } from './element-types.js';

/** A tensor to be written. A function makes its data when its turn comes, so that no second copy of a model piles up. */
export interface TensorEntry {
  type: ElementType;
  shape: readonly number[];
  data: TypedArray | BigInt64Array | (() => TypedArray | BigInt64Array);
}

/** The entry of a variable's current value. */
export function entryOf(variable: Variable): TensorEntry {
  const { dtype, shape } = variable;
  if (dtype === 'int64') throw new AnnealError(`${variable.name} is int64; variables are not`);
  return { type: storedAs[dtype], shape, data: () => variable.data };
}
