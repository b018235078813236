import { AnnealError } from '../core/errors.js';
import { formatShape, sizeOf } from '../core/shape.js';
import { fileSource } from './file-source.js';
import { dequantize, type GgmlType, ggmlTypes, isGgmlType } from './ggml.js';
import { type ByteSource, readRange } from './source.js';
import { TensorFile } from './tensor-file.js';

/** Where a tensor lies in a GGUF file. */
export interface GgufTensor {
  readonly type: GgmlType;
  /** Row-major: the last axis is the one that blocks run along (GGUF itself lists axes the other way round). */
  readonly shape: readonly number[];
  readonly offset: number;
  readonly bytes: number;
}

/** A GGUF file, open for reading: header and metadata are read and checked at once, tensors on demand. */
export class GgufFile extends TensorFile<GgufTensor> {
  constructor(
    source: ByteSource,
    /** Everything that the file says besides its tensors; sizes of 64 bits are bigint. */
    readonly metadata: Readonly<Record<string, unknown>>,
    tensors: ReadonlyMap<string, GgufTensor>,
  ) {
    super(source, tensors);
  }

  async readFloat32(name: string): Promise<Float32Array> {
    return dequantize(await this.readBytes(name), this.info(name).type);
  }
}

interface TensorInfo {
  name: string;
  shape: readonly bigint[];
  dtype: number;
  offset: bigint;
}

function placeTensor(
  info: TensorInfo,
  typeName: string | undefined,
  dataOffset: number,
  source: ByteSource,
): GgufTensor {
  const corrupt = (why: string) => new AnnealError(`${source.name}: tensor "${info.name}" ${why}`);
  if (!isGgmlType(typeName)) {
    throw corrupt(
      `is stored as ${typeName ?? `type ${info.dtype}`}, which is not read here, only ${Object.keys(ggmlTypes).join(', ')}; convert the file to one of them`,
    );
  }
  const shape = info.shape.map(Number).reverse();
  const size = sizeOf(shape);
  const { elements, bytes: blockBytes } = ggmlTypes[typeName];
  if (!Number.isSafeInteger(size)) throw corrupt(`has the shape ${formatShape(shape)}; the file is corrupt`);
  if ((shape.at(-1) ?? 1) % elements !== 0)
    throw corrupt(`has rows of ${shape.at(-1)}, no multiple of the ${elements} of a ${typeName} block`);
  const bytes = (size / elements) * blockBytes;
  const offset = dataOffset + Number(info.offset);
  if (offset + bytes > source.size) {
    throw corrupt(
      `ends at byte ${offset + bytes}, the file at ${source.size}; it is truncated, fetch it again`,
    );
  }
  return { type: typeName, shape, offset, bytes };
}

/**
 * Opens a GGUF file. The caller closes it.
 * @throws AnnealError if it is missing, truncated, corrupt, big-endian, or holds a type that is not read here.
 */
export async function openGguf(path: string): Promise<GgufFile> {
  const source = await fileSource(path);
  try {
    // Only models of this format need the package.
    const { gguf, GGMLQuantizationType } = await import('@huggingface/gguf');
    const magic = source.size >= 24 ? new TextDecoder().decode(await readRange(source, 0, 4)) : '';
    if (magic !== 'GGUF') throw new AnnealError(`${path} is no GGUF file`);
    const parsed = await gguf(path, { allowLocalFile: true }).catch((error: unknown) => {
      throw new AnnealError(
        `${path} has no intact GGUF header (${(error as Error).message}); fetch it again`,
      );
    });
    if (!parsed.littleEndian)
      throw new AnnealError(`${path} is big-endian, which is not read here; convert it`);
    const dataOffset = Number(parsed.tensorDataOffset);
    const tensors = new Map<string, GgufTensor>();
    for (const info of parsed.tensorInfos) {
      if (tensors.has(info.name))
        throw new AnnealError(`${path} lists tensor "${info.name}" twice; fetch it again`);
      const typeName = GGMLQuantizationType[info.dtype as number];
      tensors.set(info.name, placeTensor(info, typeName, dataOffset, source));
    }
    return new GgufFile(source, parsed.metadata as Record<string, unknown>, tensors);
  } catch (error) {
    await source.close();
    throw error;
  }
}
