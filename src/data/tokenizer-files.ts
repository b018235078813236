import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { fileError } from '../checkpoint/file-source.js';
import { AnnealError } from '../core/errors.js';
import type { Tokenizer } from './tokenizer.js';
import { tokenizerFromJSON } from './tokenizer-json.js';

/**
 * Reads a tokenizer.
 *
 * @param source a `tokenizer.json`, the folder of one, or its contents
 * @param options.endOfText spelling of the token that ends documents; by default one of the usual names
 * @throws AnnealError that names the file where it cannot be read or understood
 */
export async function loadTokenizer(
  source: string | object,
  options: { endOfText?: string } = {},
): Promise<Tokenizer> {
  if (typeof source !== 'string') return tokenizerFromJSON(source, options);
  const info = await stat(source).catch(() => undefined);
  const file = info?.isDirectory() ? path.join(source, 'tokenizer.json') : source;
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw fileError('read', file, error);
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new AnnealError(`${file} is no JSON (${(error as Error).message}); fetch it again`);
  }
  try {
    return tokenizerFromJSON(json, options);
  } catch (error) {
    throw new AnnealError(`${file}: ${(error as Error).message}`);
  }
}

/** Writes `tokenizer.json`, which Hugging Face's libraries read; to a folder under that name. */
export async function saveTokenizer(file: string, tokenizer: Tokenizer): Promise<void> {
  const target = file.endsWith('.json') ? file : path.join(file, 'tokenizer.json');
  await writeFileAtomically(target, `${JSON.stringify(tokenizer.toJSON(), undefined, 2)}\n`);
}
