import http from 'node:http';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  createVerifyServer,
  JudgeError,
  type Verifier,
  type VerifyServer,
  type VerifyServerOptions,
} from '../../src/verify/index.js';
import { compile } from '../support/compiled.js';

let compiled: ReturnType<typeof compile>;
beforeAll(() => {
  compiled = compile('src/verify/service/worker.ts');
});
afterAll(() => compiled.remove());

const open: VerifyServer[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close({ drainSeconds: 1 })));
});

async function start(options: VerifyServerOptions = {}): Promise<{ url: string; server: VerifyServer }> {
  const server = createVerifyServer({ workers: 2, program: pathToFileURL(compiled.program), ...options });
  open.push(server);
  return { url: (await server.listen(0)).url, server };
}

const post = (url: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${url}/verify`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers,
  });
const lines = { 'content-type': 'application/x-ndjson' };
const row = { id: 'a', gold: '1/2', answer: 'It is \\boxed{0.5}.' };

describe('a server of verdicts', () => {
  it('verifies one row, an array, and lines in their order', async () => {
    const { url } = await start();
    const one = await post(url, row);
    expect(one.status).toBe(200);
    expect(await one.json()).toMatchObject({
      id: 'a',
      verdict: 'correct',
      reason: 'equal-value',
      extracted: '0.5',
    });
    const several = await (await post(url, [row, { gold: 3, answer: 4 }])).json();
    expect(several).toMatchObject([{ verdict: 'correct' }, { id: 'row 2', verdict: 'incorrect' }]);
    const rows = Array.from({ length: 300 }, (_, i) => ({ id: i, gold: '7', answer: `#### ${i % 9}` }));
    const answer = await post(url, `${rows.map((one) => JSON.stringify(one)).join('\n')}\n\n`, lines);
    expect(answer.headers.get('content-type')).toBe('application/x-ndjson; charset=utf-8');
    const results = (await answer.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(results.map(({ id, verdict }) => [id, verdict])).toEqual(
      rows.map(({ id }) => [id, id % 9 === 7 ? 'correct' : 'incorrect']),
    );
  });

  it('runs programs, unless it refuses them', async () => {
    const problem = { language: 'javascript', entry: 'f', tests: [{ kind: 'call', args: [2], expected: 4 }] };
    const program = { id: 1, type: 'code', gold: problem, answer: '```js\nconst f = (x) => x * x\n```' };
    const { url } = await start();
    expect(await (await post(url, program)).json()).toMatchObject({
      id: 1,
      verdict: 'correct',
      reason: 'all-passed',
    });
    const { url: other } = await start({ code: false });
    const refused = await post(other, program);
    expect(refused.status).toBe(400);
    expect(await refused.json()).toEqual({
      error: { code: 'bad_request', message: 'programs are not run here; leave rows of type "code" out' },
    });
  });

  it('says how it is', async () => {
    const { url } = await start();
    const health = await fetch(`${url}/health`);
    expect(await health.json()).toEqual({ status: 'ok', workers: 2, rows: 0, waiting: 0, running: 0 });
  });

  it.each<[string, unknown, Record<string, string>, number, string, string]>([
    ['no JSON', '{', {}, 400, 'bad_json', 'the body is no JSON: '],
    ['no row', { gold: '1' }, {}, 400, 'bad_row', 'the row has no text in "answer"; give every row one'],
    ['an empty array', [], {}, 400, 'no_rows', 'the array is empty; send at least one row'],
    ['no lines', '\n', lines, 400, 'no_rows', 'the body has no rows; send one JSON object a line'],
    ['a bad line', `${JSON.stringify(row)}\nx`, lines, 400, 'bad_json', 'line 2 is no JSON: '],
    [
      'a bad row of a batch',
      [row, { ...row, type: 'x' }],
      {},
      400,
      'bad_row',
      'row 2 has the type "x"; known are',
    ],
    [
      'a large body',
      { ...row, answer: 'x'.repeat(2000) },
      {},
      413,
      'body_too_large',
      'the body is larger than 1000 bytes',
    ],
    [
      'many rows',
      Array(5).fill({ gold: 1, answer: 1 }),
      {},
      413,
      'too_many_rows',
      '5 rows are more than 4; send fewer at once',
    ],
  ])('answers %s with an error in JSON', async (_, body, headers, status, code, message) => {
    const { url } = await start({ maxBodyBytes: 1000, maxRows: 4 });
    const answer = await post(url, body, headers);
    const { error } = (await answer.json()) as { error: { code: string; message: string } };
    expect([answer.status, error.code]).toEqual([status, code]);
    expect(error.message).toContain(message);
    // And goes on.
    expect((await post(url, row)).status).toBe(200);
  });

  it('knows its addresses, methods and keys', async () => {
    const { url } = await start({ keys: ['one', 'two'] });
    const status = async (answer: Promise<Response>) => [
      (await answer).status,
      (await answer).headers.get('allow'),
    ];
    expect(await status(fetch(`${url}/v1/verify`))).toEqual([404, null]);
    expect(await status(fetch(`${url}/verify`))).toEqual([405, 'POST']);
    expect(await status(fetch(`${url}/health`, { method: 'POST' }))).toEqual([405, 'GET']);
    expect(await status(post(url, row))).toEqual([401, null]);
    expect(await status(post(url, row, { authorization: 'Bearer three' }))).toEqual([401, null]);
    expect(await status(post(url, row, { authorization: 'Bearer two' }))).toEqual([200, null]);
    expect(() => createVerifyServer({ keys: [''] })).toThrow('a key is empty; leave it out');
  });

  it('refuses more rows than may wait, and takes them again later', async () => {
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const answers = (rules: Verifier): Verifier => ({
      name: 'gated',
      verify: async (item) => gate.then(() => rules.verify(item)),
    });
    const { url } = await start({ maxRows: 2, answers });
    const waiting = post(url, [row, row]);
    // The first request is in once the server counts its rows.
    const rows = async () => ((await (await fetch(`${url}/health`)).json()) as { rows: number }).rows;
    while ((await rows()) < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    const refused = await post(url, row);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1']);
    release();
    expect((await waiting).status).toBe(200);
    expect((await post(url, row)).status).toBe(200);
  });

  it('says in the line of a row that its judge failed, and goes on', async () => {
    const answers = (rules: Verifier): Verifier => ({
      name: 'failing',
      verify: async (item) => {
        if (item.answer === 'lost') throw new JudgeError('unreachable', 'the judge is away');
        if (item.answer === 'bug') throw new Error('a secret of ours');
        return rules.verify(item);
      },
    });
    const seen: unknown[] = [];
    const { url } = await start({ answers, onError: (error) => seen.push(error) });
    const body = [{ ...row, answer: 'lost' }, { ...row, id: 'b', answer: 'bug' }, row];
    const text = await (await post(url, body.map((one) => JSON.stringify(one)).join('\n'), lines)).text();
    expect(
      text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toMatchObject([
      { id: 'a', error: { code: 'judge_unreachable', message: 'the judge is away' } },
      { id: 'b', error: { code: 'internal_error' } },
      { id: 'a', verdict: 'correct' },
    ]);
    expect(text).not.toContain('secret');
    expect(seen).toHaveLength(1);
    expect((await post(url, body[0])).status).toBe(502);
  });

  it('gives up the rows of a client that goes away, and closes with nothing left', async () => {
    const { url, server } = await start({ workers: 1 });
    const rows = Array.from({ length: 9000 }, () => JSON.stringify(row)).join('\n');
    const request = http.request(`${url}/verify`, { method: 'POST', headers: lines });
    request.on('error', () => {});
    request.end(rows);
    await new Promise((resolve) => request.once('response', resolve));
    request.destroy();
    const left = async () => ((await (await fetch(`${url}/health`)).json()) as { rows: number }).rows;
    for (let wait = 0; wait < 400 && (await left()) > 0; wait++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(await left()).toBe(0);
    await server.close();
    await expect(fetch(`${url}/health`)).rejects.toThrow();
    await expect(createVerifyServer({ program: compiled.program }).listen(70000)).rejects.toThrow();
  });
});
