import type { Tokenizer } from '../data/tokenizer.js';

/**
 * Where each token of a completion ends in its text: entry i counts the UTF-16 units of the text that tokens 0 … i
 * have completed. The ids are decoded one by one, as they were sampled; nothing is tokenised again, so the offsets
 * cannot drift. A token that leaves a character unfinished ends where that character begins; what never gets
 * finished (U+FFFD) belongs to the last token. Special tokens have no text.
 */
export function tokenEnds(tokenizer: Tokenizer, tokens: ArrayLike<number>): Int32Array {
  const decoder = tokenizer.decoder();
  const ends = new Int32Array(tokens.length);
  let length = 0;
  for (let i = 0; i < tokens.length; i++) {
    length += decoder.push(tokens[i]!).length;
    ends[i] = length;
  }
  if (ends.length > 0) ends[ends.length - 1]! += decoder.end().length;
  return ends;
}

/** The token with which the text's first `end` units are complete; -1 if the tokens have less text than that. */
export function tokenAt(ends: ArrayLike<number>, end: number): number {
  let [low, high] = [0, ends.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle]! < end) low = middle + 1;
    else high = middle;
  }
  return low < ends.length ? low : -1;
}
