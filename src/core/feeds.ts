import { allocate, type DType, dtypeOf, dtypes, type TypedArray } from './dtype.js';
import { AnnealError } from './errors.js';
import { toFloat16 } from './float16.js';
import { formatShape } from './shape.js';
import { Value } from './value.js';

/** Type of a program's input; `null` sizes are learned from each call. */
export interface InputType {
  readonly dtype: DType;
  readonly shape: readonly (number | null)[];
}

/** An input: its type, or just a shape for float32. */
export type InputSpec = InputType | readonly (number | null)[];

const inputType =
  (dtype: DType) =>
  (shape: readonly (number | null)[]): InputType => ({ dtype, shape });
/** A float32 input. */
export const float32 = inputType('float32');
/** A float64 input. */
export const float64 = inputType('float64');
/** An int32 input: tokens, classes, indices. */
export const int32 = inputType('int32');
/** A bool input, fed as a Uint8Array of 0 and 1. */
export const bool = inputType('bool');

/** What a call passes for one input. A typed array is used without a copy and must not change during the call. */
export type Feed = TypedArray | Value | number;

/** The full type of an input. */
export const specType = (spec: InputSpec): InputType =>
  'dtype' in spec ? spec : { dtype: 'float32', shape: spec };

/** Shape of a feed: sizes of the spec, with `null`s from the value's shape or, where there is one, from its length. */
export function feedShape(name: string, type: InputType, feed: Feed): number[] {
  const fail = (got: string) => {
    const expected = `${dtypes[type.dtype].short}[${type.shape.map((d) => d ?? '?').join(',')}]`;
    return new AnnealError(`input "${name}": expected ${expected}, got ${got}`);
  };
  if (feed === undefined || feed === null) throw fail('nothing');
  if (feed instanceof Value) {
    const fits =
      feed.shape.length === type.shape.length && feed.shape.every((d, i) => (type.shape[i] ?? d) === d);
    if (!fits || feed.dtype !== type.dtype)
      throw fail(`${dtypes[feed.dtype].short}${formatShape(feed.shape)}`);
    return [...feed.shape];
  }
  const length = typeof feed === 'number' ? 1 : feed.length;
  // A Uint8Array is the storage of both.
  const stored = type.dtype === 'uint8' ? 'bool' : type.dtype;
  if (typeof feed !== 'number' && dtypeOf(feed) !== stored) throw fail(feed.constructor.name);
  const open = type.shape.filter((d) => d === null).length;
  if (open > 1) throw fail('data whose shape is not known; pass a Value, or leave one size open');
  const known = type.shape.reduce<number>((n, d) => n * (d ?? 1), 1);
  const rest = open === 1 ? length / known : 1;
  if (!Number.isInteger(rest) || known * rest !== length) throw fail(`${length} elements`);
  return type.shape.map((d) => d ?? rest);
}

/** The elements of a feed, as the typed array that the runtime reads. */
export function feedData(type: InputType, feed: Feed): TypedArray {
  if (feed instanceof Value) return feed.data;
  if (typeof feed !== 'number') return feed;
  if (type.dtype === 'float16') return toFloat16(Float32Array.of(feed));
  const data = allocate(type.dtype, 1);
  data[0] = feed;
  return data;
}
