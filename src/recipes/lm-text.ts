import { readFile } from 'node:fs/promises';
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
import type { LmConfig } from './lm-settings.js';

/** Texts of documents. */
export interface Corpus {
  training: string[];
  validation: string[];
}

const endOfText = '<|endoftext|>';

/** The documents of text files. */
export async function readDocuments(patterns: readonly string[], _field: string): Promise<string[]> {
  return Promise.all(patterns.map((file) => readFile(file, 'utf8')));
}

async function readTokenizer(file: string | undefined): Promise<Tokenizer> {
  if (file === undefined) throw new AnnealError('tokenizer.kind=file needs tokenizer.file, a tokenizer.json');
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new AnnealError(`tokenizer.file ${file} cannot be read (${error.code ?? error.message})`);
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
