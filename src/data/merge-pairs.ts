import { PairQueue } from './pair-queue.js';

export interface MergeOptions {
  /** Spellings by id, to which those of merged tokens are added. */
  spellings: string[];
  idOfByte: Uint32Array;
  vocabularySize: number;
  minFrequency: number;
}

/** A pair of tokens as one number: ordered by the left token, then by the right one. */
const pairKey = (left: number, right: number) => left * 2 ** 26 + right;

interface Pair {
  /** Occurrences in all words, counted by how often each word occurs. */
  count: number;
  /** Words that have it, or had it. */
  words: number[];
}

/**
 * Merges the most frequent pair until the vocabulary is full or no pair is frequent enough.
 *
 * Counts are kept up to date instead of counted again: a merge visits only the words that have its pair, and
 * changes only pairs beside it. A pair's entry in the queue may be too high, never too low, so that it is put
 * right when it comes up.
 *
 * @returns the merges as 'left right', in the order that encoding applies them
 */
export function mergePairs(counts: ReadonlyMap<string, number>, options: MergeOptions): string[] {
  const { spellings, vocabularySize, minFrequency } = options;
  const words = new Words(counts, options.idOfByte);
  const pairs = countPairs(words);
  const queue = new PairQueue();
  for (const [key, pair] of pairs) queue.push(pair.count, key);

  const idOfSpelling = new Map(spellings.map((spelling, id) => [spelling, id]));
  const merges: string[] = [];
  while (spellings.length < vocabularySize) {
    const top = queue.pop();
    if (!top) break;
    const pair = pairs.get(top.key)!;
    if (pair.count !== top.count) {
      if (pair.count > 0) queue.push(pair.count, top.key);
      continue;
    }
    if (top.count < Math.max(1, minFrequency)) break;
    const left = Math.floor(top.key / 2 ** 26);
    const right = top.key % 2 ** 26;
    const spelling = spellings[left]! + spellings[right]!;
    // Two merges may lead to the same bytes: they share the token.
    const known = idOfSpelling.get(spelling);
    const id = known ?? spellings.length;
    if (known === undefined) {
      spellings.push(spelling);
      idOfSpelling.set(spelling, id);
    }
    merges.push(`${spellings[left]} ${spellings[right]}`);
    mergeOne(words, pairs, queue, left, right, id);
  }
  return merges;
}

/** Replaces a pair by its token in every word that has it. */
function mergeOne(
  words: Words,
  pairs: Map<number, Pair>,
  queue: PairQueue,
  left: number,
  right: number,
  id: number,
): void {
  const grown = new Map<number, Pair>();
  const change = (a: number, b: number, by: number, word: number) => {
    const key = pairKey(a, b);
    let pair = pairs.get(key);
    if (!pair) {
      pair = { count: 0, words: [] };
      pairs.set(key, pair);
    }
    pair.count += by;
    if (by < 0) return;
    if (pair.words.at(-1) !== word) pair.words.push(word);
    grown.set(key, pair);
  };
  const merged = pairs.get(pairKey(left, right))!;
  const holders = merged.words;
  merged.words = [];
  for (const word of holders) words.merge(word, left, right, id, change);
  // All occurrences are gone, also those that overlapped and were counted but could not be merged.
  merged.count = 0;
  for (const [key, pair] of grown) if (pair.count > 0) queue.push(pair.count, key);
}

function countPairs(words: Words): Map<number, Pair> {
  const pairs = new Map<number, Pair>();
  for (let word = 0; word < words.length; word++) {
    words.forEachPair(word, (left, right, count) => {
      const key = pairKey(left, right);
      const pair = pairs.get(key);
      if (!pair) pairs.set(key, { count, words: [word] });
      else {
        pair.count += count;
        if (pair.words.at(-1) !== word) pair.words.push(word);
      }
    });
  }
  return pairs;
}

/** The different words as sequences of tokens, which shrink in place as pairs are merged. */
class Words {
  readonly length: number;
  readonly #counts: Float64Array;
  readonly #tokens: Int32Array;
  readonly #starts: Int32Array;
  readonly #lengths: Int32Array;

  constructor(counts: ReadonlyMap<string, number>, idOfByte: Uint32Array) {
    const encoder = new TextEncoder();
    this.length = counts.size;
    this.#counts = Float64Array.from(counts.values());
    const bytes = Array.from(counts.keys(), (word) => encoder.encode(word));
    this.#lengths = Int32Array.from(bytes, (word) => word.length);
    this.#starts = new Int32Array(this.length);
    this.#tokens = new Int32Array(bytes.reduce((sum, word) => sum + word.length, 0));
    let at = 0;
    bytes.forEach((word, index) => {
      this.#starts[index] = at;
      for (const byte of word) this.#tokens[at++] = idOfByte[byte]!;
    });
  }

  forEachPair(word: number, visit: (left: number, right: number, count: number) => void): void {
    const start = this.#starts[word]!;
    const end = start + this.#lengths[word]!;
    for (let i = start; i + 1 < end; i++) visit(this.#tokens[i]!, this.#tokens[i + 1]!, this.#counts[word]!);
  }

  /** Replaces the pair from left to right, and reports how often neighbouring pairs occur more or less. */
  merge(
    word: number,
    left: number,
    right: number,
    id: number,
    change: (left: number, right: number, by: number, word: number) => void,
  ): void {
    const tokens = this.#tokens;
    const count = this.#counts[word]!;
    const start = this.#starts[word]!;
    const end = start + this.#lengths[word]!;
    let to = start;
    for (let from = start; from < end; from++) {
      if (tokens[from] !== left || from + 1 >= end || tokens[from + 1] !== right) {
        tokens[to++] = tokens[from]!;
        continue;
      }
      if (to > start) {
        change(tokens[to - 1]!, left, -count, word);
        change(tokens[to - 1]!, id, count, word);
      }
      if (from + 2 < end) {
        change(right, tokens[from + 2]!, -count, word);
        change(id, tokens[from + 2]!, count, word);
      }
      tokens[to++] = id;
      from++;
    }
    this.#lengths[word] = to - start;
  }
}
