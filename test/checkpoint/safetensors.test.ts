import { mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ElementType, elementBytes, toBfloat16 } from '../../src/checkpoint/element-types.js';
import { SafetensorsFile } from '../../src/checkpoint/safetensors.js';
import {
  openSafetensors,
  openSafetensorsFile,
  writeSafetensors,
} from '../../src/checkpoint/safetensors-files.js';
import { memorySource } from '../../src/checkpoint/source.js';
import { entryOf, type TensorEntry } from '../../src/checkpoint/tensor-entry.js';
import { AnnealError } from '../../src/core/errors.js';
import { toFloat16 } from '../../src/core/float16.js';
import { variable } from '../../src/core/variable.js';
import { randn } from '../../src/index.js';

const folder = await mkdtemp(path.join(tmpdir(), 'anneal-safetensors-'));

/** A file by hand, from a header and data, so that reader and writer are tested apart. */
function fileOf(header: unknown, data: Uint8Array): Uint8Array {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return new Uint8Array(Buffer.concat([length, text, data]));
}
const openBytes = (bytes: Uint8Array) => SafetensorsFile.open(memorySource(bytes, 'test.safetensors'));
const f32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);

/** Two tensors and metadata, as the format's own documentation lays them out. */
const small = fileOf(
  {
    __metadata__: { format: 'pt' },
    a: { dtype: 'F32', shape: [2, 1], data_offsets: [0, 8] },
    b: { dtype: 'U8', shape: [3], data_offsets: [8, 11] },
  },
  new Uint8Array([...f32(1.5, -2), 7, 8, 9]),
);

describe('reading', () => {
  it('finds tensors, shapes, values and metadata', async () => {
    const file = await openBytes(small);
    expect([...file.metadata]).toEqual([['format', 'pt']]);
    expect([...file.tensors.keys()]).toEqual(['a', 'b']);
    expect(file.tensors.get('a')).toMatchObject({ type: 'F32', shape: [2, 1] });
    expect([...(await file.readFloat32('a'))]).toEqual([1.5, -2]);
    expect([...(await file.readFloat32('b'))]).toEqual([7, 8, 9]);
    expect(await file.read('b', 'uint8')).toEqual(Uint8Array.of(7, 8, 9));
    await expect(file.readFloat32('c')).rejects.toThrow('test.safetensors has no tensor "c"');
  });

  const asFloat: [ElementType, Uint8Array, number[]][] = [
    ['F64', new Uint8Array(Float64Array.of(0.1, -3).buffer), [Math.fround(0.1), -3]],
    ['F16', new Uint8Array(Uint16Array.of(0x3c00, 0xc000, 0x0001).buffer), [1, -2, 2 ** -24]],
    ['BF16', new Uint8Array(Uint16Array.of(0x3f80, 0xc040).buffer), [1, -3]],
    ['I64', new Uint8Array(BigInt64Array.of(-5n, 2n ** 40n).buffer), [-5, 2 ** 40]],
    ['U64', new Uint8Array(BigUint64Array.of(2n ** 63n).buffer), [2 ** 63]],
    ['I32', new Uint8Array(Int32Array.of(-1, 2).buffer), [-1, 2]],
    ['U32', new Uint8Array(Uint32Array.of(2 ** 31).buffer), [2 ** 31]],
    ['I16', new Uint8Array(Int16Array.of(-300).buffer), [-300]],
    ['U16', new Uint8Array(Uint16Array.of(65535).buffer), [65535]],
    ['I8', new Uint8Array(Int8Array.of(-128).buffer), [-128]],
    ['BOOL', Uint8Array.of(0, 1), [0, 1]],
  ];
  it.each(asFloat)('%s as float32', async (type, data, want) => {
    const size = data.length / elementBytes[type];
    const file = await openBytes(
      fileOf({ x: { dtype: type, shape: [size], data_offsets: [0, data.length] } }, data),
    );
    expect([...(await file.readFloat32('x'))]).toEqual(want);
  });

  it('converts to int32 only what fits, and names what does not', async () => {
    const data = new Uint8Array(BigInt64Array.of(7n, -8n, 2n ** 31n).buffer);
    const header = { x: { dtype: 'I64', shape: [3], data_offsets: [0, 24] } };
    await expect((await openBytes(fileOf(header, data))).read('x', 'int32')).rejects.toThrow(
      'x[2] is 2147483648, which no int32 holds',
    );
    const fits = fileOf({ x: { dtype: 'I64', shape: [2], data_offsets: [0, 16] } }, data.subarray(0, 16));
    expect(await (await openBytes(fits)).read('x', 'int32')).toEqual(Int32Array.of(7, -8));
    await expect((await openBytes(fits)).read('x', 'bool')).rejects.toThrow('stored as I64');
  });

  it('rounds to bfloat16 to the nearest, ties to even', () => {
    const values = Float32Array.of(
      1,
      1 + 2 ** -8,
      1 + 3 * 2 ** -8,
      -1 - 2 ** -9,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      3.4e38,
    );
    expect([...toBfloat16(values)]).toEqual([0x3f80, 0x3f80, 0x3f82, 0xbf80, 0x7fc0, 0x7f80, 0x7f80]);
  });
});

