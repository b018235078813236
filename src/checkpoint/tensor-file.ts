import { AnnealError } from '../core/errors.js';
import { type ByteSource, readRange } from './source.js';

/** Tensors by name that are read one at a time, from one file or several. */
export interface TensorReader {
  readonly name: string;
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[] }>;
  /** The elements in row-major order, converted to float32. */
  readFloat32(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Where a tensor lies in a file. */
interface Stored {
  readonly shape: readonly number[];
  readonly offset: number;
  readonly bytes: number;
}

/** A file whose header has been read and checked, and whose tensors are read on demand. */
export abstract class TensorFile<T extends Stored> implements TensorReader {
  constructor(
    private readonly source: ByteSource,
    readonly tensors: ReadonlyMap<string, T>,
  ) {}

  abstract readFloat32(name: string): Promise<Float32Array>;

  get name(): string {
    return this.source.name;
  }

  /** Bytes of a tensor as they are stored: elements, or blocks of them. */
  async readBytes(name: string): Promise<Uint8Array> {
    const { offset, bytes } = this.info(name);
    return readRange(this.source, offset, bytes);
  }

  close(): Promise<void> {
    return this.source.close();
  }

  protected info(name: string): T {
    const found = this.tensors.get(name);
    if (!found) throw new AnnealError(`${this.name} has no tensor "${name}"`);
    return found;
  }
}
