import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  microBatchesOf,
  roundedCount,
  roundedLength,
  type Sequence,
  sequenceFeeds,
  spread,
} from '../../src/rl/micro-batches.js';

const sequence = (prompt: number[], tokens: number[]): Sequence => ({
  prompt: Int32Array.from(prompt),
  tokens: Int32Array.from(tokens),
});

describe('sizes', () => {
  it('are few', () => {
    const counts = Array.from({ length: 65 }, (_, n) => roundedCount(n));
    expect([...new Set(counts)]).toEqual([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]);
    const lengths = Array.from({ length: 257 }, (_, n) => roundedLength(n));
    expect([...new Set(lengths)]).toEqual([16, 32, 48, 64, 96, 128, 192, 256]);
    expect(counts.every((count, n) => count >= n)).toBe(true);
    expect(lengths.every((length, n) => length >= n)).toBe(true);
  });
});

describe('micro-batches', () => {
  it('of shared prompts hold each prompt once, without its last token, which is the first of every row', () => {
    const sequences = [
      sequence([1, 2, 3], [4, 5]),
      sequence([9], [8]),
      sequence([1, 2, 3], [6]),
      sequence([1, 2, 3], []),
    ];
    const [batch, ...rest] = microBatchesOf(sequences, { layout: 'shared', tokens: 1000, context: 90 });
    expect(rest).toEqual([]);
    expect(batch!.shape).toEqual({ layout: 'shared', prompts: 2, promptLength: 16, rows: 3, length: 16 });
    expect(batch!.members).toEqual([0, 2, 1]);
    const feeds = sequenceFeeds(batch!, sequences);
    const row = (name: 'tokens' | 'targets' | 'prompts', i: number) => [
      ...feeds[name]!.subarray(16 * i, 16 * i + 4),
    ];
    expect([0, 1, 2].map((i) => row('tokens', i))).toEqual([
      [3, 4, 0, 0],
      [3, 0, 0, 0],
      [9, 0, 0, 0],
    ]);
    expect([0, 1, 2].map((i) => row('targets', i))).toEqual([
      [4, 5, 0, 0],
      [6, 0, 0, 0],
      [8, 0, 0, 0],
    ]);
    expect([0, 1].map((i) => row('prompts', i))).toEqual([
      [1, 2, 0, 0],
      [0, 0, 0, 0],
    ]);
    expect([...feeds.promptLengths!]).toEqual([2, 0]);
    expect([...feeds.owners!]).toEqual([0, 0, 1]);
    expect([...spread(batch!, (i) => [10 + i], 2)].filter((x) => x !== 0)).toEqual([20, 24, 22]);
  });

  it('of whole rows say where the completions are', () => {
    const sequences = [sequence([1, 2, 3], [4, 5]), sequence([9], [8])];
    const [batch] = microBatchesOf(sequences, { layout: 'rows', tokens: 1000, context: 90 });
    expect(batch!.shape).toEqual({ layout: 'rows', prompts: 0, promptLength: 32, rows: 2, length: 16 });
    const { tokens, places } = sequenceFeeds(batch!, sequences);
    expect([...tokens!.subarray(0, 5)]).toEqual([1, 2, 3, 4, 0]);
    expect([...tokens!.subarray(32, 34)]).toEqual([9, 0]);
    expect([...places!.subarray(0, 3)]).toEqual([2, 3, 0]);
    expect([...places!.subarray(16, 18)]).toEqual([32, 0]);
  });

  it('weigh padding against further passes', () => {
    const rows = (count: number, tokens: number) => {
      const all = Array.from({ length: count }, (_, i) =>
        sequence([1, 2, 3 + Math.floor(i / 8)], new Array(64).fill(0)),
      );
      return microBatchesOf(all, { layout: 'shared', tokens, context: 128 }).map(({ shape }) => shape.rows);
    };
    expect(rows(64, 8000)).toEqual([64]);
    expect(rows(64, 2048)).toEqual([24, 24, 16]);
    // A row of padding is cheaper than three more passes.
    expect(rows(63, 2048)).toEqual([24, 24, 16]);
    expect(rows(3, 1)).toEqual([1, 1, 1]);
  });

  it('hold every sequence with a completion once, within the limit unless it is alone', () => {
    const tokens = (most: number) =>
      fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: most });
    const sequences = fc.array(
      fc.record({ prompt: tokens(3), tokens: fc.oneof(tokens(80), fc.constant<number[]>([])) }),
      { maxLength: 40 },
    );
    const layouts = fc.constantFrom('shared' as const, 'rows' as const);
    fc.assert(
      fc.property(sequences, layouts, fc.integer({ min: 1, max: 600 }), (plain, layout, limit) => {
        const all = plain.map((one) => sequence(one.prompt, one.tokens));
        const batches = microBatchesOf(all, { layout, tokens: limit, context: 90 });
        const members = batches.flatMap((batch) => [...batch.members]).sort((a, b) => a - b);
        expect(members).toEqual(all.flatMap((one, i) => (one.tokens.length > 0 ? [i] : [])));
        for (const { members: own, shape, prompts, owners } of batches) {
          const size =
            layout === 'rows'
              ? shape.rows * shape.promptLength
              : shape.prompts * shape.promptLength + shape.rows * shape.length;
          if (own.length > 1) expect(size).toBeLessThanOrEqual(limit);
          own.forEach((i, row) => {
            expect(all[i]!.tokens.length).toBeLessThanOrEqual(shape.length);
            if (layout === 'shared') expect([...prompts[owners[row]!]!]).toEqual([...all[i]!.prompt]);
          });
        }
      }),
    );
  });
});
