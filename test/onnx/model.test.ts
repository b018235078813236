import { InferenceSession, Tensor } from 'onnxruntime-node';
import protobuf from 'protobufjs';
import { describe, expect, test } from 'vitest';
import { AnnealError } from '../../src/core/errors.js';
import { encodeModel, type OnnxAttribute, type OnnxModel, type OnnxTensor } from '../../src/onnx/model.js';

// The official messages, less the fields that Anneal never writes. Like onnx.proto they are proto2: there a
// decoder tells a zero from a field that is missing.
const schema = protobuf.parse(
  `syntax = "proto2";
  message StringStringEntryProto { optional string key = 1; optional string value = 2; }
  message OperatorSetIdProto { optional string domain = 1; optional int64 version = 2; }
  message TensorProto {
    repeated int64 dims = 1; optional int32 data_type = 2; optional string name = 8;
    optional bytes raw_data = 9;
  }
  message AttributeProto {
    optional string name = 1; optional float f = 2; optional int64 i = 3; optional bytes s = 4;
    optional TensorProto t = 5;
    repeated float floats = 7; repeated int64 ints = 8; repeated bytes strings = 9; optional int32 type = 20;
  }
  message NodeProto {
    repeated string input = 1; repeated string output = 2;
    optional string name = 3; optional string op_type = 4;
    repeated AttributeProto attribute = 5; optional string domain = 7; optional string overload = 8;
  }
  message TensorShapeProto {
    message Dimension { oneof value { int64 dim_value = 1; string dim_param = 2; } }
    repeated Dimension dim = 1;
  }
  message TypeProto {
    message Tensor { optional int32 elem_type = 1; optional TensorShapeProto shape = 2; }
    optional Tensor tensor_type = 1;
  }
  message ValueInfoProto { optional string name = 1; optional TypeProto type = 2; }
  message GraphProto {
    repeated NodeProto node = 1; optional string name = 2; repeated TensorProto initializer = 5;
    repeated ValueInfoProto input = 11; repeated ValueInfoProto output = 12;
    repeated ValueInfoProto value_info = 13;
  }
  message FunctionProto {
    optional string name = 1; repeated string input = 4; repeated string output = 5;
    repeated string attribute = 6;
    repeated NodeProto node = 7; repeated OperatorSetIdProto opset_import = 9; optional string domain = 10;
    optional string overload = 13;
  }
  message ModelProto {
    optional int64 ir_version = 1; optional string producer_name = 2; optional GraphProto graph = 7;
    repeated OperatorSetIdProto opset_import = 8; repeated StringStringEntryProto metadata_props = 14;
    repeated FunctionProto functions = 25;
  }`,
  { keepCase: true },
).root;

const decodeAs = (type: string, bytes: Uint8Array) => {
  const message = schema.lookupType(type);
  // Longs as strings keep 2^53 and its neighbours apart; arrays make empty lists comparable.
  return message.toObject(message.decode(bytes), { longs: String, arrays: true, bytes: Array });
};

const bytesOf = (data: ArrayBufferView): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

const utf8 = (text: string): number[] => [...new TextEncoder().encode(text)];

const weights: OnnxTensor = {
  name: 'w',
  dtype: 'float32',
  dims: [2],
  raw: bytesOf(new Float32Array([10, 20])),
};

const attributes: Record<string, OnnxAttribute> = {
  axis: { kind: 'int', value: -1 },
  zero: { kind: 'int', value: 0 },
  large: { kind: 'int', value: 2 ** 53 },
  small: { kind: 'int', value: -(2 ** 53) },
  alpha: { kind: 'float', value: 0.1 },
  perm: { kind: 'ints', value: [-3, 0, 1, 2 ** 31, 2 ** 32 + 5, -(2 ** 40)] },
  scales: { kind: 'floats', value: [1.5, -0.25, Number.POSITIVE_INFINITY] },
  none: { kind: 'ints', value: [] },
  mode: { kind: 'string', value: 'größe 模型 🚀' },
  names: { kind: 'strings', value: ['a', '', 'é'] },
  value: { kind: 'tensor', value: weights },
};

