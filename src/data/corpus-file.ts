import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { fileError } from '../checkpoint/file-source.js';
import { AnnealError } from '../core/errors.js';

/** What a file was when reading began. */
async function lookAt(file: string): Promise<{ size: number; mtimeMs: number; ino: number }> {
  try {
    return await stat(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw disappeared(file);
    throw fileError('read', file, error);
  }
}

const disappeared = (file: string) =>
  new AnnealError(
    `the corpus file ${file} disappeared while the corpus was being read; put it back and start again`,
  );

/**
 * The bytes of a corpus file, in pieces; what `.gz` ends the name of is decompressed.
 *
 * @throws AnnealError that names the file if it is not there (any more), if it changes meanwhile, or if it is damaged
 */
export async function* readBytes(file: string): AsyncGenerator<Uint8Array> {
  const before = await lookAt(file);
  const raw = createReadStream(file);
  const isCompressed = file.endsWith('.gz');
  const stream = isCompressed ? raw.pipe(createGunzip()) : raw;
  // `pipe` does not pass errors on.
  if (isCompressed) raw.on('error', (error) => stream.destroy(error));
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw disappeared(file);
    if (String((error as NodeJS.ErrnoException).code).startsWith('Z_')) {
      throw new AnnealError(`${file} is no complete gzip file (${(error as Error).message}); fetch it again`);
    }
    throw fileError('read', file, error);
  } finally {
    raw.destroy();
  }
  // An open file can still be read when its name is gone; the run could not be repeated or resumed, though.
  const after = await lookAt(file);
  const isSame = after.size === before.size && after.mtimeMs === before.mtimeMs && after.ino === before.ino;
  if (!isSame) throw new AnnealError(`the corpus file ${file} changed while it was being read; start again`);
}

/** The text of a corpus file; a byte order mark at its beginning is left out. */
export async function* readText(file: string): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8');
  for await (const bytes of readBytes(file)) yield decoder.decode(bytes, { stream: true });
  yield decoder.decode();
}

/** Lines with their numbers from 1, without line ends; a last line without an end counts if it is not empty. */
export async function* readLines(file: string): AsyncGenerator<{ line: string; number: number }> {
  let rest = '';
  let number = 0;
  for await (const piece of readText(file)) {
    const lines = (rest + piece).split('\n');
    rest = lines.pop()!;
    for (const line of lines)
      yield { line: line.endsWith('\r') ? line.slice(0, -1) : line, number: ++number };
  }
  if (rest) yield { line: rest, number: number + 1 };
}

/** SHA-256 of what files contain, and of how they are read, as hexadecimal digits. */
export async function hashFiles(files: readonly string[], how: unknown): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(how));
  for (const file of files) {
    const content = createHash('sha256');
    const { size } = await lookAt(file);
    try {
      for await (const chunk of createReadStream(file)) content.update(chunk as Uint8Array);
    } catch (error) {
      throw fileError('read', file, error);
    }
    hash.update(`${size}:`).update(content.digest());
  }
  return hash.digest('hex');
}
