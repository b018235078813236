import { type FileHandle, open } from 'node:fs/promises';
import { AnnealError } from '../core/errors.js';
import { type ByteSource, endsEarly } from './source.js';

/** A single read of Linux transfers at most 2 GB; smaller pieces also bound what libuv holds at once. */
const largestRead = 2 ** 30;

/** What the operating system says, as a sentence about the file. */
export function fileError(what: string, path: string, error: unknown): AnnealError {
  const code = (error as NodeJS.ErrnoException).code;
  const reason =
    code === 'ENOENT'
      ? 'it does not exist; check the path'
      : code === 'ENOSPC'
        ? 'the disk is full; free some space and try again'
        : code === 'EACCES' || code === 'EPERM'
          ? 'permission is denied'
          : code === 'EISDIR'
            ? 'it is a directory'
            : (error as Error).message;
  return new AnnealError(`cannot ${what} ${path}: ${reason}`);
}

/**
 * Opens a file for reading by ranges. The caller closes it.
 * @throws AnnealError if there is no such file, or it is no file.
 */
export async function fileSource(path: string): Promise<ByteSource> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'r');
    const stat = await handle.stat();
    if (!stat.isFile()) throw Object.assign(new Error('not a file'), { code: 'EISDIR' });
    return new FileSource(path, stat.size, handle);
  } catch (error) {
    await handle?.close();
    throw fileError('read', path, error);
  }
}

class FileSource implements ByteSource {
  #handle: FileHandle | undefined;

  constructor(
    readonly name: string,
    readonly size: number,
    handle: FileHandle,
  ) {
    this.#handle = handle;
  }

  async readInto(offset: number, target: Uint8Array): Promise<void> {
    if (!this.#handle) throw new AnnealError(`cannot read ${this.name}: it was closed before`);
    let done = 0;
    while (done < target.length) {
      const length = Math.min(target.length - done, largestRead);
      let bytesRead: number;
      try {
        ({ bytesRead } = await this.#handle.read(target, done, length, offset + done));
      } catch (error) {
        throw fileError('read', this.name, error);
      }
      if (bytesRead === 0) throw endsEarly(this, offset, target.length);
      done += bytesRead;
    }
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }
}
