import { allocate } from './dtype.js';
import { AnnealError } from './errors.js';
import { absorb, type Identity, mulHigh, writeBlock } from './philox.js';

export { philox4x32 } from './philox.js';

const twoTo32 = 2 ** 32;

/**
 * A draw reads Philox at the counter (index, lane, stream): lanes keep the readings of one stream apart.
 * The first two hold four positions a block; from `ownBlocks` up a position has whole blocks to itself.
 */
const plainWords = 0;
/** Box-Muller needs two words for two normals; its own lane lets any position read its pair. */
const normalPairs = 1;
/** For draws that may be refused: the n-th attempt reads lane `ownBlocks` + n, so no other draw moves. */
const ownBlocks = 2;

/** Words of the current chunk and of the current retry; draws are synchronous, so generators share them. */
const chunk = new Uint32Array(4096);
const attempt = new Uint32Array(4);

/** Everything a generator's future depends on, as text that survives JSON. */
export interface RngState {
  /** Decimal. */
  seed: string;
  /** 16 hexadecimal digits: the hash of the names that led to the stream. */
  stream: string;
  /** Decimal; see `Rng`. */
  position: string;
}

/**
 * A deterministic source of random numbers, addressed by (seed, stream, position).
 *
 * A value depends on those three and on the method, never on how many values one call asks for: n at once
 * equal n in pieces. A value takes one position, except that `next` takes two. Splitting hashes
 * names and draws nothing, so that adding a consumer leaves all others as they were.
 *
 * `next`, `uniform`, `integers`, `permutation` and `bernoulli` give the same bits on every platform.
 * `normal` and `truncatedNormal` go through Math.log, cos, sin and exp, which engines may round differently
 * in the last place: they repeat bit for bit on the same machine and Node version.
 *
 * Not for secrets: the seed can be recovered from the output.
 */
export class Rng {
  /** Two words that name the stream, then the seed, low word first. */
  #id: Identity;
  #position = 0;

  /**
   * @param seed integer in 0 .. 2^64 - 1 (a number must be a safe integer)
   * @param stream name of an independent sequence under this seed; 1 and '1' differ
   */
  constructor(seed: number | bigint = 0, stream: string | number = 0) {
    const isValid = typeof seed === 'bigint' ? seed >= 0n && seed < 1n << 64n : Number.isSafeInteger(seed);
    if (!isValid || seed < 0) {
      throw new AnnealError(`seed is ${seed}; pass a safe integer or a bigint in 0 .. 2^64 - 1`);
    }
    const wide = BigInt(seed);
    this.#id = [...absorb([0, 0], stream), Number(wide & 0xffffffffn), Number(wide >> 32n)];
  }

  /** The generator that `state()` described. Throws AnnealError for text that `state()` never gives. */
  static restore(state: RngState): Rng {
    const { seed, stream, position } = state;
    const isNumeric = /^\d{1,20}$/.test(seed) && /^\d{1,16}$/.test(position);
    if (!isNumeric || !/^[0-9a-f]{16}$/.test(stream) || Number(position) > 2 ** 53) {
      throw new AnnealError(`${JSON.stringify(state)} is no generator's state; pass what state() returned`);
    }
    const rng = new Rng(BigInt(seed));
    const stream0 = Number.parseInt(stream.slice(0, 8), 16);
    const stream1 = Number.parseInt(stream.slice(8), 16);
    rng.#id = [stream0, stream1, rng.#id[2], rng.#id[3]];
    rng.#position = Number(position);
    return rng;
  }

