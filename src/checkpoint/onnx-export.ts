import { type DType, dtypes } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { topological } from '../core/graph.js';
import { makeNode } from '../core/op.js';
import { inputOp } from '../core/ops/leaf.js';
import { optimize, passes } from '../core/passes/index.js';
import type { Tensor } from '../core/tensor.js';
import { tracing, Variable } from '../core/variable.js';
import { buildModel, type GraphInput } from '../onnx/graph.js';
import { encodeModel, type OnnxModel, type OnnxTensor } from '../onnx/model.js';
import { type Dimension, Unifier } from '../onnx/symbolic.js';

/** An input of an exported function. A size that is a name is known only when the model runs; equal names, equal sizes. */
export interface OnnxInput {
  /** Default float32. */
  dtype?: DType;
  shape: readonly (number | string)[];
  /** The file declares an int32 input as int64, as other libraries feed token ids. */
  wide?: boolean;
}

/** Options of `traceOnnx`. */
export interface OnnxOptions {
  /** Dynamic sizes that are sums of others, e.g. `{ total: ['past', 'length'] }`. */
  sums?: Readonly<Record<string, readonly string[]>>;
}

/** A function as an ONNX model, with its weights still where they are. */
export interface OnnxExport {
  /** Its weights have no bytes: their initializers are external, under the names of `weights`. */
  model: OnnxModel;
  weights: ReadonlyMap<string, Variable>;
}

type Body<I extends string> = (
  inputs: Record<I, Tensor>,
  /** The dynamic sizes in this trace. */
  sizes: Readonly<Record<string, number>>,
) => Readonly<Record<string, Tensor>>;

/** Sizes at which a function is traced: all different, so that each number of a graph betrays what it came from. */
const primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47];
const traces = 3;

/** Standard operators in use. */
const opset = 23;

function dynamicNames(inputs: Readonly<Record<string, OnnxInput>>): string[] {
  const names = Object.values(inputs).flatMap(({ shape }) => shape.filter((d) => typeof d === 'string'));
  return [...new Set(names)];
}

/** The dynamic sizes of trace `k`. */
function sizesOf(names: readonly string[], k: number, sums: NonNullable<OnnxOptions['sums']>) {
  const free = names.filter((name) => !Object.hasOwn(sums, name));
  if (free.length * traces > primes.length)
    throw new AnnealError(`${free.length} dynamic sizes are too many; fix some of ${free.join(', ')}`);
  const sizes: Record<string, number> = {};
  for (const [j, name] of free.entries()) sizes[name] = primes[j * traces + k]!;
  for (const [name, parts] of Object.entries(sums))
    sizes[name] = parts.reduce((total, part) => total + sizes[part]!, 0);
  return sizes;
}

const foldingIsOff = () => passes().filter(({ name }) => name !== 'constants');

/** Lowers the function at one choice of sizes. */
function traceOnce(
  inputs: Readonly<Record<string, OnnxInput>>,
  body: Body<string>,
  sizes: Readonly<Record<string, number>>,
): OnnxExport {
  const leaves: GraphInput[] = Object.entries(inputs).map(([name, { dtype = 'float32', shape }]) => {
    const dims = shape.map((d) => (typeof d === 'string' ? sizes[d]! : d));
    const [tensor] = makeNode(inputOp as never, [], { dtype, shape: dims }, { payload: name }).outputs;
    return { name, tensor: tensor! };
  });
  const outputs = tracing(() => body(Object.fromEntries(leaves.map((l) => [l.name, l.tensor])), sizes));
  // Constants that depend on a size must stay recognisable: folding would mix them.
  const { roots } = optimize(Object.values(outputs), foldingIsOff());
  const names = Object.keys(outputs);
  const weights = new Map<string, Variable>();
  for (const { payload } of topological(roots)) {
    if (!(payload instanceof Variable)) continue;
    if (weights.has(payload.name))
      throw new AnnealError(`two variables are called "${payload.name}"; give them names of their own`);
    weights.set(payload.name, payload);
  }
  const { model } = buildModel(
    leaves,
    roots.map((tensor, i) => ({ name: names[i]!, tensor })),
    'onnx',
    undefined,
    [...weights].map(([name, tensor]) => ({ name, tensor })),
  );
  return { model: { ...model, opsets: { '': opset }, functions: [] }, weights };
}

/**
 * Traces a function as an ONNX model of standard operators only. The body is traced at a few sizes; numbers of the
 * graph that differ between the traces become expressions of the sizes that the model is run with.
 *
 * @throws AnnealError if some part of the graph is made for one size only (a table that is computed while tracing,
 * a branch on a size): that size has to be fixed, or the table be an input.
 */
