import { connect } from 'node:net';
import OpenAI from 'openai';
import { afterEach, describe, expect, it } from 'vitest';
import { createServer } from '../../src/serve/index.js';
import { Counter, exposition, Histogram } from '../../src/serve/metrics.js';
import { eventually, model, served, start, stopAll, tokenizer } from './support.js';

afterEach(stopAll);
const name = served.name;
const slow = { model: name, prompt: 'a', max_tokens: 200, temperature: 0 };
/** Never ends by itself before max_tokens. */
const endless = { ...served, endTokens: [] };

describe('keys', () => {
  it('are asked for where they are set', async () => {
    const { client, url } = await start({ keys: ['first', 'second'] });
    expect((await client.models.list()).data.length).toBe(1);
    expect((await client.withOptions({ apiKey: 'second' }).models.list()).data.length).toBe(1);
    for (const apiKey of ['firs', 'firsts', 'other']) {
      const failure = client.withOptions({ apiKey }).models.list();
      await expect(failure).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' });
    }
    expect((await fetch(`${url}/v1/models`)).status).toBe(401);
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });
});

describe('bad requests', () => {
  it('get errors in OpenAI shape', async () => {
    const { post, url, errors } = await start({ maxBodyBytes: 2000 });
    const cases: [Promise<Response>, number, string][] = [
      [post('/v1/completions', '{"model": '), 400, 'invalid_json'],
      [post('/v1/completions', ''), 400, 'invalid_json'],
      [post('/v1/completions', '[]'), 400, 'invalid_value'],
      [post('/v1/completions', { model: name }), 400, 'invalid_value'],
      [post('/v1/completions', { model: name, prompt: [] }), 400, 'invalid_value'],
      [post('/v1/completions', { model: name, prompt: [97] }), 400, 'invalid_value'],
      [post('/v1/completions', { model: name, prompt: 'x', suffix: 'y' }), 400, 'unsupported_parameter'],
      [post('/v1/completions', { model: name, prompt: 'x', best_of: 3 }), 400, 'unsupported_parameter'],
      [post('/v1/completions', { model: name, prompt: 'x', max_tokens: 0 }), 400, 'invalid_value'],
      [post('/v1/completions', { model: name, prompt: 'x'.repeat(3000) }), 413, 'body_too_large'],
      [post('/v1/embeddings', {}), 404, 'unknown_url'],
      [fetch(`${url}/`), 404, 'unknown_url'],
    ];
    for (const [response, status, code] of cases) {
      const answer = await response;
      const body = await answer.json();
      expect([answer.status, body.error.code], JSON.stringify(body)).toEqual([status, code]);
      expect(body.error.message).toBeTypeOf('string');
      expect(answer.headers.get('content-type')).toMatch(/json/);
    }
    expect(errors).toEqual([]);
  });

  it('do no harm: a megabyte of prompt is refused quickly', async () => {
    const { post, client } = await start();
    const started = performance.now();
    const answer = await post('/v1/completions', { model: name, prompt: 'x'.repeat(1e6) });
    expect([answer.status, (await answer.json()).error.code]).toEqual([400, 'context_length_exceeded']);
    expect(performance.now() - started).toBeLessThan(2000);
    expect((await post('/v1/completions', 'x'.repeat(5e6))).status).toBe(413);
    expect((await client.completions.create({ model: name, prompt: 'x' })).choices.length).toBe(1);
  });

  it('hide what went wrong inside, and tell the log', async () => {
    const broken = {
      ...served,
      tokenizer: {
        ...tokenizer,
        encode: () => {
          throw new Error('secret');
        },
      } as never,
    };
    const { post, errors } = await start({ models: [broken] });
    const answer = await post('/v1/completions', { model: name, prompt: 'x' });
    expect(answer.status).toBe(500);
    expect(await answer.text()).not.toContain('secret');
    expect(String(errors[0])).toContain('secret');
  });
});

