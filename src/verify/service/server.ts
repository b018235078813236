import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AnnealError } from '../../core/errors.js';
import type { CodeVerifierOptions } from '../code/verifier.js';
import type { Verdict, Verifier } from '../verdict.js';
import { errorBody, HttpError, sendJson, toHttpError } from './http-error.js';
import { VerifierPool } from './pool.js';
import { RowVerifier } from './row-verifier.js';
import { parseRow, rowResult, type VerifyRow } from './rows.js';

export interface VerifyServerOptions {
  /** Threads of rules, and programs that run at once. Default one for each processor, at most 8. */
  workers?: number;
  /** Milliseconds of an answer's verification once it has begun; default 5000. */
  deadlineMs?: number;
  /** Limits and choice of the sandboxes; false refuses programs. */
  code?: CodeVerifierOptions | false;
  /** Makes the verifier of answers out of the rules: puts a judge behind them, say. Default: the rules alone. */
  answers?: (rules: Verifier) => Verifier;
  /** Larger bodies are refused with 413; default 16 MiB. */
  maxBodyBytes?: number;
  /** Rows that may wait or run at once; a request that would exceed it is refused with 429. Default 10 000. */
  maxRows?: number;
  /** Bearer keys, one of which every request to /verify must have. Default: none is needed. */
  keys?: readonly string[];
  /** Module of the rules' threads; see `VerifierPoolOptions.program`. */
  program?: URL | string;
  /** Gets errors that are no fault of a client. Default: console.error. */
  onError?: (error: unknown) => void;
}

/** A server that is ready to listen. */
export interface VerifyServer {
  /** Starts listening; port 0 takes a free one. Resolves with the address. */
  listen(port?: number, host?: string): Promise<{ url: string; port: number }>;
  /** Stops accepting, finishes what runs for at most `drainSeconds` (default 10), and leaves no thread or process. */
  close(options?: { drainSeconds?: number }): Promise<void>;
}

/** Reads a body to its end. @throws HttpError 413 as soon as it is too large */
async function readBody(request: IncomingMessage, limit: number): Promise<string> {
  const tooLarge = () => {
    // The rest is not read: the connection cannot be used again.
    const headers = { connection: 'close' };
    return new HttpError(413, 'body_too_large', `the body is larger than ${limit} bytes`, headers);
  };
  if (Number(request.headers['content-length'] ?? 0) > limit) throw tooLarge();
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > limit) throw tooLarge();
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

/** What a request asks for: rows, and the shape in which verdicts are wanted. */
interface Asked {
  rows: VerifyRow[];
  shape: 'one' | 'array' | 'lines';
}

const isLines = (type: string) => /(?:x-ndjson|jsonl|json-?lines|x-jsonlines|ndjson)/i.test(type);

function parseJson(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new HttpError(400, 'bad_json', `${place} is no JSON: ${(error as Error).message}`);
  }
}

/**
 * The rows of a body: one object or an array as JSON, or an object a line. All are read before the first is verified,
 * so that a mistake in the last line costs nothing.
 */
function rowsOf(body: string, type: string): Asked {
  const read = (value: unknown, place: string) => {
    try {
      return parseRow(value, place);
    } catch (error) {
      throw new HttpError(400, 'bad_row', (error as Error).message);
    }
  };
  if (isLines(type)) {
    const rows = body.split('\n').flatMap((line, i) => {
      if (line.trim() === '') return [];
      return [read(parseJson(line, `line ${i + 1}`), `line ${i + 1}`)];
    });
    if (rows.length === 0)
      throw new HttpError(400, 'no_rows', 'the body has no rows; send one JSON object a line');
    return { rows, shape: 'lines' };
  }
  const value = parseJson(body, 'the body');
  if (Array.isArray(value)) {
    if (value.length === 0) throw new HttpError(400, 'no_rows', 'the array is empty; send at least one row');
    return { rows: value.map((one, i) => read(one, `row ${i + 1}`)), shape: 'array' };
  }
  return { rows: [read(value, 'the row')], shape: 'one' };
}

const digest = (key: string) => createHash('sha256').update(key).digest();

/** Whether the header bears one of the keys; digests are compared in constant time. */
function hasKey(header: string | undefined, keys: readonly string[]): boolean {
  const given = digest(/^Bearer (.+)$/i.exec(header ?? '')?.[1] ?? '');
  return keys.filter((key) => timingSafeEqual(digest(key), given)).length > 0;
}

class Service {
  readonly #options: VerifyServerOptions;
  readonly #pool: VerifierPool;
  readonly #rows: RowVerifier;
  readonly #onError: (error: unknown) => void;
  /** Rows of all requests that wait or run. */
  #open = 0;
  isClosing = false;

