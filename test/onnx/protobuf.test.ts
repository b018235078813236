import fc from 'fast-check';
import protobuf from 'protobufjs';
import { describe, expect, test } from 'vitest';
import { ProtoWriter } from '../../src/onnx/protobuf.js';

// As proto2 a decoder tells a zero from a field that is missing.
const message = protobuf
  .parse(
    `syntax = "proto2";
    message Tree {
      optional int64 value = 1; optional string label = 2; repeated Tree children = 3; repeated int64 ints = 4;
      repeated float floats = 5; optional bytes blob = 6; optional float number = 7;
    }`,
    { keepCase: true },
  )
  .root.lookupType('Tree');

// Longs as strings keep 2^53 and its neighbours apart; arrays make empty lists comparable.
const decode = (bytes: Uint8Array) =>
  message.toObject(message.decode(bytes), { longs: String, arrays: true, bytes: Array });

interface Tree {
  value: number;
  label: string;
  children: Tree[];
  ints: number[];
  floats: number[];
  blob: Uint8Array;
  number: number;
}

describe('ProtoWriter', () => {
  // Magnitudes spread over every varint length, which uniform integers would all but miss.
  const int = fc
    .tuple(fc.maxSafeInteger(), fc.integer({ min: 0, max: 53 }))
    .map(([value, bits]) => Math.trunc(value / 2 ** bits));
  const float = fc.float({ noNaN: true });
  const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
    tree: fc.record({
      value: int,
      // Lone surrogates included: they must come out as TextEncoder has them.
      label: fc.string({
        unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)),
      }),
      children: fc.oneof(
        { maxDepth: 5 },
        fc.constant<Tree[]>([]),
        fc.array(tie('tree'), { minLength: 1, maxLength: 3 }),
      ),
      ints: fc.array(int),
      floats: fc.array(float),
      blob: fc.uint8Array({ maxLength: 300 }),
      number: float,
    }),
  }));

  const write = (writer: ProtoWriter, value: Tree): void => {
    writer.float(7, value.number);
    writer.bytes(6, value.blob);
    writer.packedFloats(5, value.floats);
    writer.packedInts(4, value.ints);
    for (const child of value.children.toReversed()) {
      const mark = writer.length;
      write(writer, child);
      writer.message(3, mark);
    }
    writer.string(2, value.label);
    writer.int(1, value.value);
  };

  const plain = (value: Tree): object => ({
    value: String(value.value),
    label: new TextDecoder('utf-8', { ignoreBOM: true }).decode(new TextEncoder().encode(value.label)),
    children: value.children.map(plain),
    // String(-0) is '0', as the varint has it.
    ints: value.ints.map(String),
    floats: value.floats,
    blob: [...value.blob],
    number: value.number,
  });

  test('any tree of nested messages decodes to itself', () => {
    fc.assert(
      fc.property(tree, (value) => {
        const writer = new ProtoWriter(1);
        write(writer, value);
        expect(decode(writer.finish())).toEqual(plain(value));
      }),
      { numRuns: 300 },
    );
  });

  test('any varint is the shortest encoding of its two’s complement', () => {
    const edges = [
      0,
      1,
      127,
      128,
      2 ** 31 - 1,
      2 ** 31,
      2 ** 32 - 1,
      2 ** 32,
      2 ** 53,
      -1,
      -(2 ** 31),
      -(2 ** 53),
    ];
    const check = (value: number): void => {
      const writer = new ProtoWriter(1);
      writer.int(1, value);
      const expected = [0x08];
      let rest = BigInt.asUintN(64, BigInt(value));
      for (; rest >= 0x80n; rest >>= 7n) expected.push(Number(rest & 0x7fn) | 0x80);
      expect([...writer.finish()]).toEqual([...expected, Number(rest)]);
    };
    for (const value of edges) check(value);
    fc.assert(fc.property(int, check), { numRuns: 2000 });
  });
});
