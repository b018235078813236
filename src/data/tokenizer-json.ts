import { AnnealError } from '../core/errors.js';
import { ByteTokenizer } from './byte-tokenizer.js';
import { CharacterTokenizer } from './character-tokenizer.js';
import { PretrainedTokenizer, type TokenizerJson } from './pretrained-tokenizer.js';
import type { Tokenizer } from './tokenizer.js';

/**
 * The tokenizer that the contents of a `tokenizer.json` describe. Byte and character vocabularies are recognised
 * by their shape and run without the general machinery.
 *
 * @param options.endOfText spelling of the token that ends documents; by default one of the usual names
 * @throws AnnealError if this is no description of a tokenizer
 */
export function tokenizerFromJSON(json: unknown, options: { endOfText?: string } = {}): Tokenizer {
  const description = json as TokenizerJson | null;
  if (typeof description !== 'object' || typeof description?.model?.type !== 'string') {
    throw new AnnealError('this is no tokenizer.json: it has no "model" with a "type"');
  }
  const known = asBytes(description) ?? asCharacters(description);
  const { endOfText } = options;
  if (known && (endOfText === undefined || known.idOf(endOfText) === known.endOfText)) return known;
  return new PretrainedTokenizer(description, options);
}

/** Vocabulary of a byte-pair encoding that merges nothing, the only kind that these shapes have. */
function unmergedVocabulary({ model, normalizer }: TokenizerJson): Map<string, number> | undefined {
  const merges = model.merges as unknown[] | undefined;
  if (model.type !== 'BPE' || normalizer || !merges || merges.length) return undefined;
  return new Map(Object.entries(model.vocab as Record<string, number>));
}

const isSpecialOnly = ({ added_tokens = [] }: TokenizerJson) => added_tokens.every(({ special }) => special);

function asBytes(json: TokenizerJson): Tokenizer | undefined {
  const vocabulary = unmergedVocabulary(json);
  const added = json.added_tokens ?? [];
  const pre = json.pre_tokenizer;
  if (!vocabulary || !isSpecialOnly(json) || added.some(({ lstrip, rstrip }) => lstrip || rstrip))
    return undefined;
  if (pre?.type !== 'ByteLevel' || pre.use_regex !== false || pre.add_prefix_space) return undefined;
  if (!ByteTokenizer.describes(vocabulary, added)) return undefined;
  return new ByteTokenizer(added.map(({ content }) => content));
}

function asCharacters(json: TokenizerJson): Tokenizer | undefined {
  const vocabulary = unmergedVocabulary(json);
  if (!vocabulary || json.pre_tokenizer || json.decoder?.type !== 'Fuse') return undefined;
  const added = json.added_tokens ?? [];
  const phrases = added.filter(({ special }) => !special);
  // A phrase that takes white space with it, or only whole words, is none of ours.
  const isPlain = phrases.every(({ lstrip, rstrip, single_word, normalized }) => {
    return !lstrip && !rstrip && !single_word && !normalized;
  });
  if (!isPlain) return undefined;
  for (const { content } of phrases) vocabulary.delete(content);
  const unknown = (json.model.unk_token as string | null) ?? undefined;
  if (unknown !== undefined) vocabulary.delete(unknown);
  const characters = [...vocabulary].sort(([, a], [, b]) => a - b).map(([character]) => character);
  const ends = added.filter(({ special, content }) => special && content !== unknown);
  // Ids must run: characters, phrases, the unknown token, the end of text.
  const ids = new Map([...vocabulary, ...added.map(({ content, id }): [string, number] => [content, id])]);
  const names = [
    ...characters,
    ...phrases.map(({ content }) => content),
    ...(unknown === undefined ? [] : [unknown]),
    ...ends.map(({ content }) => content),
  ];
  const isInOrder = names.every((name, id) => ids.get(name) === id);
  if (!isInOrder || ends.length > 1 || characters.some((one) => [...one].length !== 1)) return undefined;
  return new CharacterTokenizer(characters, {
    ...(unknown !== undefined && { unknown }),
    ...(ends[0] && { endOfText: ends[0].content }),
    ...(phrases.length && { phrases: phrases.map(({ content }) => content) }),
  });
}
