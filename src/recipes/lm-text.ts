import { readFile } from 'node:fs/promises';
import { fileError } from '../checkpoint/file-source.js';
import {
  ByteTokenizer,
  characterTokenizer,
  type TokenDataset,
  type Tokenizer,
  tokenize,
  tokenizerFromJSON,
  trainBpe,
} from '../data/index.js';
import { AnnealError } from '../index.js';
import { documentsAt, type HubSettings } from './hub-data.js';
import type { LmConfig } from './lm-settings.js';

/** Texts of documents. */
export interface Corpus {
  training: string[];
  validation: string[];
}

const endOfText = '<|endoftext|>';

/**
 * The documents of text, JSONL and Parquet files and of datasets on the Hub. Corrupt lines of JSONL are named on standard
 * error and left out.
 * @param options `field` holds the text of a record; `separator` stands between the documents of a text file
 * @throws AnnealError for files that do not exist or have no text
 */
export async function readDocuments(
  places: string | readonly string[],
  options: { field?: string; separator?: string | undefined; hub?: HubSettings } = {},
): Promise<string[]> {
  const { field, separator, hub = { offline: false } } = options;
  const texts: string[] = [];
  const sources = documentsAt(places, hub, {
    text: field,
    ...(separator !== undefined && { separator }),
    onSkip: ({ file, line, reason }) => process.stderr.write(`left out line ${line} of ${file}: ${reason}\n`),
  });
  for (const source of sources) for await (const { text } of source) texts.push(text);
  if (texts.every((text) => text === '')) throw new AnnealError(`there is no text in ${String(places)}`);
  return texts;
}

async function readTokenizer(file: string | undefined): Promise<Tokenizer> {
  if (file === undefined) throw new AnnealError('tokenizer.kind=file needs tokenizer.file, a tokenizer.json');
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw fileError('read tokenizer.file', file, error);
  });
  try {
    return tokenizerFromJSON(JSON.parse(text));
  } catch (error) {
    if (error instanceof SyntaxError)
      throw new AnnealError(`tokenizer.file ${file} is no JSON: ${error.message}`);
    throw error;
  }
}

/** The tokenizer that the settings describe; trained on the training text, except that characters are counted in all of it. */
export async function makeTokenizer(settings: LmConfig['tokenizer'], corpus: Corpus): Promise<Tokenizer> {
  const hasDocuments = corpus.training.length > 1;
  switch (settings.kind) {
    case 'byte':
      return new ByteTokenizer();
    case 'char': {
      const options = { minCount: settings.minCount, ...(hasDocuments && { endOfText }) };
      return characterTokenizer([...corpus.training, ...corpus.validation], options);
    }
    case 'bpe':
      return trainBpe(corpus.training, { vocabularySize: settings.vocabulary, special: [endOfText] });
    case 'file':
      return readTokenizer(settings.file);
  }
}

/** Documents as tokens, each but an only one closed by the token that ends documents. */
export const tokensOf = (documents: readonly string[], tokenizer: Tokenizer): Promise<TokenDataset> =>
  tokenize(documents, tokenizer, documents.length > 1 ? {} : { delimit: 'none' });
