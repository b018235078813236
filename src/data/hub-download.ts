import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import { fileError } from '../checkpoint/file-source.js';
import { AnnealError } from '../core/errors.js';
import type { HubLibrary } from './hub.js';

/** A file as the Hub lists it. */
export interface HubFile {
  path: string;
  size: number;
  /** Git's object id: SHA-1 of a header and the content, for files that are in git itself. */
  oid: string;
  /** SHA-256 of the content, for large files, which git only points to. */
  sha256: string | undefined;
}

const sizeOf = async (file: string) => (await stat(file).catch(() => undefined))?.size ?? 0;

/**
 * Downloads a file of the Hub to a path that names its content. A part that an earlier attempt left is continued;
 * the file appears under its name only when its size and hash are right.
 */
export async function download(
  library: HubLibrary,
  from: Parameters<HubLibrary['downloadFile']>[0],
  file: HubFile,
  target: string,
): Promise<void> {
  if ((await stat(target).catch(() => undefined))?.isFile()) return;
  await mkdir(path.dirname(target), { recursive: true });
  const part = `${target}.incomplete`;
  const blob = await library.downloadFile(from);
  if (!blob) throw new AnnealError(`the Hub lists ${file.path} and does not have it; try again`);
  let done = await sizeOf(part);
  if (done > file.size) {
    await rm(part, { force: true });
    done = 0;
  }
  if (done < file.size || file.size === 0) {
    const rest = done ? blob.slice(done) : blob;
    const sink = createWriteStream(part, { flags: done ? 'a' : 'w' });
    try {
      await pipeline(Readable.fromWeb(rest.stream() as ReadableStream), sink);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      throw code === 'ENOSPC' || code === 'EACCES' ? fileError('write', part, error) : error;
    }
  }
  await check(part, file);
  await rename(part, target);
}

/** @throws AnnealError, and removes the file, if it is not what the Hub listed */
async function check(part: string, file: HubFile): Promise<void> {
  const size = await sizeOf(part);
  if (size < file.size) {
    throw new AnnealError(
      `the download of ${file.path} broke off at ${size} of ${file.size} bytes; try again`,
    );
  }
  const hash = createHash(file.sha256 ? 'sha256' : 'sha1');
  if (!file.sha256) hash.update(`blob ${size}\0`);
  for await (const chunk of createReadStream(part)) hash.update(chunk as Uint8Array);
  if (size === file.size && hash.digest('hex') === (file.sha256 ?? file.oid)) return;
  await rm(part, { force: true });
  throw new AnnealError(
    `what was downloaded of ${file.path} is not what the Hub lists (its hash differs); try again`,
  );
}
