/**
 * Element types. `int64` exists only inside ONNX graphs, where an operator demands it:
 * indices are int32 everywhere a user can see them. `uint8` holds the bytes of quantised weights.
 */
export type DType = 'float32' | 'float64' | 'float16' | 'int32' | 'int64' | 'bool' | 'uint8';

/** Host storage of a tensor. float16 is raw bits in a Uint16Array; bool and uint8 take a byte an element. */
export type TypedArray =
  | Float32Array<ArrayBufferLike>
  | Float64Array<ArrayBufferLike>
  | Int32Array<ArrayBufferLike>
  | Uint8Array<ArrayBufferLike>
  | Uint16Array<ArrayBufferLike>;

interface DTypeInfo {
  /** Bytes per element. */
  bytes: number;
  /** ONNX TensorProto.DataType. */
  onnx: number;
  /** Spelling in printed programs. */
  short: string;
  kind: 'float' | 'int' | 'bool';
}

export const dtypes: Readonly<Record<DType, DTypeInfo>> = {
  float32: { bytes: 4, onnx: 1, short: 'f32', kind: 'float' },
  float64: { bytes: 8, onnx: 11, short: 'f64', kind: 'float' },
  float16: { bytes: 2, onnx: 10, short: 'f16', kind: 'float' },
  int32: { bytes: 4, onnx: 6, short: 'i32', kind: 'int' },
  int64: { bytes: 8, onnx: 7, short: 'i64', kind: 'int' },
  bool: { bytes: 1, onnx: 9, short: 'bool', kind: 'bool' },
  uint8: { bytes: 1, onnx: 2, short: 'u8', kind: 'int' },
};

export const isFloat = (dtype: DType): boolean => dtypes[dtype].kind === 'float';

/** Smallest buffer handed to native code. V8 keeps typed arrays of 64 bytes or less on its moving heap. */
const smallestBuffer = 128;

/** Bytes of a cache line, and of the smallest array that begins at one: shorter ones are read in no time. */
const lineBytes = 64;
const smallestAligned = 4096;

let bytesToLine: ((buffer: ArrayBuffer) => number) | undefined;

/**
 * Lets large arrays begin at a multiple of 64 bytes from now on. JavaScript's own begin anywhere, and then almost every
 * vector that a processor loads lies in two cache lines: products that read weights in place lose a tenth of their speed.
 * @param distance bytes from a buffer's beginning to the next such address, 0 … 63
 */
export function alignArrays(distance: (buffer: ArrayBuffer) => number): void {
  bytesToLine = distance;
}

/**
 * A zero-filled typed array of `length` elements whose memory never moves, so that native code may
 * hold its address: its ArrayBuffer is explicit and at least 128 bytes long. It may begin behind the buffer's beginning.
 */
export function allocate(dtype: DType, length: number): TypedArray {
  const bytes = length * dtypes[dtype].bytes;
  const isAligned = bytesToLine !== undefined && bytes >= smallestAligned;
  const buffer = new ArrayBuffer(isAligned ? bytes + lineBytes : Math.max(smallestBuffer, bytes));
  const start = isAligned ? bytesToLine!(buffer) : 0;
  switch (dtype) {
    case 'float32':
      return new Float32Array(buffer, start, length);
    case 'float64':
      return new Float64Array(buffer, start, length);
    case 'float16':
      return new Uint16Array(buffer, start, length);
    case 'int32':
      return new Int32Array(buffer, start, length);
    case 'bool':
    case 'uint8':
      return new Uint8Array(buffer, start, length);
    case 'int64':
      throw new TypeError('int64 tensors exist only inside graphs; use int32');
  }
}

/** The dtype whose host storage `data` is (bool for bytes), or undefined for arrays that no tensor uses. */
export function dtypeOf(data: unknown): DType | undefined {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof Uint8Array) return 'bool';
  if (data instanceof Uint16Array) return 'float16';
  return undefined;
}
