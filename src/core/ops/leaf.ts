import { allocate, type DType, dtypeOf, type TypedArray } from '../dtype.js';
import { AnnealError } from '../errors.js';
import { toFloat16 } from '../float16.js';
import { defineOp, makeNode } from '../op.js';
import { checkShape, formatShape, type Shape, sizeOf } from '../shape.js';
import { Tensor, type TensorLike, type TensorType } from '../tensor.js';

/** Leaves get their type from the attributes `dtype` and `shape` that their makers set. */
function leafType(_: readonly TensorType[], attributes: { dtype: string; shape: Shape }): TensorType[] {
  return [{ dtype: attributes.dtype as DType, shape: attributes.shape }];
}

function notLowered(): never {
  throw new Error('leaves are lowered by the graph builder');
}

function declareLeaf(name: string) {
  return defineOp<{ dtype: string; shape: Shape }>({
    name,
    infer: leafType,
    vjp: null,
    flops: () => 0,
    lower: notLowered,
    evaluate: notLowered,
    cases: [],
  });
}

/** Fixed data; the payload is its typed array. */
export const constantOp = declareLeaf('constant');
/** A program's input; the payload is its name. */
export const inputOp = declareLeaf('input');
/** The value that a variable has when the program starts; the payload is the Variable. */
export const variableOp = declareLeaf('variable');

/** A tensor of fixed data. `data` is kept, not copied. */
export function constant(data: TypedArray, shape: Shape, dtype: DType): Tensor {
  const payload = { payload: data, region: undefined };
  return makeNode(constantOp as never, [], { dtype, shape }, payload).outputs[0]!;
}

/** A rank-0 constant. */
export function scalar(value: number, dtype: DType = 'float32'): Tensor {
  const data = allocate(dtype, 1);
  data[0] = dtype === 'float16' ? toFloat16(Float32Array.of(value))[0]! : value;
  return constant(data, [], dtype);
}

/** The operand as a tensor: numbers become scalars of `dtype`. */
export function lift(value: TensorLike, dtype: DType): Tensor {
  return typeof value === 'number' ? scalar(value, dtype) : value;
}

/** Both operands as tensors; at least one must be a tensor, whose dtype a number takes. */
export function liftPair(a: TensorLike, b: TensorLike): [Tensor, Tensor] {
  if (a instanceof Tensor) return [a, lift(b, a.dtype)];
  if (b instanceof Tensor) return [lift(a, b.dtype), b];
  return [scalar(a), scalar(b)];
}

type Nested = number | boolean | readonly Nested[];

function shapeOfNested(value: Nested): number[] {
  if (!Array.isArray(value)) return [];
  const list = value as readonly Nested[];
  return list.length === 0 ? [0] : [list.length, ...shapeOfNested(list[0]!)];
}

function fillNested(value: Nested, shape: Shape, depth: number, out: number[]): void {
  if (!Array.isArray(value)) {
    if (depth !== shape.length) throw new AnnealError('nested arrays have unequal depths');
    out.push(Number(value));
    return;
  }
  const list = value as readonly Nested[];
  if (list.length !== shape[depth]) {
    throw new AnnealError(`nested arrays are ragged: a row has ${list.length} entries, not ${shape[depth]}`);
  }
  for (const item of list) fillNested(item, shape, depth + 1, out);
}

/**
 * A constant tensor from nested arrays or from a typed array and its shape.
 * `tensor([[1, 2], [3, 4]])`, `tensor(new Int32Array(6), [2, 3])`. Nested numbers are float32 unless `dtype` is given.
 * @throws AnnealError on ragged arrays and on data whose length is not that of the shape.
 */
export function tensor(data: Nested | TypedArray, shape?: Shape, dtype?: DType): Tensor {
  const found = dtypeOf(data);
  if (found) {
    const array = data as TypedArray;
    const dims = shape ?? [array.length];
    checkShape(dims);
    if (sizeOf(dims) !== array.length) {
      throw new AnnealError(
        `data has ${array.length} elements, but shape ${formatShape(dims)} has ${sizeOf(dims)}`,
      );
    }
    return constant(array, dims, dtype ?? found);
  }
  const nested = shapeOfNested(data as Nested);
  const values: number[] = [];
  fillNested(data as Nested, nested, 0, values);
  const result = allocate(dtype ?? 'float32', values.length);
  result.set(values);
  return tensor(result, shape ?? nested, dtype ?? 'float32');
}

/** Is this tensor a constant leaf? */
export const isConstant = (t: Tensor): boolean => t.node.op.name === 'constant';

/** The value of a constant with one element, or undefined. */
export function scalarValue(t: Tensor): number | undefined {
  if (!isConstant(t) || t.size !== 1 || t.dtype === 'float16') return undefined;
  return (t.node.payload as TypedArray)[0];
}
