import { allocate, type DType, type TypedArray } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { fromFloat16 } from '../core/float16.js';

/** Bytes of one element, by the names that safetensors files use. */
export const elementBytes = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const;

/** An element type of a safetensors file. */
export type ElementType = keyof typeof elementBytes;

export const isElementType = (name: unknown): name is ElementType =>
  typeof name === 'string' && Object.hasOwn(elementBytes, name);

/** How variables of each dtype are stored. */
export const storedAs: Readonly<Record<Exclude<DType, 'int64'>, ElementType>> = {
  float32: 'F32',
  float64: 'F64',
  float16: 'F16',
  int32: 'I32',
  uint8: 'U8',
  bool: 'BOOL',
};

/** float32 values of bfloat16 bits, the upper halves of float32: exact. */
function fromBfloat16(bits: Uint16Array, out: Float32Array): void {
  const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
}

/** bfloat16 bits of float32 values, rounded to nearest, ties to even; NaN stays NaN. */
export function toBfloat16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = allocate('float16', values.length) as Uint16Array;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const isNan = (word & 0x7fffffff) > 0x7f800000;
    // Adding just under half a step, plus the last bit kept, carries where rounding goes up.
    out[i] = isNan ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return out;
}

/** A view of the elements as numbers, where JavaScript has such an array; `bytes` must start on an element's boundary. */
function viewOf(bytes: Uint8Array, type: Exclude<ElementType, 'F16' | 'BF16' | 'I64' | 'U64'>) {
  const { buffer, byteOffset } = bytes;
  const length = bytes.length / elementBytes[type];
  switch (type) {
    case 'F64':
      return new Float64Array(buffer, byteOffset, length);
    case 'F32':
      return new Float32Array(buffer, byteOffset, length);
    case 'I32':
      return new Int32Array(buffer, byteOffset, length);
    case 'I16':
      return new Int16Array(buffer, byteOffset, length);
    case 'I8':
      return new Int8Array(buffer, byteOffset, length);
    case 'U32':
      return new Uint32Array(buffer, byteOffset, length);
    case 'U16':
      return new Uint16Array(buffer, byteOffset, length);
    default:
      return bytes;
  }
}

/** 64-bit integers, rounded to the nearest number beyond 2^53. */
function wideIntegers(bytes: Uint8Array, type: 'I64' | 'U64'): Float64Array {
  const { buffer, byteOffset } = bytes;
  const length = bytes.length / 8;
  const isSigned = type === 'I64';
  const view = new DataView(buffer, byteOffset, bytes.length);
  return Float64Array.from({ length }, (_, i) =>
    Number(isSigned ? view.getBigInt64(8 * i, true) : view.getBigUint64(8 * i, true)),
  );
}

/** Bytes that start on a boundary of 8, copied only if they do not. */
function aligned(bytes: Uint8Array): Uint8Array {
  return bytes.byteOffset % 8 === 0 ? bytes : new Uint8Array(bytes);
}

/** Elements of any type as float32, little-endian. Integers and float64 are rounded to nearest. */
export function toFloat32(raw: Uint8Array, type: ElementType): Float32Array {
  const bytes = aligned(raw);
  const length = bytes.length / elementBytes[type];
  if (type === 'F32') return new Float32Array(bytes.buffer, bytes.byteOffset, length);
  const out = allocate('float32', length) as Float32Array;
  switch (type) {
    case 'BF16':
      fromBfloat16(new Uint16Array(bytes.buffer, bytes.byteOffset, length), out);
      return out;
    case 'F16':
      return fromFloat16(new Uint16Array(bytes.buffer, bytes.byteOffset, length));
    case 'I64':
    case 'U64': {
      out.set(wideIntegers(bytes, type));
      return out;
    }
    default:
      out.set(viewOf(bytes, type));
      return out;
  }
}

/**
 * Elements as the host storage of a dtype. Floats convert into each other; integers only where every value fits.
 * @throws AnnealError if a value does not fit, naming `what`.
 */
export function toDType(raw: Uint8Array, type: ElementType, dtype: DType, what: string): TypedArray {
  const bytes = aligned(raw);
  if (dtype === 'float32') return toFloat32(bytes, type);
  if (dtype !== 'int64' && storedAs[dtype] === type) {
    const length = bytes.length / elementBytes[type];
    if (dtype === 'float16') return new Uint16Array(bytes.buffer, bytes.byteOffset, length);
    return viewOf(bytes, type as 'F64' | 'I32' | 'U8' | 'BOOL') as TypedArray;
  }
  const isWide = type === 'I64' || type === 'U64';
  if (dtype === 'int32' && (isWide || ['I16', 'I8', 'U32', 'U16', 'U8'].includes(type))) {
    const source = isWide ? wideIntegers(bytes, type) : viewOf(bytes, type as 'U32');
    const out = allocate('int32', source.length);
    for (const [i, v] of source.entries()) {
      if (v !== (v | 0)) throw new AnnealError(`${what}[${i}] is ${v}, which no int32 holds`);
      out[i] = v;
    }
    return out;
  }
  if (dtype === 'float64') return Float64Array.from(toFloat32(bytes, type));
  throw new AnnealError(`${what} is stored as ${type}, which does not convert to ${dtype}`);
}
