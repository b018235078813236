import { type DType, dtypes, type TypedArray } from '../core/dtype.js';
import { AnnealError, atUserFrame } from '../core/errors.js';
import type { Shape } from '../core/shape.js';
import type { Node, TensorType } from '../core/tensor.js';
import type { KernelRequest, Kernels } from '../runtime/backend.js';
import type { OnnxAttribute, OnnxNode, OnnxTensor, OnnxValue } from './model.js';

/**
 * What a graph may contain. `ort`: operators of ONNX Runtime's `com.microsoft` domain besides the
 * standard ones. `onnx`: standard operators only.
 */
export type Target = 'ort' | 'onnx';

type LowerAttribute =
  | number
  | boolean
  | string
  | readonly number[]
  | { float: number }
  | { floats: readonly number[] };

function encodeAttribute(value: LowerAttribute): OnnxAttribute {
  if (typeof value === 'number') return { kind: 'int', value };
  if (typeof value === 'boolean') return { kind: 'int', value: value ? 1 : 0 };
  if (typeof value === 'string') return { kind: 'string', value };
  if (Array.isArray(value)) return { kind: 'ints', value: value as readonly number[] };
  if ('float' in value) return { kind: 'float', value: value.float };
  return { kind: 'floats', value: (value as { floats: readonly number[] }).floats };
}

/** Options of one emitted ONNX node. */
export interface EmitOptions {
  attributes?: Readonly<Record<string, LowerAttribute | undefined>>;
  domain?: string;
  overload?: string;
  /** Names of the outputs; '' leaves an optional one out. Default: one fresh name. */
  outputs?: readonly string[];
}

/** Domain of the ops that are compositions, and of the operators that are a backend's own. */
export const domain = 'anneal';
const microsoft = 'com.microsoft';

/** A value of the graph with its type. */
interface Named {
  name: string;
  type: TensorType;
}

/** Collects the ONNX nodes and constants of one graph or function while ops lower themselves into it. */
export class LowerBuilder {
  readonly nodes: OnnxNode[] = [];
  readonly initializers = new Map<string, OnnxTensor>();
  /** Names of the inputs and outputs of the node that is being lowered. */
  inputs: readonly string[] = [];
  outputs: readonly string[] = [];
  /** Prefix of fresh names: the node being lowered. */
  scope = '';
  /** Nodes of the backend's own operators: how many of each, by operator and by kind. */
  readonly kernels = new Map<string, number>();
  readonly kernelKinds = new Map<string, number>();
  /** Types of their results, which a runtime could not infer. */
  readonly kernelValues: OnnxValue[] = [];
  private counter = 0;

  constructor(
    readonly target: Target,
    private readonly available?: Kernels,
  ) {}

  /** Whether `kernel` may find something. */
  get hasKernels(): boolean {
    return this.available !== undefined;
  }

  get allowsMicrosoft(): boolean {
    return this.target === 'ort';
  }

