/** A binary heap of pairs: the highest count first, of equal counts the lowest key. */
export class PairQueue {
  readonly #counts: number[] = [];
  readonly #keys: number[] = [];

  push(count: number, key: number): void {
    let at = this.#counts.length;
    // The hole at `at` rises until its parent comes first.
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#isBefore(this.#counts[parent]!, this.#keys[parent]!, count, key)) break;
      this.#put(at, this.#counts[parent]!, this.#keys[parent]!);
      at = parent;
    }
    this.#put(at, count, key);
  }

  /** Takes out the first pair. */
  pop(): { count: number; key: number } | undefined {
    if (!this.#counts.length) return undefined;
    const top = { count: this.#counts[0]!, key: this.#keys[0]! };
    const count = this.#counts.pop()!;
    const key = this.#keys.pop()!;
    const size = this.#counts.length;
    if (!size) return top;
    let at = 0;
    while (2 * at + 1 < size) {
      let child = 2 * at + 1;
      const other = child + 1;
      if (other < size && this.#comesFirst(other, child)) child = other;
      if (this.#isBefore(count, key, this.#counts[child]!, this.#keys[child]!)) break;
      this.#put(at, this.#counts[child]!, this.#keys[child]!);
      at = child;
    }
    this.#put(at, count, key);
    return top;
  }

  #comesFirst(a: number, b: number): boolean {
    return this.#isBefore(this.#counts[a]!, this.#keys[a]!, this.#counts[b]!, this.#keys[b]!);
  }

  #isBefore(count: number, key: number, otherCount: number, otherKey: number): boolean {
    return count > otherCount || (count === otherCount && key < otherKey);
  }

  #put(at: number, count: number, key: number): void {
    this.#counts[at] = count;
    this.#keys[at] = key;
  }
}