describe('refuses', () => {
  const one = (entry: object, data = f32(1)) =>
    fileOf({ x: { dtype: 'F32', shape: [1], data_offsets: [0, 4], ...entry } }, data);
  const bad: [string, Uint8Array, RegExp][] = [
    ['an empty file', new Uint8Array(), /only 0 bytes/],
    ['a header longer than the file', fileOf('', new Uint8Array()).fill(9, 0, 1), /claims 9 bytes/],
    ['a header of exabytes', Uint8Array.of(...new Array(8).fill(255), 1, 2), /header claims/],
    ['a header that is no JSON', fileOf('{"x":', f32(1)), /no JSON/],
    ['a header that is no text', fileOf('\ud800x', f32(1)), /no JSON/],
    ['a header that is a list', fileOf([], new Uint8Array()), /no JSON object/],
    ['an entry that is null', fileOf({ x: null }, f32(1)), /"x" is no object/],
    ['an unknown type', one({ dtype: 'F8_E4M3' }), /"x" has the type "F8_E4M3", which is none of F64, F32/],
    ['a type that objects inherit', one({ dtype: 'toString' }), /has the type "toString"/],
    ['a negative size', one({ shape: [-1, -1] }), /has the shape \[-1,-1\]/],
    ['a fractional size', one({ shape: [0.5, 2] }), /has the shape/],
    ['a size beyond counting', one({ shape: [2 ** 30, 2 ** 30, 2 ** 30] }), /has the shape/],
    ['offsets that are missing', one({ data_offsets: undefined }), /has the offsets undefined/],
    ['offsets that run backwards', one({ data_offsets: [4, 0] }), /has the offsets/],
    ['offsets that are texts', one({ data_offsets: ['0', '4'] }), /has the offsets/],
    ['a span that is no fit', one({ shape: [2] }), /spans 4 bytes, but F32 \[2\] takes 8/],
    ['data that ends early', one({ shape: [2], data_offsets: [0, 8] }), /has 4: the file is truncated/],
    ['bytes that belong to nothing', one({}, f32(1, 2)), /4 bytes at the end belong to no tensor/],
    ['a hole', one({ data_offsets: [4, 8] }, f32(1, 2)), /4 bytes before tensor "x" belong to no tensor/],
    [
      'metadata that is no text',
      fileOf({ __metadata__: { a: 1 } }, new Uint8Array()),
      /metadata "a" is no text/,
    ],
    [
      'tensors that overlap',
      fileOf(
        {
          x: { dtype: 'U8', shape: [3], data_offsets: [0, 3] },
          y: { dtype: 'U8', shape: [2], data_offsets: [2, 4] },
        },
        f32(1),
      ),
      /"y" overlaps/,
    ],
  ];
  it.each(bad)('%s', async (_name, bytes, message) => {
    await expect(openBytes(bytes)).rejects.toThrow(message);
    await expect(openBytes(bytes)).rejects.toThrow(AnnealError);
  });

  it('every truncation of a file', async () => {
    for (let length = 0; length < small.length; length++)
      await expect(openBytes(small.subarray(0, length)), `${length} bytes`).rejects.toThrow(AnnealError);
  });

  it('or reads, but never breaks on, any change of a byte', async () => {
    for (let i = 0; i < small.length; i++) {
      for (const flip of [0x01, 0x20, 0x80, 0xff]) {
        const bytes = Uint8Array.from(small);
        bytes[i] = bytes[i]! ^ flip;
        try {
          const file = await openBytes(bytes);
          for (const name of file.tensors.keys()) await file.readFloat32(name);
        } catch (error) {
          expect(error, `byte ${i} xor ${flip}`).toBeInstanceOf(AnnealError);
        }
      }
    }
  });
});

