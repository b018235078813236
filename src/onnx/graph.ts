import type { TypedArray } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { topological } from '../core/graph.js';
import { attributesKey, isComposite, makeNode, type NodeExtras } from '../core/op.js';
import { inputOp } from '../core/ops/leaf.js';
import { optimize } from '../core/passes/index.js';
import { formatShape } from '../core/shape.js';
import type { Node, Tensor } from '../core/tensor.js';
import { LowerBuilder, type Target } from './lower.js';
import { encodeModel, type OnnxFunction, type OnnxModel, type OnnxValue } from './model.js';

/** Domain of the ops that are compositions: their names, with their decompositions as functions. */
export const domain = 'anneal';
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
}

/** Lowers nodes into one builder; composites become calls of functions that it collects. */
class GraphLowering {
  private readonly names = new Map<Tensor, string>();
  private readonly used = new Set<Tensor>();
  readonly origins = new Map<string, Node>();

  constructor(
    private readonly builder: LowerBuilder,
    private readonly functions: Map<string, OnnxFunction>,
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
    this.builder.scope = 'outputs';
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
    builder.scope = `${node.op.name}_${index}`;
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
    else if (!node.op.lower?.(builder, node, node.attributes)) this.call(node, outputs);
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

  private makeFunction(node: Node, outputs: readonly string[], overload: string): OnnxFunction {
    if (!isComposite(node.op)) throw new Error('only composites are functions');
    const extras: NodeExtras = { region: undefined, origin: node.origin };
    const inputs = node.inputs.map((t, i) => {
      const name = `i${i}`;
      const leaf = makeNode(
        inputOp as never,
        [],
        { dtype: t.dtype, shape: t.shape },
        { ...extras, payload: name },
      );
      return { name, tensor: leaf.outputs[0]! };
    });
    const parts = node.op.decompose(
      inputs.map((i) => i.tensor),
      node.attributes,
    );
    const kept = parts.slice(0, outputs.length);
    const { roots } = optimize(kept);
    const body = new LowerBuilder(this.builder.target);
    new GraphLowering(body, this.functions).run(
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
    const names = outputs.map((_, i) => `o${i}`);
    return {
      domain,
      name: node.op.name,
      overload,
      inputs: inputs.map((i) => i.name),
      outputs: names,
      nodes,
      opsets,
    };
  }
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
): { model: OnnxModel; origins: ReadonlyMap<string, Node> } {
  const builder = new LowerBuilder(target);
  const functions = new Map<string, OnnxFunction>();
  const lowering = new GraphLowering(builder, functions);
  lowering.run(inputs, outputs);
  const model: OnnxModel = {
    irVersion: 10,
    opsets,
    producer: 'anneal',
    graph: {
      name: 'program',
      nodes: builder.nodes,
      inputs: inputs.map(asValue),
      outputs: outputs.map(asValue),
      initializers: [...builder.initializers.values()],
    },
    functions: [...functions.values()],
  };
  return { model, origins: lowering.origins };
}

/** Serializes a graph. */
export function lowerGraph(
  inputs: readonly GraphInput[],
  outputs: readonly GraphOutput[],
  target: Target,
): LoweredGraph {
  const { model, origins } = buildModel(inputs, outputs, target);
  return { model: encodeModel(model), origins };
}
