import type { DType, TypedArray } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { type ElementType, elementBytes, isElementType, toDType, toFloat32 } from './element-types.js';
import { type ByteSource, readRange } from './source.js';
import { TensorFile } from './tensor-file.js';

/** Where a tensor lies in a safetensors file. */
export interface StoredTensor {
  readonly type: ElementType;
  readonly shape: readonly number[];
  /** Byte of the file at which it begins. */
  readonly offset: number;
  readonly bytes: number;
}

/** The format's own limit on headers, against files that would fill the memory. */
const largestHeader = 100e6;

/** Element count of a shape that is small enough to be counted exactly, or undefined. */
function sizeOfShape(shape: unknown): number | undefined {
  if (!Array.isArray(shape)) return undefined;
  let size = 1;
  for (const dim of shape as unknown[]) {
    if (typeof dim !== 'number' || !Number.isInteger(dim) || dim < 0) return undefined;
    size *= dim;
  }
  return Number.isSafeInteger(size) ? size : undefined;
}

function checkEntry(name: string, entry: unknown, dataLength: number, corrupt: (why: string) => AnnealError) {
  if (typeof entry !== 'object' || entry === null)
    throw corrupt(`the entry of tensor "${name}" is no object`);
  const { dtype, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  if (!isElementType(dtype)) {
    throw corrupt(
      `tensor "${name}" has the type ${JSON.stringify(dtype)}, which is none of ${Object.keys(elementBytes).join(', ')}`,
    );
  }
  const size = sizeOfShape(shape);
  if (size === undefined) throw corrupt(`tensor "${name}" has the shape ${JSON.stringify(shape)}`);
  const [begin, end] = Array.isArray(offsets) ? (offsets as unknown[]) : [];
  const inside =
    Number.isSafeInteger(begin) && Number.isSafeInteger(end) && 0 <= Number(begin) && begin! <= end!;
  if (!inside || (offsets as unknown[]).length !== 2)
    throw corrupt(`tensor "${name}" has the offsets ${JSON.stringify(offsets)}`);
  const bytes = (end as number) - (begin as number);
  if (bytes !== size * elementBytes[dtype]) {
    throw corrupt(
      `tensor "${name}" spans ${bytes} bytes, but ${dtype} [${(shape as number[]).join(', ')}] takes ${size * elementBytes[dtype]}`,
    );
  }
  if ((end as number) > dataLength) {
    throw corrupt(
      `tensor "${name}" ends at byte ${String(end)} of the data, which has ${dataLength}: the file is truncated`,
    );
  }
  return { type: dtype, shape: shape as number[], begin: begin as number, bytes };
}

/** The format allows neither overlaps nor holes: each tensor begins where the one before it ends. */
function checkCoverage(
  entries: readonly { name: string; begin: number; bytes: number }[],
  dataLength: number,
  corrupt: (why: string) => AnnealError,
): void {
  let at = 0;
  for (const { name, begin, bytes } of [...entries].sort((a, b) => a.begin - b.begin || a.bytes - b.bytes)) {
    if (begin < at) throw corrupt(`tensor "${name}" overlaps the one before it`);
    if (begin > at) throw corrupt(`${begin - at} bytes before tensor "${name}" belong to no tensor`);
    at = begin + bytes;
  }
  if (at !== dataLength) throw corrupt(`${dataLength - at} bytes at the end belong to no tensor`);
}

interface Header {
  tensors: Map<string, StoredTensor>;
  metadata: Map<string, string>;
}

async function readHeader(source: ByteSource): Promise<Header> {
  const corrupt = (why: string) =>
    new AnnealError(`${source.name} is no intact safetensors file: ${why}; fetch or write it again`);
  if (source.size < 8) throw corrupt(`it has only ${source.size} bytes`);
  const prefix = await readRange(source, 0, 8);
  const length = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (length > largestHeader || length > source.size - 8) {
    throw corrupt(`its header claims ${length} bytes, the file has ${source.size}`);
  }
  let header: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(await readRange(source, 8, length));
    header = JSON.parse(text);
  } catch (error) {
    if (error instanceof AnnealError) throw error;
    throw corrupt('its header is no JSON');
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    throw corrupt('its header is no JSON object');
  const metadata = new Map<string, string>();
  const dataLength = source.size - 8 - length;
  const entries: ({ name: string } & ReturnType<typeof checkEntry>)[] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name !== '__metadata__') entries.push({ name, ...checkEntry(name, entry, dataLength, corrupt) });
    else if (typeof entry !== 'object' || entry === null) throw corrupt('its metadata is no object');
    else
      for (const [key, value] of Object.entries(entry)) {
        if (typeof value !== 'string') throw corrupt(`its metadata "${key}" is no text`);
        metadata.set(key, value);
      }
  }
  checkCoverage(entries, dataLength, corrupt);
  const tensors = new Map<string, StoredTensor>();
  for (const { name, type, shape, begin, bytes } of entries)
    tensors.set(name, { type, shape, offset: 8 + length + begin, bytes });
  return { tensors, metadata };
}

/**
 * A safetensors file, open for reading: the header is read and checked at once, tensors on demand.
 * Format: https://github.com/huggingface/safetensors (8 bytes of length, a JSON header, the data).
 */
export class SafetensorsFile extends TensorFile<StoredTensor> {
  private constructor(
    source: ByteSource,
    tensors: ReadonlyMap<string, StoredTensor>,
    /** The texts that its writer left. */
    readonly metadata: ReadonlyMap<string, string>,
  ) {
    super(source, tensors);
  }

  /**
   * Reads and checks the header: lengths, types, shapes and offsets; no overlaps, no holes, no truncation.
   * @throws AnnealError if anything is wrong; the source is closed then.
   */
  static async open(source: ByteSource): Promise<SafetensorsFile> {
    try {
      const { tensors, metadata } = await readHeader(source);
      return new SafetensorsFile(source, tensors, metadata);
    } catch (error) {
      await source.close();
      throw error;
    }
  }

  async readFloat32(name: string): Promise<Float32Array> {
    return toFloat32(await this.readBytes(name), this.info(name).type);
  }

  /** Elements as host storage of a dtype; integers only where every value fits. */
  async read(name: string, dtype: DType): Promise<TypedArray> {
    return toDType(await this.readBytes(name), this.info(name).type, dtype, `${this.name}: ${name}`);
  }
}
