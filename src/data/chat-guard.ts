import { anyOf, splitSpecial } from './special-tokens.js';
import { TokenBuffer } from './token-buffer.js';
import type { Tokenizer } from './tokenizer.js';

/** Noncharacters, which Unicode keeps for internal use: no text that is exchanged has them. */
const open = '\ufdd0';
const close = '\ufdd1';
/** Marks the borders of answers, see `encodeConversation`. */
export const border = '\ufdd2';
const reserved = /[\ufdd0-\ufdd2]/gu;
const hidden = /\ufdd0(\d+)\ufdd1/gu;

/**
 * Keeps special tokens that messages spell out apart from those that the template writes: the former are hidden
 * behind placeholders while the template is rendered, and come back as ordinary text when it is encoded.
 */
export class Guard {
  readonly #tokenizer: Tokenizer;
  readonly #spellings: readonly string[];
  readonly #pattern: RegExp | undefined;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    this.#spellings = [...(tokenizer.specialTokens?.keys() ?? [])];
    this.#pattern = anyOf(this.#spellings);
  }

  /** A copy of messages, or of anything in them, in which no text spells out a special token. */
  hide<T>(value: T): T {
    if (typeof value === 'string') return this.#hideText(value) as T;
    if (Array.isArray(value)) return value.map((item) => this.hide(item)) as T;
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.hide(item)])) as T;
  }

  /** The text with what was hidden spelled out again. */
  show(text: string): string {
    return text.replace(hidden, (_, index: string) => this.#spellings[Number(index)]!);
  }

  /**
   * Tokens of consecutive parts of a rendered text. Each part is encoded by itself, so that no token lies across
   * two of them.
   */
  encode(parts: readonly string[]): Int32Array[] {
    let continued = false;
    return parts.map((part) => {
      const tokens = new TokenBuffer();
      for (const section of splitSpecial(part, this.#tokenizer.specialTokens ?? new Map())) {
        if (typeof section !== 'string') tokens.push(section.id);
        else tokens.append(this.#tokenizer.encode(this.show(section), { continued }));
        continued = true;
      }
      return tokens.toArray();
    });
  }

  /** Index in a rendered text after the last special token, which the template must have written; 0 for none. */
  endOfLastSpecial(text: string): number {
    let end = 0;
    if (this.#pattern) for (const match of text.matchAll(this.#pattern)) end = match.index + match[0].length;
    return end;
  }

  #hideText(text: string): string {
    const clean = text.replace(reserved, '\ufffd');
    if (!this.#pattern) return clean;
    return clean.replace(this.#pattern, (spelling) => `${open}${this.#spellings.indexOf(spelling)}${close}`);
  }
}
