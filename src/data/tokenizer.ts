/** Text to token ids and back. */
export interface Tokenizer {
  /** Number of ids, special tokens included: ids are 0 … size-1. */
  readonly size: number;
  /** Ends a document; undefined where the vocabulary has no such token. */
  readonly endOfText: number | undefined;
  /**
   * Ids of a text. Special tokens that are written out in it (`<|im_start|>`) are recognised only with
   * `special: true`: text of a user must never be able to forge them. None are added around the text.
   */
  encode(text: string, options?: { special?: boolean }): Int32Array;
  /** Text of ids, byte sequences that are no UTF-8 as U+FFFD; special tokens are left out unless `special` is true. */
  decode(tokens: ArrayLike<number>, options?: { special?: boolean }): string;
  /** Decodes a stream token by token, holding back bytes of an unfinished character. */
  decoder(): StreamDecoder;
  /** Id of a token by its spelling in the vocabulary. */
  idOf(token: string): number | undefined;
  /** Contents of a `tokenizer.json` that Hugging Face's libraries read. */
  toJSON(): Record<string, unknown>;
}

/** Turns tokens that arrive one after the other into text. */
export interface StreamDecoder {
  /** Text that this token completes; '' while a character is unfinished. */
  push(token: number): string;
  /** What is left, with U+FFFD for an unfinished character. */
  end(): string;
}
