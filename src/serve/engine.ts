import type { Tokenizer } from '../data/tokenizer.js';
import {
  type Generation,
  type GenerationRequest,
  type GenerativeModel,
  Generator,
} from '../generate/index.js';
import { ApiError } from './errors.js';
import { Counter, Gauge, Histogram } from './metrics.js';

/** A model to serve; what `loadLanguageModel` returns is one. */
export interface ServedModel {
  /** Clients ask for it by this name. */
  name: string;
  model: GenerativeModel;
  tokenizer: Tokenizer;
  /** Jinja template of conversations; without it there are no chat completions. */
  chatTemplate?: string | undefined;
  /** Tokens that end an answer. */
  endTokens: readonly number[];
}

/** How much a model takes on. */
export interface EngineOptions {
  slots: number;
  maxQueue: number;
  capacity?: number;
  chunk?: number;
}

const latencies = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** The server's metrics, shared by its models. */
export class ServerMetrics {
  readonly requests = new Counter('anneal_requests_total', 'Requests by endpoint and status.');
  readonly refused = new Counter('anneal_refused_total', 'Sequences refused because the queue was full.');
  readonly firstToken = new Histogram(
    'anneal_time_to_first_token_seconds',
    'From the arrival of a sequence to its first token.',
    latencies,
  );
  readonly betweenTokens = new Histogram(
    'anneal_time_between_tokens_seconds',
    'Between two tokens of a sequence.',
    latencies,
  );
  readonly duration = new Histogram(
    'anneal_sequence_duration_seconds',
    'From the arrival of a sequence to its end.',
    latencies,
  );
  readonly finished = new Counter('anneal_sequences_total', 'Sequences by model and reason of their end.');
}

/** One served model: its generator, with a queue of bounded length. */
export class Engine {
  readonly served: ServedModel;
  readonly generator: Generator;
  readonly created = Math.floor(Date.now() / 1000);
  readonly #metrics: ServerMetrics;
  readonly #limit: number;
  /** Sequences whose prompts are being scored for `echo`. */
  #scoring = 0;
  /** Mean duration of recent sequences, to say when to try again. */
  #seconds = 1;

  constructor(served: ServedModel, { maxQueue, ...options }: EngineOptions, metrics: ServerMetrics) {
    this.served = served;
    this.generator = new Generator(served.model, { ...options, tokenizer: served.tokenizer });
    this.#metrics = metrics;
    this.#limit = options.slots + maxQueue;
  }

  /**
   * Submits all requests or none; `onEnd` is called when all have ended.
   * @throws ApiError 429 if they do not fit into the queue now, 400 if they never do
   */
  submit(requests: readonly GenerationRequest[], onEnd: () => void): Generation[] {
    this.#admit(requests.length);
    const generations: Generation[] = [];
    try {
      for (const request of requests) generations.push(this.generator.submit(request));
    } catch (error) {
      for (const one of generations) one.cancel();
      throw error;
    }
    void Promise.all(generations.map((one) => this.#observe(one))).then(onEnd);
    return generations;
  }

  /**
   * Does work on `count` sequences that needs no slot; it has its place in the queue, too.
   * @throws ApiError as `submit`
   */
  async aside<T>(count: number, work: () => Promise<T>): Promise<T> {
    this.#admit(count);
    this.#scoring += count;
    try {
      return await work();
    } finally {
      this.#scoring -= count;
    }
  }

  #admit(count: number): void {
    const { active, waiting, slots } = this.generator.stats();
    if (count > this.#limit) {
      throw new ApiError(400, `${count} sequences in one request; this server takes ${this.#limit}`);
    }
    if (active + waiting + this.#scoring + count <= this.#limit) return;
    this.#metrics.refused.add({ model: this.served.name }, count);
    const seconds = Math.min(60, Math.max(1, Math.ceil((this.#seconds * (waiting + 1)) / slots)));
    throw new ApiError(429, 'the queue is full; try again later', 'queue_full', null, seconds);
  }

  /** Times tokens as they are made, not as a client reads them. */
  async #observe(generation: Generation): Promise<void> {
    const { firstToken, betweenTokens, duration, finished } = this.#metrics;
    const labels = { model: this.served.name };
    const start = performance.now();
    let last: number | undefined;
    try {
      for await (const _ of generation) {
        const now = performance.now();
        if (last === undefined) firstToken.observe(labels, (now - start) / 1000);
        else betweenTokens.observe(labels, (now - last) / 1000);
        last = now;
      }
      const { finishReason } = await generation.result;
      finished.add({ ...labels, reason: finishReason });
    } catch {
      finished.add({ ...labels, reason: 'error' });
    }
    const seconds = (performance.now() - start) / 1000;
    duration.observe(labels, seconds);
    this.#seconds += 0.1 * (seconds - this.#seconds);
  }
}

/** Gauges of the generators' state, looked up when the page is asked for. */
export function engineGauges(engines: readonly Engine[]): Gauge[] {
  const gauge = (
    name: string,
    help: string,
    read: (stats: ReturnType<Generator['stats']>) => number,
    type: 'gauge' | 'counter' = 'gauge',
  ) =>
    new Gauge(
      name,
      help,
      () =>
        engines.map((one) => ({ labels: { model: one.served.name }, value: read(one.generator.stats()) })),
      type,
    );
  return [
    gauge('anneal_slots', 'Sequences that can be decoded together.', (s) => s.slots),
    gauge('anneal_slots_active', 'Sequences that are decoded now.', (s) => s.active),
    gauge('anneal_queue_length', 'Sequences that wait for a slot.', (s) => s.waiting),
    gauge('anneal_cache_bytes', 'Size of the key-value cache.', (s) => s.cacheBytes),
    gauge('anneal_prompt_tokens_total', 'Prompt tokens computed.', (s) => s.promptTokens, 'counter'),
    gauge('anneal_generated_tokens_total', 'Tokens generated.', (s) => s.generatedTokens, 'counter'),
    gauge('anneal_decoding_steps_total', 'Passes over all slots.', (s) => s.steps, 'counter'),
  ];
}
