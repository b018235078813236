import { AnnealError } from '../core/errors.js';
import { byteLevel } from './byte-level.js';
import { SplitPreTokenizer } from './tokenizers-library.js';

/**
 * How text is cut before bytes are merged: no token crosses a cut. Regular expressions as `tokenizer.json` has
 * them; a list is applied one after the other.
 */
export const preSplits = {
  /** GPT-2: contractions, words, numbers and punctuation, each with the space before it. */
  gpt2: [String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`],
  /** GPT-4 and Llama 3: contractions of any case, numbers in threes, line ends stay with punctuation. */
  gpt4: [
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  ],
  /** Qwen 2: as GPT-4, but every digit is a token of its own. */
  qwen2: [
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  ],
  /** SmolLM: every digit is a token of its own, the rest as GPT-2. */
  smollm: [
    String.raw`\p{N}`,
    String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
  ],
} as const satisfies Record<string, readonly string[]>;

export type PreSplit = keyof typeof preSplits;

/** The `pre_tokenizer` entry of `tokenizer.json`. */
export function preTokenizer(patterns: readonly string[]): Record<string, unknown> {
  // The form that GPT-2's own tokenizer.json has.
  if (patterns.length === 1 && patterns[0] === preSplits.gpt2[0]) return byteLevel(true);
  return { type: 'Sequence', pretokenizers: [...patterns.map(splitEntry), byteLevel(false)] };
}

const splitEntry = (pattern: string) => ({
  type: 'Split',
  pattern: { Regex: pattern },
  behavior: 'Isolated' as const,
  invert: false,
});

/**
 * Cuts texts at the matches of regular expressions and keeps all of the text. Expressions are in the syntax of
 * `tokenizer.json` (Oniguruma), of which @huggingface/tokenizers translates what JavaScript lacks.
 */
export function splitter(patterns: readonly string[]): (text: string) => string[] {
  const compiled = patterns.map((pattern) => {
    try {
      return new SplitPreTokenizer(splitEntry(pattern)).pattern!;
    } catch (error) {
      throw new AnnealError(
        `the pre-split /${pattern}/ is no regular expression: ${(error as Error).message}`,
      );
    }
  });
  return (text) => {
    let pieces = [text];
    for (const pattern of compiled) pieces = pieces.flatMap((piece) => isolate(piece, pattern));
    return pieces;
  };
}

function isolate(text: string, pattern: RegExp): string[] {
  // Where the matches cover the text, which they usually do, `match` is several times faster than `matchAll`.
  const matches = text.match(pattern) ?? [];
  let covered = 0;
  for (const match of matches) covered += match.length;
  if (covered === text.length) return matches.filter(Boolean);
  const pieces: string[] = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > end) pieces.push(text.slice(end, match.index));
    if (match[0]) pieces.push(match[0]);
    end = match.index + match[0].length;
  }
  if (end < text.length) pieces.push(text.slice(end));
  return pieces;
}
