import { AnnealError } from './errors.js';

const twoTo32 = 2 ** 32;

/** Positions end at 2^53, so 21 bits of the counter's second word hold the index and 11 the lane. */
const laneShift = 21;

/** Two words that name a stream, then the two of the seed, low word first. */
export type Identity = readonly [number, number, number, number];

/**
 * Philox4x32-10: four random 32-bit words as a pure function of a counter and a key. This form is for
 * tests and for hashing; `Rng` writes blocks in bulk.
 *
 * @see Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC'11)
 */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  const [c0, c1, c2, c3] = counter;
  const out = new Uint32Array(4);
  philox(c0, c1, [c2, c3, ...key], out, 0);
  return [out[0]!, out[1]!, out[2]!, out[3]!];
}

/**
 * Writes block `index`, below 2^51, of a lane below 2^11 to `out` from `at`: the counter is the index, the
 * lane above it, and the stream in `id`.
 */
export function writeBlock(index: number, lane: number, id: Identity, out: Uint32Array, at: number): void {
  const high = Math.floor(index / twoTo32) | (lane << laneShift);
  philox(index, high, id, out, at);
}

/**
 * Writes one block of four words to `out` from `at`. `id` holds the last two words of the counter and the
 * two of the key. Numbers are read modulo 2^32.
 */
function philox(counter0: number, counter1: number, id: Identity, out: Uint32Array, at: number): void {
  // Signed throughout: the engine then keeps every word in an integer register.
  let c0 = counter0 | 0;
  let c1 = counter1 | 0;
  let c2 = id[0] | 0;
  let c3 = id[1] | 0;
  let k0 = id[2] | 0;
  let k1 = id[3] | 0;
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(0xd2511f53, c0);
    const high1 = mulHigh(0xcd9e8d57, c2);
    const low0 = Math.imul(0xd2511f53, c0);
    c0 = high1 ^ c1 ^ k0;
    c1 = Math.imul(0xcd9e8d57, c2);
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    // Weyl sequences of the golden ratio and of sqrt(3) - 1.
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  out[at] = c0;
  out[at + 1] = c1;
  out[at + 2] = c2;
  out[at + 3] = c3;
}

/** The high 32 bits, unsigned, of the 64-bit product, from four products of 16-bit halves. */
export function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  // Neither sum exceeds 2^32 - 1: (2^16 - 1)^2 + 2^16 - 1 < 2^32.
  const middle = (Math.imul(aHigh, bLow) + (Math.imul(aLow, bLow) >>> 16)) | 0;
  const carry = (Math.imul(aLow, bHigh) + (middle & 0xffff)) | 0;
  return (Math.imul(aHigh, bHigh) + (middle >>> 16) + (carry >>> 16)) >>> 0;
}

/** Hashes a name onto a stream, with Philox as the mixing function and 64 bits of state. */
export function absorb(stream: readonly [number, number], name: string | number): [number, number] {
  const isText = typeof name === 'string';
  if (!isText && !Number.isSafeInteger(name)) {
    throw new AnnealError(`stream name is ${name}; pass a string or a safe integer`);
  }
  const units = isText ? name.length : 0;
  let [high, low] = stream;
  const mix = (a: number, b: number): void => {
    // Any fixed key separates names from draws under ordinary seeds; this one is the fraction of pi.
    [high, low] = philox4x32([high, low, a, b], [0x243f6a88, 0x85a308d3]);
  };
  // Kind and length first: no name is then the beginning of another.
  mix(units, isText ? 1 : 2);
  if (!isText) mix(name, Math.floor(name / twoTo32));
  else {
    const unit = (i: number): number => (i < units ? name.charCodeAt(i) : 0);
    for (let i = 0; i < units; i += 4) {
      mix((unit(i) << 16) | unit(i + 1), (unit(i + 2) << 16) | unit(i + 3));
    }
  }
  return [high, low];
}
