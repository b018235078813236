import { allocate } from './dtype.js';

/** Bits of the float32 values where float16 changes its ways. */
const smallestNormal = 0x38800000; // 2^-14
const firstInfinite = 0x477ff000; // 65520, halfway between the largest float16 and what would follow it
const float32Infinity = 0x7f800000;

/** What turns a float32 exponent, biased by 127, into that of float16, biased by 15, in place. */
const rebias = (127 - 15) << 23;

/**
 * IEEE 754 binary16 bits of `values`, rounded to nearest, ties to even. What lies beyond 65504 by half a
 * step or more becomes infinite; NaN keeps its sign and the upper ten bits of its payload.
 */
export function toFloat16(values: Float32Array): Uint16Array {
  const out = allocate('float16', values.length) as Uint16Array;
  // Reading bits rather than numbers keeps the payload of NaN, which the engine is free to change.
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const magnitude = word & 0x7fffffff;
    let half: number;
    if (magnitude >= firstInfinite) {
      half = magnitude > float32Infinity ? halfNaN(magnitude) : 0x7c00;
    } else if (magnitude >= smallestNormal) {
      // Half a step less one, plus the last bit kept: ties go up from odd and stay at even. A carry out
      // of the fraction raises the exponent, as it should.
      half = (magnitude - rebias + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
    } else {
      half = subnormalHalf(magnitude);
    }
    out[i] = ((word >>> 16) & 0x8000) | half;
  }
  return out;
}

/** The float32 values of IEEE 754 binary16 bits; every one is exact, and NaN keeps its payload. */
export function fromFloat16(bits: Uint16Array): Float32Array {
  const out = allocate('float32', bits.length) as Float32Array;
  const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < bits.length; i++) {
    const half = bits[i]!;
    const sign = (half & 0x8000) << 16;
    const magnitude = half & 0x7fff;
    if (magnitude < 0x400) {
      // Subnormal: a count of 2^-24. Multiplying lets the hardware normalize it.
      out[i] = magnitude * (sign < 0 ? -(2 ** -24) : 2 ** -24);
    } else if (magnitude < 0x7c00) {
      words[i] = sign | ((magnitude << 13) + rebias);
    } else {
      words[i] = sign | float32Infinity | (magnitude << 13);
    }
  }
  return out;
}

/** A NaN whose payload lies wholly in the bits that float16 lacks would turn infinite: make it quiet. */
function halfNaN(magnitude: number): number {
  const payload = (magnitude >>> 13) & 0x3ff;
  return 0x7c00 | (payload === 0 ? 0x200 : payload);
}

/** The nearest count of 2^-24 to a magnitude below 2^-14, given as float32 bits. */
function subnormalHalf(magnitude: number): number {
  // How far the fraction, its leading one made explicit, lies below units of 2^-24.
  const shift = 126 - (magnitude >>> 23);
  // Below 2^-25 everything rounds to zero; a shift of 32 or more would wrap around.
  if (shift > 24) return 0;
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const kept = fraction >>> shift;
  const rest = fraction & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && (kept & 1) === 1) ? kept + 1 : kept;
}
