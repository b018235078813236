import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attention,
  cachedAttention,
  cacheWrite,
  int32,
  program,
  Rng,
  type Variable,
  variable,
  zeros,
} from '../../src/index.js';

const cacheOf = (shape: number[], name: string): Variable => variable(zeros(shape), { name });

/** Median milliseconds of a call. */
function median(call: () => unknown, repeats = 9): number {
  const times = Array.from({ length: repeats }, () => {
    const start = performance.now();
    call();
    return performance.now() - start;
  });
  return times.sort((a, b) => a - b)[repeats >> 1]!;
}

interface Sizes {
  rows: number;
  heads: number;
  kvHeads: number;
  length: number;
  capacity: number;
  size: number;
}

/** A program that appends to a cache, with its variables. */
function appending({ rows, heads, kvHeads, length, capacity, size }: Sizes) {
  const keys = cacheOf([rows, kvHeads, capacity, size], 'keys');
  const values = cacheOf([rows, kvHeads, capacity, size], 'values');
  const kv = [rows, kvHeads, length, size];
  const run = program(
    { q: [rows, heads, length, size], k: kv, v: kv, lengths: int32([rows]) },
    ({ q, k, v, lengths }) => {
      const [y, nextKeys, nextValues] = cachedAttention(q, k, v, keys, values, lengths);
      keys.assign(nextKeys);
      values.assign(nextValues);
      return { y };
    },
  );
  const rng = new Rng(rows);
  const feeds = (lengths: ArrayLike<number>) => ({
    q: rng.normal(rows * heads * length * size),
    k: rng.normal(rows * kvHeads * length * size),
    v: rng.normal(rows * kvHeads * length * size),
    lengths: Int32Array.from(lengths),
  });
  return { run, keys, values, feeds };
}

const sizes = fc
  .record({
    rows: fc.integer({ min: 1, max: 3 }),
    kvHeads: fc.integer({ min: 1, max: 3 }),
    groups: fc.integer({ min: 1, max: 3 }),
    length: fc.integer({ min: 1, max: 4 }),
    room: fc.integer({ min: 0, max: 5 }),
    size: fc.constantFrom(3, 8),
  })
  .map(({ groups, room, ...s }) => ({ ...s, heads: s.kvHeads * groups, capacity: s.length + room }));

