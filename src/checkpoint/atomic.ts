import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { AnnealError } from '../core/errors.js';
import { fileError } from './file-source.js';

/** What a body of `writeAtomically` appends to. */
export interface ByteSink {
  /** Appends all of `bytes`, which may be reused when the promise settles. */
  write(bytes: Uint8Array): Promise<void>;
}

let counter = 0;

/** The most that one call hands to the operating system. */
const largestWrite = 2 ** 26;

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const length = Math.min(bytes.length - done, largestWrite);
    const { bytesWritten } = await handle.write(bytes, done, length);
    done += bytesWritten;
  }
}

/** Makes a rename in `folder` survive a power cut. Some file systems (and Windows) cannot; then it is as durable as they are. */
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!['EISDIR', 'EPERM', 'EINVAL', 'ENOTSUP', 'EACCES'].includes(code)) throw error;
  }
}

/**
 * Writes a file so that its path holds either all of the old content or all of the new, whatever happens: into a
 * temporary file beside it, flushed to the disk, then renamed over it. Missing folders are made.
 *
 * @throws AnnealError if the disk is full or the path cannot be written; the temporary file is gone then and the old file intact.
 */
export async function writeAtomically(file: string, body: (sink: ByteSink) => Promise<void>): Promise<void> {
  const folder = path.dirname(file);
  const temporary = path.join(folder, `.${path.basename(file)}.${process.pid}-${counter++}.tmp`);
  let handle: FileHandle | undefined;
  try {
    await mkdir(folder, { recursive: true });
    const opened = await open(temporary, 'wx');
    handle = opened;
    await body({ write: (bytes) => writeAll(opened, bytes) });
    await handle.sync();
    await handle.close();
    handle = undefined;
    await rename(temporary, file);
    await syncFolder(folder);
  } catch (error) {
    await handle?.close().catch(() => undefined);
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error instanceof AnnealError ? error : fileError('write', file, error);
  }
}

/** `writeAtomically` of a text or of bytes that are at hand. */
export function writeFileAtomically(file: string, content: string | Uint8Array): Promise<void> {
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
  return writeAtomically(file, (sink) => sink.write(bytes));
}
