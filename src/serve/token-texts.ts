import type { Tokenizer } from '../data/tokenizer.js';

/** Spellings of single tokens, as logprobs show them. */
export class TokenTexts {
  readonly #tokenizer: Tokenizer;
  readonly #encoder = new TextEncoder();
  readonly #texts = new Map<number, string>();

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  of(token: number): string {
    let text = this.#texts.get(token);
    if (text === undefined) {
      text = this.#tokenizer.decode([token], { special: true });
      this.#texts.set(token, text);
    }
    return text;
  }

  /** A token in chat logprobs; `bytes` is null where the token is part of a character. */
  describe(token: number, logprob: number) {
    const text = this.of(token);
    const bytes = text.includes('\ufffd') ? null : [...this.#encoder.encode(text)];
    return { token: text, logprob, bytes };
  }
}
