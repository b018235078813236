import { readFileSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { dequantize, type GgmlType, halfAt } from '../../src/checkpoint/ggml.js';
import { openGguf } from '../../src/checkpoint/gguf.js';
import { AnnealError } from '../../src/core/errors.js';
import { fromFloat16 } from '../../src/core/float16.js';

/** Recorded from the Python package `gguf` by test/golden/record_gguf.py. */
const golden = JSON.parse(readFileSync(new URL('../golden/gguf.json', import.meta.url), 'utf8')) as {
  types: { type: GgmlType; bytes: string; values: string }[];
  file: string;
};
const bytesOf = (base64: string) => new Uint8Array(Buffer.from(base64, 'base64'));
const floatsOf = (base64: string) => new Float32Array(bytesOf(base64).buffer);
const folder = await mkdtemp(path.join(tmpdir(), 'anneal-gguf-'));

async function openBytes(bytes: Uint8Array, name = 'file.gguf') {
  const file = path.join(folder, name);
  await writeFile(file, bytes);
  return openGguf(file);
}

describe('dequantize', () => {
  it.each(golden.types)('$type gives the values of the reference', ({ type, bytes, values }) => {
    const got = dequantize(bytesOf(bytes), type);
    const want = floatsOf(values);
    expect(got.length).toBe(want.length);
    // The reference rounds each product to float32, as we do; fused or reordered steps may differ by an ulp.
    want.forEach((v, i) => {
      expect(Math.abs(got[i]! - v), `[${i}] ${got[i]} against ${v}`).toBeLessThanOrEqual(
        1.5e-7 * Math.max(Math.abs(v), Math.abs(got[i]!)),
      );
    });
    expect(new Set(want).size).toBeGreaterThan(8);
  });

  it('refuses part of a block', () => {
    expect(() => dequantize(new Uint8Array(19), 'Q4_0')).toThrow(/19 bytes are no whole number of Q4_0/);
  });

  it('reads every float16 as the array conversion does', () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const all = fromFloat16(bits);
    const bytes = new Uint8Array(bits.buffer);
    expect(all.every((v, i) => Object.is(halfAt(bytes, 2 * i), v))).toBe(true);
  });
});

describe('openGguf', () => {
  it('reads a file of the reference writer', async () => {
    const file = await openBytes(bytesOf(golden.file));
    expect(file.metadata['general.architecture']).toBe('llama');
    expect(file.metadata['test.number']).toBe(7);
    expect(file.metadata['test.words']).toEqual(['a', 'b']);
    for (const { type, bytes, values } of golden.types) {
      const name = `${type}.weight`;
      expect(file.tensors.get(name)!.type).toBe(type);
      expect(file.tensors.get(name)!.shape).toEqual([2, floatsOf(values).length / 2]);
      expect(await file.readBytes(name)).toEqual(bytesOf(bytes));
      expect((await file.readFloat32(name)).length).toBe(floatsOf(values).length);
    }
    await expect(file.readFloat32('nothing')).rejects.toThrow('has no tensor "nothing"');
    await file.close();
    await expect(file.readBytes('F32.weight')).rejects.toThrow('closed');
  });

  it('refuses a type that it does not read, by name', async () => {
    const bytes = bytesOf(golden.file);
    const text = Buffer.from(bytes).indexOf('Q4_K.weight');
    // After the name: the number of axes, two sizes, then the type.
    const at = text + 'Q4_K.weight'.length + 4 + 16;
    expect(bytes[at]).toBe(12);
    bytes[at] = 13;
    await expect(openBytes(bytes)).rejects.toThrow(/"Q4_K.weight" is stored as Q5_K, which is not read here/);
    bytes[at] = 99;
    await expect(openBytes(bytes)).rejects.toThrow(/"Q4_K.weight" is stored as type 99/);
  });

  it('refuses what is no GGUF file, and a file that is not there', async () => {
    await expect(openBytes(new Uint8Array(100))).rejects.toThrow(/is no GGUF file/);
    await expect(openGguf(path.join(folder, 'absent.gguf'))).rejects.toThrow(/it does not exist/);
    await expect(openGguf(folder)).rejects.toThrow(/it is a directory/);
  });

  it('refuses every truncation with one clear error', async () => {
    const whole = bytesOf(golden.file);
    const { offset, bytes } = (await openBytes(whole)).tensors.get('Q6_K.weight')!;
    // In steps, as opening a file takes a moment; what follows the last tensor is padding.
    const lengths = Array.from({ length: offset + bytes }, (_, i) => i).filter((i) =>
      i < 700 ? i % 7 === 0 : i % 53 === 0,
    );
    for (const length of lengths) {
      await expect(openBytes(whole.subarray(0, length)), `${length} bytes`).rejects.toThrow(AnnealError);
    }
  });

  it('survives any changed byte of the header: an intact answer or one clear error', async () => {
    const whole = bytesOf(golden.file);
    const end = Buffer.from(whole).indexOf('Q6_K.weight') + 40;
    for (let i = 0; i < end; i += 5) {
      const bytes = Uint8Array.from(whole);
      bytes[i] = bytes[i]! ^ 0xff;
      const file = await openBytes(bytes).catch((error: unknown) => {
        expect(error, `byte ${i}`).toBeInstanceOf(AnnealError);
      });
      for (const name of file?.tensors.keys() ?? []) {
        await file!.readFloat32(name).catch((error: unknown) => {
          expect(error, `byte ${i}`).toBeInstanceOf(AnnealError);
        });
      }
      await file?.close();
    }
  });
});