  constructor(options: VerifyServerOptions) {
    const { workers, deadlineMs, program, code, answers } = options;
    this.#options = options;
    this.#pool = new VerifierPool({
      ...(workers !== undefined && { workers }),
      ...(deadlineMs !== undefined && { deadlineMs }),
      ...(program !== undefined && { program }),
    });
    this.#rows = new RowVerifier({
      answers: answers ? answers(this.#pool) : this.#pool,
      code: code === false ? false : { workers: this.#pool.workers, ...code },
    });
    this.#onError = options.onError ?? ((error) => console.error(error));
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = (request.url ?? '/').split('?')[0];
    try {
      if (url === '/health') return this.#health(request, response);
      if (url !== '/verify')
        throw new HttpError(404, 'unknown_url', `there is no ${request.method} ${url}; POST rows to /verify`);
      if (request.method !== 'POST')
        throw new HttpError(405, 'wrong_method', `/verify takes POST, not ${request.method}`, {
          allow: 'POST',
        });
      if (this.isClosing) throw new HttpError(503, 'closing', 'the server is shutting down');
      const { keys } = this.#options;
      if (keys && keys.length > 0 && !hasKey(request.headers.authorization, keys))
        throw new HttpError(
          401,
          'wrong_key',
          'the key is missing or wrong; send it as "Authorization: Bearer KEY"',
        );
      await this.#verify(request, response);
    } catch (error) {
      const answer = toHttpError(error);
      if (answer.status === 500) this.#onError(error);
      if (response.headersSent) response.destroy();
      else sendJson(response, answer.status, errorBody(answer), answer.headers);
    }
  }

  #health({ method }: IncomingMessage, response: ServerResponse): void {
    if (method !== 'GET' && method !== 'HEAD')
      throw new HttpError(405, 'wrong_method', `/health takes GET, not ${method}`, { allow: 'GET' });
    const { workers, load } = this.#pool;
    const status = this.isClosing ? 'closing' : 'ok';
    sendJson(response, this.isClosing ? 503 : 200, { status, workers, rows: this.#open, ...load });
  }

  async #verify(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { maxBodyBytes = 2 ** 24, maxRows = 10_000 } = this.#options;
    const body = await readBody(request, maxBodyBytes);
    const { rows, shape } = rowsOf(body, request.headers['content-type'] ?? '');
    if (rows.length > maxRows)
      throw new HttpError(
        413,
        'too_many_rows',
        `${rows.length} rows are more than ${maxRows}; send fewer at once`,
      );
    if (this.#open + rows.length > maxRows)
      throw new HttpError(429, 'queue_full', 'too many rows are waiting; try again', { 'retry-after': '1' });
    // A client that goes away takes its waiting rows with it.
    const gone = new AbortController();
    response.once('close', () => gone.abort(new HttpError(499, 'client_gone', 'the client is gone')));
    this.#open += rows.length;
    const verdicts = rows.map((row) => this.#one(row, gone.signal));
    // Failures are met one after the other below; until then they are nobody's.
    for (const one of verdicts) one.catch(() => {});
    try {
      if (shape === 'lines') return await this.#sendLines(rows, verdicts, response);
      const results = [];
      for (const [i, one] of verdicts.entries()) results.push(rowResult(rows[i]!.id, await one));
      sendJson(response, 200, shape === 'one' ? results[0] : results);
    } finally {
      await Promise.allSettled(verdicts);
    }
  }

  async #one(row: VerifyRow, signal: AbortSignal): Promise<Verdict> {
    try {
      return await this.#rows.verify(row, { signal });
    } finally {
      this.#open--;
    }
  }

  /** A line for each row in the order of the rows, sent as soon as it and all before it are there. */
  async #sendLines(
    rows: readonly VerifyRow[],
    verdicts: readonly Promise<Verdict>[],
    response: ServerResponse,
  ): Promise<void> {
    response.writeHead(200, { 'content-type': 'application/x-ndjson; charset=utf-8' });
    for (const [i, one] of verdicts.entries()) {
      const { id } = rows[i]!;
      let line: unknown;
      try {
        line = rowResult(id, await one);
      } catch (error) {
        // The status is sent: a row on which the verifier itself failed says so in its line.
        const answer = toHttpError(error);
        if (answer.status === 500) this.#onError(error);
        line = { id, ...errorBody(answer) };
      }
      if (response.destroyed) return;
      if (!response.write(`${JSON.stringify(line)}\n`))
        await Promise.race([once(response, 'drain'), once(response, 'close')]);
    }
    response.end();
  }

  async close(): Promise<void> {
    await Promise.all([this.#pool.close(), this.#rows.close()]);
  }
}

/**
 * A server of verdicts. `POST /verify` takes one row as a JSON object, several as an array, or a batch of JSON Lines
 * (`content-type: application/x-ndjson`), whose verdicts are streamed in the order of the rows. `GET /health` says
 * how much waits. Errors are JSON: `{ "error": { "code", "message" } }`.
 *
 * ```ts
 * const server = createVerifyServer({ workers: 8 });
 * const { url } = await server.listen(8001);
 * ```
 *
 * @throws AnnealError on an option out of range
 */
export function createVerifyServer(options: VerifyServerOptions = {}): VerifyServer {
  if (options.keys?.some((key) => key === '')) throw new AnnealError('a key is empty; leave it out');
  const service = new Service(options);
  let server: Server | undefined;
  return {
    listen(port = 8001, host = '127.0.0.1') {
      if (server) throw new AnnealError('the server listens already');
      // A client that does not finish its headers or body is cut off.
      const made = createServer({ requestTimeout: 60_000, headersTimeout: 20_000 }, (request, response) => {
        void service.handle(request, response);
      });
      server = made;
      return new Promise((resolve, reject) => {
        made.once('error', (error: NodeJS.ErrnoException) => {
          const isTaken = error.code === 'EADDRINUSE';
          reject(isTaken ? new AnnealError(`port ${port} on ${host} is taken; choose another`) : error);
        });
        made.listen({ port, host, backlog: 1024 }, () => {
          const { address, family, port: own } = made.address() as AddressInfo;
          resolve({ url: `http://${family === 'IPv6' ? `[${address}]` : address}:${own}`, port: own });
        });
      });
    },
    async close({ drainSeconds = 10 } = {}) {
      service.isClosing = true;
      const closed = server && new Promise<void>((resolve) => server!.close(() => resolve()));
      server?.closeIdleConnections();
      const timer = setTimeout(() => server?.closeAllConnections(), 1000 * drainSeconds);
      await closed;
      clearTimeout(timer);
      await service.close();
    },
  };
}
