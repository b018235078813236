import type { StreamDecoder } from './tokenizer.js';

/**
 * Byte-level vocabularies spell every byte as one printable character (Radford et al.: Language Models are
 * Unsupervised Multitask Learners, 2019): printable bytes as themselves, the others from U+0100 upwards, in order.
 */
export const characterOfByte: readonly string[] = byteAlphabet();

const byteOfCharacter = new Map(characterOfByte.map((character, byte) => [character, byte]));

function byteAlphabet(): string[] {
  const isPrintable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

const encoder = new TextEncoder();

/** How a byte-level vocabulary spells bytes. */
export function spellBytes(bytes: Uint8Array): string {
  let spelling = '';
  for (const byte of bytes) spelling += characterOfByte[byte]!;
  return spelling;
}

/** Bytes of a token's spelling; a spelling that is not byte-level stands for its own UTF-8. */
export function spelledBytes(spelling: string): Uint8Array {
  const bytes = new Uint8Array(spelling.length);
  for (let i = 0; i < spelling.length; i++) {
    const byte = byteOfCharacter.get(spelling[i]!);
    if (byte === undefined) return encoder.encode(spelling);
    bytes[i] = byte;
  }
  return bytes;
}

/** UTF-8 to text, bytes that are none as U+FFFD; a byte order mark is a character like others. */
const utf8 = () => new TextDecoder('utf-8', { ignoreBOM: true });

/** Text of tokens whose bytes `bytesOf` gives; tokens without bytes add nothing. */
export function decodeBytes(
  tokens: ArrayLike<number>,
  bytesOf: (token: number) => Uint8Array | undefined,
): string {
  const pieces = Array.from(tokens, (token) => bytesOf(token) ?? new Uint8Array(0));
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return utf8().decode(all);
}

/** Decodes tokens of bytes as they come; bytes of an unfinished character wait for the rest. */
export function byteDecoder(bytesOf: (token: number) => Uint8Array | undefined): StreamDecoder {
  const decoder = utf8();
  return {
    push(token) {
      const bytes = bytesOf(token);
      return bytes?.length ? decoder.decode(bytes, { stream: true }) : '';
    },
    end: () => decoder.decode(),
  };
}

/** Pre-tokenizer and decoder entries of `tokenizer.json` for byte-level vocabularies. */
export const byteLevel = (useRegex: boolean) => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
});

/** The model entry of `tokenizer.json` for byte-pair encoding. */
export const bpeModel = (
  vocab: Record<string, number>,
  merges: readonly string[],
  options: { unknown?: string; ignoreMerges?: boolean } = {},
) => ({
  type: 'BPE',
  dropout: null,
  unk_token: options.unknown ?? null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
  fuse_unk: false,
  byte_fallback: false,
  ignore_merges: options.ignoreMerges ?? false,
  vocab,
  merges,
});
