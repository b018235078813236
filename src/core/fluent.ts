import type { DType } from './dtype.js';
import * as ops from './ops/index.js';
import { program } from './program.js';
import type { Shape } from './shape.js';
import { Tensor, type TensorLike } from './tensor.js';
import type { Value } from './value.js';

type Axes = number | readonly number[];

/** The methods of tensors. Each is the function of the same name with the tensor as first argument. */
const methods = {
  add(this: Tensor, other: TensorLike): Tensor {
    return ops.add(this, other);
  },
  sub(this: Tensor, other: TensorLike): Tensor {
    return ops.sub(this, other);
  },
  mul(this: Tensor, other: TensorLike): Tensor {
    return ops.mul(this, other);
  },
  div(this: Tensor, other: TensorLike): Tensor {
    return ops.div(this, other);
  },
  pow(this: Tensor, exponent: TensorLike): Tensor {
    return ops.pow(this, exponent);
  },
  neg(this: Tensor): Tensor {
    return ops.neg(this);
  },
  exp(this: Tensor): Tensor {
    return ops.exp(this);
  },
  log(this: Tensor): Tensor {
    return ops.log(this);
  },
  sqrt(this: Tensor): Tensor {
    return ops.sqrt(this);
  },
  square(this: Tensor): Tensor {
    return ops.square(this);
  },
  abs(this: Tensor): Tensor {
    return ops.abs(this);
  },
  tanh(this: Tensor): Tensor {
    return ops.tanh(this);
  },
  sigmoid(this: Tensor): Tensor {
    return ops.sigmoid(this);
  },
  relu(this: Tensor): Tensor {
    return ops.relu(this);
  },
  clip(this: Tensor, low: number, high: number): Tensor {
    return ops.clip(this, low, high);
  },
  equal(this: Tensor, other: TensorLike): Tensor {
    return ops.equal(this, other);
  },
  less(this: Tensor, other: TensorLike): Tensor {
    return ops.less(this, other);
  },
  greater(this: Tensor, other: TensorLike): Tensor {
    return ops.greater(this, other);
  },
  cast(this: Tensor, dtype: DType): Tensor {
    return ops.cast(this, dtype);
  },
  sum(this: Tensor, axes?: Axes, keepDims?: boolean): Tensor {
    return ops.sum(this, axes, keepDims);
  },
  mean(this: Tensor, axes?: Axes, keepDims?: boolean): Tensor {
    return ops.mean(this, axes, keepDims);
  },
  max(this: Tensor, axes?: Axes, keepDims?: boolean): Tensor {
    return ops.max(this, axes, keepDims);
  },
  min(this: Tensor, axes?: Axes, keepDims?: boolean): Tensor {
    return ops.min(this, axes, keepDims);
  },
  argmax(this: Tensor, axis?: number): Tensor {
    return ops.argmax(this, axis);
  },
  matmul(this: Tensor, other: Tensor, options?: ops.MatmulOptions): Tensor {
    return ops.matmul(this, other, options);
  },
  reshape(this: Tensor, shape: Shape): Tensor {
    return ops.reshape(this, shape);
  },
  transpose(this: Tensor, permutation?: readonly number[]): Tensor {
    return ops.transpose(this, permutation);
  },
  slice(this: Tensor, ...ranges: ops.SliceRange[]): Tensor {
    return ops.slice(this, ranges);
  },
  rearrange(this: Tensor, pattern: string, sizes?: Readonly<Record<string, number>>): Tensor {
    return ops.rearrange(this, pattern, sizes);
  },
  softmax(this: Tensor, axis?: number): Tensor {
    return ops.softmax(this, axis);
  },
  /** The tensor's numbers now, computed on the default device from constants and variables: for debugging and notebooks. */
  async value(this: Tensor): Promise<Value> {
    const evaluate = program({}, () => ({ value: this }), { name: 'value' });
    try {
      return (await evaluate({})).value;
    } finally {
      evaluate.dispose();
    }
  },
};

type Methods = typeof methods;

declare module './tensor.js' {
  interface Tensor extends Methods {}
}

Object.assign(Tensor.prototype, methods);
