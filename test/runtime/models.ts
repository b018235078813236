import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { allocate, type DType } from '../../src/core/dtype.js';
import { encodeModel, type OnnxNode, type OnnxTensor, type OnnxValue } from '../../src/onnx/model.js';
import type { ExecutableSpec, Port, Slot } from '../../src/runtime/backend.js';

/** A tensor type. */
export const port = (name: string, shape: readonly number[], dtype: DType = 'float32'): Port => ({
  name,
  shape,
  dtype,
});

export const node = (
  op: string,
  inputs: string[],
  outputs: string[],
  rest: Partial<OnnxNode> = {},
): OnnxNode => ({
  op,
  inputs,
  outputs,
  name: outputs[0]!,
  ...rest,
});

/** A float32 or int64 constant. */
export function constant(
  name: string,
  dims: readonly number[],
  values: readonly number[],
  isInt = false,
): OnnxTensor {
  const data = isInt ? BigInt64Array.from(values, BigInt) : Float32Array.from(values);
  return { name, dtype: isInt ? 'int64' : 'float32', dims, raw: new Uint8Array(data.buffer) };
}

/** A serialized model of the default opset. */
export function model(
  nodes: readonly OnnxNode[],
  inputs: readonly OnnxValue[],
  outputs: readonly OnnxValue[],
  initializers: readonly OnnxTensor[] = [],
): Uint8Array {
  const graph = { name: 'test', nodes, inputs, outputs, initializers };
  return encodeModel({ irVersion: 10, opsets: { '': 21 }, graph });
}

/** A program without variables. */
export function spec(
  label: string,
  nodes: readonly OnnxNode[],
  inputs: readonly Port[],
  outputs: readonly Port[],
  initializers: readonly OnnxTensor[] = [],
): ExecutableSpec {
  return { label, model: model(nodes, inputs, outputs, initializers), inputs, outputs, slots: [] };
}

/** A variable with the given value. */
export function slot(shape: readonly number[], values: ArrayLike<number>, dtype: DType = 'float32'): Slot {
  const data = allocate(dtype, values.length);
  data.set(values);
  return { dtype, shape, data, spare: undefined };
}

/** w <- w + x, results w + x as `sum` too; double-buffered unless `inPlace`. */
export function accumulator(variable: Slot, label: string, inPlace = false): ExecutableSpec {
  const { shape, dtype } = variable;
  const [w, x] = [port('w', shape, dtype), port('x', shape, dtype)];
  const [next, sum] = [port('next', shape, dtype), port('sum', shape, dtype)];
  const nodes = [node('Add', ['w', 'x'], ['next']), node('Identity', ['next'], ['sum'])];
  return {
    label,
    model: model(nodes, [x, w], [sum, next]),
    inputs: [x],
    outputs: [sum],
    slots: [{ slot: variable, input: 'w', output: 'next', inPlace }],
  };
}

export const floats = (...values: number[]): Float32Array => Float32Array.from(values);

export const ramp = (length: number, scale = 1): Float32Array =>
  Float32Array.from({ length }, (_, i) => i * scale);

/** The value that a promise rejects with; fails if it resolves. */
export async function rejection(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error('the promise did not reject');
}

/** A full garbage collection, and a turn of the event loop in which finalizers run. */
export async function collectGarbage(): Promise<void> {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  await new Promise((resolve) => setImmediate(resolve));
}
