import type { Slot } from '../runtime/backend.js';
import { allocate, type DType, type TypedArray } from './dtype.js';
import { AnnealError, captureOrigin } from './errors.js';
import { interpret } from './interpret.js';
import { makeNode } from './op.js';
import { isConstant, variableOp } from './ops/leaf.js';
import { formatShape, type Shape, sameShape } from './shape.js';
import { Tensor } from './tensor.js';

let unnamed = 0;

/**
 * What a parameter does in a model. Optimisers that treat matrices in their own way ask for it: a table of
 * embeddings has two axes, too, but is no linear map.
 *
 * `matrix`: a linear map stored [in, out]. `filter`: a convolution's, [out, in, ...]. `embedding`: a table of
 * vectors. `head`: maps to logits. `vector`: gains, biases, gates and other scalars.
 */
export type ParameterRole = 'matrix' | 'filter' | 'embedding' | 'head' | 'vector';

/** Options of `variable`. */
export interface VariableOptions {
  /** Appears in printed programs and checkpoints, and names the optimiser's state. */
  name?: string;
  /** False: optimisers and weight decay leave it alone. Default true. */
  trainable?: boolean;
  /** What the parameter does; see `ParameterRole`. */
  role?: ParameterRole;
  /**
   * True: its value never changes. Programs hand it to the runtime when they are compiled, which may rearrange
   * it for its kernels: products with packed weights are fast only so. It is not trainable then.
   */
  fixed?: boolean;
}

/**
 * A tensor with storage: a program reads the value that it has when the program starts, and may assign
 * the value that it has when the program ends. All state there is.
 */
export class Variable extends Tensor implements Slot {
  /** Whether optimisers are meant to change it; an adapter freezes its base by setting this to false. */
  trainable: boolean;
  readonly role: ParameterRole | undefined;
  readonly fixed: boolean;
  data: TypedArray;
  spare: TypedArray | undefined = undefined;
  #name: string | undefined;

  constructor(data: TypedArray, dtype: DType, shape: Shape, options: VariableOptions = {}) {
    const node = makeNode(
      variableOp as never,
      [],
      { dtype, shape },
      { region: undefined, origin: captureOrigin() },
    );
    super(node, 0, dtype, shape);
    // The node's one output is this object, so that `w` is both the tensor and the variable.
    Object.assign(node, { outputs: [this], payload: this });
    this.data = data;
    this.#name = options.name;
    this.fixed = options.fixed ?? false;
    this.trainable = (options.trainable ?? true) && !this.fixed;
    this.role = options.role;
  }

  /** Appears in printed programs and messages, and names the optimiser's state. */
  get name(): string {
    this.#name ??= `variable${++unnamed}`;
    return this.#name;
  }

  /** Gives a variable that was made without a name, and has not been called by one yet, this name. */
  nameIfUnnamed(name: string): void {
    this.#name ??= name;
  }

  /**
   * While a program is traced: makes `next` the variable's value after each run.
   * @throws AnnealError outside a trace, on a second assignment, and if shape or dtype differ.
   */
  assign(next: Tensor): void {
    if (!sameShape(next.shape, this.shape) || next.dtype !== this.dtype) {
      throw new AnnealError(
        `assign: ${this.name} is ${this.dtype}${formatShape(this.shape)}, its new value ${next.dtype}${formatShape(next.shape)}`,
      );
    }
    if (this.fixed) throw this.#isFixed('assign');
    const trace = currentTrace();
    if (!trace)
      throw new AnnealError(`assign: ${this.name} can be assigned only while a program is traced; use set()`);
    if (trace.assignments.has(this))
      throw new AnnealError(`assign: ${this.name} is assigned twice in one program`);
    trace.assignments.set(this, next);
  }

  /**
   * Overwrites the value from the host, at once. Await running programs first.
   * @throws AnnealError if the length differs.
   */
  set(values: ArrayLike<number>): void {
    if (values.length !== this.size) {
      throw new AnnealError(`set: ${this.name} has ${this.size} elements, the new value ${values.length}`);
    }
    if (this.fixed) throw this.#isFixed('set');
    this.data.set(values);
  }

  /** A copy of the current value, in row-major order. */
  read(): TypedArray {
    return this.data.slice();
  }

  #isFixed(what: string): AnnealError {
    return new AnnealError(`${what}: ${this.name} is fixed; compiled programs keep the value that it had`);
  }
}

/** The program that is being traced, and what it assigns. */
export interface Trace {
  readonly assignments: Map<Variable, Tensor>;
}

const traces: Trace[] = [];
export const currentTrace = (): Trace | undefined => traces.at(-1);

/** Runs `body` as the trace of a program. */
export function tracing<T>(body: (trace: Trace) => T): T {
  const trace: Trace = { assignments: new Map() };
  traces.push(trace);
  try {
    return body(trace);
  } finally {
    traces.pop();
  }
}

/**
 * A variable with the value of `init`: a constant tensor, or any tensor that depends on constants and
 * variables only, evaluated now.
 */
export function variable(init: Tensor, options: VariableOptions = {}): Variable {
  const data = allocate(init.dtype, init.size);
  const fill = init.node.op.name === 'broadcastTo' ? init.node.inputs[0]! : init;
  if (fill !== init && fill.size === 1 && isConstant(fill)) data.fill((fill.node.payload as TypedArray)[0]!);
  else if (isConstant(init)) data.set(init.node.payload as TypedArray);
  else data.set(interpret([init])[0]!.data);
  return new Variable(data, init.dtype, init.shape, options);
}
