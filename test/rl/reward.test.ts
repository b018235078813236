import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/index.js';
import { combineRewards, perSample, type Sample } from '../../src/rl/index.js';

const sampleOf = (text: string, group = 4): Sample<number> => ({
  group,
  example: text.length,
  prompt: Int32Array.of(1),
  tokens: Int32Array.from(text, (c) => c.charCodeAt(0)),
  logprobs: new Float32Array(text.length),
  sampledLogprobs: new Float32Array(text.length),
  text,
  finishReason: 'stop',
});
const samples = ['a', 'bb', 'ccc'].map((text) => sampleOf(text));
const context = { step: 3, signal: new AbortController().signal };
const lengths = perSample<number>(({ text }) => text.length);

describe('combineRewards', () => {
  it('sums what applies, by weight', async () => {
    const score = combineRewards<number>(
      {
        length: { reward: lengths, weight: 0.5 },
        odd: (all) => all.map(({ example }) => (example % 2 === 1 ? 1 : null)),
      },
      { timeoutMs: 1000 },
    );
    expect(await score(samples, context)).toEqual({
      rewards: [1.5, 1, 2.5],
      components: { length: [1, 2, 3], odd: [1, null, 1] },
    });
  });

  it('is null where nothing applies', async () => {
    const { rewards } = await combineRewards({ none: () => [null, null, 0] })(samples, context);
    expect(rewards).toEqual([null, null, 0]);
  });

  it('runs all functions at the same time', async () => {
    let running = 0;
    let most = 0;
    const slow = perSample<number>(async () => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 5));
      running--;
      return 1;
    });
    await combineRewards({ a: slow, b: slow })(samples, context);
    expect(most).toBe(6);
  });

  it.each([
    [
      'throws',
      (text: string) => {
        if (text === 'bb') throw new Error('no parser');
        return 1;
      },
      'reward "r" failed: no parser, on sample 1 of prompt 4, "bb"',
    ],
    [
      'hangs',
      (text: string) => (text === 'bb' ? new Promise<number>(() => undefined) : 1),
      'reward "r" gave no answer within 40 ms, on sample 1 of prompt 4, "bb"',
    ],
    [
      'is NaN',
      (text: string) => (text === 'bb' ? Number.NaN : 1),
      'reward "r" is NaN on sample 1 of prompt 4, "bb"',
    ],
    [
      'is undefined',
      (text: string) => (text === 'bb' ? (undefined as never) : 1),
      'reward "r" is undefined on sample 1',
    ],
  ])('one that %s is named with the sample', async (_, of, message) => {
    const score = combineRewards<number>(
      { fine: lengths, r: perSample(({ text }) => of(text)) },
      { timeoutMs: 40 },
    );
    const failed = score(samples, context);
    await expect(failed).rejects.toThrow(AnnealError);
    await expect(failed).rejects.toThrow(message);
  });

  it('names the samples of a function that fails only on all together', async () => {
    const score = combineRewards({
      r: (all) => {
        if (all.length > 1) throw new Error('too many');
        return [1];
      },
    });
    await expect(score(samples, context)).rejects.toThrow('failed: too many, on 3 samples together');
  });

  it('refuses another number of values', async () => {
    await expect(combineRewards({ r: () => [1] })(samples, context)).rejects.toThrow(
      'gave 1 values for 3 samples',
    );
  });

  it('tells a function that its time is over, and stops waiting when the run ends', async () => {
    let told = 0;
    const hang = (_: unknown, { signal }: { signal: AbortSignal }) =>
      new Promise<number[]>(() => signal.addEventListener('abort', () => told++));
    await expect(combineRewards({ hang }, { timeoutMs: 20 })([samples[0]!], context)).rejects.toThrow(
      '20 ms',
    );
    // Once with the group, once alone.
    expect(told).toBe(2);
    const end = new AbortController();
    const score = combineRewards({ hang })(samples, { step: 0, signal: end.signal });
    setTimeout(() => end.abort(new Error('the end')), 5);
    await expect(score).rejects.toThrow('the end');
    expect(told).toBe(3);
  });

  it('needs functions and finite weights', () => {
    expect(() => combineRewards({})).toThrow('at least one');
    expect(() => combineRewards({ r: { reward: lengths, weight: Number.NaN } })).toThrow(
      'weight of "r" is NaN',
    );
  });

  it('shortens long texts in errors', async () => {
    const score = combineRewards({ r: () => [Number.POSITIVE_INFINITY] });
    const message = await score([sampleOf('x'.repeat(5000))], context).catch((error: Error) => error.message);
    expect(message).toContain('is Infinity on sample 0');
    expect((message as string).length).toBeLessThan(400);
  });
});

describe('a signal that many groups wait for', () => {
  it('has one listener, and none when they are done', async () => {
    const { signal } = new AbortController();
    const counts: number[] = [];
    const count = perSample<number>(async () => {
      counts.push(getEventListeners(signal, 'abort').length);
      await new Promise((resolve) => setTimeout(resolve, 1));
      return 1;
    });
    const score = combineRewards({ a: count, b: count });
    await Promise.all(Array.from({ length: 20 }, () => score(samples, { step: 0, signal })));
    expect(new Set(counts)).toEqual(new Set([1]));
    expect(counts.length).toBe(120);
    expect(getEventListeners(signal, 'abort').length).toBe(0);
  });
});
