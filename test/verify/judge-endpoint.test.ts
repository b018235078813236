import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/core/errors.js';
import {
  ChatEndpoint,
  type ChatRequest,
  type EndpointOptions,
  JudgeBudget,
  JudgeError,
  PromptTooLong,
} from '../../src/verify/judge/index.js';
import { backoff, retryAfter } from '../../src/verify/judge/retry.js';
import { JudgeServer, no, refuse, reply, yes } from './judge-server.js';

const server = new JudgeServer();
beforeAll(() => server.start());
afterAll(() => server.stop());
beforeEach(() => server.reset());

const endpoint = (options: Partial<EndpointOptions> = {}) =>
  new ChatEndpoint({ url: server.url, model: 'judge-1', firstPauseMs: 1, ...options });

const request: ChatRequest = {
  messages: [{ role: 'user', content: 'x'.repeat(20) }],
  temperature: 0,
  maxTokens: 50,
};

/** What a promise rejects with. */
const failure = async (promise: Promise<unknown>): Promise<JudgeError> => {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(JudgeError);
  return error as JudgeError;
};

describe('a call', () => {
  it('sends the request and reads the reply', async () => {
    const one = endpoint({ apiKey: 'secret', body: { top_k: 1 } });
    const { ms, ...got } = await one.complete({ ...request, seed: 7 });
    expect(got).toEqual({
      text: 'They agree.\nFinal Judgment: Yes',
      finish: 'stop',
      promptTokens: 100,
      replyTokens: 10,
      calls: 1,
    });
    expect(ms).toBeGreaterThan(0);
    const { path, headers, body } = server.asked[0]!;
    expect(path).toBe('/v1/chat/completions');
    expect(headers.authorization).toBe('Bearer secret');
    expect(body).toEqual({
      model: 'judge-1',
      messages: request.messages,
      temperature: 0,
      max_tokens: 50,
      seed: 7,
      top_k: 1,
    });
    expect(one.identity).not.toContain('secret');
  });

  it('takes addresses with and without the path, and the newer name of the limit', async () => {
    for (const url of [`${server.url}/`, `${server.url}/chat/completions`])
      await endpoint({ url, tokenField: 'max_completion_tokens' }).complete(request);
    expect(server.asked.map(({ path }) => path)).toEqual(['/v1/chat/completions', '/v1/chat/completions']);
    expect(server.asked[0]!.body).toMatchObject({ max_completion_tokens: 50 });
    expect(server.asked[0]!.body).not.toHaveProperty('max_tokens');
  });

  it.each([
    [
      'a list of parts',
      [
        { type: 'text', text: 'a' },
        { type: 'text', text: 'b' },
      ],
      'length',
      'ab',
      'length',
    ],
    ['nothing, all tokens spent on reasoning', null, 'length', '', 'length'],
    ['a filtered reply', 'half', 'content_filter', 'half', 'filtered'],
  ])('reads %s', async (_, content, reason, text, finish) => {
    server.otherwise = reply(content as string, reason);
    expect(await endpoint().complete(request)).toMatchObject({ text, finish });
  });

  it('reads a refusal as filtered', async () => {
    const choices = [{ message: { content: null, refusal: 'Yes I refuse' }, finish_reason: 'stop' }];
    server.otherwise = reply('', 'stop', { choices });
    expect(await endpoint().complete(request)).toMatchObject({ text: 'Yes I refuse', finish: 'filtered' });
  });

  it('estimates tokens where the server does not count them', async () => {
    server.otherwise = reply('12345678', 'stop', { usage: null });
    // Half a token per character, and eight around the message and the request.
    expect(await endpoint().complete(request)).toMatchObject({ promptTokens: 26, replyTokens: 4 });
  });

  it('runs no more at once than it may', async () => {
    server.otherwise = (response, asked) => setTimeout(() => yes(response, asked), 15);
    const one = endpoint({ concurrency: 3 });
    const start = performance.now();
    const replies = await Promise.all(Array.from({ length: 10 }, () => one.complete(request)));
    const elapsed = performance.now() - start;
    expect(server.peak).toBe(3);
    // Waiting for a place is no work: with it, the sum would be nearly twice as large.
    expect(replies.reduce((sum, { ms }) => sum + ms, 0)).toBeLessThanOrEqual(3 * elapsed);
  });
});

