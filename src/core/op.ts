import type { LowerBuilder } from '../onnx/lower.js';
import { AnnealError, atUserFrame, captureOrigin, type Origin } from './errors.js';
import { formatShape, type Shape } from './shape.js';
import { Node, type Region, type Tensor, type TensorType } from './tensor.js';

/** Static parameters of an op; plain data, so that equal nodes can be recognised. */
export type AttributeValue = number | string | boolean | undefined | readonly number[];
export type Attributes = Readonly<Record<string, AttributeValue>>;

/** Text that two attribute sets share only if they are equal: JSON alone writes infinities and NaN as null. */
export function attributesKey(attributes: Attributes): string {
  return JSON.stringify(attributes, (_key, v: unknown) =>
    typeof v === 'number' && (!Number.isFinite(v) || Object.is(v, -0))
      ? `#${Object.is(v, -0) ? '-0' : v}`
      : v,
  );
}

/** A value of the reference interpreter: float64 whatever the dtype (integers and bools are exact in it). */
export interface HostValue extends TensorType {
  readonly data: Float64Array;
}

/** The node that a reverse rule differentiates. */
export interface VjpContext<A extends Attributes = Attributes> {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly attributes: A;
  /** Whether the gradient of input i is wanted; computing an unwanted one is waste, never wrong. */
  needs(i: number): boolean;
}

/** Cotangents in (undefined: zero), gradients of the inputs out (undefined: zero or not differentiable). */
export type Cotangents = readonly (Tensor | undefined)[];

/** One test input: a shape, or a shape with a range, values that matter (kinks, ties) or a dtype. */
export type CaseInput =
  | Shape
  | { shape: Shape; low?: number; high?: number; dtype?: TensorType['dtype']; values?: readonly number[] };

/** One test of an op: forward against the reference and PyTorch, gradient against finite differences. */
export interface OpCase<A extends Attributes = Attributes> {
  inputs: readonly CaseInput[];
  attributes?: A;
  /** Largest allowed error of the float32 forward, relative to the largest value. Default 2e-6. */
  tolerance?: number;
  /** False where finite differences mean nothing (a kink inside the step, ties). */
  gradient?: boolean;
}

interface OpBase<A extends Attributes> {
  name: string;
  /** Output types; throws an AnnealError on inputs that do not fit. */
  infer(inputs: readonly TensorType[], attributes: A): readonly TensorType[];
  /** Floating-point operations of one application. Default: one per output element. */
  flops?(inputs: readonly TensorType[], attributes: A, outputs: readonly TensorType[]): number;
  /** True: the value is a rearranged view of input 0, whose memory the runtime may share. */
  view?: boolean;
  cases: readonly OpCase<A>[];
}

/** An op with its own ONNX lowering, reverse rule and reference implementation. */
export interface PrimitiveDeclaration<A extends Attributes> extends OpBase<A> {
  /** Reverse rule as a composition of ops; `null`: no gradient flows through this op. */
  vjp: ((context: VjpContext<A>, cotangents: Cotangents) => Cotangents) | null;
  /** Emits ONNX nodes for `node`. */
  lower(builder: LowerBuilder, node: Node, attributes: A): void;
  /** Reference implementation in float64: the oracle of tests, and constant folding. */
  evaluate(
    inputs: readonly HostValue[],
    attributes: A,
    outputs: readonly TensorType[],
  ): readonly ArrayLike<number>[];
}

/**
 * An op that is a composition of others, kept as one node. The decomposition is its test oracle, its
 * ONNX function and its gradient, unless it declares a closed-form `vjp` or a faster `lower`.
 */
export interface CompositeDeclaration<A extends Attributes> extends OpBase<A> {
  decompose(inputs: readonly Tensor[], attributes: A): readonly Tensor[];
  vjp?: (context: VjpContext<A>, cotangents: Cotangents) => Cotangents;
  /** A better lowering than the decomposition, or false where this node has none on the builder's target. */
  lower?(builder: LowerBuilder, node: Node, attributes: A): boolean;
}

/** A declared op. Methods are bivariant in A, so every declaration is an `Op`. */
export type Op<A extends Attributes = Attributes> = PrimitiveDeclaration<A> | CompositeDeclaration<A>;

export const isComposite = (op: Op): op is CompositeDeclaration<Attributes> => 'decompose' in op;

/** Every op by name: tables, tests and documentation are derived from it. */
export const ops = new Map<string, Op>();

/** An op that can be applied: `add([a, b], {})`. */
export type Applicable<A extends Attributes> = Op<A> & {
  apply(inputs: readonly Tensor[], attributes: A): readonly Tensor[];
};

/**
 * Declares an op and enters it into the table.
 * @throws Error if the name is taken.
 */
export function defineOp<A extends Attributes>(declaration: Op<A>): Applicable<A> {
  if (ops.has(declaration.name)) throw new Error(`op ${declaration.name} is declared twice`);
  const op = declaration as unknown as Op;
  const applicable = Object.assign(op, {
    apply: (inputs: readonly Tensor[], attributes: Attributes) => makeNode(op, inputs, attributes).outputs,
  });
  ops.set(op.name, applicable);
  return applicable as unknown as Applicable<A>;
}

/** Region of the `checkpoint` call that is being traced. */
let currentRegion: Region | undefined;

/** Runs `body` with every node it makes marked as part of a new region. */
export function withRegion<T>(body: () => T): T {
  const outer = currentRegion;
  currentRegion = { parent: outer };
  try {
    return body();
  } finally {
    currentRegion = outer;
  }
}

/** What a node is besides its op, inputs and attributes; passes that rebuild a node hand it on. */
export interface NodeExtras {
  origin?: Origin;
  payload?: unknown;
  region?: Region | undefined;
  recompute?: number;
}

/**
 * Applies an op: infers the output types and remembers the user's line.
 * @throws AnnealError that names the op, the shapes and the line if the inputs do not fit.
 */
export function makeNode(
  op: Op,
  inputs: readonly Tensor[],
  attributes: Attributes,
  extras: NodeExtras = {},
): Node {
  const origin = extras.origin ?? captureOrigin();
  let types: readonly TensorType[];
  try {
    types = op.infer(inputs, attributes);
  } catch (error) {
    if (!(error instanceof AnnealError)) throw error;
    const operands = inputs.map((t) => `${t.dtype}${formatShape(t.shape)}`).join(', ');
    throw new AnnealError(`${op.name}(${operands}): ${error.message}${atUserFrame(origin)}`);
  }
  const region = 'region' in extras ? extras.region : currentRegion;
  return new Node(op, inputs, attributes, types, origin, extras.payload, region, extras.recompute ?? 0);
}

/** Throws unless every input has the same dtype, and it is one of `allowed` where given. */
export function checkDTypes(inputs: readonly TensorType[], allowed?: readonly TensorType['dtype'][]): void {
  const first = inputs[0]!.dtype;
  for (const { dtype } of inputs) {
    if (dtype !== first) {
      throw new AnnealError(`operands have dtypes ${first} and ${dtype}; convert one with cast()`);
    }
    if (allowed && !allowed.includes(dtype)) {
      throw new AnnealError(`dtype ${dtype} is not supported here, only ${allowed.join(', ')}`);
    }
  }
}

export const floats: readonly TensorType['dtype'][] = ['float32', 'float64', 'float16'];
export const numbers: readonly TensorType['dtype'][] = [...floats, 'int32', 'int64'];