  /**
   * Emits one of the backend's own operators, if it has one for these types, and returns the names of its
   * outputs. `inputs` and `outputs` of undefined names are those of the node that is being lowered.
   */
  kernel(
    kind: string,
    attributes: KernelRequest['attributes'],
    inputs: readonly Named[],
    outputs: readonly Partial<Named>[],
  ): readonly string[] | undefined {
    const typeOf = ({ type: { dtype, shape } }: Pick<Named, 'type'>) => ({ dtype, shape });
    const types = outputs.map((o) => typeOf(o as Named));
    const op = this.available?.find({ kind, attributes, inputs: inputs.map(typeOf), outputs: types });
    if (op === undefined) return undefined;
    const names = outputs.map(({ name }) => name ?? this.fresh(kind));
    this.kernelValues.push(...names.map((name, i) => ({ name, ...types[i]! })));
    for (const [counts, key] of [
      [this.kernels, op],
      [this.kernelKinds, kind],
    ] as const) {
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return this.emitAll(
      op,
      inputs.map(({ name }) => name),
      { domain, outputs: names },
    );
  }

  /** `kernel` for a node whose inputs and outputs are those of the operator; returns whether there is one. */
  resultKernel(node: Node, kind = node.op.name, attributes: KernelRequest['attributes'] = {}): boolean {
    const inputs = node.inputs.map((type, i) => ({ name: this.inputs[i]!, type }));
    const outputs = this.outputs.map((name, i) => ({ name, type: node.outputs[i]! }));
    if (this.outputs.length !== node.outputs.length || outputs.some(({ name }) => name === '')) return false;
    return this.kernel(kind, attributes, inputs, outputs) !== undefined;
  }

  /** Puts operators that do the work of several nodes in their place, where the backend has some. */
  joinKernels(results: readonly string[]): void {
    const { available } = this;
    if (!available?.join) return;
    const isKernel = (node: OnnxNode) => node.domain === domain && this.kernels.has(node.op);
    const reads = new Map<string, number>();
    for (const name of [...results, ...this.nodes.flatMap((node) => node.inputs)])
      reads.set(name, (reads.get(name) ?? 0) + 1);
    for (let end = this.nodes.length; end > 0; ) {
      let start = end;
      while (start > 0 && isKernel(this.nodes[start - 1]!)) start--;
      const run = this.nodes.slice(start, end);
      const links = run.map(({ op, inputs, outputs }) => ({ operator: op, inputs, outputs }));
      const joined = available.join(links, reads);
      // From the last to the first, so that the numbers of those before stay right.
      for (const { first, count, operator, inputs, outputs } of [...joined].reverse()) {
        const names = outputs.map(({ name }) => name);
        const node: OnnxNode = { ...run[first]!, op: operator, inputs, outputs: names };
        this.nodes.splice(start + first, count, node);
        const known = new Set(this.kernelValues.map(({ name }) => name));
        this.kernelValues.push(...outputs.filter(({ name }) => !known.has(name)));
        this.kernels.set(operator, 1 + (this.kernels.get(operator) ?? 0));
        this.kernelKinds.set('chain', 1 + (this.kernelKinds.get('chain') ?? 0));
      }
      end = start - 1;
    }
  }

  /** A name that nothing else has. */
  fresh(hint: string): string {
    return `${this.scope}.${hint}${this.counter++}`;
  }

  /** Emits a node and returns the names of its outputs. */
  emitAll(op: string, inputs: readonly string[], options: EmitOptions = {}): readonly string[] {
    const outputs = options.outputs ?? [this.fresh(op)];
    const attributes: Record<string, OnnxAttribute> = {};
    for (const [key, value] of Object.entries(options.attributes ?? {})) {
      if (value !== undefined) attributes[key] = encodeAttribute(value);
    }
    const node: OnnxNode = {
      op,
      inputs,
      outputs,
      attributes,
      name: `${this.scope}#${this.nodes.length}`,
      ...(options.domain ? { domain: options.domain } : {}),
      ...(options.overload ? { overload: options.overload } : {}),
    };
    this.nodes.push(node);
    return outputs;
  }

  /** Emits a node with one output and returns its name. */
  emit(op: string, inputs: readonly string[], attributes: EmitOptions['attributes'] = {}): string {
    return this.emitAll(op, inputs, { attributes })[0]!;
  }

  /** Emits the node that produces the (single) output of what is being lowered. */
  result(
    op: string,
    inputs: readonly string[],
    attributes: EmitOptions['attributes'] = {},
    domain?: string,
  ): void {
    this.emitAll(op, inputs, { attributes, outputs: this.outputs, ...(domain ? { domain } : {}) });
  }

  /** Like `result`, in ONNX Runtime's own operator domain. */
  resultMicrosoft(op: string, inputs: readonly string[], attributes: EmitOptions['attributes'] = {}): void {
    this.result(op, inputs, attributes, microsoft);
  }

  /** Name of an initializer with this data; equal small ones are shared. */
  data(raw: Uint8Array, dtype: DType, dims: Shape): string {
    const key = `${dtype}:${dims.join()}:${raw.length <= 256 ? raw.join() : `#${this.initializers.size}`}`;
    const found = this.initializers.get(key);
    if (found) return found.name;
    const name = `const${this.initializers.size}`;
    this.initializers.set(key, { name, dtype, dims, raw });
    return name;
  }

  array(data: TypedArray, dtype: DType, dims: Shape): string {
    return this.data(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), dtype, dims);
  }

  /** An int64 vector, as ONNX wants shapes and axes. */
  ints(values: readonly number[]): string {
    const raw = new Uint8Array(BigInt64Array.from(values, (v) => BigInt(v)).buffer);
    return this.data(raw, 'int64', [values.length]);
  }

  /** A rank-0 constant. */
  scalar(value: number, dtype: DType): string {
    return this.vectorOf([value], dtype, []);
  }

  /** A constant of the given dtype (any but float16). */
  vectorOf(values: readonly number[], dtype: DType, dims: Shape = [values.length]): string {
    switch (dtype) {
      case 'int64':
        return this.data(new Uint8Array(BigInt64Array.from(values, (v) => BigInt(v)).buffer), dtype, dims);
      case 'float64':
        return this.array(Float64Array.from(values), dtype, dims);
      case 'int32':
        return this.array(Int32Array.from(values), dtype, dims);
      case 'bool':
      case 'uint8':
        return this.array(Uint8Array.from(values), dtype, dims);
      default:
        return this.array(Float32Array.from(values), 'float32', dims);
    }
  }

  /**
   * Refuses float64 for a node whose operator has no such kernel in ONNX Runtime, instead of losing precision.
   * @throws AnnealError that names the op and the user's line.
   */
  requireFloat32(node: Node): void {
    if (this.target === 'ort' && node.outputs[0]!.dtype === 'float64') {
      throw new AnnealError(
        `${node.op.name} has no float64 implementation in ONNX Runtime; use float32${atUserFrame(node.origin)}`,
      );
    }
  }

  cast(input: string, to: DType): string {
    return this.emit('Cast', [input], { to: dtypes[to].onnx });
  }
}