const everything: OnnxModel = {
  irVersion: 10,
  opsets: { '': 21, 'ai.onnx.ml': 3 },
  producer: 'anneal',
  metadata: { author: 'Åsa 🧪', empty: '' },
  graph: {
    name: 'grün',
    nodes: [
      { op: 'Clip', inputs: ['x', '', 'max'], outputs: ['y'] },
      { op: 'F', domain: 'local', overload: 'v2', name: 'n1', inputs: ['y'], outputs: ['', 'z'], attributes },
    ],
    inputs: [{ name: 'x', dtype: 'float16', shape: ['batch', 3, 0] }],
    outputs: [{ name: 'z', dtype: 'bool', shape: [] }],
    initializers: [
      weights,
      { name: 'empty', dtype: 'int32', dims: [0, 4], raw: new Uint8Array() },
      { name: 'indices', dtype: 'int64', dims: [2], raw: bytesOf(new BigInt64Array([-1n, 5n])) },
    ],
    valueInfo: [{ name: 'y', dtype: 'float64', shape: [7] }],
  },
  functions: [
    {
      domain: 'local',
      name: 'F',
      overload: 'v2',
      inputs: ['a'],
      outputs: ['b', 'c'],
      nodes: [{ op: 'Identity', inputs: ['a'], outputs: ['b'] }],
      opsets: { '': 21 },
    },
  ],
};

const node = (fields: object) => ({ input: [], output: [], attribute: [], ...fields });
const attribute = (name: string, type: number, fields: object) => ({
  ...{ name, type, floats: [], ints: [], strings: [] },
  ...fields,
});
const tensorType = (elem_type: number, dim: object[]) => ({ tensor_type: { elem_type, shape: { dim } } });
const rawWeights = { name: 'w', dims: ['2'], data_type: 1, raw_data: [...(weights.raw as Uint8Array)] };

describe('encodeModel', () => {
  test('writes every field under its official number', () => {
    expect(decodeAs('ModelProto', encodeModel(everything))).toEqual({
      ir_version: '10',
      producer_name: 'anneal',
      opset_import: [
        { domain: '', version: '21' },
        { domain: 'ai.onnx.ml', version: '3' },
      ],
      metadata_props: [
        { key: 'author', value: 'Åsa 🧪' },
        { key: 'empty', value: '' },
      ],
      graph: {
        name: 'grün',
        node: [
          node({ op_type: 'Clip', input: ['x', '', 'max'], output: ['y'] }),
          node({
            ...{ op_type: 'F', domain: 'local', overload: 'v2', name: 'n1', input: ['y'], output: ['', 'z'] },
            attribute: [
              attribute('axis', 2, { i: '-1' }),
              attribute('zero', 2, { i: '0' }),
              attribute('large', 2, { i: '9007199254740992' }),
              attribute('small', 2, { i: '-9007199254740992' }),
              attribute('alpha', 1, { f: Math.fround(0.1) }),
              attribute('perm', 7, { ints: ['-3', '0', '1', '2147483648', '4294967301', '-1099511627776'] }),
              attribute('scales', 6, { floats: [1.5, -0.25, Number.POSITIVE_INFINITY] }),
              attribute('none', 7, {}),
              attribute('mode', 3, { s: utf8('größe 模型 🚀') }),
              attribute('names', 8, { strings: [utf8('a'), [], utf8('é')] }),
              attribute('value', 4, { t: rawWeights }),
            ],
          }),
        ],
        input: [
          {
            name: 'x',
            type: tensorType(10, [{ dim_param: 'batch' }, { dim_value: '3' }, { dim_value: '0' }]),
          },
        ],
        output: [{ name: 'z', type: tensorType(9, []) }],
        initializer: [
          rawWeights,
          { name: 'empty', dims: ['0', '4'], data_type: 6, raw_data: [] },
          {
            ...{ name: 'indices', dims: ['2'], data_type: 7 },
            raw_data: [255, 255, 255, 255, 255, 255, 255, 255, 5, 0, 0, 0, 0, 0, 0, 0],
          },
        ],
        value_info: [{ name: 'y', type: tensorType(11, [{ dim_value: '7' }]) }],
      },
      functions: [
        {
          ...{ name: 'F', domain: 'local', overload: 'v2', input: ['a'], output: ['b', 'c'], attribute: [] },
          node: [node({ op_type: 'Identity', input: ['a'], output: ['b'] })],
          opset_import: [{ domain: '', version: '21' }],
        },
      ],
    });
  });

  test('omits what the model leaves out', () => {
    const bytes = encodeModel({
      irVersion: 8,
      opsets: {},
      graph: { name: '', nodes: [], inputs: [], outputs: [], initializers: [] },
    });
    expect([...bytes]).toEqual([0x08, 8, 0x3a, 2, 0x12, 0]);
  });

  test('refuses what ONNX cannot hold, naming it', () => {
    const broken = (change: Partial<OnnxModel['graph']>) => () =>
      encodeModel({ ...everything, graph: { ...everything.graph, ...change } });
    const withAxis = (value: OnnxAttribute) =>
      broken({
        nodes: [{ op: 'Softmax', name: 'probs', inputs: ['x'], outputs: ['y'], attributes: { axis: value } }],
      });
    const integerMessage = /^axis of Softmax 'probs' is 1\.5; pass an integer/;
    expect(withAxis({ kind: 'int', value: 1.5 })).toThrow(integerMessage);
    expect(withAxis({ kind: 'ints', value: [0, 1.5] })).toThrow(integerMessage);
    expect(withAxis({ kind: 'int', value: Number.NaN })).toThrow(AnnealError);
    expect(withAxis({ kind: 'int', value: 2 ** 54 })).toThrow(AnnealError);
    expect(broken({ initializers: [{ ...weights, dims: [3] }] })).toThrow(
      "tensor 'w' of float32 [3] has 8 bytes; pass exactly 12",
    );
    expect(broken({ initializers: [{ ...weights, dims: [-2] }] })).toThrow("a dimension of 'w' is -2");
    expect(broken({ inputs: [{ name: 'x', dtype: 'float32', shape: [0.5] }] })).toThrow('pass an integer');
    expect(() => encodeModel({ ...everything, irVersion: 0.5 })).toThrow('irVersion is 0.5');
    // Never touched, so the operating system never finds memory for these pages.
    const huge: OnnxTensor = { name: 'h', dtype: 'bool', dims: [2 ** 31], raw: new Uint8Array(2 ** 31) };
    expect(broken({ initializers: [huge] })).toThrow(/exceeds the format's limit/);
  });

  test('is fast: 1,500 nodes and a 1 MB initializer in 10 ms', () => {
    const model: OnnxModel = {
      irVersion: 10,
      opsets: { '': 21 },
      graph: {
        name: 'large',
        nodes: Array.from({ length: 1500 }, (_, i) => ({
          op: 'Gemm',
          name: `layer.${i}.projection`,
          inputs: [`hidden_${i}`, `weight_${i}`, ''],
          outputs: [`hidden_${i + 1}`],
          attributes: {
            alpha: { kind: 'float', value: 0.5 },
            transB: { kind: 'int', value: 1 },
            axes: { kind: 'ints', value: [-1, 0] },
          },
        })),
        inputs: [],
        outputs: [],
        initializers: [{ name: 'w', dtype: 'float32', dims: [2 ** 18], raw: new Uint8Array(2 ** 20) }],
      },
    };
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 30; i++) {
      const start = performance.now();
      encodeModel(model);
      best = Math.min(best, performance.now() - start);
    }
    expect(best).toBeLessThan(10);
  });
});

