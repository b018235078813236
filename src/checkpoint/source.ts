import { AnnealError } from '../core/errors.js';

/** Bytes that are read by ranges: a file, or a buffer in memory. */
export interface ByteSource {
  /** What messages call it. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /**
   * Fills `target` with the bytes from `offset` on.
   * @throws AnnealError if the source ends before that, or cannot be read.
   */
  readInto(offset: number, target: Uint8Array): Promise<void>;
  /** Lets go of the file. Idempotent. */
  close(): Promise<void>;
}

/** The error of a read beyond the end: the file shrank, or its header lies. */
export const endsEarly = (source: ByteSource, offset: number, length: number): AnnealError =>
  new AnnealError(
    `${source.name} ends at byte ${source.size}, but bytes ${offset} to ${offset + length} are needed; the file is truncated, fetch it again`,
  );

/** A source over bytes in memory. */
export function memorySource(bytes: Uint8Array, name = 'the buffer'): ByteSource {
  const source: ByteSource = {
    name,
    size: bytes.length,
    async readInto(offset, target) {
      if (offset + target.length > bytes.length) throw endsEarly(source, offset, target.length);
      target.set(bytes.subarray(offset, offset + target.length));
    },
    async close() {},
  };
  return source;
}

/** `length` bytes from `offset` on, in a buffer of their own that starts at its byte 0. */
export async function readRange(source: ByteSource, offset: number, length: number): Promise<Uint8Array> {
  // Checked before the memory is asked for: a lying header must not allocate terabytes.
  if (!(offset >= 0 && length >= 0 && offset + length <= source.size))
    throw endsEarly(source, offset, length);
  // Native code may be handed the bytes, and typed arrays of 64 bytes or less can move.
  const target = new Uint8Array(new ArrayBuffer(Math.max(128, length)), 0, length);
  await source.readInto(offset, target);
  return target;
}
