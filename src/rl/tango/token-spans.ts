import type { Tokenizer } from '../../data/tokenizer.js';

/** A text and, for each token, how many of its UTF-16 units are there once the token has come. */
export interface DecodedTokens {
  readonly text: string;
  readonly ends: Int32Array;
}

/**
 * Decodes ids one by one. Offsets come from the sampled ids themselves: tokenising the text again may cut it in another
 * way, and what belongs to a token would drift.
 */
export function decodeWithEnds(tokenizer: Tokenizer, tokens: ArrayLike<number>): DecodedTokens {
  const decoder = tokenizer.decoder();
  const ends = new Int32Array(tokens.length);
  let text = '';
  for (let i = 0; i < tokens.length; i++) {
    text += decoder.push(tokens[i]!);
    ends[i] = text.length;
  }
  return { text: text + decoder.end(), ends };
}

/**
 * Index of the token in which a span that ends at `end` (exclusive) ends: the one with its last character, as in
 * equation 3 of RL Tango; the released code takes the token after it. −1 where there are no tokens; the last one for
 * an end that only the decoder's rest completes.
 */
export function tokenAtEnd(ends: ArrayLike<number>, end: number): number {
  let low = 0;
  let high = ends.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle]! >= end) high = middle;
    else low = middle + 1;
  }
  return high < 0 ? -1 : low;
}