describe('writing', () => {
  const types = Object.keys(elementBytes) as ElementType[];
  const tensorEntry = fc
    .record({ type: fc.constantFrom(...types), shape: fc.array(fc.nat(4), { maxLength: 4 }) })
    .chain(({ type, shape }) => {
      const length = shape.reduce((a, b) => a * b, 1) * elementBytes[type];
      return fc
        .uint8Array({ minLength: length, maxLength: length })
        .map((data): TensorEntry => ({ type, shape, data }));
    });
  const names = fc.string({ minLength: 1 }).filter((n) => n !== '__metadata__');

  it('gives back any tensors, names and metadata', async () => {
    const file = path.join(folder, 'any.safetensors');
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(names, tensorEntry), { maxLength: 6 }),
        fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 }),
        async (list, metadata) => {
          const tensors = new Map(list);
          await writeSafetensors(file, tensors, metadata);
          const back = await openSafetensorsFile(file);
          try {
            expect(Object.fromEntries(back.metadata)).toEqual({ ...metadata });
            expect([...back.tensors.keys()].sort()).toEqual([...tensors.keys()].sort());
            for (const [name, { type, shape, data }] of tensors) {
              expect(back.tensors.get(name)).toMatchObject({ type, shape });
              expect(Buffer.from(await back.readBytes(name)).equals(Buffer.from(data as Uint8Array))).toBe(
                true,
              );
              // Aligned, so that readers that map the file into memory can point at it.
              expect(back.tensors.get(name)!.offset % elementBytes[type]).toBe(0);
            }
          } finally {
            await back.close();
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('asks for the data of each tensor only when its turn comes', async () => {
    const order: string[] = [];
    const entry = (name: string): TensorEntry => ({
      type: 'F32',
      shape: [2],
      data: () => {
        order.push(name);
        return Float32Array.of(1, 2);
      },
    });
    const file = path.join(folder, 'lazy.safetensors');
    await writeSafetensors(
      file,
      new Map([
        ['p', entry('p')],
        ['q', entry('q')],
      ]),
    );
    expect(order).toEqual(['p', 'q']);
    const w = variable(randn([2, 3]));
    await writeSafetensors(file, new Map([['w', entryOf(w)]]));
    const back = await openSafetensorsFile(file);
    expect(await back.readFloat32('w')).toEqual(w.data);
    await back.close();
  });

  it('writes float16 bits as they are', async () => {
    const bits = toFloat16(Float32Array.of(1, 2, 3));
    const file = path.join(folder, 'half.safetensors');
    await writeSafetensors(file, new Map([['h', { type: 'F16', shape: [3], data: bits }]]));
    const back = await openSafetensorsFile(file);
    expect(await back.read('h', 'float16')).toEqual(bits);
    await back.close();
  });

  it('keeps the old file, and leaves nothing else, if a tensor fails half-way', async () => {
    const home = path.join(folder, 'keep');
    const file = path.join(home, 'model.safetensors');
    await writeSafetensors(file, new Map([['w', { type: 'F32', shape: [1], data: Float32Array.of(5) }]]));
    const before = await readFile(file);
    const failing = new Map<string, TensorEntry>([
      ['a', { type: 'F32', shape: [1], data: Float32Array.of(6) }],
      ['b', { type: 'F32', shape: [2], data: () => Float32Array.of(6) }],
    ]);
    await expect(writeSafetensors(file, failing)).rejects.toThrow('tensor "b" of F32 [2] has 4 bytes, not 8');
    expect((await readFile(file)).equals(before)).toBe(true);
    expect(await readdir(home)).toEqual(['model.safetensors']);
  });

  it.skipIf(process.platform !== 'linux')('says that the disk is full', async () => {
    // The device fails every write as a full disk does.
    const { writeAtomically } = await import('../../src/checkpoint/atomic.js');
    const file = path.join(folder, 'full', 'model.safetensors');
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, 'old');
    const full = await import('node:fs/promises').then((fs) => fs.open('/dev/full', 'w'));
    const write = writeAtomically(file, async () => {
      await full.write(new Uint8Array(10));
    });
    await expect(write).rejects.toThrow(`cannot write ${file}: the disk is full; free some space`);
    await full.close();
    expect(await readFile(file, 'utf8')).toBe('old');
    expect(await readdir(path.dirname(file))).toEqual(['model.safetensors']);
  });

  it('names a path that cannot be written', async () => {
    await writeFile(path.join(folder, 'plain'), 'x');
    const file = path.join(folder, 'plain', 'model.safetensors');
    await expect(writeSafetensors(file, new Map())).rejects.toThrow(`cannot write ${file}: `);
  });
});

describe('shards', () => {
  const home = path.join(folder, 'shards');
  const index = path.join(home, 'model.safetensors.index.json');
  const write = (map: unknown) =>
    writeFile(index, typeof map === 'string' ? map : JSON.stringify({ weight_map: map }));

  it('are read as one', async () => {
    for (const [file, name] of [
      ['1.safetensors', 'a'],
      ['2.safetensors', 'b'],
    ] as const)
      await writeSafetensors(
        path.join(home, file),
        new Map([[name, { type: 'F32', shape: [1], data: Float32Array.of(name.charCodeAt(0)) }]]),
      );
    await write({ a: '1.safetensors', b: '2.safetensors' });
    const model = await openSafetensors(index);
    expect([...model.tensors.keys()]).toEqual(['a', 'b']);
    expect([...(await model.readFloat32('a')), ...(await model.readFloat32('b'))]).toEqual([97, 98]);
    await model.close();
  });

  it('that are missing, elsewhere, or lack a tensor are named', async () => {
    await write({ a: '3.safetensors' });
    await expect(openSafetensors(index)).rejects.toThrow(/3\.safetensors: it does not exist/);
    await write({ a: '../1.safetensors' });
    await expect(openSafetensors(index)).rejects.toThrow(/which is no file beside it/);
    await write({ c: '1.safetensors' });
    await expect(openSafetensors(index)).rejects.toThrow(/places tensor "c" in 1.safetensors/);
    await write('{');
    await expect(openSafetensors(index)).rejects.toThrow(/it is no JSON/);
    await write('{}');
    await expect(openSafetensors(index)).rejects.toThrow(/no "weight_map"/);
  });
});
