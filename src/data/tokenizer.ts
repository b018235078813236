/** Text to token ids and back. */
export interface Tokenizer {
  /** Number of ids, special tokens included: ids are 0 … size-1. */
  readonly size: number;
  /** Ends a document; undefined where the vocabulary has no such token. */
  readonly endOfText: number | undefined;
  /**
   * Ids of a text. Special tokens that are written out in it (`<|im_start|>`) are recognised only with
   * `special: true`: text of a user must never be able to forge them. None are added around the text.
   * `continued: true` says that the text follows another one, for vocabularies that put a space before the first.
   */
  encode(text: string, options?: { special?: boolean; continued?: boolean }): Int32Array;
  /** Text of ids, byte sequences that are no UTF-8 as U+FFFD; special tokens are left out unless `special` is true. */
  decode(tokens: ArrayLike<number>, options?: { special?: boolean }): string;
  /** Decodes a stream token by token, holding back bytes of an unfinished character. */
  decoder(): StreamDecoder;
  /**
   * Special tokens by spelling; absent where there are none. With them `encodeChat` keeps a message that spells
   * one out from being read as one.
   */
  readonly specialTokens?: ReadonlyMap<string, SpecialToken>;
  /** Id of a token by its spelling in the vocabulary. */
  idOf(token: string): number | undefined;
  /** Contents of a `tokenizer.json` that Hugging Face's libraries read. */
  toJSON(): Record<string, unknown>;
}

/** A token that stands for structure, not for text: the end of a document, the start of a message. */
export interface SpecialToken {
  readonly id: number;
  /** White space before it belongs to it, as `lstrip` in tokenizer.json. */
  readonly stripBefore?: boolean;
  /** White space after it belongs to it, as `rstrip` in tokenizer.json. */
  readonly stripAfter?: boolean;
  /** It is recognised only between characters that are no part of a word, as `single_word` in tokenizer.json. */
  readonly wholeWord?: boolean;
}

/** Turns tokens that arrive one after the other into text. */
export interface StreamDecoder {
  /** Text that this token completes; '' while a character is unfinished. */
  push(token: number): string;
  /** What is left, with U+FFFD for an unfinished character. */
  end(): string;
}