describe('attention over a cache', () => {
  it('is attention over the row so far, whatever the shapes', async () => {
    await fc.assert(
      fc.asyncProperty(
        sizes,
        fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
        async (s, share) => {
          const { rows, heads, kvHeads, length, capacity, size } = s;
          const { run, keys, values, feeds } = appending(s);
          const lengths = Array.from({ length: rows }, () =>
            Math.round((capacity - length) * (share.next().value as number)),
          );
          keys.data.set(new Rng(1).normal(keys.size));
          values.data.set(new Rng(2).normal(values.size));
          const given = feeds(lengths);
          const { y } = await run(given);
          run.dispose();
          for (let b = 0; b < rows; b++) {
            // The caches were written in place: their first lengths[b] + length tokens are the whole row.
            const seen = lengths[b]! + length;
            const part = (t: Variable) => {
              const out = new Float32Array(kvHeads * seen * size);
              for (let h = 0; h < kvHeads; h++) {
                const start = (b * kvHeads + h) * capacity * size;
                out.set((t.data as Float32Array).subarray(start, start + seen * size), h * seen * size);
              }
              return out;
            };
            const plain = program(
              { q: [1, heads, length, size], k: [1, kvHeads, seen, size], v: [1, kvHeads, seen, size] },
              ({ q, k, v }) => ({ y: attention(q, k, v, { causal: true }) }),
            );
            const n = heads * length * size;
            const want = await plain({
              q: given.q.subarray(b * n, (b + 1) * n),
              k: part(keys),
              v: part(values),
            });
            plain.dispose();
            want.y.data.forEach((w, i) => {
              expect(Math.abs(y.data[b * n + i]! - w)).toBeLessThan(1e-5);
            });
          }
        },
      ),
      { numRuns: 25, seed: 3 },
    );
  });

  it.each([
    ['one token a row', { rows: 3, heads: 4, kvHeads: 2, length: 1, capacity: 7, size: 8 }, [2, 0, 6]],
    ['one row', { rows: 1, heads: 4, kvHeads: 2, length: 3, capacity: 7, size: 8 }, [4]],
    ['several of both', { rows: 2, heads: 4, kvHeads: 2, length: 3, capacity: 7, size: 8 }, [4, 1]],
  ])('writes in place and nothing else: %s', async (_name, s, lengths) => {
    const { run, keys, values, feeds } = appending(s);
    const before = [keys, values].map((v) => {
      v.data.set(new Rng(5).normal(v.size));
      return { array: v.data, copy: v.read() };
    });
    const given = feeds(lengths);
    await run(given);
    for (const [i, [v, fed]] of [[keys, given.k] as const, [values, given.v] as const].entries()) {
      expect(v.data).toBe(before[i]!.array);
      expect(v.spare).toBeUndefined();
      const expected = before[i]!.copy as Float32Array;
      for (let r = 0; r < s.rows * s.kvHeads; r++) {
        const block = fed.subarray(r * s.length * s.size, (r + 1) * s.length * s.size);
        expected.set(block, (r * s.capacity + lengths[Math.floor(r / s.kvHeads)]!) * s.size);
      }
      expect(v.data).toEqual(expected);
    }
    run.dispose();
  });

  it('takes no time that grows with the capacity', async () => {
    const large = { rows: 8, heads: 4, kvHeads: 4, length: 1, capacity: 4096, size: 64 };
    const { run, keys, feeds } = appending(large);
    const given = feeds(new Int32Array(8).fill(5));
    await run(given);
    const step = median(() => run.runSync(given));
    const target = new Float32Array(keys.size);
    const copy = median(() => target.set(keys.data as Float32Array));
    // A step that copied its two caches would take more than two such copies.
    expect(step).toBeLessThan(copy / 2);
    run.dispose();
  });

  it('keeps the old value for whoever else reads it', async () => {
    const s = { rows: 2, heads: 2, kvHeads: 2, length: 1, capacity: 3, size: 8 };
    const keys = cacheOf([2, 2, 3, 8], 'keys');
    const run = program({ q: [2, 2, 1, 8], lengths: int32([2]) }, ({ q, lengths }) => {
      // One variable as both caches, and its old sum as a result.
      const [y, next] = cachedAttention(q, q, q, keys, keys, lengths);
      keys.assign(next);
      return { y, old: keys.sum() };
    });
    const q = new Float32Array(2 * 2 * s.size).fill(1);
    expect((await run({ q, lengths: Int32Array.of(0, 0) })).old.item()).toBe(0);
    expect((await run({ q, lengths: Int32Array.of(1, 1) })).old.item()).toBe(32);
    run.dispose();
  });

  it('cacheWrite alone is in place, too', async () => {
    const cache = cacheOf([2, 1, 4, 2], 'cache');
    const { data } = cache;
    const run = program({ x: [2, 1, 2, 2], lengths: int32([2]) }, ({ x, lengths }) => {
      cache.assign(cacheWrite(cache, x, lengths));
      return {};
    });
    await run({ x: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), lengths: Int32Array.of(2, 0) });
    expect(cache.data).toBe(data);
    expect([...data]).toEqual([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0]);
    run.dispose();
  });

  it('refuses a write past the capacity, and shapes that do not fit', async () => {
    const s = { rows: 2, heads: 2, kvHeads: 1, length: 2, capacity: 4, size: 8 };
    const { run, feeds } = appending(s);
    await expect(run(feeds([0, 3]))).rejects.toThrow(/invalid indice/);
    run.dispose();
    // The fused operator, too, checks before it writes.
    for (const [length, at] of [
      [1, 4],
      [1, -1],
      [3, 2],
    ] as const) {
      const one = appending({ ...s, rows: 1, length });
      await expect(one.run(one.feeds([at]))).rejects.toThrow(/GroupQueryAttention/);
      expect([...one.keys.data].every((v) => v === 0)).toBe(true);
      one.run.dispose();
    }
    const wrong = (q: number[], k: number[], cache: number[], lengths: number[]) => () =>
      cachedAttention(zeros(q), zeros(k), zeros(k), zeros(cache), zeros(cache), zeros(lengths, 'int32'));
    const [q, k, c] = [
      [2, 4, 1, 8],
      [2, 2, 1, 8],
      [2, 2, 5, 8],
    ] as const;
    expect(wrong([...q], [...k], [2, 2, 5, 6], [2])).toThrow(
      /the cache must be \[rows, heads, capacity, size\]/,
    );
    expect(wrong([...q], [...k], [...c], [3])).toThrow(/lengths must be int32\[2\]/);
    expect(wrong([2, 3, 1, 8], [...k], [...c], [2])).toThrow(/3 query heads are no multiple of 2 key heads/);
    expect(wrong([...q], [2, 2, 6, 8], [...c], [2])).toThrow(/length up to capacity/);
  });
});
