import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type { z } from 'zod';
import { AnnealError } from '../core/errors.js';
import { keyChecker } from './auth.js';
import { answerChat } from './chat.js';
import { answerCompletion } from './completions.js';
import { Engine, engineGauges, type ServedModel, ServerMetrics } from './engine.js';
import { ApiError, toApiError } from './errors.js';
import { exposition } from './metrics.js';
import type { Job } from './request.js';
import { chatSchema, completionSchema, parseBody } from './schemas.js';

/** Options of a server. */
export interface ServerOptions {
  /** What to serve; names must differ. */
  models: readonly ServedModel[];
  /** Sequences that a model decodes together. Default 8. */
  slots?: number;
  /** Sequences of a model that may wait for a slot; more are refused with 429. Default 64. */
  maxQueue?: number;
  /** Most tokens of a prompt and its completion. Default: the model's context. */
  capacity?: number;
  /** See `GeneratorOptions.chunk`. */
  chunk?: number;
  /** Larger request bodies are refused with 413. Default 4 MiB. */
  maxBodyBytes?: number;
  /** Bearer keys, one of which every request to /v1 must have. Default: none is needed. */
  keys?: readonly string[];
  /** Longest time for a request, in seconds; then its sequences are cancelled. Default 600. */
  timeoutSeconds?: number;
  /** Gets errors that are no fault of a client. Default: console.error. */
  onError?: (error: unknown) => void;
}

/** A server that is ready to listen. */
export interface AnnealServer {
  /** The routes, to be mounted elsewhere or called directly. */
  app: Hono;
  /** Starts listening; port 0 takes a free one. Resolves with the address. */
  listen(port?: number, host?: string): Promise<{ url: string; port: number }>;
  /**
   * Stops accepting, finishes what runs, and frees the models' caches. After `drainSeconds` (default 30),
   * what still runs is cancelled.
   */
  close(options?: { drainSeconds?: number }): Promise<void>;
}

function checkOptions({ models, keys, maxQueue, timeoutSeconds }: ServerOptions): void {
  const fail = (message: string): never => {
    throw new AnnealError(`createServer: ${message}`);
  };
  if (models.length === 0) fail('models is empty; give at least one');
  const names = models.map((one) => one.name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) fail(`two models are called "${twice}"; rename one`);
  if (keys?.some((key) => key.length === 0)) fail('a key is empty; leave it out');
  if (maxQueue !== undefined && !(Number.isInteger(maxQueue) && maxQueue >= 0)) {
    fail(`maxQueue is ${maxQueue}; it must be a whole number from 0`);
  }
  if (timeoutSeconds !== undefined && !(timeoutSeconds > 0)) {
    fail(`timeoutSeconds is ${timeoutSeconds}; it must be positive`);
  }
}

/** Everything that the routes share. */
class Service {
  readonly engines: ReadonlyMap<string, Engine>;
  readonly metrics = new ServerMetrics();
  readonly hasKey: ((header: string | undefined) => boolean) | undefined;
  readonly onError: (error: unknown) => void;
  isClosing = false;
  readonly #timeoutMs: number;

  constructor(options: ServerOptions) {
    const { models, slots = 8, maxQueue = 64, capacity, chunk, keys, timeoutSeconds = 600 } = options;
    const limits = {
      slots,
      maxQueue,
      ...(capacity !== undefined && { capacity }),
      ...(chunk !== undefined && { chunk }),
    };
    this.engines = new Map(models.map((one) => [one.name, new Engine(one, limits, this.metrics)]));
    this.hasKey = keys && keys.length > 0 ? keyChecker(keys) : undefined;
    this.onError = options.onError ?? ((error) => console.error(error));
    this.#timeoutMs = 1000 * timeoutSeconds;
  }

  /** @throws ApiError 404 */
  engine(name: string): Engine {
    const engine = this.engines.get(name);
    if (engine) return engine;
    const known = [...this.engines.keys()].join(', ');
    throw new ApiError(404, `there is no model "${name}"; there are: ${known}`, 'model_not_found', 'model');
  }

  job(name: string, client: AbortSignal): Job {
    const engine = this.engine(name);
    // Not AbortSignal.timeout: its timer would keep every request in memory until it fires.
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), this.#timeoutMs);
    return {
      engine,
      signal: AbortSignal.any([client, timeout.signal]),
      interruption: () =>
        timeout.signal.aborted
          ? new ApiError(504, 'the request took too long and was cancelled', 'timeout')
          : new ApiError(503, 'the server is shutting down', 'shutting_down'),
      release: () => clearTimeout(timer),
    };
  }

  async closeEngines(drainSeconds: number): Promise<void> {
    const all = [...this.engines.values()];
    const cancel = () => {
      for (const one of all) void one.generator.close({ cancel: true });
    };
    const timer = setTimeout(cancel, 1000 * drainSeconds);
    await Promise.all(all.map((one) => one.generator.close()));
    clearTimeout(timer);
  }
}