export function traceOnnx<I extends string>(
  inputs: Readonly<Record<I, OnnxInput>>,
  body: Body<I>,
  { sums = {} }: OnnxOptions = {},
): OnnxExport {
  const specs = inputs as Readonly<Record<string, OnnxInput>>;
  const names = dynamicNames(specs);
  const all = Array.from({ length: names.length > 0 ? traces : 1 }, (_, k) => sizesOf(names, k, sums));
  const traced = all.map((sizes) => traceOnce(specs, body as Body<string>, sizes));
  const dimensions = names.map((name): Dimension => {
    const [input, { shape }] = Object.entries(specs).find(([, one]) => one.shape.includes(name))!;
    return { name, input, axis: shape.indexOf(name), values: all.map((sizes) => sizes[name]!) };
  });
  const [first] = traced as [OnnxExport];
  const unified = new Unifier(
    traced.map(({ model }) => model),
    dimensions,
  ).run();
  return { model: widen(unified, specs), weights: first.weights };
}

/** Declares the inputs that ask for it as int64, and converts them at the start. */
function widen(model: OnnxModel, inputs: Readonly<Record<string, OnnxInput>>): OnnxModel {
  const { graph } = model;
  const narrow = new Map(
    Object.keys(inputs)
      .filter((name) => inputs[name]!.wide)
      .map((name) => [name, `${name}.int32`]),
  );
  const casts = [...narrow].map(([name, inner]) => ({
    op: 'Cast',
    name: `${inner}#Cast`,
    inputs: [name],
    outputs: [inner],
    attributes: { to: { kind: 'int' as const, value: dtypes.int32.onnx } },
  }));
  const body = graph.nodes.map((node) =>
    // A size may be asked of either.
    node.op === 'Shape' ? node : { ...node, inputs: node.inputs.map((n) => narrow.get(n) ?? n) },
  );
  const declared = graph.inputs.map((v) => (narrow.has(v.name) ? { ...v, dtype: 'int64' as const } : v));
  return { ...model, graph: { ...graph, inputs: declared, nodes: [...casts, ...body] } };
}

const bytesOf = ({ data }: Variable) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** The bytes of an ONNX file that holds its weights. Its limit is 2 GB; `exportOnnx` writes larger models. */
export function encodeOnnx({ model, weights }: OnnxExport): Uint8Array {
  const inside = (t: OnnxTensor): OnnxTensor => {
    const variable = weights.get(t.name);
    return variable ? { ...t, raw: bytesOf(variable) } : t;
  };
  const { graph } = model;
  return encodeModel({ ...model, graph: { ...graph, initializers: graph.initializers.map(inside) } });
}

/** Weights of this many bytes or more go into a file beside the model. */
const largestInside = 1e9;

/**
 * Writes a traced function as an ONNX file; weights of 1 GB or more in all lie in `<file>_data` beside it, as
 * transformers.js expects them.
 * @throws AnnealError if a file cannot be written; an old one stays intact then.
 */
export async function writeOnnx(file: string, exported: OnnxExport, limit = largestInside): Promise<void> {
  const { writeAtomically, writeFileAtomically } = await import('./atomic.js');
  const path = await import('node:path');
  const { model, weights } = exported;
  const total = [...weights.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
  if (total < limit) return writeFileAtomically(file, encodeOnnx(exported));
  const location = `${path.basename(file)}_data`;
  const places = new Map<string, number>();
  await writeAtomically(path.join(path.dirname(file), location), async (sink) => {
    let at = 0;
    for (const [name, variable] of weights) {
      places.set(name, at);
      await sink.write(bytesOf(variable));
      at += variable.data.byteLength;
    }
  });
  const outside = (t: OnnxTensor): OnnxTensor => {
    const offset = places.get(t.name);
    return offset === undefined
      ? t
      : { ...t, raw: { location, offset, length: weights.get(t.name)!.data.byteLength } };
  };
  const { graph } = model;
  const whole = { ...model, graph: { ...graph, initializers: graph.initializers.map(outside) } };
  await writeFileAtomically(file, encodeModel(whole));
}

/** `traceOnnx`, then `writeOnnx`. */
export async function exportOnnx<I extends string>(
  file: string,
  inputs: Readonly<Record<I, OnnxInput>>,
  body: Body<I>,
  options: OnnxOptions = {},
): Promise<void> {
  await writeOnnx(file, traceOnnx(inputs, body, options));
}
