import { type DType, dtypes } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { ProtoWriter } from './protobuf.js';

/** The value of an operator's attribute. Integers may reach 2^53 in magnitude; floats become float32. */
export type OnnxAttribute =
  | { kind: 'int'; value: number }
  | { kind: 'float'; value: number }
  | { kind: 'ints'; value: readonly number[] }
  | { kind: 'floats'; value: readonly number[] }
  | { kind: 'string'; value: string }
  | { kind: 'strings'; value: readonly string[] }
  | { kind: 'tensor'; value: OnnxTensor };

/** A constant: an initializer of a graph or the value of an attribute. */
export interface OnnxTensor {
  name: string;
  dtype: DType;
  dims: readonly number[];
  /** The elements in row-major order, little-endian; int64 as the bytes of a BigInt64Array. */
  raw: Uint8Array | ExternalBytes;
}

/** Elements that lie outside the file: in another file beside it, or in memory that the runtime is given by name. */
export interface ExternalBytes {
  location: string;
  /** Where they begin in it. Default 0. */
  offset?: number;
  length: number;
}

/** One application of an operator. `''` marks an absent optional input or output. */
export interface OnnxNode {
  op: string;
  /** Operator set that `op` belongs to; the default domain unless given. */
  domain?: string;
  /** Picks one of several functions that share a domain and a name (IR version 10 and later). */
  overload?: string;
  name?: string;
  inputs: readonly string[];
  outputs: readonly string[];
  attributes?: Readonly<Record<string, OnnxAttribute>>;
}

/** A named, typed tensor that enters, leaves or crosses a graph. */
export interface OnnxValue {
  name: string;
  dtype: DType;
  /** A string is a symbolic dimension: equal names mean equal sizes. */
  shape: readonly (number | string)[];
}

/** A function local to the model: a node with this domain, name and overload means these nodes. */
export interface OnnxFunction {
  domain: string;
  name: string;
  overload?: string;
  inputs: readonly string[];
  outputs: readonly string[];
  nodes: readonly OnnxNode[];
  /** Versions of the operator sets that the nodes use, by domain; `''` is the default domain. */
  opsets: Readonly<Record<string, number>>;
}

/** Nodes in topological order between inputs and outputs. */
export interface OnnxGraph {
  name: string;
  nodes: readonly OnnxNode[];
  inputs: readonly OnnxValue[];
  outputs: readonly OnnxValue[];
  initializers: readonly OnnxTensor[];
  /** Types of intermediate values; optional, a runtime infers what is missing. */
  valueInfo?: readonly OnnxValue[];
}

/** A whole ONNX file. */
export interface OnnxModel {
  irVersion: number;
  /** Versions of the operator sets in use, by domain; `''` is the default domain. */
  opsets: Readonly<Record<string, number>>;
  graph: OnnxGraph;
  functions?: readonly OnnxFunction[];
  /** Name of the program that made the model. */
  producer?: string;
  metadata?: Readonly<Record<string, string>>;
}

/** AttributeProto.AttributeType. */
const attributeTypes: Readonly<Record<OnnxAttribute['kind'], number>> = {
  float: 1,
  int: 2,
  string: 3,
  tensor: 4,
  floats: 6,
  ints: 7,
  strings: 8,
};

/**
 * The bytes of an ONNX file, ready for `InferenceSession.create`. Equal models give equal bytes.
 *
 * Every initializer is copied once. The result may be a view that starts inside its buffer: pass on the
 * array, or its `byteOffset` along with its `buffer`.
 *
 * Throws AnnealError where a number cannot be an ONNX integer, where a tensor's bytes do not fill its
 * dims, and where the file would exceed protobuf's 2 GB. Whether operators, names and types fit together
 * is for the runtime to check.
 *
 * Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
 */
export function encodeModel(model: OnnxModel): Uint8Array<ArrayBuffer> {
  const { graph, functions = [] } = model;
  // A guess that spares large models the doubling, and with it a second copy of their initializers.
  let capacity = 4096 + 128 * graph.nodes.length;
  for (const { raw } of graph.initializers) capacity += (raw instanceof Uint8Array ? raw.length : 0) + 256;
  const writer = new ProtoWriter(capacity);

  // Highest field number first, last element first: ProtoWriter writes backwards.
  eachBackwards(functions, (fn) => nested(writer, 25, fn, writeFunction));
  eachBackwards(Object.entries(model.metadata ?? {}), ([key, value]) => {
    const mark = writer.length;
    writer.string(2, value);
    writer.string(1, key);
    writer.message(14, mark);
  });
  writeOpsets(writer, 8, model.opsets);
  nested(writer, 7, graph, writeGraph);
  if (model.producer !== undefined) writer.string(2, model.producer);
  writer.int(1, integer(model.irVersion, 'irVersion'));
  return writer.finish();
}

function writeGraph(writer: ProtoWriter, graph: OnnxGraph): void {
  eachBackwards(graph.valueInfo ?? [], (value) => nested(writer, 13, value, writeValue));
  eachBackwards(graph.outputs, (value) => nested(writer, 12, value, writeValue));
  eachBackwards(graph.inputs, (value) => nested(writer, 11, value, writeValue));
  eachBackwards(graph.initializers, (tensor) => nested(writer, 5, tensor, writeTensor));
  writer.string(2, graph.name);
  eachBackwards(graph.nodes, (node) => nested(writer, 1, node, writeNode));
}

