import { AnnealError } from '../core/errors.js';
import { bpeModel } from './byte-level.js';
import { addedToken, splitSpecial } from './special-tokens.js';
import { TokenBuffer } from './token-buffer.js';
import type { SpecialToken, StreamDecoder, Tokenizer } from './tokenizer.js';

export interface CharacterOptions {
  /** Characters that occur less often are merged into the unknown token; 1 keeps all. */
  minCount?: number;
  /** Keeps only this many characters, the most frequent (of equals the one with the lower code point). */
  maxCharacters?: number;
  /** Whether there is a token for unknown characters; by default only if some were merged into it. */
  unknown?: boolean;
  /** Spelling of a token that ends documents; none by default. */
  endOfText?: string;
  /** Strings that are one token wherever they occur, as the tags of a format; the longest that fits is taken. */
  phrases?: readonly string[];
}

const unknownToken = '<unk>';
const replacement = '\ufffd';

/** A text's characters (code points); halves of a broken surrogate pair become U+FFFD. */
function* charactersOf(text: string): Generator<string> {
  for (const character of text) {
    const code = character.codePointAt(0)!;
    yield code >= 0xd800 && code <= 0xdfff ? replacement : character;
  }
}

/** A tokenizer of the characters of a text, in the order of their code points. */
export function characterTokenizer(
  texts: string | Iterable<string>,
  options: CharacterOptions = {},
): CharacterTokenizer {
  const counts = new Map<string, number>();
  for (const text of typeof texts === 'string' ? [texts] : texts)
    for (const character of charactersOf(text)) counts.set(character, (counts.get(character) ?? 0) + 1);
  const byCode = (a: string, b: string) => a.codePointAt(0)! - b.codePointAt(0)!;
  const kept = [...counts]
    .filter(([, count]) => count >= (options.minCount ?? 1))
    .sort(([a, m], [b, n]) => n - m || byCode(a, b))
    .slice(0, options.maxCharacters ?? Number.POSITIVE_INFINITY)
    .map(([character]) => character);
  if (!kept.length)
    throw new AnnealError('no characters are left for a vocabulary; pass text, or a lower minCount');
  const unknown = options.unknown ?? kept.length < counts.size;
  return new CharacterTokenizer(kept.sort(byCode), {
    ...(unknown && { unknown: unknownToken }),
    ...(options.endOfText !== undefined && { endOfText: options.endOfText }),
    ...(options.phrases && { phrases: options.phrases }),
  });
}

/**
 * One token a character (code point): ids 0 … n-1 in the given order, then the phrases, then the special tokens.
 * Phrases are text like any other, only shorter in tokens: encoding finds them without `special`, decoding writes them.
 */
export class CharacterTokenizer implements Tokenizer {
  readonly size: number;
  readonly endOfText: number | undefined;
  /** Id of characters that are not in the vocabulary; undefined where such characters are an error. */
  readonly unknown: number | undefined;
  readonly specialTokens: ReadonlyMap<string, SpecialToken>;
  readonly #spellings: readonly string[];
  /** Ids of characters. */
  readonly #ids: ReadonlyMap<string, number>;
  readonly #phrases: ReadonlyMap<string, SpecialToken>;
  /** Phrases, and phrases with special tokens. */
  readonly #found: { plain: ReadonlyMap<string, SpecialToken>; all: ReadonlyMap<string, SpecialToken> };

  constructor(
    characters: readonly string[],
    special: { unknown?: string; endOfText?: string; phrases?: readonly string[] } = {},
  ) {
    const { phrases = [] } = special;
    this.#ids = new Map(characters.map((character, id) => [character, id]));
    const names = [special.unknown, special.endOfText].filter((name) => name !== undefined);
    this.#spellings = [...characters, ...phrases, ...names];
    if (new Set(this.#spellings).size !== this.#spellings.length || this.#spellings.includes('')) {
      throw new AnnealError(
        'characters, phrases and special tokens of a vocabulary must be different and not empty',
      );
    }
    const first = characters.length + phrases.length;
    this.#phrases = new Map(phrases.map((phrase, i) => [phrase, { id: characters.length + i }]));
    this.specialTokens = new Map(names.map((name, i) => [name, { id: first + i }]));
    this.#found = { plain: this.#phrases, all: new Map([...this.#phrases, ...this.specialTokens]) };
    this.size = this.#spellings.length;
    this.unknown = special.unknown === undefined ? undefined : first;
    this.endOfText = special.endOfText === undefined ? undefined : this.size - 1;
  }

  /** @throws AnnealError for a character outside the vocabulary where it has no unknown token */
  encode(text: string, options: { special?: boolean } = {}): Int32Array {
    const tokens = new TokenBuffer(text.length + 1);
    const sections = splitSpecial(text, options.special ? this.#found.all : this.#found.plain);
    for (const section of sections) {
      if (typeof section === 'string') {
        for (const character of charactersOf(section)) tokens.push(this.#idOfCharacter(character));
      } else tokens.push(section.id);
    }
    return tokens.toArray();
  }

  decode(tokens: ArrayLike<number>, options: { special?: boolean } = {}): string {
    const end = options.special ? this.size : this.size - this.specialTokens.size;
    let text = '';
    for (let i = 0; i < tokens.length; i++) if (tokens[i]! < end) text += this.#spellings[tokens[i]!] ?? '';
    return text;
  }

  decoder(): StreamDecoder {
    return { push: (token) => this.decode([token]), end: () => '' };
  }

  idOf(token: string): number | undefined {
    return this.#ids.get(token) ?? this.#found.all.get(token)?.id;
  }

  /** Byte-pair encoding without merges, over the whole text: Hugging Face's libraries then split characters. */
  toJSON(): Record<string, unknown> {
    const phrases = [...this.#phrases];
    const unknown = this.unknown === undefined ? undefined : this.#spellings[this.unknown]!;
    const vocabulary = new Map(this.#ids);
    // Phrases and the unknown token in the model's own vocabulary: other readers number the rest from its size.
    for (const [phrase, { id }] of phrases) vocabulary.set(phrase, id);
    if (unknown !== undefined) vocabulary.set(unknown, this.unknown!);
    return {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [
        ...phrases.map(([name, { id }]) => addedToken(name, id, false)),
        ...[...this.specialTokens].map(([name, { id }]) => addedToken(name, id)),
      ],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: { type: 'Fuse' },
      model: bpeModel(Object.fromEntries(vocabulary), [], unknown === undefined ? {} : { unknown }),
    };
  }

  #idOfCharacter(character: string): number {
    const id = this.#ids.get(character) ?? this.unknown;
    if (id !== undefined) return id;
    const code = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
    throw new AnnealError(
      `character ${JSON.stringify(character)} (U+${code}) is not among the ${this.#ids.size} of the vocabulary; ` +
        'remove it, or build the tokenizer with unknown: true',
    );
  }
}
