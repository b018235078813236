/**
 * 64 bits that tell contents apart, as 16 hexadecimal digits: two multiply-and-rotate lanes over 32-bit words, in
 * the manner of MurmurHash3. Against mistakes, not against attacks; the same everywhere.
 */
export class Fingerprint {
  #a = 0x9747b28c;
  #b = 0x5bd1e995;
  #count = 0;

  /** Adds numbers as 32-bit words. */
  add(words: ArrayLike<number>): this {
    let a = this.#a;
    let b = this.#b;
    for (let i = 0; i < words.length; i++) {
      const word = words[i]! | 0;
      a = Math.imul(a ^ Math.imul(word, 0xcc9e2d51), 0x1b873593);
      a = (a << 13) | (a >>> 19);
      b = Math.imul(b ^ word, 0x85ebca6b) + 0x27d4eb2f;
      b = (b << 17) | (b >>> 15);
    }
    this.#a = a;
    this.#b = b;
    this.#count += words.length;
    return this;
  }

  digits(): string {
    const hex = (word: number) => (mix(word) >>> 0).toString(16).padStart(8, '0');
    return hex(this.#a ^ this.#count) + hex(this.#b ^ Math.imul(this.#count, 0xc2b2ae35));
  }
}

/** MurmurHash3's last step: every bit of the word reaches every bit of the result. */
function mix(word: number): number {
  let h = word ^ (word >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}