const modelObject = ({ served, created }: Engine) => ({
  id: served.name,
  object: 'model',
  created,
  owned_by: 'anneal',
});

function routes(service: Service, maxBodyBytes: number): Hono {
  const app = new Hono();
  // Reports what it threw, and counts every answer.
  app.use(async (c, next) => {
    await next();
    service.metrics.requests.add({ path: c.req.routePath, status: c.res.status });
  });
  app.onError((error) => {
    const answer = toApiError(error);
    if (answer.status === 500) service.onError(error);
    return answer.toResponse();
  });
  app.notFound((c) =>
    new ApiError(404, `there is no ${c.req.method} ${c.req.path}`, 'unknown_url').toResponse(),
  );
  app.get('/health', (c) =>
    service.isClosing
      ? c.json({ status: 'closing' }, 503)
      : c.json({ status: 'ok', models: [...service.engines.keys()] }),
  );
  app.get('/metrics', (c) => {
    const { requests, refused, finished, firstToken, betweenTokens, duration } = service.metrics;
    const gauges = engineGauges([...service.engines.values()]);
    const page = exposition([requests, refused, finished, firstToken, betweenTokens, duration, ...gauges]);
    return c.body(page, 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
  });
  app.use('/v1/*', async (c, next) => {
    if (service.isClosing) throw new ApiError(503, 'the server is shutting down', 'shutting_down', null, 5);
    if (service.hasKey && !service.hasKey(c.req.header('authorization'))) {
      throw new ApiError(401, 'the API key is missing or wrong', 'invalid_api_key');
    }
    await next();
  });
  app.use(
    '/v1/*',
    bodyLimit({
      maxSize: maxBodyBytes,
      onError: () => {
        throw new ApiError(413, `the body is larger than ${maxBodyBytes} bytes`, 'body_too_large');
      },
    }),
  );
  app.get('/v1/models', (c) =>
    c.json({ object: 'list', data: [...service.engines.values()].map(modelObject) }),
  );
  // Names may hold slashes.
  app.get('/v1/models/:name{.+}', (c) => c.json(modelObject(service.engine(c.req.param('name')))));
  /** A route that generates. */
  const answers = <T extends { model: string }>(
    path: string,
    schema: z.ZodType<T>,
    answer: (body: T, job: Job, onError: (error: unknown) => void) => Promise<Response>,
  ) =>
    app.post(path, async (c) => {
      const body = await parseBody(c.req.raw, schema);
      const job = service.job(body.model, c.req.raw.signal);
      try {
        return await answer(body, job, service.onError);
      } catch (error) {
        job.release();
        throw error;
      }
    });
  answers('/v1/completions', completionSchema, answerCompletion);
  answers('/v1/chat/completions', chatSchema, answerChat);
  return app;
}

/**
 * A server that speaks OpenAI's API: `/v1/models`, `/v1/completions` and `/v1/chat/completions`, with `/health` and
 * Prometheus `/metrics` beside them. Requests of all clients are decoded together.
 *
 * ```ts
 * const server = createServer({ models: [await loadLanguageModel('SmolLM2-135M-Instruct')] });
 * const { url } = await server.listen(8000);
 * ```
 *
 * @throws AnnealError on an option out of range
 */
export function createServer(options: ServerOptions): AnnealServer {
  checkOptions(options);
  const service = new Service(options);
  const app = routes(service, options.maxBodyBytes ?? 4 * 2 ** 20);
  let server: Server | undefined;
  return {
    app,
    listen(port = 8000, host = '127.0.0.1') {
      if (server) throw new AnnealError('the server listens already');
      // A client that does not finish its headers or body is cut off.
      const serverOptions = { headersTimeout: 20_000, requestTimeout: 60_000, keepAliveTimeout: 10_000 };
      const made = createAdaptorServer({ fetch: app.fetch, serverOptions }) as Server;
      server = made;
      return new Promise((resolve, reject) => {
        made.once('error', (error: NodeJS.ErrnoException) => {
          const isTaken = error.code === 'EADDRINUSE';
          reject(isTaken ? new AnnealError(`port ${port} on ${host} is taken; choose another`) : error);
        });
        made.listen({ port, host, backlog: 2048 }, () => {
          const address = made.address() as AddressInfo;
          const name = address.family === 'IPv6' ? `[${address.address}]` : address.address;
          resolve({ url: `http://${name}:${address.port}`, port: address.port });
        });
      });
    },
    async close({ drainSeconds = 30 } = {}) {
      service.isClosing = true;
      const closed = server && new Promise<void>((resolve) => server!.close(() => resolve()));
      server?.closeIdleConnections();
      await service.closeEngines(drainSeconds);
      // Answers are complete now; give them a moment to reach their clients.
      const timer = setTimeout(() => server?.closeAllConnections(), 2000);
      server?.closeIdleConnections();
      await closed;
      clearTimeout(timer);
    },
  };
}
