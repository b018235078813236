import { dtypes, type TypedArray } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { topological } from '../core/graph.js';
import { attributesKey, isComposite, makeNode, type NodeExtras } from '../core/op.js';
import { inputOp } from '../core/ops/leaf.js';
import { optimize } from '../core/passes/index.js';
import { formatShape } from '../core/shape.js';
import type { Node, Tensor } from '../core/tensor.js';
import type { Kernels } from '../runtime/backend.js';
import { domain, LowerBuilder, type Target } from './lower.js';
import { encodeModel, type OnnxFunction, type OnnxModel, type OnnxTensor, type OnnxValue } from './model.js';

export { domain };

const opsets = { '': 23, 'com.microsoft': 1, [domain]: 1 };

/** A named result of a graph. */
export interface GraphOutput {
  name: string;
  tensor: Tensor;
}

/** A leaf that the graph reads, under the name it has there. */
export interface GraphInput {
  name: string;
  tensor: Tensor;
}

/** A graph of ops as an ONNX model. */
export interface LoweredGraph {
  model: Uint8Array;
  /** The node that each ONNX node came from, by ONNX node name without its `#n`. */
  origins: ReadonlyMap<string, Node>;
  /** The backend's own operators in the model, and how many nodes of each kind there are. */
  kernels: readonly string[];
  kernelKinds: ReadonlyMap<string, number>;
}

/** Lowers nodes into one builder; composites become calls of functions that it collects. */
class GraphLowering {
  private readonly names = new Map<Tensor, string>();
  private readonly used = new Set<Tensor>();
  readonly origins = new Map<string, Node>();

  constructor(
    private readonly builder: LowerBuilder,
    private readonly functions: Map<string, OnnxFunction>,
    private readonly prefix = '',
    private readonly isFunction = false,
  ) {}

  run(inputs: readonly GraphInput[], outputs: readonly GraphOutput[]): void {
    for (const { name, tensor } of inputs) this.names.set(tensor, name);
    const order = topological(outputs.map((o) => o.tensor));
    for (const node of order) for (const t of node.inputs) this.used.add(t);
    const aliases: GraphOutput[] = [];
    for (const output of outputs) {
      const { tensor } = output;
      this.used.add(tensor);
      const isLeaf = tensor.node.inputs.length === 0;
      if (isLeaf || this.names.has(tensor)) aliases.push(output);
      else this.names.set(tensor, output.name);
    }
    order.forEach((node, i) => {
      this.lowerNode(node, i);
    });
    this.builder.scope = `${this.prefix}outputs`;
    for (const { name, tensor } of aliases) {
      this.builder.emitAll('Identity', [this.names.get(tensor)!], { outputs: [name] });
    }
  }

  private lowerNode(node: Node, index: number): void {
    const { builder } = this;
    if (node.op.name === 'constant') {
      const t = node.outputs[0]!;
      this.names.set(t, builder.array(node.payload as TypedArray, t.dtype, t.shape));
      return;
    }
    if (node.inputs.length === 0) {
      if (!this.names.has(node.outputs[0]!))
        throw new AnnealError(
          `input "${String(node.payload)}" belongs to another program; a tensor of a trace has no value outside it`,
        );
      return;
    }
    builder.scope = `${this.prefix}${node.op.name}_${index}`;
    this.origins.set(builder.scope, node);
    builder.inputs = node.inputs.map((t) => this.names.get(t)!);
    const composite = isComposite(node.op);
    const outputs = node.outputs.map((t, i) => {
      // Only composites know how to leave an unused output out, and no operator lets its first one go.
      if (composite && i > 0 && !this.used.has(t)) return '';
      const name = this.names.get(t) ?? (node.outputs.length > 1 ? `${builder.scope}:${i}` : builder.scope);
      this.names.set(t, name);
      return name;
    });
    while (outputs.at(-1) === '') outputs.pop();
    builder.outputs = outputs;
    if (!isComposite(node.op)) node.op.lower(builder, node, node.attributes);
    else if (!node.op.lower?.(builder, node, node.attributes)) {
      // ONNX Runtime does not find the overload of a function that another function calls.
      // And a file of standard operators is to be read by programs that know no functions.
      if (builder.hasKernels || this.isFunction || !builder.allowsMicrosoft) this.expand(node, outputs);
      else this.call(node, outputs);
    }
  }

  /** Emits a call of the node's function, which is made on first use for these types and attributes. */
  private call(node: Node, outputs: readonly string[]): void {
    if (!isComposite(node.op)) return;
    const types = node.inputs.map((t) => `${t.dtype}${formatShape(t.shape)}`).join();
    const key = `${node.op.name}(${types})${attributesKey(node.attributes)}>${outputs.map((o) => (o ? 1 : 0))}`;
    let made = this.functions.get(key);
    if (!made) {
      made = this.makeFunction(node, outputs, `v${this.functions.size}`);
      this.functions.set(key, made);
    }
    const { builder } = this;
    builder.emitAll(node.op.name, builder.inputs, { domain, overload: made.overload!, outputs });
  }

