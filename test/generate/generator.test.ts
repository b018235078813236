import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { type Completion, type GenerationRequest, Generator, score } from '../../src/generate/index.js';
import { Rng } from '../../src/index.js';
import { naiveGreedy, randomTokens, SpellingTokenizer, tinyModel } from './support.js';

const model = tinyModel();
const generators: Generator[] = [];
function make(options: Partial<ConstructorParameters<typeof Generator>[1]> = {}, of = model): Generator {
  const generator = new Generator(of, { slots: 4, ...options });
  generators.push(generator);
  return generator;
}
afterAll(async () => {
  await Promise.all(generators.map((one) => one.close({ cancel: true })));
});

const tokensOf = (completions: readonly Completion[]) => completions.map((one) => [...one.tokens]);
const turns = (n: number) => new Promise((resolve) => setTimeout(resolve, n));

describe('generation', () => {
  it('gives the tokens of naive decoding, for ragged prompts at once', async () => {
    const rng = new Rng(4);
    const prompts = [1, 2, 5, 17, 16, 33, 40, 70, 95, 3].map((n) => randomTokens(rng, n));
    const results = await make({ chunk: 16 }).generate(
      prompts.map((prompt) => ({ prompt, maxTokens: 30, temperature: 0 })),
    );
    for (const [i, prompt] of prompts.entries()) {
      const expected = await naiveGreedy(model, prompt, 30);
      // Not a test of repetition.
      if (expected.length === 30) expect(new Set(expected).size).toBeGreaterThan(7);
      expect([...results[i]!.tokens], `prompt of ${prompt.length}`).toEqual(expected);
    }
  });

  it.each([
    ['learned positions and LayerNorm', { positions: 'learned', norm: 'layer', mlp: 'gelu', context: 50 }],
    ['PaTH attention, whose cache is a state', { attention: 'path-fox', keyConvolution: 3, context: 50 }],
    ['stick-breaking attention', { attention: 'stick-breaking', context: 50 }],
    ['one head of 4, which the runtime has no kernel for', { heads: 1, kvHeads: 1, headDim: 4, context: 50 }],
  ] as const)('gives the tokens of naive decoding with %s', async (_, overrides) => {
    const other = tinyModel(overrides);
    const prompts = [1, 20, 33, 49].map((n) => randomTokens(new Rng(n), n));
    const results = await make({}, other).generate(
      prompts.map((prompt) => ({ prompt, maxTokens: 12, temperature: 0 })),
    );
    for (const [i, prompt] of prompts.entries()) {
      expect([...results[i]!.tokens]).toEqual(await naiveGreedy(other, prompt, 12));
    }
  });

  it('reports the logprobs that a whole forward pass gives', async () => {
    const rng = new Rng(8);
    const prompts = [1, 4, 30, 61].map((n) => randomTokens(rng, n));
    const results = await make().generate(
      prompts.map((prompt, seed) => ({ prompt, maxTokens: 25, temperature: 1.3, topK: 20, seed })),
    );
    const scored = await score(
      model,
      prompts.map((prompt, i) => [...prompt, ...results[i]!.tokens]),
    );
    for (const [i, { logprobs, sampledLogprobs }] of results.entries()) {
      expect(logprobs.length).toBe(25);
      const expected = scored[i]!.subarray(prompts[i]!.length - 1);
      for (const [j, value] of logprobs.entries()) expect(Math.abs(value - expected[j]!)).toBeLessThan(1e-5);
      expect(Math.max(...sampledLogprobs)).toBeLessThanOrEqual(0);
    }
  });

  it('makes room as sequences grow, up to the context', async () => {
    const long = tinyModel({ context: 600 });
    const generator = make({ slots: 2 }, long);
    const prompts = [randomTokens(new Rng(1), 3), randomTokens(new Rng(2), 250)];
    const before = generator.stats().capacity;
    const results = await generator.generate([
      { prompt: prompts[0]!, maxTokens: 1000, temperature: 0 },
      { prompt: prompts[1]!, maxTokens: 20, temperature: 0 },
    ]);
    expect([before, generator.stats().capacity]).toEqual([256, 600]);
    expect(results.map((one) => [one.tokens.length, one.finishReason])).toEqual([
      [597, 'length'],
      [20, 'length'],
    ]);
    const all = [...prompts[0]!, ...results[0]!.tokens];
    const [scored] = await score(long, [all]);
    for (const [j, value] of results[0]!.logprobs.entries()) {
      expect(Math.abs(value - scored![prompts[0]!.length - 1 + j]!)).toBeLessThan(1e-5);
    }
  }, 60_000);

  it('computes equal prompts once', async () => {
    const generator = make({ slots: 8 });
    const prompt = randomTokens(new Rng(6), 40);
    const requests = Array.from({ length: 8 }, (_, seed) => ({
      prompt,
      maxTokens: 12,
      temperature: 2,
      seed,
    }));
    const results = tokensOf(await generator.generate(requests));
    expect(generator.stats().promptTokens).toBe(39);
    expect(new Set(results.map(String)).size).toBeGreaterThan(4);
    const alone = make({ slots: 1 });
    expect(tokensOf(await alone.generate(requests))).toEqual(results);
    expect(alone.stats().promptTokens).toBe(8 * 39);
  });

  it('copies the prompt of a sequence that is already running', async () => {
    const generator = make({ slots: 2 });
    const prompt = randomTokens(new Rng(6), 40);
    const first = generator.submit({ prompt, maxTokens: 50, temperature: 0 });
    for await (const _ of first) break;
    const rerun = generator.submit({ prompt, maxTokens: 40, temperature: 0 });
    expect([...(await rerun.result).tokens]).toEqual(await naiveGreedy(model, prompt, 40));
  });

  it('forks a cache that is a state only where it stands', async () => {
    const path = tinyModel({ attention: 'path', keyConvolution: 3 });
    const generator = make({ slots: 4, chunk: 16 }, path);
    const prompt = randomTokens(new Rng(6), 40);
    const request = { prompt, maxTokens: 12, temperature: 0 };
    const first = generator.submit({ ...request, maxTokens: 50 });
    const twin = generator.submit(request);
    for await (const _ of twin) break;
    expect(generator.stats().promptTokens).toBe(39);
    const late = await generator.generate([request, { ...request, prompt: prompt.slice(3) }]);
    expect(generator.stats().promptTokens).toBe(39 + 39 + 36);
    const expected = await naiveGreedy(path, prompt, 50);
    expect([...(await first.result).tokens]).toEqual(expected);
    expect([...late[0]!.tokens]).toEqual(expected.slice(0, 12));
    expect([...late[1]!.tokens]).toEqual(await naiveGreedy(path, prompt.slice(3), 12));
  });

  it('serves a thousand tiny requests', async () => {
    const generator = make({ slots: 16 });
    const prompts = Array.from({ length: 1000 }, (_, i) => [i % 33, (i * 7) % 33]);
    const results = await generator.generate(
      prompts.map((prompt, seed) => ({ prompt, maxTokens: 1 + (seed % 3), seed })),
    );
    expect(results.every((one, i) => one.tokens.length === 1 + (i % 3))).toBe(true);
    expect(generator.stats()).toMatchObject({ requests: 1000, finished: 1000, active: 0, waiting: 0 });
    expect(generator.stats().generatedTokens).toBe(1999);
  });
});

