import { AnnealError } from '../core/errors.js';
import { bpeModel, byteLevel, characterOfByte } from './byte-level.js';
import { mergePairs } from './merge-pairs.js';
import { type PreSplit, preSplits, preTokenizer, splitter } from './pre-split.js';
import { PretrainedTokenizer } from './pretrained-tokenizer.js';
import { addedToken } from './special-tokens.js';
import type { Tokenizer } from './tokenizer.js';

export interface TrainBpeOptions {
  /** Tokens in all: special ones, the 256 bytes, merges. Fewer come out only where the text has nothing to merge. */
  vocabularySize: number;
  /** Spellings of special tokens; they take the first ids. By default '<|endoftext|>'. */
  special?: readonly string[];
  /** How text is cut before merging: a name, or regular expressions in the syntax of tokenizer.json. */
  preSplit?: PreSplit | readonly string[];
  /** Pairs that occur less often are not merged. By default 2: a pair seen once compresses only itself. */
  minFrequency?: number;
}

/** Something with text, or text. */
type TextLike = string | { readonly text: string };

/**
 * Trains byte-level byte-pair encoding: starting from bytes, the most frequent pair of neighbouring tokens
 * within a word becomes a token, again and again (Sennrich et al.: Neural Machine Translation of Rare Words with
 * Subword Units, 2016; on bytes, Radford et al. 2019).
 *
 * Texts are read once and kept only as counts of their different words. The result depends on those counts alone,
 * not on the order of the texts. Of equally frequent pairs, the one whose left token has the lower id is merged
 * first, then the one whose right token has, as in Hugging Face's trainer, which gives the same merges.
 *
 * @returns a tokenizer whose `toJSON` is a `tokenizer.json` that Hugging Face's libraries read
 */
export async function trainBpe(
  texts: Iterable<TextLike> | AsyncIterable<TextLike>,
  options: TrainBpeOptions,
): Promise<Tokenizer> {
  const { vocabularySize, special = ['<|endoftext|>'], minFrequency = 2 } = options;
  const least = 256 + special.length;
  if (!Number.isInteger(vocabularySize) || vocabularySize < least) {
    throw new AnnealError(
      `vocabularySize is ${vocabularySize}; pass an integer of at least ${least}: 256 bytes and ${special.length} special tokens`,
    );
  }
  if (new Set(special).size !== special.length || special.includes('')) {
    throw new AnnealError(`special tokens ${JSON.stringify(special)}: pass different, non-empty strings`);
  }
  const { preSplit = 'gpt2' } = options;
  const patterns = typeof preSplit === 'string' ? preSplits[preSplit] : preSplit;
  const counts = await countWords(texts, splitter(patterns));
  if (!counts.size) throw new AnnealError('there is no text to train a tokenizer on');

  // Bytes in the order of the characters that spell them: the order of Hugging Face's trainer.
  const alphabet = [...characterOfByte].sort();
  const spellings = [...special, ...alphabet];
  const idOfByte = Uint32Array.from(
    characterOfByte,
    (character) => special.length + alphabet.indexOf(character),
  );
  const merges = mergePairs(counts, { spellings, idOfByte, vocabularySize, minFrequency });
  return new PretrainedTokenizer(
    {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: special.map((name, id) => addedToken(name, id)),
      normalizer: null,
      pre_tokenizer: preTokenizer(patterns),
      post_processor: null,
      decoder: byteLevel(true),
      model: bpeModel(Object.fromEntries(spellings.map((spelling, id) => [spelling, id])), merges),
    },
    special[0] === undefined ? {} : { endOfText: special[0] },
  );
}

/** How often each word occurs. */
async function countWords(
  texts: Iterable<TextLike> | AsyncIterable<TextLike>,
  split: (text: string) => string[],
): Promise<Map<string, number>> {
  if (typeof texts === 'string') throw new AnnealError('pass a list of texts to train on, not one string');
  const counts = new Map<string, number>();
  for await (const item of texts) {
    for (const word of split(typeof item === 'string' ? item : item.text)) {
      const count = counts.get(word);
      if (count !== undefined) counts.set(word, count + 1);
      else counts.set(word.length > 12 ? detach(word) : word, 1);
    }
  }
  return counts;
}

/** A copy of a string: V8 lets a piece of 13 characters or more keep the whole text that it was cut from alive. */
const detach = (text: string): string => JSON.parse(JSON.stringify(text)) as string;