function writeFunction(writer: ProtoWriter, fn: OnnxFunction): void {
  if (fn.overload !== undefined) writer.string(13, fn.overload);
  writer.string(10, fn.domain);
  writeOpsets(writer, 9, fn.opsets);
  eachBackwards(fn.nodes, (node) => nested(writer, 7, node, writeNode));
  writeStrings(writer, 5, fn.outputs);
  writeStrings(writer, 4, fn.inputs);
  writer.string(1, fn.name);
}

function writeNode(writer: ProtoWriter, node: OnnxNode): void {
  if (node.overload !== undefined) writer.string(8, node.overload);
  if (node.domain !== undefined) writer.string(7, node.domain);
  if (node.attributes !== undefined) {
    const { attributes } = node;
    const names = Object.keys(attributes);
    for (let i = names.length - 1; i >= 0; i--) {
      const name = names[i]!;
      const mark = writer.length;
      writeAttribute(writer, name, attributes[name]!, node);
      writer.message(5, mark);
    }
  }
  writer.string(4, node.op);
  if (node.name !== undefined) writer.string(3, node.name);
  writeStrings(writer, 2, node.outputs);
  writeStrings(writer, 1, node.inputs);
}

function writeAttribute(writer: ProtoWriter, name: string, attribute: OnnxAttribute, node: OnnxNode): void {
  // The type is always present: it alone tells an empty list of ints from one of floats, or a zero from none.
  writer.int(20, attributeTypes[attribute.kind]);
  switch (attribute.kind) {
    case 'float':
      writer.float(2, attribute.value);
      break;
    case 'int':
      writer.int(3, integer(attribute.value, name, node));
      break;
    case 'string':
      writer.string(4, attribute.value);
      break;
    case 'tensor':
      nested(writer, 5, attribute.value, writeTensor);
      break;
    case 'floats':
      writer.packedFloats(7, attribute.value);
      break;
    case 'ints':
      for (const value of attribute.value) integer(value, name, node);
      writer.packedInts(8, attribute.value);
      break;
    case 'strings':
      writeStrings(writer, 9, attribute.value);
      break;
  }
  writer.string(1, name);
}

function writeTensor(writer: ProtoWriter, tensor: OnnxTensor): void {
  const { name, dtype, dims, raw } = tensor;
  if (!(raw instanceof Uint8Array)) writeExternal(writer, raw);
  const { bytes, onnx } = dtypes[dtype];
  let expected = bytes;
  for (const dim of dims) expected *= dimension(dim, name);
  if (raw.length !== expected) {
    throw new AnnealError(
      `tensor '${name}' of ${dtype} [${dims.join(', ')}] has ${raw.length} bytes; pass exactly ${expected}`,
    );
  }
  if (raw instanceof Uint8Array) writer.bytes(9, raw);
  writer.string(8, name);
  writer.int(2, onnx);
  writer.packedInts(1, dims);
}

/** TensorProto.data_location = EXTERNAL, and where the bytes are. */
function writeExternal(writer: ProtoWriter, { location, offset = 0, length }: ExternalBytes): void {
  writer.int(14, 1);
  eachBackwards(Object.entries({ location, offset, length }), ([key, value]) => {
    const mark = writer.length;
    writer.string(2, String(value));
    writer.string(1, key);
    writer.message(13, mark);
  });
}

function writeValue(writer: ProtoWriter, value: OnnxValue): void {
  const type = writer.length;
  // The shape is written even when it has no dimensions: a missing one means unknown rank, not a scalar.
  eachBackwards(value.shape, (dim) => {
    const mark = writer.length;
    if (typeof dim === 'string') writer.string(2, dim);
    else writer.int(1, dimension(dim, value.name));
    writer.message(1, mark);
  });
  writer.message(2, type);
  writer.int(1, dtypes[value.dtype].onnx);
  // ValueInfoProto.type holds TypeProto.tensor_type and nothing else, so both end where the tensor type does.
  writer.message(1, type);
  writer.message(2, type);
  writer.string(1, value.name);
}

function writeOpsets(writer: ProtoWriter, field: number, opsets: Readonly<Record<string, number>>): void {
  eachBackwards(Object.entries(opsets), ([domain, version]) => {
    const mark = writer.length;
    writer.int(2, integer(version, `version of opset '${domain}'`));
    writer.string(1, domain);
    writer.message(field, mark);
  });
}

/** Empty strings are written too: their place in the list is what marks an absent input. */
function writeStrings(writer: ProtoWriter, field: number, values: readonly string[]): void {
  for (let i = values.length - 1; i >= 0; i--) writer.string(field, values[i]!);
}

function nested<T>(
  writer: ProtoWriter,
  field: number,
  value: T,
  write: (writer: ProtoWriter, value: T) => void,
): void {
  const mark = writer.length;
  write(writer, value);
  writer.message(field, mark);
}

function eachBackwards<T>(values: readonly T[], visit: (value: T) => void): void {
  for (let i = values.length - 1; i >= 0; i--) visit(values[i]!);
}

/** `value` itself if an int64 field can hold it exactly as JavaScript does. */
function integer(value: number, name: string, node?: OnnxNode): number {
  if (Number.isInteger(value) && Math.abs(value) <= 2 ** 53) return value;
  const owner = node ? ` of ${node.op} '${node.name ?? node.outputs[0] ?? ''}'` : '';
  throw new AnnealError(`${name}${owner} is ${value}; pass an integer between -2^53 and 2^53`);
}

function dimension(size: number, name: string): number {
  if (Number.isInteger(size) && size >= 0 && size <= 2 ** 53) return size;
  throw new AnnealError(`a dimension of '${name}' is ${size}; pass an integer of 0 or more, or a name`);
}
