import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { writeAtomically, writeFileAtomically } from '../checkpoint/atomic.js';
import { fileError } from '../checkpoint/file-source.js';
import { AnnealError } from '../core/errors.js';
import type { DataSource } from './sources.js';
import { type TokenArray, TokenDataset } from './token-dataset.js';
import { type TokenizeOptions, tokenize } from './tokenize.js';
import type { Tokenizer } from './tokenizer.js';

const format = 'anneal-tokens-1';

/** The .json beside a .bin. */
interface Header {
  format: string;
  vocabularySize: number;
  bytesPerToken: 2 | 4;
  tokens: number;
  documents: number;
  mask: boolean;
  fingerprint: string;
}

const bytesOf = (array: TokenArray | Uint8Array) =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/**
 * Writes a dataset as `<path>.bin` (token ids, document starts as int32, the mask if there is one; little-endian)
 * and `<path>.json`, which is written last: where it is, the dataset is whole.
 */
export async function saveDataset(base: string, dataset: TokenDataset): Promise<void> {
  await writeAtomically(`${base}.bin`, async (sink) => {
    await sink.write(bytesOf(dataset.tokens));
    await sink.write(bytesOf(dataset.starts));
    if (dataset.mask) await sink.write(bytesOf(dataset.mask));
  });
  const header: Header = {
    format,
    vocabularySize: dataset.vocabularySize,
    bytesPerToken: dataset.tokens.BYTES_PER_ELEMENT as 2 | 4,
    tokens: dataset.length,
    documents: dataset.documents,
    mask: dataset.mask !== undefined,
    fingerprint: dataset.fingerprint,
  };
  await writeFileAtomically(`${base}.json`, `${JSON.stringify(header, undefined, 2)}\n`);
}

/** @throws AnnealError if the files are absent, or not what `saveDataset` wrote */
export async function loadDataset(base: string): Promise<TokenDataset> {
  const header = await readHeader(`${base}.json`);
  const { bytesPerToken, tokens, documents } = header;
  const bytes = await readFile(`${base}.bin`).catch((error: unknown) => {
    throw fileError('read', `${base}.bin`, error);
  });
  const expected = tokens * bytesPerToken + 4 * documents + (header.mask ? tokens : 0);
  const damaged = (why: string) => new AnnealError(`${base}.bin ${why}; delete it and tokenize again`);
  if (bytes.length !== expected) throw damaged(`has ${bytes.length} bytes instead of ${expected}`);
  // Copies, because a file's bytes may begin anywhere, and numbers must lie at multiples of their size.
  const piece = (from: number, length: number) => new Uint8Array(bytes.subarray(from, from + length)).buffer;
  const startsAt = tokens * bytesPerToken;
  const ids = piece(0, startsAt);
  let dataset: TokenDataset;
  try {
    dataset = new TokenDataset(
      bytesPerToken === 2 ? new Uint16Array(ids) : new Int32Array(ids),
      header.vocabularySize,
      new Int32Array(piece(startsAt, 4 * documents)),
      header.mask ? new Uint8Array(piece(startsAt + 4 * documents, tokens)) : undefined,
    );
  } catch (error) {
    throw damaged(`is damaged (${(error as Error).message})`);
  }
  if (dataset.fingerprint !== header.fingerprint) throw damaged('is damaged: its fingerprint differs');
  return dataset;
}

async function readHeader(file: string): Promise<Header> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw fileError('read', file, error);
  });
  try {
    const header = JSON.parse(text) as Header;
    if (header.format === format) return header;
  } catch {
    // Falls through: no JSON is as wrong as other JSON.
  }
  throw new AnnealError(`${file} describes no dataset of format ${format}; delete it and tokenize again`);
}

export interface CacheOptions extends TokenizeOptions {
  /** Folder of the cached files. */
  directory: string;
}

/**
 * Documents as tokens, from the cache if the same documents were tokenized by the same tokenizer before. The key is
 * a hash of the contents of both: changed data are tokenized again, moved or renamed files are not. A damaged entry
 * is replaced.
 */
export async function cachedTokens(
  source: DataSource<{ text: string }>,
  tokenizer: Tokenizer,
  options: CacheOptions,
): Promise<TokenDataset> {
  const { directory, delimit } = options;
  const hash = createHash('sha256')
    .update(format)
    .update(await source.fingerprint());
  hash.update(JSON.stringify([tokenizer.toJSON(), tokenizer.endOfText ?? null, delimit ?? null]));
  const base = path.join(directory, `tokens-${hash.digest('hex').slice(0, 24)}`);
  if (await stat(`${base}.json`).catch(() => undefined)) {
    const stored = await loadDataset(base).catch(() => undefined);
    if (stored) return stored;
  }
  const dataset = await tokenize(source, tokenizer, delimit ? { delimit } : {});
  await saveDataset(base, dataset);
  return dataset;
}
