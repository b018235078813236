import { AnnealError } from '../core/errors.js';
import {
  bpeModel,
  byteDecoder,
  byteLevel,
  characterOfByte,
  decodeBytes,
  spelledBytes,
} from './byte-level.js';
import { addedToken, splitSpecial } from './special-tokens.js';
import { TokenBuffer } from './token-buffer.js';
import type { SpecialToken, Tokenizer } from './tokenizer.js';

const singleBytes = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));

/** Text as its UTF-8 bytes: ids 0 … 255 are the bytes themselves, special tokens follow. */
export class ByteTokenizer implements Tokenizer {
  readonly size: number;
  readonly endOfText: number | undefined;
  readonly specialTokens: ReadonlyMap<string, SpecialToken>;
  readonly #names: readonly string[];
  readonly #encoder = new TextEncoder();

  /** @param special spellings of the special tokens, from id 256 upwards; the first ends a document */
  constructor(special: readonly string[] = ['<|endoftext|>']) {
    if (new Set(special).size !== special.length || special.includes('')) {
      throw new AnnealError(`special tokens ${JSON.stringify(special)}: pass different, non-empty strings`);
    }
    this.#names = special;
    this.specialTokens = new Map(special.map((name, i) => [name, { id: 256 + i }]));
    this.size = 256 + special.length;
    this.endOfText = special.length ? 256 : undefined;
  }

  encode(text: string, options: { special?: boolean } = {}): Int32Array {
    if (!options.special) return Int32Array.from(this.#encoder.encode(text));
    const tokens = new TokenBuffer();
    for (const section of splitSpecial(text, this.specialTokens)) {
      if (typeof section === 'string') tokens.append(this.#encoder.encode(section));
      else tokens.push(section.id);
    }
    return tokens.toArray();
  }

  decode(tokens: ArrayLike<number>, options: { special?: boolean } = {}): string {
    return decodeBytes(tokens, (token) => {
      const name = options.special ? this.#names[token - 256] : undefined;
      return name === undefined ? singleBytes[token] : this.#encoder.encode(name);
    });
  }

  decoder() {
    return byteDecoder((token) => singleBytes[token]);
  }

  /** Bytes are spelled as in every byte-level vocabulary: a space is `Ġ`. */
  idOf(token: string): number | undefined {
    const special = this.specialTokens.get(token);
    if (special) return special.id;
    const byte = token.length === 1 ? characterOfByte.indexOf(token) : -1;
    return byte < 0 ? undefined : byte;
  }

  toJSON(): Record<string, unknown> {
    return {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: this.#names.map((name, i) => addedToken(name, 256 + i)),
      normalizer: null,
      pre_tokenizer: byteLevel(false),
      post_processor: null,
      decoder: byteLevel(true),
      model: bpeModel(Object.fromEntries(characterOfByte.map((character, byte) => [character, byte])), []),
    };
  }

  /** Whether a `tokenizer.json` describes bytes that are their own ids, with special tokens after them. */
  static describes(vocabulary: ReadonlyMap<string, number>, special: readonly { id: number }[]): boolean {
    if (vocabulary.size !== 256 || special.some(({ id }, i) => id !== 256 + i)) return false;
    return [...vocabulary].every(([spelling, id]) => {
      const bytes = spelledBytes(spelling);
      return characterOfByte[id] === spelling && bytes.length === 1 && bytes[0] === id;
    });
  }
}