describe('clients that leave', () => {
  it('free their slot in the middle of a stream', async () => {
    const { client, metric } = await start({ slots: 1, models: [endless] });
    const controller = new AbortController();
    const stream = await client.completions.create({ ...slow, stream: true }, { signal: controller.signal });
    let n = 0;
    await (async () => {
      for await (const _ of stream) if (++n === 3) controller.abort();
    })().catch(() => {});
    await eventually(
      async () => (await metric(`anneal_slots_active{model="${name}"}`)) === 0,
      'slot is free',
    );
    expect(await metric(`anneal_sequences_total{model="${name}",reason="cancelled"}`)).toBe(1);
    const next = await client.completions.create({ ...slow, max_tokens: 3 });
    expect(next.usage!.completion_tokens).toBe(3);
  });

  it('free their slot without a stream, and their place in the queue', async () => {
    const { post, metric } = await start({ slots: 1, models: [endless] });
    const controller = new AbortController();
    const first = post('/v1/completions', { ...slow, n: 3 }, { signal: controller.signal }).catch(
      (e: Error) => e.name,
    );
    await eventually(async () => (await metric(`anneal_queue_length{model="${name}"}`)) >= 1, 'queue fills');
    controller.abort();
    expect(await first).toBe('AbortError');
    await eventually(
      async () =>
        (await metric(`anneal_slots_active{model="${name}"}`)) === 0 &&
        (await metric(`anneal_queue_length{model="${name}"}`)) === 0,
      'all is free',
    );
  });

  it('do not hold up others by reading slowly', async () => {
    const { port, client } = await start({ slots: 2, models: [endless] });
    const socket = connect(port, '127.0.0.1');
    socket.pause();
    const body = JSON.stringify({ ...slow, stream: true, n: 2 });
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    const answer = await client.completions.create({ ...slow, max_tokens: 20 });
    expect(answer.usage!.completion_tokens).toBe(20);
    // All of it is still there for the slow one.
    let text = '';
    socket.on('data', (data) => {
      text += data;
    });
    socket.resume();
    await eventually(() => text.includes('[DONE]'), 'the slow reader has all');
    expect(text.match(/finish_reason":"length"/g)!.length).toBe(2);
    socket.destroy();
  });
});

describe('load', () => {
  it('beyond the queue is refused with a time to try again', async () => {
    const { post, client } = await start({ slots: 1, maxQueue: 2, models: [endless] });
    const answers = await Promise.all(Array.from({ length: 8 }, () => post('/v1/completions', slow)));
    const statuses = answers.map((one) => one.status).sort();
    expect(statuses.filter((s) => s === 200).length).toBeGreaterThanOrEqual(3);
    expect(statuses.at(-1)).toBe(429);
    const refused = answers.find((one) => one.status === 429)!;
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect((await refused.json()).error).toMatchObject({ type: 'rate_limit_error', code: 'queue_full' });
    // OpenAI's client waits and tries again by itself.
    const busy = post('/v1/completions', { ...slow, n: 3 });
    const patient = client.withOptions({ maxRetries: 5 });
    expect((await patient.completions.create({ ...slow, max_tokens: 2 })).choices.length).toBe(1);
    expect((await busy).status).toBe(200);
  });

  it('by prompts that are only scored has its place in the queue, too', async () => {
    const { post } = await start({ slots: 1, maxQueue: 2 });
    const score = (n: number) => ({
      model: name,
      prompt: Array(n).fill('abc'),
      echo: true,
      logprobs: 1,
      max_tokens: 0,
    });
    expect((await post('/v1/completions', score(4))).status).toBe(400);
    const answers = await Promise.all(Array.from({ length: 6 }, () => post('/v1/completions', score(3))));
    const statuses = answers.map((one) => one.status);
    expect(statuses).toContain(200);
    expect(statuses.every((status) => status === 200 || status === 429)).toBe(true);
  });

  it('of 1,000 connections at once is answered', async () => {
    const { post, metric } = await start({ slots: 16, maxQueue: 500 });
    const answers = await Promise.all(
      Array.from({ length: 1000 }, async (_, i) => {
        const answer = await post('/v1/completions', { model: name, prompt: `n${i}`, max_tokens: 2 });
        await answer.arrayBuffer();
        return answer.status;
      }),
    );
    const count = (status: number) => answers.filter((one) => one === status).length;
    expect(count(200) + count(429)).toBe(1000);
    expect(count(200)).toBeGreaterThanOrEqual(500);
    expect(await metric(`anneal_slots_active{model="${name}"}`)).toBe(0);
  }, 60_000);

  it('that takes too long is cut off', async () => {
    const { post, client } = await start({ slots: 1, models: [endless], timeoutSeconds: 0.02 });
    const answer = await post('/v1/completions', { ...slow, max_tokens: 250, n: 30 });
    expect([answer.status, (await answer.json()).error.code]).toEqual([504, 'timeout']);
    const stream = await client.completions.create({ ...slow, n: 30, max_tokens: 250, stream: true });
    const failure = await (async () => {
      for await (const _ of stream);
    })().catch((e: unknown) => e);
    expect(failure).toBeInstanceOf(OpenAI.APIError);
    expect((failure as Error).message).toMatch(/took too long/);
  });
});

describe('shutdown', () => {
  it('finishes what runs and refuses what comes', async () => {
    const { server, client, url } = await start({ models: [endless] });
    const running = client.completions.create(slow);
    const stream = await client.completions.create({ ...slow, stream: true });
    await new Promise((resolve) => setTimeout(resolve, 30));
    const closed = server.close();
    const late = await server.app.request('/v1/models');
    expect(late.status).toBe(503);
    expect((await server.app.request('/health')).status).toBe(503);
    expect((await running).usage!.completion_tokens).toBe(200);
    let reason: string | undefined;
    for await (const chunk of stream) reason = chunk.choices[0]?.finish_reason ?? reason;
    expect(reason).toBe('length');
    await closed;
    await expect(fetch(`${url}/health`)).rejects.toThrow();
  });

  it('cancels what takes longer than it waits', async () => {
    const { server, post } = await start({ slots: 1, models: [endless] });
    const running = post('/v1/completions', { ...slow, n: 40, max_tokens: 250 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    await server.close({ drainSeconds: 0.01 });
    expect([(await running).status, (await (await running).json()).error.code]).toEqual([
      503,
      'shutting_down',
    ]);
  });
});

describe('options', () => {
  it.each([
    [{ models: [] }, /models is empty/],
    [{ models: [served, served] }, /two models are called "tiny\/model"/],
    [{ models: [served], keys: [''] }, /a key is empty/],
    [{ models: [served], maxQueue: -1 }, /maxQueue is -1/],
    [{ models: [served], timeoutSeconds: 0 }, /timeoutSeconds is 0/],
    [{ models: [served], slots: 0 }, /slots is 0/],
  ])('are checked: %#', (options, message) => {
    expect(() => createServer(options)).toThrow(message);
  });

  it('name a port that is taken', async () => {
    const { port } = await start();
    const other = createServer({ models: [served] });
    await expect(other.listen(port)).rejects.toThrow(new RegExp(`port ${port} .* is taken`));
    await other.close();
  });

  it('say that a model without a template cannot chat', async () => {
    const { client } = await start({ models: [{ name: 'base', model, tokenizer, endTokens: [] }] });
    const chat = client.chat.completions.create({
      model: 'base',
      messages: [{ role: 'user', content: 'x' }],
    });
    await expect(chat).rejects.toMatchObject({ status: 400, code: 'no_chat_template' });
  });
});

describe('metrics', () => {
  it('are written as Prometheus reads them', () => {
    const counter = new Counter('c_total', 'A counter.');
    counter.add({ path: 'a"b\\c\nd' });
    counter.add({ path: 'a"b\\c\nd' }, 2);
    const histogram = new Histogram('h_seconds', 'A histogram.', [0.1, 1]);
    for (const seconds of [0.05, 0.1, 0.5, 7]) histogram.observe({ model: 'm' }, seconds);
    expect(exposition([counter, histogram])).toBe(
      [
        '# HELP c_total A counter.',
        '# TYPE c_total counter',
        'c_total{path="a\\"b\\\\c\\nd"} 3',
        '# HELP h_seconds A histogram.',
        '# TYPE h_seconds histogram',
        'h_seconds_bucket{model="m",le="0.1"} 2',
        'h_seconds_bucket{model="m",le="1"} 3',
        'h_seconds_bucket{model="m",le="+Inf"} 4',
        'h_seconds_sum{model="m"} 7.65',
        'h_seconds_count{model="m"} 4',
        '',
      ].join('\n'),
    );
  });
});
