/** Collects ids in an Int32Array that grows by doubling. */
export class TokenBuffer {
  #ids: Int32Array;
  #length = 0;

  constructor(capacity = 256) {
    this.#ids = new Int32Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  push(id: number): void {
    if (this.#length === this.#ids.length) this.#grow(1);
    this.#ids[this.#length++] = id;
  }

  append(ids: ArrayLike<number>): void {
    if (this.#length + ids.length > this.#ids.length) this.#grow(ids.length);
    this.#ids.set(ids, this.#length);
    this.#length += ids.length;
  }

  /** A copy of what was collected. */
  toArray(): Int32Array {
    return this.#ids.slice(0, this.#length);
  }

  #grow(by: number): void {
    const larger = new Int32Array(Math.max(2 * this.#ids.length, this.#length + by));
    larger.set(this.#ids.subarray(0, this.#length));
    this.#ids = larger;
  }
}
