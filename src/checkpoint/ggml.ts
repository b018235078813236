import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { toFloat32 } from './element-types.js';

/**
 * The element types of GGUF files that are read here. A block of `elements` numbers takes `bytes` bytes.
 *
 * | type | block | value of element i |
 * | --- | --- | --- |
 * | Q8_0 | d f16, q int8[32] | d·q |
 * | Q4_0 | d f16, q 4 bits[32] | d·(q − 8) |
 * | Q4_1 | d, m f16, q 4 bits[32] | d·q + m |
 * | Q4_K | d, m f16, 8 scales and 8 minima of 6 bits, q 4 bits[256] | d·s·q − m·n, s and n of its 32 |
 * | Q6_K | q 6 bits[256], 16 scales int8, d f16 | d·s·(q − 32), s of its 16 |
 *
 * Layouts: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
 */
export const ggmlTypes = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
  Q8_0: { elements: 32, bytes: 34 },
  Q4_K: { elements: 256, bytes: 144 },
  Q6_K: { elements: 256, bytes: 210 },
} as const;

/** An element type of a GGUF file. */
export type GgmlType = keyof typeof ggmlTypes;

export const isGgmlType = (name: unknown): name is GgmlType =>
  typeof name === 'string' && Object.hasOwn(ggmlTypes, name);

const float16Word = new Float32Array(1);
const float16Bits = new Uint32Array(float16Word.buffer);

/** One float16 at byte `at`. The conversion of arrays allocates; scales come one at a time. */
export function halfAt(bytes: Uint8Array, at: number): number {
  const half = bytes[at]! | (bytes[at + 1]! << 8);
  const magnitude = half & 0x7fff;
  if (magnitude < 0x400) return magnitude * (half & 0x8000 ? -(2 ** -24) : 2 ** -24);
  const exponent = magnitude < 0x7c00 ? magnitude + 0x1c000 : magnitude + 0x38000;
  float16Bits[0] = ((half & 0x8000) << 16) | (exponent << 13);
  return float16Word[0]!;
}

const signed = (byte: number): number => (byte << 24) >> 24;

/** Dequantises the block at byte `at` into `out` from element `to` on. */
type BlockReader = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

/** Low halves of the 16 bytes are elements 0 to 15, high halves 16 to 31. */
const q4: (low: (d: number, bytes: Uint8Array, at: number) => number, header: number) => BlockReader =
  (offset, header) => (bytes, at, out, to) => {
    const d = halfAt(bytes, at);
    const m = offset(d, bytes, at);
    for (let i = 0; i < 16; i++) {
      const byte = bytes[at + header + i]!;
      out[to + i] = Math.fround(d * (byte & 15)) + m;
      out[to + 16 + i] = Math.fround(d * (byte >> 4)) + m;
    }
  };

/** Scale and minimum of group j of 8, packed into 12 bytes of 6-bit numbers. */
export function scaleAndMinimum(bytes: Uint8Array, at: number, j: number): [number, number] {
  if (j < 4) return [bytes[at + j]! & 63, bytes[at + j + 4]! & 63];
  const high = bytes[at + j + 4]!;
  return [(high & 15) | ((bytes[at + j - 4]! >> 6) << 4), (high >> 4) | ((bytes[at + j]! >> 6) << 4)];
}

const q4k: BlockReader = (bytes, at, out, to) => {
  const d = halfAt(bytes, at);
  const m = halfAt(bytes, at + 2);
  for (let j = 0; j < 8; j++) {
    const [s, n] = scaleAndMinimum(bytes, at + 4, j);
    const scale = Math.fround(d * s);
    const minimum = Math.fround(m * n);
    // 32 bytes hold two groups: the low halves one, the high halves the next.
    const from = at + 16 + 32 * (j >> 1);
    const shift = j % 2 === 0 ? 0 : 4;
    for (let i = 0; i < 32; i++)
      out[to + 32 * j + i] = Math.fround(scale * ((bytes[from + i]! >> shift) & 15)) - minimum;
  }
};

/** Integer i of a Q6_K block, 0 to 63. */
export function sixBits(bytes: Uint8Array, at: number, i: number): number {
  const half = i >> 7;
  const quarter = (i >> 5) & 3;
  const l = i & 31;
  // 4 low bits: quarters 0 and 2 share bytes, and 1 and 3; 2 high bits: all four share one.
  const low = bytes[at + 64 * half + 32 * (quarter & 1) + l]! >> (quarter < 2 ? 0 : 4);
  const high = bytes[at + 128 + 32 * half + l]! >> (2 * quarter);
  return (low & 15) | ((high & 3) << 4);
}

const q6k: BlockReader = (bytes, at, out, to) => {
  const d = halfAt(bytes, at + 208);
  for (let i = 0; i < 256; i++) {
    const scale = Math.fround(d * signed(bytes[at + 192 + (i >> 4)]!));
    out[to + i] = scale * (sixBits(bytes, at, i) - 32);
  }
};

const q80: BlockReader = (bytes, at, out, to) => {
  const d = halfAt(bytes, at);
  for (let i = 0; i < 32; i++) out[to + i] = d * signed(bytes[at + 2 + i]!);
};

const blockReaders: Readonly<Record<Exclude<GgmlType, 'F32' | 'F16' | 'BF16'>, BlockReader>> = {
  Q4_0: q4((d) => -8 * d, 2),
  Q4_1: q4((_d, bytes, at) => halfAt(bytes, at + 2), 4),
  Q8_0: q80,
  Q4_K: q4k,
  Q6_K: q6k,
};

/**
 * float32 values of a tensor of a GGUF file, in its order.
 * @throws AnnealError if `bytes` holds no whole number of blocks.
 */
export function dequantize(bytes: Uint8Array, type: GgmlType): Float32Array {
  const { elements, bytes: blockBytes } = ggmlTypes[type];
  const blocks = bytes.length / blockBytes;
  if (!Number.isInteger(blocks))
    throw new AnnealError(`${bytes.length} bytes are no whole number of ${type} blocks of ${blockBytes}`);
  if (type === 'F32' || type === 'F16' || type === 'BF16') return toFloat32(bytes, type);
  const out = allocate('float32', blocks * elements) as Float32Array;
  const read = blockReaders[type];
  for (let b = 0; b < blocks; b++) read(bytes, b * blockBytes, out, b * elements);
  return out;
}