describe('sequences that join and leave', () => {
  const shared = make({ slots: 3, chunk: 16 });
  const alone = make({ slots: 1, chunk: 16 });

  it('get the tokens that they get alone, in any order', async () => {
    const arbitrary = fc.array(
      fc.record({
        prompt: fc.array(fc.integer({ min: 0, max: 32 }), { minLength: 1, maxLength: 60 }),
        maxTokens: fc.integer({ min: 1, max: 20 }),
        temperature: fc.constantFrom(0, 0.7, 1),
        seed: fc.integer({ min: 0, max: 1000 }),
        topP: fc.constantFrom(0.8, 1),
        delay: fc.integer({ min: 0, max: 6 }),
        cancelAfter: fc.option(fc.integer({ min: 0, max: 8 }), { freq: 4 }),
      }),
      { minLength: 1, maxLength: 8 },
    );
    await fc.assert(
      fc.asyncProperty(arbitrary, async (plans) => {
        const running = plans.map(async ({ delay, cancelAfter, ...request }) => {
          await turns(delay);
          const generation = shared.submit(request);
          let n = 0;
          for await (const _ of generation) if (n++ === cancelAfter) generation.cancel();
          return generation.result;
        });
        const results = await Promise.all(running);
        for (const [i, { delay: _, cancelAfter, ...request }] of plans.entries()) {
          const [expected] = await alone.generate([request]);
          const { tokens, finishReason } = results[i]!;
          expect([...tokens]).toEqual([...expected!.tokens.subarray(0, tokens.length)]);
          if (cancelAfter === null) expect(finishReason).toBe('length');
          if (finishReason === 'length') expect(tokens.length).toBe(expected!.tokens.length);
          else expect(tokens.length).toBeGreaterThan(cancelAfter!);
        }
      }),
      { numRuns: 15 },
    );
    expect(shared.stats()).toMatchObject({ active: 0, waiting: 0 });
  }, 60_000);

  it('get the same bits where batches are invariant', async () => {
    const rng = new Rng(17);
    const requests = Array.from({ length: 12 }, (_, seed) => ({
      prompt: randomTokens(rng, 1 + 6 * seed),
      maxTokens: 20,
      seed,
    }));
    const crowded = make({ slots: 5, chunk: 32, batchInvariant: true });
    const single = make({ slots: 1, chunk: 32, batchInvariant: true });
    const together = await crowded.generate(requests);
    for (const [i, request] of requests.entries()) {
      const [expected] = await single.generate([request]);
      expect([...together[i]!.tokens]).toEqual([...expected!.tokens]);
      expect([...together[i]!.logprobs]).toEqual([...expected!.logprobs]);
    }
  });

  it('give the same bits whatever the generator has done before, where that is asked for', async () => {
    const rng = new Rng(17);
    const requests = [3, 9, 9, 40].map((n, seed) => ({
      prompt: randomTokens(rng, n),
      // The longest one is soon alone.
      maxTokens: seed === 0 ? 50 : 8,
      seed,
    }));
    const options = { slots: 4, batchInvariant: 'history' } as const;
    const [fresh, used] = [make(options), make(options)];
    // Until a pass for a single sequence has been compiled.
    await used.generate([{ prompt: [1], maxTokens: 40 }]);
    for (let n = 1; n <= 4; n++) await used.generate(requests.slice(0, n));
    expect(await used.generate(requests)).toEqual(await fresh.generate(requests));
  });

  it('may hold the thread for short steps: the same bits, and other tasks get their turn', async () => {
    const requests = [5, 9, 30].map((n, seed) => ({
      prompt: randomTokens(new Rng(n), n),
      maxTokens: 40,
      seed,
    }));
    const [free, blocking] = [make({}), make({ blocking: true })];
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    const results = await blocking.generate(requests);
    clearInterval(timer);
    expect(results).toEqual(await free.generate(requests));
    expect(blocking.stats().blockedMs).toBeGreaterThan(0);
    expect(free.stats().blockedMs).toBe(0);
    expect(turns).toBeGreaterThan(2);
  });

  it('wait for a slot in the order in which they came', async () => {
    const generator = make({ slots: 2 });
    const order: number[] = [];
    const all = Array.from({ length: 7 }, (_, i) =>
      generator.submit({ prompt: [i], maxTokens: 3 }).result.then(() => order.push(i)),
    );
    await Promise.all(all);
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it('are not held up by a long prompt for more than a chunk a step', async () => {
    const generator = make({ slots: 2, chunk: 16 });
    const first = generator.submit({ prompt: [1], maxTokens: 90, temperature: 0 });
    const seen: number[] = [];
    let late: Promise<Completion> | undefined;
    for await (const _ of first) {
      late ??= generator.submit({ prompt: randomTokens(new Rng(2), 90), maxTokens: 1 }).result;
      seen.push(generator.stats().promptTokens);
    }
    await late;
    // Between two tokens of the first, at most one chunk of the second's prompt is read.
    for (let i = 1; i < seen.length; i++) expect(seen[i]! - seen[i - 1]!).toBeLessThanOrEqual(16);
    expect(seen.at(-1)).toBe(89);
  });

  it('do not wait for a slow reader', async () => {
    const generator = make({ slots: 2 });
    const slow = generator.submit({ prompt: [1], maxTokens: 60 });
    const iterator = slow[Symbol.asyncIterator]();
    await iterator.next();
    const [other] = await generator.generate([{ prompt: [2], maxTokens: 60 }]);
    expect(other!.tokens.length).toBe(60);
    expect((await slow.result).tokens.length).toBe(60);
    const rest: number[] = [];
    for (let next = await iterator.next(); !next.done; next = await iterator.next())
      rest.push(next.value.token);
    expect(rest.length).toBe(59);
  });
});

describe('ends', () => {
  /** A tokenizer whose greedy text is known: token i is spelled as given. */
  const spelled = new SpellingTokenizer(
    Array.from({ length: 33 }, (_, i) => String.fromCharCode(97 + (i % 26)) + (i >= 26 ? '!' : '')),
  );
  const generator = make({ tokenizer: spelled });
  const base: GenerationRequest = { prompt: [5, 9], maxTokens: 24, temperature: 0 };
  const textOf = async (request: GenerationRequest) => {
    const generation = generator.submit(request);
    let text = '';
    let last = '';
    for await (const token of generation) {
      text += token.text;
      last = token.text;
    }
    return { text, last, result: await generation.result };
  };

  it('at a stop string that spans tokens, without showing any of it', async () => {
    const { text: whole, result: all } = await textOf(base);
    expect(whole).toBe(spelled.decode(all.tokens));
    for (const [from, to] of [
      [6, 9],
      [0, 2],
      [10, 11],
      [3, 8],
    ] as const) {
      const stop = whole.slice(from, to);
      const { text, result } = await textOf({ ...base, stop: ['~~', stop] });
      expect(text).toBe(whole.slice(0, whole.indexOf(stop)));
      expect(result.text).toBe(text);
      expect(result.finishReason).toBe('stop');
      expect([...result.tokens]).toEqual([...all.tokens.subarray(0, result.tokens.length)]);
    }
  });

  it('shows what was held back for a stop string that did not come', async () => {
    const { text: whole } = await textOf(base);
    const { text, last, result } = await textOf({ ...base, stop: [`${whole.slice(-3)}~`] });
    expect(text).toBe(whole);
    expect(last.length).toBeGreaterThan(1);
    expect(result.finishReason).toBe('length');
  });

  it('after a stop token, which is no text', async () => {
    const { result: all } = await textOf(base);
    const stopToken = all.tokens[7]!;
    const at = all.tokens.indexOf(stopToken);
    const { result } = await textOf({ ...base, stopTokens: [stopToken] });
    expect([...result.tokens]).toEqual([...all.tokens.subarray(0, at + 1)]);
    expect(result.text).toBe(spelled.decode(all.tokens.subarray(0, at)));
    expect(result.finishReason).toBe('stop');
  });

  it('when its signal fires, and frees the slot', async () => {
    const single = make({ slots: 1 });
    const controller = new AbortController();
    const running = single.submit({ prompt: [1], maxTokens: 90, signal: controller.signal });
    const waiting = single.submit({ prompt: [2], maxTokens: 2 });
    const dropped = single.submit({ prompt: [3], maxTokens: 2, signal: controller.signal });
    let n = 0;
    for await (const _ of running) if (++n === 3) controller.abort();
    expect((await running.result).finishReason).toBe('cancelled');
    expect((await running.result).tokens.length).toBeLessThan(90);
    expect(await dropped.result).toMatchObject({ finishReason: 'cancelled', text: '' });
    expect((await waiting.result).tokens.length).toBe(2);
    const late = single.submit({ prompt: [1], maxTokens: 3, signal: controller.signal });
    expect((await late.result).tokens.length).toBe(0);
    expect(single.stats()).toMatchObject({ active: 0, waiting: 0, requests: 4, finished: 4 });
  });

  it('when its reader leaves the loop', async () => {
    const generation = generator.submit({ prompt: [1], maxTokens: 90 });
    for await (const _ of generation) break;
    expect((await generation.result).finishReason).toBe('cancelled');
  });

  it('with the generator: close() finishes what runs, or cancels it', async () => {
    const draining = make();
    const result = draining.submit({ prompt: [1], maxTokens: 20 }).result;
    const closed = draining.close();
    expect(() => draining.submit({ prompt: [1], maxTokens: 1 })).toThrow(/closed/);
    await closed;
    expect((await result).finishReason).toBe('length');
    const cancelling = make();
    const cut = cancelling.submit({ prompt: [1], maxTokens: 90 });
    for await (const _ of cut) {
      await cancelling.close({ cancel: true });
      break;
    }
    expect((await cut.result).finishReason).toBe('cancelled');
  });

  it('with an error that names the token if the logits are NaN', async () => {
    const broken = tinyModel({}, 3);
    const head = broken.head as unknown as { weight: { data: Float32Array } };
    head.weight.data[7] = Number.NaN;
    const other = make({}, broken);
    const generation = other.submit({ prompt: [1, 2], maxTokens: 5 });
    await expect(generation.result).rejects.toThrow(/logit of token 7 is NaN/);
    await expect(
      (async () => {
        for await (const _ of generation);
      })(),
    ).rejects.toThrow(/NaN/);
    expect(other.stats()).toMatchObject({ active: 0, finished: 1 });
  });
});

describe('requests', () => {
  const generator = make();
  it.each([
    [{ prompt: [], maxTokens: 1 }, /prompt is empty/],
    [{ prompt: new Int32Array(96), maxTokens: 1 }, /96 tokens leaves no room in the context of 96/],
    [{ prompt: [33], maxTokens: 1 }, /token 0 of the prompt is 33; ids go from 0 to 32/],
    [{ prompt: [1.5], maxTokens: 1 }, /is 1.5/],
    [{ prompt: [1], maxTokens: 0 }, /maxTokens is 0/],
    [{ prompt: [1], maxTokens: 1, topLogprobs: 99 }, /topLogprobs is 99/],
    [{ prompt: [1], maxTokens: 1, stop: ['x'] }, /stop strings need a tokenizer/],
    [{ prompt: [1], maxTokens: 1, topP: 7 }, /topP is 7/],
  ])('are refused: %o', (request: GenerationRequest, message) => {
    expect(() => generator.submit(request)).toThrow(message);
    expect(generator.stats().requests).toBe(0);
  });

  it.each([
    [{ slots: 0 }, /slots is 0/],
    [{ chunk: 48 }, /chunk is 48; it must be a power of two, such as 32/],
    [{ capacity: 1 }, /capacity is 1/],
  ])('are not taken by a generator with %o', (options, message) => {
    expect(() => make(options)).toThrow(message);
  });

  it('may ask for the most likely tokens', async () => {
    const generation = generator.submit({ prompt: [3], maxTokens: 2, temperature: 0, topLogprobs: 4 });
    for await (const { token, logprob, top } of generation) {
      expect(top!.length).toBe(4);
      expect(top![0]).toEqual({ token, logprob });
    }
  });
});