  /** Where this generator stands, for `restore`. */
  state(): RngState {
    const [stream0, stream1, seed0, seed1] = this.#id;
    return {
      seed: String((BigInt(seed1) << 32n) | BigInt(seed0)),
      stream: [stream0, stream1].map((word) => word.toString(16).padStart(8, '0')).join(''),
      position: String(this.#position),
    };
  }

  /**
   * The independent stream called `name` below this one, at its beginning. The same name gives the same
   * stream, wherever this generator stands; names are strings or safe integers, and 1 and '1' differ.
   */
  split(name: string | number): Rng {
    const child = new Rng();
    const [stream0, stream1, seed0, seed1] = this.#id;
    child.#id = [...absorb([stream0, stream1], name), seed0, seed1];
    return child;
  }

  /** One double in [0, 1), a multiple of 2^-53. */
  next(): number {
    let value = 0;
    this.#draw(2, plainWords, (from, end, at) => {
      // 27 bits of the first word and 26 of the second, which may lie in the next chunk.
      for (let i = from; i < end; i++, at++) value = value * 2 ** 26 + (chunk[i]! >>> (5 + at));
    });
    return value / 2 ** 53;
  }

  /** `n` floats in [low, high), in steps of (high - low) / 2^24; rounding to float32 never yields `high`. */
  uniform(n: number, low = 0, high = 1): Float32Array {
    if (!(low < high && Number.isFinite(high - low))) {
      throw new AnnealError(`uniform from ${low} to ${high} is empty or infinite; pass finite low < high`);
    }
    const out = allocate('float32', checkCount(n)) as Float32Array;
    const step = (high - low) / 2 ** 24;
    // The sum may round up to `high` as it becomes a float32.
    const last = float32Below(high);
    this.#draw(n, plainWords, (from, end, at) => {
      for (let i = from; i < end; i++) {
        const value = Math.fround(low + step * (chunk[i]! >>> 8));
        out[at++] = value < high ? value : last;
      }
    });
    return out;
  }

  /** `n` normal floats, by Box-Muller in float64; the largest possible is 6.8 `std` from `mean`. */
  normal(n: number, mean = 0, std = 1): Float32Array {
    checkMoments(mean, std);
    const out = allocate('float32', checkCount(n)) as Float32Array;
    const toAngle = (2 * Math.PI) / twoTo32;
    this.#draw(n, normalPairs, (from, end, at) => {
      // Even positions take the cosine of their pair and odd ones the sine, wherever the chunk begins.
      for (let pair = from & ~1; pair < end; pair += 2) {
        const radius = std * Math.sqrt(-2 * Math.log((chunk[pair]! + 0.5) / twoTo32));
        const angle = toAngle * chunk[pair + 1]!;
        if (pair >= from) out[at++] = mean + radius * Math.cos(angle);
        if (pair + 1 < end) out[at++] = mean + radius * Math.sin(angle);
      }
    });
    return out;
  }

  /**
   * `n` floats from the normal distribution cut off at `low` and `high`, which are in units of `std` from
   * `mean` and may be infinite. `mean` and `std` are those of the normal before it is cut.
   *
   * Rejection under a uniform proposal. The proposal ends where the density is e^-36 of its peak (below
   * the resolution of the words), so at least 2.7 % of candidates pass, however far out the bounds lie.
   */
  truncatedNormal(n: number, mean = 0, std = 1, low = -2, high = 2): Float32Array {
    checkMoments(mean, std);
    const peak = Math.max(low, Math.min(high, 0));
    const reach = Math.sqrt(peak * peak + 72);
    const from = Math.max(low, -reach);
    const width = (Math.min(high, reach) - from) / twoTo32;
    if (!(low < high && Number.isFinite(width))) {
      throw new AnnealError(`truncatedNormal from ${low} to ${high} std holds nothing; pass low < high`);
    }
    const out = allocate('float32', checkCount(n)) as Float32Array;
    for (let i = 0; i < n; i++) {
      const position = this.#advance(1);
      let x = 0;
      // A block is two candidates: two words to place them, two to judge them.
      for (let tries = 0, accepted = false; !accepted; tries++) {
        const at = 2 * (tries & 1);
        if (at === 0) writeBlock(position, ownBlocks + (tries >> 1), this.#id, attempt, 0);
        x = from + width * (attempt[at]! + 0.5);
        // Written as a product: the difference of the squares would cancel far from zero.
        accepted = attempt[at + 1]! + 0.5 < twoTo32 * Math.exp(0.5 * (peak - x) * (peak + x));
      }
      out[i] = mean + std * x;
    }
    return out;
  }

  /** `n` integers in [low, high), all exactly equally likely; the bounds must fit -2^31 .. 2^31. */
  integers(n: number, low: number, high: number): Int32Array {
    const fits = Number.isInteger(low) && Number.isInteger(high) && low >= -(2 ** 31) && high <= 2 ** 31;
    if (!(fits && low < high)) {
      throw new AnnealError(`integers from ${low} to ${high}: pass integers low < high in -2^31 .. 2^31`);
    }
    const out = allocate('int32', checkCount(n)) as Int32Array;
    const start = this.#position;
    this.#draw(n, plainWords, (from, end, at) => {
      for (let i = from; i < end; i++, at++) out[at] = low + this.#below(high - low, chunk[i]!, start + at);
    });
    return out;
  }

  /** The integers 0 .. n - 1 in random order (Fisher-Yates, inside out). */
  permutation(n: number): Int32Array {
    const out = allocate('int32', checkCount(n)) as Int32Array;
    const start = this.#position;
    this.#draw(n, plainWords, (from, end, at) => {
      for (let i = from; i < end; i++, at++) {
        const other = this.#below(at + 1, chunk[i]!, start + at);
        out[at] = out[other]!;
        out[other] = at;
      }
    });
    return out;
  }

  /** `n` bytes that are 1 with probability `p`, to within 2^-32, and otherwise 0. */
  bernoulli(n: number, p: number): Uint8Array {
    if (!(p >= 0 && p <= 1)) throw new AnnealError(`bernoulli's p is ${p}; pass a probability in 0 .. 1`);
    const out = allocate('bool', checkCount(n)) as Uint8Array;
    const threshold = p * twoTo32;
    this.#draw(n, plainWords, (from, end, at) => {
      for (let i = from; i < end; i++) out[at++] = chunk[i]! < threshold ? 1 : 0;
    });
    return out;
  }

  /**
   * Maps a word to [0, range) without bias: the high half of word * range, unless its low half shows the
   * word to be among the 2^32 mod range that would favour some results. Lemire: Fast Random Integer
   * Generation in an Interval (2019).
   */
  #below(range: number, word: number, position: number): number {
    if (range === twoTo32) return word;
    let low = Math.imul(word, range) >>> 0;
    // The remainder is less than `range`, so most words pass without a division.
    if (low >= range) return mulHigh(word, range);
    const biased = twoTo32 % range;
    for (let tries = 0; low < biased; tries++) {
      if ((tries & 3) === 0) writeBlock(position, ownBlocks + (tries >> 2), this.#id, attempt, 0);
      word = attempt[tries & 3]!;
      low = Math.imul(word, range) >>> 0;
    }
    return mulHigh(word, range);
  }

  /** Puts the words of the next `n` positions into `chunk`, piece by piece, and shows where they lie. */
  #draw(n: number, lane: number, visit: (from: number, end: number, at: number) => void): void {
    const start = this.#advance(n);
    for (let at = 0; at < n; ) {
      // Chunks begin with a whole block, so that a pair is never cut in two.
      const from = (start + at) % 4;
      const first = (start + at - from) / 4;
      const end = Math.min(chunk.length, from + n - at);
      for (let i = 0; i < end; i += 4) writeBlock(first + i / 4, lane, this.#id, chunk, i);
      visit(from, end, at);
      at += end - from;
    }
  }

  /** Passes `n` positions and returns the first of them. */
  #advance(n: number): number {
    const start = this.#position;
    // Not start + n > 2^53: that sum would be rounded.
    if (n > 2 ** 53 - start) {
      throw new AnnealError(`position ${start} + ${n} is past 2^53, the stream's end; split a new stream`);
    }
    this.#position = start + n;
    return start;
  }
}

/** The largest float32 less than `value`. */
function float32Below(value: number): number {
  const float = new Float32Array([value]);
  if (float[0]! < value) return float[0]!;
  const bits = new Int32Array(float.buffer);
  // Sign and magnitude: towards minus infinity, the magnitude falls above zero and grows below it.
  if (float[0] === 0) bits[0] = 0x80000001 | 0;
  else bits[0]! += float[0]! > 0 ? -1 : 1;
  return float[0]!;
}

function checkCount(n: number): number {
  if (Number.isSafeInteger(n) && n >= 0) return n;
  throw new AnnealError(`n is ${n}; pass the number of values, an integer of 0 or more`);
}

function checkMoments(mean: number, std: number): void {
  if (Number.isFinite(mean) && Number.isFinite(std) && std >= 0) return;
  throw new AnnealError(
    `mean ${mean} and std ${std} make no normal; pass finite numbers and std of 0 or more`,
  );
}
