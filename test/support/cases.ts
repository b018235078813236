import { allocate, type DType, isFloat, type TypedArray } from '../../src/core/dtype.js';
import type { CaseInput } from '../../src/core/op.js';
import type { Rng } from '../../src/core/random.js';
import { type Shape, sizeOf } from '../../src/core/shape.js';

/** One concrete operand of an op's test case. */
export interface Operand {
  dtype: DType;
  shape: Shape;
  data: TypedArray;
}

/** The operand that a case describes; floats get `float` as their dtype. */
export function operand(input: CaseInput, float: 'float32' | 'float64', rng: Rng): Operand {
  const spec = 'shape' in input ? input : { shape: input };
  const declared = spec.dtype ?? 'float32';
  const dtype = isFloat(declared) ? float : declared;
  const data = allocate(dtype, sizeOf(spec.shape));
  const { low = -1.5, high = 1.5 } = spec;
  // float32 values in both precisions, so that the reference sees exactly what the runtime sees.
  data.set(spec.values ?? rng.uniform(data.length, low, high));
  return { dtype, shape: spec.shape, data };
}

/** `[2,3] i32[4]`, to name a test. */
export const describeInputs = (inputs: readonly CaseInput[]): string =>
  inputs.map((i) => ('shape' in i ? `${i.dtype ?? ''}[${i.shape}]` : `[${i}]`)).join(' ');
