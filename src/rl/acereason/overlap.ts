import { AnnealError } from '../../core/errors.js';

/** Words of a text as overlap sees them: letters and digits, lower-case, marks and spaces apart. */
export const wordsOf = (text: string): string[] => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];

/** All runs of `n` words of a text, joined by spaces; a shorter text is one run by itself. */
export function ngramsOf(text: string, n: number): string[] {
  const words = wordsOf(text);
  if (words.length === 0) return [];
  const count = Math.max(1, words.length - n + 1);
  return Array.from({ length: count }, (_, i) => words.slice(i, i + n).join(' '));
}

function checkN(n: number): void {
  if (Number.isInteger(n) && n >= 1) return;
  throw new AnnealError(`n-grams of ${n} words; pass a whole number of 1 or more, e.g. 9 for mathematics`);
}

/** An item that shares an n-gram with a text that it must not share one with. */
export interface Overlap<Item> {
  readonly item: Item;
  readonly ngram: string;
  /** Index of the benchmark text. */
  readonly benchmark: number;
}

/**
 * Removes items that share a run of `n` words with any benchmark text: AceReason takes 9 for mathematics and 14 for code
 * (2505.16400, section 3.2). A benchmark text of fewer than n words removes only items that are that very text.
 */
export function decontaminate<Item>(
  items: readonly Item[],
  benchmarks: readonly string[],
  { n = 9, text }: { n?: number; text: (item: Item) => string },
): { kept: Item[]; removed: Overlap<Item>[] } {
  checkN(n);
  const known = new Map<string, number>();
  benchmarks.forEach((benchmark, i) => {
    for (const ngram of ngramsOf(benchmark, n)) if (!known.has(ngram)) known.set(ngram, i);
  });
  const kept: Item[] = [];
  const removed: Overlap<Item>[] = [];
  for (const item of items) {
    const ngram = ngramsOf(text(item), n).find((one) => known.has(one));
    if (ngram === undefined) kept.push(item);
    else removed.push({ item, ngram, benchmark: known.get(ngram)! });
  }
  return { kept, removed };
}

/** Keeps the first of items that share a run of `n` words, or a source where `source` gives one. */
export function deduplicate<Item>(
  items: readonly Item[],
  options: { n?: number; text: (item: Item) => string; source?: (item: Item) => string | undefined },
): Item[] {
  const { n = 14, text, source } = options;
  checkN(n);
  const seen = new Set<string>();
  const sources = new Set<string>();
  return items.filter((item) => {
    const from = source?.(item);
    const ngrams = ngramsOf(text(item), n);
    if (ngrams.some((one) => seen.has(one)) || (from !== undefined && sources.has(from))) return false;
    for (const one of ngrams) seen.add(one);
    if (from !== undefined) sources.add(from);
    return true;
  });
}
