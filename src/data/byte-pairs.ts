import { characterOfByte } from './byte-level.js';

/** The model entry of a `tokenizer.json`, as far as byte-pair encoding goes. */
export interface BpeModelEntry {
  readonly vocab?: Readonly<Record<string, number>>;
  readonly merges?: readonly (string | readonly [string, string])[];
  readonly [field: string]: unknown;
}

/** Up to this many tokens a word's best pair is looked for; beyond, a heap has the pairs in order. */
const shortWord = 32;

/** Two ids, or a rank and a place, as one exact number. */
const span = 2 ** 26;

/**
 * Byte-pair encoding of words on token ids: of all neighbouring pairs the one whose merge was learnt first is
 * merged, the leftmost of equals, until none is left. A word of n bytes takes O(n log n), so that a megabyte without
 * a space, which anybody may send to a server, takes about a second and not minutes.
 */
export class BytePairs {
  readonly #idOfByte: Int32Array;
  /** Rank of a merge by its pair of ids; its result by rank. */
  readonly #ranks: Map<number, number>;
  readonly #results: Int32Array;

  private constructor(idOfByte: Int32Array, ranks: Map<number, number>, results: Int32Array) {
    this.#idOfByte = idOfByte;
    this.#ranks = ranks;
    this.#results = results;
  }

  /** Undefined for a model that is more than this: with suffixes, fallbacks or an unknown token. */
  static from(model: BpeModelEntry): BytePairs | undefined {
    const { vocab = {}, merges = [] } = model;
    const extras = [
      'unk_token',
      'dropout',
      'continuing_subword_prefix',
      'end_of_word_suffix',
      'byte_fallback',
    ];
    if (extras.some((name) => model[name])) return undefined;
    const idOfByte = characterOfByte.map((character) => vocab[character] ?? -1);
    const ranks = new Map<number, number>();
    const results = new Int32Array(merges.length);
    for (const [rank, merge] of merges.entries()) {
      const [left, right] = typeof merge === 'string' ? merge.split(' ', 2) : merge;
      const [a, b, both] = [vocab[left!], vocab[right!], vocab[left! + right!]];
      if (a === undefined || b === undefined || both === undefined) return undefined;
      ranks.set(a * span + b, rank);
      results[rank] = both;
    }
    return new BytePairs(Int32Array.from(idOfByte), ranks, results);
  }

  /** Ids of a word. Bytes without a token (published vocabularies lack some) are dropped before anything is merged. */
  encode(bytes: Uint8Array): Int32Array {
    const all = Int32Array.from(bytes, (byte) => this.#idOfByte[byte]!);
    const ids = all.includes(-1) ? all.filter((id) => id >= 0) : all;
    return ids.length <= shortWord ? this.#mergeShort(ids) : this.#mergeLong(ids);
  }

  #rank(left: number, right: number): number {
    return this.#ranks.get(left * span + right) ?? Number.POSITIVE_INFINITY;
  }

  #mergeShort(ids: Int32Array): Int32Array {
    const ranks = Array.from(ids, (id, i) =>
      i + 1 < ids.length ? this.#rank(id, ids[i + 1]!) : Number.POSITIVE_INFINITY,
    );
    let length = ids.length;
    while (length > 1) {
      let best = 0;
      for (let i = 1; i + 1 < length; i++) if (ranks[i]! < ranks[best]!) best = i;
      const rank = ranks[best]!;
      if (rank === Number.POSITIVE_INFINITY) break;
      ids[best] = this.#results[rank]!;
      ids.copyWithin(best + 1, best + 2, length);
      ranks.splice(best + 1, 1);
      length--;
      ranks[best] = best + 1 < length ? this.#rank(ids[best]!, ids[best + 1]!) : Number.POSITIVE_INFINITY;
      if (best > 0) ranks[best - 1] = this.#rank(ids[best - 1]!, ids[best]!);
    }
    return ids.slice(0, length);
  }

  #mergeLong(ids: Int32Array): Int32Array {
    const n = ids.length;
    // Tokens are linked; a token that was merged into the one before it has no id.
    const next = Int32Array.from(ids, (_, i) => i + 1);
    const previous = Int32Array.from(ids, (_, i) => i - 1);
    const queue = new NumberQueue(n);
    const offer = (left: number) => {
      const right = next[left]!;
      if (right >= n) return;
      const rank = this.#rank(ids[left]!, ids[right]!);
      // The lowest rank comes first, of equal ranks the leftmost place.
      if (rank !== Number.POSITIVE_INFINITY) queue.push(rank * span + left);
    };
    for (let i = 0; i + 1 < n; i++) offer(i);
    for (let top = queue.pop(); top !== undefined; top = queue.pop()) {
      const left = top % span;
      const right = next[left]!;
      // Entries outlive their pairs; one whose rank is still right names a pair that is there.
      if (ids[left]! < 0 || right >= n || this.#rank(ids[left]!, ids[right]!) !== (top - left) / span)
        continue;
      ids[left] = this.#results[(top - left) / span]!;
      ids[right] = -1;
      next[left] = next[right]!;
      if (next[left]! < n) previous[next[left]!] = left;
      offer(left);
      if (previous[left]! >= 0) offer(previous[left]!);
    }
    return ids.filter((id) => id >= 0);
  }
}

/** A binary heap of numbers, the smallest first. */
class NumberQueue {
  #heap: Float64Array;
  #size = 0;

  constructor(capacity: number) {
    this.#heap = new Float64Array(Math.max(16, capacity));
  }

  push(value: number): void {
    if (this.#size === this.#heap.length) {
      const larger = new Float64Array(2 * this.#size);
      larger.set(this.#heap);
      this.#heap = larger;
    }
    const heap = this.#heap;
    let at = this.#size++;
    for (let parent = (at - 1) >> 1; at > 0 && heap[parent]! > value; parent = (at - 1) >> 1) {
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = value;
  }

  pop(): number | undefined {
    if (!this.#size) return undefined;
    const heap = this.#heap;
    const top = heap[0]!;
    const value = heap[--this.#size]!;
    let at = 0;
    for (let child = 1; child < this.#size; child = 2 * at + 1) {
      if (child + 1 < this.#size && heap[child + 1]! < heap[child]!) child++;
      if (heap[child]! >= value) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = value;
    return top;
  }
}