describe('trouble that passes', () => {
  it.each([
    ['429', refuse(429)],
    ['500', refuse(500, {}, 'Internal Server Error')],
    ['503', refuse(503)],
    ['408', refuse(408)],
    ['no JSON', (response) => void response.end('<html>Bad gateway</html>')],
    ['JSON of something else', (response) => void response.end('{"ok": true}')],
    ['an error with status 200', (response) => void response.end('{"error": {"message": "overloaded"}}')],
    ['a closed connection', (response) => void response.destroy()],
    [
      'half a body',
      (response) => {
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': '500' });
        response.write('{"choices": [{"message": {"content": "Final Judgment: Yes"}');
        setTimeout(() => response.destroy(), 5);
      },
    ],
  ] satisfies [string, (typeof server)['otherwise']][])('is tried again: %s', async (_, trouble) => {
    server.script = [trouble, trouble];
    server.otherwise = no;
    const got = await endpoint().complete(request, { item: 'q1' });
    expect(got).toMatchObject({ text: 'They differ.\nFinal Judgment: No', calls: 3 });
    expect(server.asked).toHaveLength(3);
  });

  it('is tried again after silence', async () => {
    server.script = [() => {}];
    const got = await endpoint({ timeoutMs: 150 }).complete(request);
    expect(got.calls).toBe(2);
    expect(got.ms).toBeGreaterThanOrEqual(149);
  });

  it('is waited for as long as Retry-After says', async () => {
    server.script = [refuse(429, { 'retry-after': '0.05' })];
    const got = await endpoint().complete(request);
    expect(got.ms).toBeGreaterThanOrEqual(49);
  });

  it('is given up where Retry-After asks for too long', async () => {
    server.otherwise = refuse(429, { 'retry-after': '3600' });
    const error = await failure(endpoint().complete(request, { item: 'q1' }));
    expect(error.message).toBe(
      `q1: the judge judge-1 at ${server.url}/chat/completions replies with status 429: {"error":{"message":"no"}}; it asks to wait 3600 s, try again then`,
    );
    expect([error.failure, error.item, error.status]).toEqual(['refused', 'q1', 429]);
    expect(server.asked).toHaveLength(1);
  });

  it('is given up after some tries, and the error names the item', async () => {
    server.otherwise = refuse(500, {}, 'boom');
    const error = await failure(endpoint({ retries: 2 }).complete(request, { item: 'q1' }));
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toBe(
      `q1: the judge judge-1 at ${server.url}/chat/completions replies with status 500: boom (3 tries)`,
    );
    expect([error.failure, error.item, error.status]).toEqual(['unreachable', 'q1', 500]);
    expect(server.asked).toHaveLength(3);
  });

  it('is told without the parameters of the address', async () => {
    server.otherwise = refuse(401);
    const error = await failure(endpoint({ url: `${server.url}?key=secret` }).complete(request));
    expect(server.asked[0]!.path).toBe('/v1/chat/completions?key=secret');
    expect(error.message).not.toContain('secret');
  });

  it('is given up where nobody listens', async () => {
    const gone = endpoint({ url: 'http://127.0.0.1:9/v1', retries: 1 });
    const error = await failure(gone.complete(request, { item: 'q1' }));
    expect(error.failure).toBe('unreachable');
    expect(error.message).toMatch(/^q1: the judge judge-1 at \S+ cannot be reached \(.+\) \(2 tries\)$/);
  });
});

describe('trouble that stays', () => {
  it.each([400, 401, 403, 404, 422])('is not tried again: %i', async (status) => {
    server.otherwise = refuse(status);
    const error = await failure(endpoint({ apiKey: 'secret' }).complete(request, { item: 'q1' }));
    expect([error.failure, error.status]).toEqual(['refused', status]);
    expect(error.message).not.toContain('secret');
    expect(server.asked).toHaveLength(1);
  });

  it.each([
    { error: { code: 'context_length_exceeded', message: 'x' } },
    { message: "This model's maximum context length is 4096 tokens." },
    { error: { message: 'the request exceeds the available context size' } },
  ])('is a property of the item where the prompt is too long: %j', async (body) => {
    server.otherwise = refuse(400, {}, body);
    await expect(endpoint().complete(request)).rejects.toBeInstanceOf(PromptTooLong);
  });

  it('is a refusal where a filter refuses the prompt', async () => {
    server.otherwise = refuse(400, {}, { error: { code: 'content_filter' } });
    expect(await endpoint().complete(request)).toMatchObject({ text: '', finish: 'filtered' });
  });
});

