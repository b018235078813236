import { describe, expect, test } from 'vitest';
import { fromFloat16, toFloat16 } from '../../src/core/float16.js';

const allPatterns = Uint16Array.from({ length: 65536 }, (_, i) => i);

/** The value of a pattern by the definition of binary16. */
function meaning(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

const halfOf = (value: number): number => toFloat16(new Float32Array([value]))[0]!;

/** The float32 that lies `steps` further from zero. */
function away(value: number, steps: number): number {
  const float = new Float32Array([value]);
  new Int32Array(float.buffer)[0]! += steps;
  return float[0]!;
}

describe('float16', () => {
  test('all 65,536 patterns have the value that the standard gives them', () => {
    const floats = fromFloat16(allPatterns);
    for (let half = 0; half < 65536; half++) {
      // Object.is tells -0 from 0 and takes NaN for itself.
      if (!Object.is(floats[half], meaning(half))) expect(floats[half]).toBe(meaning(half));
    }
  });

  test('all 65,536 patterns survive the way to float32 and back, payloads of NaN included', () => {
    expect(toFloat16(fromFloat16(allPatterns))).toEqual(allPatterns);
  });

  test('rounds to nearest, ties to even, between every two neighbours', () => {
    for (const sign of [1, -1]) {
      const signBit = sign < 0 ? 0x8000 : 0;
      for (let half = 0; half < 0x7c00; half++) {
        // The midpoint above the largest finite value counts as a tie with 65536, in the place of infinity.
        const next = half === 0x7bff ? 65536 : meaning(half + 1);
        const middle = (sign * (meaning(half) + next)) / 2;
        const even = half + (half & 1);
        const got = [halfOf(middle), halfOf(away(middle, -1)), halfOf(away(middle, 1))];
        const wanted = [signBit | even, signBit | half, signBit | (half + 1)];
        if (got.some((bits, i) => bits !== wanted[i])) expect([half, ...got]).toEqual([half, ...wanted]);
      }
    }
  });

  test('handles what float16 cannot hold', () => {
    expect(halfOf(65504)).toBe(0x7bff);
    expect(halfOf(65519.996)).toBe(0x7bff);
    expect(halfOf(65520)).toBe(0x7c00);
    expect(halfOf(-3e38)).toBe(0xfc00);
    expect(halfOf(Number.NEGATIVE_INFINITY)).toBe(0xfc00);
    expect(halfOf(Number.NaN) & 0x7fff).toBeGreaterThan(0x7c00);
    // Subnormal in float32 already.
    expect(halfOf(-1e-45)).toBe(0x8000);
    // A payload that float16 drops must not turn NaN into infinity.
    const faint = new Float32Array(new Uint32Array([0x7f800001, 0xff801fff]).buffer);
    expect([...toFloat16(faint)]).toEqual([0x7e00, 0xfe00]);
  });

  test('takes views and empty arrays', () => {
    expect(toFloat16(new Float32Array([0, 1, 2, 3]).subarray(1, 3))).toEqual(
      new Uint16Array([0x3c00, 0x4000]),
    );
    expect(fromFloat16(new Uint16Array([0, 0x3c00, 0x4000]).subarray(1))).toEqual(new Float32Array([1, 2]));
    expect(toFloat16(new Float32Array())).toHaveLength(0);
    expect(fromFloat16(new Uint16Array())).toHaveLength(0);
  });
});
