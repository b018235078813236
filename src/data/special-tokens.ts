import type { SpecialToken } from './tokenizer.js';

/** A piece of a text: ordinary characters, or the special token that was spelled out there. */
export type Section = string | SpecialToken;

const escapeRegExp = (text: string) => text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');

/** A regular expression that finds the longest of several strings at each place; undefined for none. */
export function anyOf(strings: Iterable<string>): RegExp | undefined {
  // Alternatives are tried in order, so the longer of two that begin alike has to come first.
  const longestFirst = [...strings].filter(Boolean).sort((a, b) => b.length - a.length);
  return longestFirst.length ? new RegExp(longestFirst.map(escapeRegExp).join('|'), 'gu') : undefined;
}

const isWord = (character: string) => /[\p{L}\p{N}_]/u.test(character);

/**
 * Cuts a text at the special tokens that are spelled out in it, leftmost and longest first, as Hugging Face's
 * tokenizers do.
 */
export function splitSpecial(text: string, special: ReadonlyMap<string, SpecialToken>): Section[] {
  const pattern = anyOf(special.keys());
  if (!pattern) return text ? [text] : [];
  const sections: Section[] = [];
  let end = 0;
  let stripNext = false;
  const addText = (until: number, stripEnd = false) => {
    let piece = text.slice(end, until);
    if (stripNext) piece = piece.trimStart();
    if (stripEnd) piece = piece.trimEnd();
    if (piece) sections.push(piece);
  };
  for (const match of text.matchAll(pattern)) {
    const token = special.get(match[0])!;
    const after = match.index + match[0].length;
    if (token.wholeWord && (isWord(text.charAt(match.index - 1)) || isWord(text.charAt(after)))) continue;
    addText(match.index, token.stripBefore);
    sections.push(token);
    end = after;
    stripNext = token.stripAfter ?? false;
  }
  addText(text.length);
  return sections;
}

/** How `tokenizer.json` lists a token that its model does not build from text. */
export interface AddedToken {
  id: number;
  content: string;
  single_word?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  normalized?: boolean;
  special?: boolean;
}

/** The entry of a special token in `tokenizer.json`. */
export const addedToken = (content: string, id: number, special = true): AddedToken => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special,
});

/** Tokens of `added_tokens` by spelling, those that are special or those that are not. */
export function addedBySpelling(tokens: readonly AddedToken[], special: boolean): Map<string, SpecialToken> {
  const chosen = tokens.filter((token) => (token.special ?? false) === special);
  return new Map(
    chosen.map(({ id, content, lstrip, rstrip, single_word }) => [
      content,
      {
        id,
        ...(lstrip && { stripBefore: true }),
        ...(rstrip && { stripAfter: true }),
        ...(single_word && { wholeWord: true }),
      },
    ]),
  );
}
