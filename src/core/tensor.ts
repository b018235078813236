import type { DType } from './dtype.js';
import type { Origin } from './errors.js';
import type { Attributes, Op } from './op.js';
import { type Shape, sizeOf } from './shape.js';

/** What is known of a tensor before anything runs. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** Marks the nodes that `checkpoint` made, so that the backward pass recomputes them. */
export interface Region {
  readonly parent: Region | undefined;
}

let nextId = 0;

/** One application of an op. Nodes are immutable and know only what they depend on. */
export class Node {
  /** Creation order: inputs always have smaller ids than the nodes that use them. */
  readonly id: number = nextId++;
  readonly outputs: readonly Tensor[];

  constructor(
    readonly op: Op,
    readonly inputs: readonly Tensor[],
    readonly attributes: Attributes,
    types: readonly TensorType[],
    readonly origin: Origin,
    /** What a leaf stands for: the data of a constant, a variable, an input's name. */
    readonly payload: unknown,
    readonly region: Region | undefined,
    /** Non-zero for copies made to be computed again in a backward pass: never merged with the original. */
    readonly recompute: number,
  ) {
    this.outputs = types.map((type, index) => new Tensor(this, index, type.dtype, type.shape));
  }
}

/**
 * A symbolic tensor: one output of a node. It owns no memory, so there is nothing to dispose.
 * Its methods (`x.matmul(w)`, `x.add(1)`, …) are declared in `fluent.ts` and are the functions of the same names.
 */
export class Tensor {
  constructor(
    readonly node: Node,
    /** Which output of the node this is. */
    readonly index: number,
    readonly dtype: DType,
    readonly shape: Shape,
  ) {}

  get rank(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }
}

/** What functions accept where a tensor is meant; a number takes the other operand's dtype. */
export type TensorLike = Tensor | number;