  /**
   * Lowers the decomposition in place of the node. A runtime would do the same with a function, but
   * could not know where its own operators fit into one.
   */
  private expand(node: Node, outputs: readonly string[]): void {
    const { builder } = this;
    const { inputs, roots } = decomposed(node, outputs.length, [...builder.inputs]);
    const inner = new GraphLowering(builder, this.functions, `${builder.scope}/`, this.isFunction);
    inner.run(
      inputs,
      roots.flatMap((tensor, i) => (outputs[i] ? [{ name: outputs[i], tensor }] : [])),
    );
    // Times are attributed to the node that the user's line made.
    for (const scope of inner.origins.keys()) this.origins.set(scope, node);
  }

  private makeFunction(node: Node, outputs: readonly string[], overload: string): OnnxFunction {
    const names = node.inputs.map((_, i) => `i${i}`);
    const { inputs, roots } = decomposed(node, outputs.length, names);
    const body = new LowerBuilder(this.builder.target);
    new GraphLowering(body, this.functions, '', true).run(
      inputs,
      roots.flatMap((tensor, i) => (outputs[i] ? [{ name: `o${i}`, tensor }] : [])),
    );
    const constants = [...body.initializers.values()].map((value) => ({
      op: 'Constant',
      inputs: [],
      outputs: [value.name],
      attributes: { value: { kind: 'tensor' as const, value } },
    }));
    const nodes = [...constants, ...body.nodes];
    return {
      domain,
      name: node.op.name,
      overload,
      inputs: names,
      outputs: outputs.map((_, i) => `o${i}`),
      nodes,
      opsets,
    };
  }
}

/** The first `count` results of a composite's decomposition, over leaves of the given names. */
function decomposed(node: Node, count: number, names: readonly string[]) {
  if (!isComposite(node.op)) throw new Error('only composites have a decomposition');
  const extras: NodeExtras = { region: undefined, origin: node.origin };
  const inputs = node.inputs.map(({ dtype, shape }, i): GraphInput => {
    const payload = { ...extras, payload: names[i]! };
    const leaf = makeNode(inputOp as never, [], { dtype, shape }, payload);
    return { name: names[i]!, tensor: leaf.outputs[0]! };
  });
  const parts = node.op.decompose(
    inputs.map((i) => i.tensor),
    node.attributes,
  );
  return { inputs, roots: optimize(parts.slice(0, count)).roots };
}

const asValue = ({ name, tensor }: GraphInput): OnnxValue => ({
  name,
  dtype: tensor.dtype,
  shape: tensor.shape,
});

/** The ONNX model of a graph whose leaves are `inputs` (and constants). */
export function buildModel(
  inputs: readonly GraphInput[],
  outputs: readonly GraphOutput[],
  target: Target,
  available?: Kernels,
  weights: readonly GraphInput[] = [],
): { model: OnnxModel } & Omit<LoweredGraph, 'model'> {
  const builder = new LowerBuilder(target, available);
  const functions = new Map<string, OnnxFunction>();
  const lowering = new GraphLowering(builder, functions);
  lowering.run([...inputs, ...weights], outputs);
  builder.joinKernels(outputs.map(({ name }) => name));
  const results = new Set(outputs.map(({ name }) => name));
  const model: OnnxModel = {
    irVersion: 10,
    opsets,
    producer: 'anneal',
    graph: {
      name: 'program',
      nodes: builder.nodes,
      inputs: inputs.map(asValue),
      outputs: outputs.map(asValue),
      initializers: [...builder.initializers.values(), ...weights.map(asExternal)],
      valueInfo: builder.kernelValues.filter(({ name }) => !results.has(name)),
    },
    functions: [...functions.values()],
  };
  const { kernels, kernelKinds } = builder;
  return { model, origins: lowering.origins, kernels: [...kernels.keys()], kernelKinds };
}

/** A weight whose bytes the runtime is given by its name when the model is loaded. */
const asExternal = ({ name, tensor: { dtype, shape, size } }: GraphInput): OnnxTensor => ({
  name,
  dtype,
  dims: shape,
  raw: { location: name, length: size * dtypes[dtype].bytes },
});

/** Serializes a graph. `weights` are leaves whose bytes stay outside the model. */
export function lowerGraph(
  inputs: readonly GraphInput[],
  outputs: readonly GraphOutput[],
  target: Target,
  available?: Kernels,
  weights: readonly GraphInput[] = [],
): LoweredGraph {
  const { model, ...rest } = buildModel(inputs, outputs, target, available, weights);
  return { model: encodeModel(model), ...rest };
}