describe('ONNX Runtime', () => {
  const xy = {
    name: 'main',
    inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 2] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: ['n', 2] }],
    initializers: [weights],
  } as const;
  const run = async (model: OnnxModel): Promise<number[]> => {
    const session = await InferenceSession.create(encodeModel(model));
    const { y } = await session.run({ x: new Tensor('float32', [1, 2, 3, 4], [2, 2]) });
    await session.release();
    return [...(y!.data as Float32Array)];
  };

  test('loads and runs a graph', async () => {
    const nodes = [{ op: 'Add', inputs: ['x', 'w'], outputs: ['y'] }];
    const y = await run({ irVersion: 10, opsets: { '': 21 }, graph: { ...xy, nodes } });
    expect(y).toEqual([11, 22, 13, 24]);
  });

  test('loads and runs local functions, overloads apart', async () => {
    const scale = (overload: string, factor: number) => ({
      ...{ domain: 'local', name: 'Scale', overload, inputs: ['a'], outputs: ['b'], opsets: { '': 21 } },
      nodes: [
        {
          ...{ op: 'Constant', inputs: [], outputs: ['factor'] },
          attributes: { value_float: { kind: 'float', value: factor } as const },
        },
        { op: 'Mul', inputs: ['a', 'factor'], outputs: ['b'] },
      ],
    });
    const y = await run({
      irVersion: 10,
      opsets: { '': 21, local: 1 },
      graph: {
        ...xy,
        nodes: [
          { op: 'Scale', domain: 'local', overload: 'twice', inputs: ['x'], outputs: ['x2'] },
          { op: 'Scale', domain: 'local', overload: 'negate', inputs: ['x2'], outputs: ['x3'] },
          { op: 'Add', inputs: ['x3', 'w'], outputs: ['y'] },
        ],
      },
      functions: [scale('twice', 2), scale('negate', -1)],
    });
    expect(y).toEqual([8, 16, 4, 12]);
  });
});
