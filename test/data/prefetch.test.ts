import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BatchSource, Json } from '../../src/data/batch-source.js';
import { prefetch } from '../../src/data/prefetch.js';

/** Counts 0, 1, 2 …; may take its time, and may fail at a number. */
class Counter implements BatchSource<{ n: number }> {
  at = 0;
  constructor(
    readonly delay?: () => Promise<void>,
    readonly failsAt = -1,
  ) {}
  next(): { n: number } | Promise<{ n: number }> {
    const take = () => {
      if (this.at === this.failsAt) throw new Error(`no ${this.at}`);
      return { n: this.at++ };
    };
    return this.delay ? this.delay().then(take) : take();
  }
  state(): Json {
    return { at: this.at };
  }
  restore(state: Json): void {
    const { at } = state as { at: number };
    if (at < 0) throw new Error('refused');
    this.at = at;
  }
}

const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 1));

describe('prefetching', () => {
  it('prepares up to its depth while the caller waits, and not before it waits', async () => {
    const source = new Counter();
    const stream = prefetch(source, 3);
    expect(source.at).toBe(0);
    expect(await stream.next()).toEqual({ n: 0 });
    expect(source.at).toBe(1);
    for (let i = 0; i < 10; i++) await turn();
    expect(source.at).toBe(4);
    expect(stream.state()).toEqual({ at: 1 });
  });

  it.each([false, true])(
    'gives what the source gives, with the state after it (slow source: %s)',
    async (slow) => {
      const action = fc.oneof(
        fc.constant('next' as const),
        fc.constant('wait' as const),
        fc.constant('both' as const),
        fc.nat(50),
      );
      await fc.assert(
        fc.asyncProperty(
          fc.array(action, { maxLength: 25 }),
          fc.integer({ min: 1, max: 4 }),
          async (actions, depth) => {
            const stream = prefetch(new Counter(slow ? turn : undefined), depth);
            let expected = 0;
            for (const one of actions) {
              if (one === 'wait') await turn();
              else if (one === 'next') expect(await stream.next()).toEqual({ n: expected++ });
              else if (one === 'both') {
                expect(await Promise.all([stream.next(), stream.next()])).toEqual([
                  { n: expected++ },
                  { n: expected++ },
                ]);
              } else {
                stream.restore({ at: one });
                expected = one;
              }
              expect(stream.state()).toEqual({ at: expected });
            }
          },
        ),
        { numRuns: 40 },
      );
    },
  );

  it('restores while a batch is on its way', async () => {
    const stream = prefetch(new Counter(turn), 2);
    await stream.next();
    const pending = stream.next();
    await Promise.resolve();
    stream.restore({ at: 20 });
    expect(await pending).toEqual({ n: 20 });
    expect(await stream.next()).toEqual({ n: 21 });
  });

  it('hands an error to the call that would have got the batch', async () => {
    const stream = prefetch(new Counter(undefined, 2), 4);
    expect(await stream.next()).toEqual({ n: 0 });
    await turn();
    await turn();
    expect(await stream.next()).toEqual({ n: 1 });
    await expect(stream.next()).rejects.toThrow('no 2');
    expect(stream.state()).toEqual({ at: 2 });
    await expect(stream.next()).rejects.toThrow('no 2');
  });

  it('passes a refusal of a state on, and stays where it is', async () => {
    const stream = prefetch(new Counter());
    await stream.next();
    expect(() => stream.restore({ at: -1 })).toThrow('refused');
    expect(stream.state()).toEqual({ at: 1 });
    expect(await stream.next()).toEqual({ n: 1 });
  });
});