/** Sends server-sent events; ends with what the connection is left in. */
const stream =
  (events: string[], end: 'close' | 'cut' | 'hang' = 'close', delay = 0): JudgeServer['otherwise'] =>
  (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const send = (i: number) => {
      if (i < events.length) {
        response.write(events[i]);
        setTimeout(() => send(i + 1), delay);
      } else if (end === 'close') response.end();
      else if (end === 'cut') response.destroy();
    };
    send(0);
  };

const delta = (content: string, finish: string | null = null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: finish }] })}\n\n`;

describe('a streamed reply', () => {
  const whole = [
    ': comment\n\n',
    delta('Final Judg'),
    // An event in two packets, cut inside a character.
    delta('ment: Ye').slice(0, 30),
    delta('ment: Ye').slice(30),
    delta('s', 'stop'),
    `data: ${JSON.stringify({ choices: [], usage: { prompt_tokens: 5, completion_tokens: 6 } })}\n\n`,
    'data: [DONE]\n\n',
  ];

  it('is put together', async () => {
    server.otherwise = stream(whole, 'close', 1);
    const got = await endpoint({ stream: true }).complete(request);
    expect(got).toMatchObject({
      text: 'Final Judgment: Yes',
      finish: 'stop',
      promptTokens: 5,
      replyTokens: 6,
    });
    expect(server.asked[0]!.body).toMatchObject({ stream: true, stream_options: { include_usage: true } });
  });

  it.each<[string, JudgeServer['otherwise']]>([
    ['ends before its finish reason', stream([delta('Final Judgment: Yes')])],
    ['ends with DONE alone', stream([delta('Final Judgment: Yes'), 'data: [DONE]\n\n'])],
    ['is cut off', stream([delta('Final Judgment: Yes')], 'cut', 2)],
    ['holds garbage', stream(['data: {"choices": [\n\n'])],
    ['reports an error', stream([delta('Final Judgment: Yes'), 'data: {"error": {"message": "lost"}}\n\n'])],
  ])('is asked for again where it %s', async (_, broken) => {
    server.script = [broken];
    server.otherwise = stream([delta('Final Judgment: No', 'stop'), 'data: [DONE]\n\n']);
    expect(await endpoint({ stream: true }).complete(request)).toMatchObject({
      text: 'Final Judgment: No',
      calls: 2,
    });
  });

  it('may take longer than the timeout as long as it goes on, and not stand still', async () => {
    const slow = [...Array.from({ length: 6 }, () => delta('.')), delta('', 'stop')];
    server.script = [stream(slow, 'close', 80)];
    const one = endpoint({ stream: true, timeoutMs: 400, retries: 0 });
    const got = await one.complete(request);
    expect(got.text).toBe('......');
    expect(got.ms).toBeGreaterThan(400);
    server.script = [stream([delta('.')], 'hang')];
    expect((await failure(one.complete(request))).failure).toBe('timeout');
  });
});

describe('a server that runs away', () => {
  const endless =
    (piece: string): JudgeServer['otherwise'] =>
    (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const timer = setInterval(() => response.write(piece), 2);
      response.on('close', () => clearInterval(timer));
    };

  it('is stopped when its reply is far too long', async () => {
    server.otherwise = endless(delta('x'.repeat(2000)));
    const error = await failure(
      endpoint({ stream: true, retries: 0 }).complete({ ...request, maxTokens: 1 }),
    );
    expect(error.message).toContain('its reply is longer than 1064 characters');
  });

  it('is stopped when it only keeps the connection open', async () => {
    server.otherwise = endless(': wait\n\n');
    const error = await failure(endpoint({ stream: true, retries: 0, timeoutMs: 60 }).complete(request));
    expect(error.failure).toBe('timeout');
    expect(server.running).toBeLessThanOrEqual(1);
  });
});

describe('a budget', () => {
  it('of calls is kept, retries included', async () => {
    server.script = [refuse(500)];
    const budget = new JudgeBudget({ calls: 3 });
    const one = endpoint({ budget });
    await one.complete(request);
    await one.complete(request);
    const error = await failure(one.complete(request, { item: 'q3' }));
    expect(error.failure).toBe('budget');
    expect(error.message).toBe(
      "q3: the judge's budget of 3 calls does not suffice (3 calls and 220 tokens are spent); raise it",
    );
    expect(server.asked).toHaveLength(3);
    expect(budget.spent).toEqual({ calls: 3, tokens: 220 });
  });

  it('of tokens is kept by calls that run together', async () => {
    // Each call reserves 26 + 50 and costs 70 in the end.
    server.otherwise = reply('No', 'length', { usage: { prompt_tokens: 20, completion_tokens: 50 } });
    const budget = new JudgeBudget({ tokens: 400 });
    const one = endpoint({ budget, concurrency: 8 });
    const calls = await Promise.allSettled(Array.from({ length: 8 }, () => one.complete(request)));
    const done = calls.filter(({ status }) => status === 'fulfilled').length;
    expect(budget.spent).toEqual({ calls: done, tokens: 70 * done });
    // Five reserve at once (380); with what they cost, too little is left for a sixth.
    expect(done).toBe(5);
  });

  it('lets calls wait for what others have reserved and not used', async () => {
    server.otherwise = reply('Final Judgment: Yes', 'stop', {
      usage: { prompt_tokens: 10, completion_tokens: 2 },
    });
    const budget = new JudgeBudget({ tokens: 160 });
    const one = endpoint({ budget });
    // Two fit at once; the others fit one after the other, 76 reserved and 12 spent each.
    await Promise.all(Array.from({ length: 8 }, () => one.complete(request)));
    expect(budget.spent).toEqual({ calls: 8, tokens: 96 });
    expect(server.peak).toBeLessThanOrEqual(2);
  });
});

describe('an end', () => {
  it('comes by the signal, also while calls wait', async () => {
    server.otherwise = () => {};
    const one = endpoint({ concurrency: 1 });
    const control = new AbortController();
    const calls = [1, 2].map(() => one.complete(request, { signal: control.signal }));
    setTimeout(() => control.abort(new Error('enough')), 20);
    for (const call of calls) await expect(call).rejects.toThrow('enough');
    // The place is free again.
    server.otherwise = yes;
    expect((await one.complete(request)).calls).toBe(1);
  });

  it('comes by closing, also during a pause', async () => {
    server.otherwise = refuse(500);
    const one = endpoint({ firstPauseMs: 60_000, maxPauseMs: 60_000 });
    const call = failure(one.complete(request));
    setTimeout(() => void one.close(), 20);
    expect((await call).failure).toBe('closed');
  });
});

describe('pauses', () => {
  it('double, with a random half left out', () => {
    const pauses = (random: number) =>
      [1, 2, 3, 20].map((n) => backoff(n, { firstPauseMs: 100 }, () => random));
    expect(pauses(1)).toEqual([100, 200, 400, 60_000]);
    expect(pauses(0)).toEqual([50, 100, 200, 30_000]);
  });

  it.each<[Record<string, string>, number | undefined]>([
    [{ 'retry-after': '7' }, 7000],
    [{ 'retry-after': 'Thu, 01 Jan 1970 00:00:10 GMT' }, 9000],
    [{ 'retry-after': 'Thu, 01 Jan 1970 00:00:00 GMT' }, 0],
    [{ 'retry-after-ms': '12', 'retry-after': '7' }, 12],
    [{ 'retry-after': 'soon' }, undefined],
    [{}, undefined],
  ])('are read from %j', (headers, ms) => {
    expect(retryAfter(new Headers(headers), 1000)).toBe(ms);
  });
});

describe('options', () => {
  it.each<[Partial<EndpointOptions>, string]>([
    [
      { url: 'localhost' },
      'the judge\'s url "localhost" is no address; pass one such as http://127.0.0.1:8000/v1',
    ],
    [{ url: 'file:///x' }, 'the judge\'s url "file:///x" must begin with http:// or https://'],
    [
      { url: 'http://me:secret@host/v1' },
      "the judge's url holds a name or a password; pass the key as apiKey",
    ],
    [{ model: '' }, 'the judge has no model; pass the name under which the endpoint knows it'],
    [{ concurrency: 0 }, "the judge's concurrency is 0; pass a whole number from 1"],
    [{ retries: -1 }, "the judge's retries is -1; pass a whole number from 0"],
  ])('%j are refused', (options, message) => {
    expect(() => endpoint(options)).toThrow(new AnnealError(message));
  });

  it('of a budget that are no numbers are refused', () => {
    expect(() => new JudgeBudget({ calls: Number.NaN })).toThrow("the judge's budget of calls is NaN");
  });
});
