import { AnnealError } from '../core/errors.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { Decoder } from './decoder.js';
import type { Generation } from './generation.js';
import type { GenerativeModel } from './model.js';
import { PromptReader } from './prompt-reader.js';
import type { Completion, GenerationRequest } from './request.js';
import { Sampler } from './sampler.js';
import { Sequence, type SequenceLimits } from './sequence.js';
import { roundDown, roundUp } from './shapes.js';

/** Options of a generator. */
export interface GeneratorOptions {
  /** Sequences that are decoded together; more wait. */
  slots: number;
  /** Most tokens of a prompt and its completion. Default and upper limit: the model's context. */
  capacity?: number;
  /** For text and stop strings. Without it, generations have tokens only. */
  tokenizer?: Tokenizer;
  /**
   * Most tokens of prompts that are read between two decoding steps: larger reads prompts faster, smaller
   * keeps running streams smoother. A power of two. Default 256.
   */
  chunk?: number;
  /**
   * Makes the tokens of a sequence independent of what else is in the batch to the last bit: single rows are
   * decoded as two, and prompts are read one by one. Slower for one stream and for many short prompts. Without it
   * logits may differ in the last place, which changes a token only where two are almost equally likely.
   * `history` asks for less and costs almost nothing: requests that are submitted together, to a generator that has
   * nothing else to do, give the same bits whatever it has done before. Default false.
   */
  batchInvariant?: boolean | 'history';
  /**
   * Lets decoding steps that take less than 8 ms hold the calling thread instead of another one: faster for small
   * models, at the cost of everything else in the process, which gets its turn only between two steps. Default false.
   */
  blocking?: boolean;
}

/** Counts since the generator was made, and its state now. */
export interface GeneratorStats {
  slots: number;
  /** Sequences that have a slot. */
  active: number;
  /** Sequences that wait for one. */
  waiting: number;
  /** Tokens that a slot has room for now. */
  capacity: number;
  cacheBytes: number;
  requests: number;
  finished: number;
  /** Prompt tokens that were computed; those of forked prompts count once. */
  promptTokens: number;
  generatedTokens: number;
  /** Decoding steps. */
  steps: number;
  /** Milliseconds for which steps have held the calling thread; see `blocking`. */
  blockedMs: number;
}

function checkOptions({ slots, capacity, chunk = 256 }: GeneratorOptions): void {
  const check = (name: string, n: number, least: number) => {
    if (!Number.isInteger(n) || n < least)
      throw new AnnealError(`Generator: ${name} is ${n}; it must be a whole number from ${least}`);
  };
  check('slots', slots, 1);
  check('chunk', chunk, 1);
  if (capacity !== undefined) check('capacity', capacity, 2);
  if (roundDown(chunk) !== chunk) {
    throw new AnnealError(
      `Generator: chunk is ${chunk}; it must be a power of two, such as ${roundDown(chunk)}`,
    );
  }
}

/**
 * Generates many sequences at once with continuous batching: after every token, finished sequences leave their
 * slot and waiting ones take it. Prompts are read in pieces between the decoding steps, at most `chunk` tokens at a
 * time, so that running streams never wait for a long prompt. Equal prompts are read once.
 *
 * A sequence's random numbers depend on its seed and position alone; its logits do not depend on what else is in
 * the batch but for rounding, which may differ with the number of rows that are computed together.
 *
 * The model's weights and layers may be changed while nothing is generated.
 */
export class Generator {
  readonly #limits: SequenceLimits;
  /** No row is decoded alone. */
  readonly #hasCompany: boolean;
  readonly #decoder: Decoder;
  readonly #reader: PromptReader;
  readonly #sampler: Sampler;
  readonly #rows: (Sequence | undefined)[];
  #waiting: Sequence[] = [];
  /** Cancelled sequences that still hold a row. */
  readonly #leaving = new Set<Sequence>();
  #loop: Promise<void> | undefined;
  #isClosed = false;
  readonly #counts = { requests: 0, finished: 0, promptTokens: 0, generatedTokens: 0, steps: 0 };

  /** @throws AnnealError on an option out of range. */
  constructor(model: GenerativeModel, options: GeneratorOptions) {
    checkOptions(options);
    const { vocabulary, context: trained } = model.config;
    const context = Math.min(options.capacity ?? trained, trained);
    this.#limits = { vocabulary, context, tokenizer: options.tokenizer };
    const { batchInvariant = false, chunk: readAtOnce = 256 } = options;
    // How many rows a pass has depends on which sizes have been compiled before; with two or more it does not matter.
    this.#hasCompany = batchInvariant !== false;
    const rows = this.#hasCompany ? Math.max(2, options.slots) : options.slots;
    this.#decoder = new Decoder(model, rows, context, options.blocking);
    const chunk = Math.min(readAtOnce, roundDown(context));
    this.#reader = new PromptReader(this.#decoder, chunk, batchInvariant === true ? 0 : readAtOnce);
    this.#sampler = new Sampler(vocabulary);
    this.#rows = Array.from({ length: options.slots }, () => undefined);
  }

  /** Most tokens of a prompt and its completion. */
  get context(): number {
    return this.#limits.context;
  }

  /**
   * Puts a sequence into the queue. It starts by itself; the iterator and `result` only look on.
   * @throws AnnealError if the request is impossible or the generator closed.
   */
  submit(request: GenerationRequest): Generation {
    if (this.#isClosed) throw new AnnealError('the generator is closed; make a new one');
    const sequence = new Sequence(request, this.#limits, (one) => this.#cancel(one));
    this.#counts.requests++;
    this.#waiting.push(sequence);
    const { signal } = request;
    if (signal) {
      const abort = () => sequence.stream.cancel();
      const forget = () => signal.removeEventListener('abort', abort);
      if (signal.aborted) abort();
      else signal.addEventListener('abort', abort, { once: true });
      sequence.stream.result.then(forget, forget);
    }
    this.#start();
    return sequence.stream;
  }

  /**
   * Generates all and returns them in order.
   * @throws AnnealError as `submit`, before anything starts; the first failure of the model.
   */
  async generate(requests: readonly GenerationRequest[]): Promise<Completion[]> {
    const generations: Generation[] = [];
    try {
      for (const request of requests) generations.push(this.submit(request));
      return await Promise.all(generations.map((one) => one.result));
    } catch (error) {
      for (const one of generations) one.cancel();
      throw error;
    }
  }

  stats(): GeneratorStats {
    return {
      slots: this.#rows.length,
      active: this.#rows.filter((one) => one !== undefined).length,
      waiting: this.#waiting.length,
      capacity: this.#decoder.capacity,
      cacheBytes: this.#decoder.cacheBytes,
      blockedMs: this.#decoder.blockedMs,
      ...this.#counts,
    };
  }

  /**
   * Takes no more requests, and resolves when those that it has are finished and everything is freed.
   * @param options `cancel: true` ends them at once
   */
  async close(options: { cancel?: boolean } = {}): Promise<void> {
    this.#isClosed = true;
    if (options.cancel) {
      for (const sequence of [...this.#waiting, ...this.#active()]) sequence.stream.cancel();
    }
    await this.#loop;
    this.#decoder.dispose();
  }

  #active(): Sequence[] {
    return this.#rows.filter((one) => one !== undefined);
  }

  #cancel(sequence: Sequence): void {
    sequence.cancel();
    this.#counts.finished++;
    // The row may be in use by the run under way; the loop frees it.
    if (sequence.row >= 0) this.#leaving.add(sequence);
    else this.#waiting = this.#waiting.filter((one) => one !== sequence);
  }

  #start(): void {
    // Behind the current task, so that requests that come together start together.
    this.#loop ??= Promise.resolve()
      .then(() => this.#run())
      .finally(() => {
        this.#loop = undefined;
        if (this.#waiting.length > 0) this.#start();
      });
  }

  async #run(): Promise<void> {
    this.#decoder.refresh();
    while (this.#waiting.length > 0 || this.#rows.some((one) => one !== undefined)) {
      this.#freeRows();
      try {
        this.#admit();
        const tokens = await this.#reader.read(this.#active());
        this.#counts.promptTokens += tokens;
        await this.#decode();
      } catch (error) {
        // The run failed, not a sequence: none of those in it can go on.
        for (const sequence of this.#active()) this.#leave(sequence, error);
      }
    }
  }

  #leave(sequence: Sequence, error?: unknown): void {
    if (error !== undefined) sequence.stream.fail(error);
    if (!this.#leaving.delete(sequence)) this.#counts.finished++;
    this.#rows[sequence.row] = undefined;
    sequence.row = -1;
  }

  #freeRows(): void {
    for (const sequence of [...this.#leaving]) this.#leave(sequence);
  }

  /** Gives free rows, lowest first, to those that have waited longest. */
  #admit(): void {
    let taken = 0;
    for (let row = 0; row < this.#rows.length && taken < this.#waiting.length; row++) {
      if (this.#rows[row]) continue;
      const sequence = this.#waiting[taken++]!;
      sequence.row = row;
      this.#rows[row] = sequence;
    }
    if (taken > 0) this.#waiting = this.#waiting.slice(taken);
    const longest = Math.max(0, ...this.#active().map((one) => one.promptLength));
    this.#reserve(longest);
  }

  #reserve(tokens: number): void {
    this.#decoder.reserve(
      tokens,
      this.#rows.map((one) => one?.cached ?? 0),
    );
  }

  /** One token for every sequence whose prompt has been read. */
  async #decode(): Promise<void> {
    const ready = () => this.#active().filter((one) => one.unread === 0);
    if (ready().length === 0) return;
    this.#compact();
    const decoded = ready();
    this.#reserve(1 + Math.max(...this.#active().map((one) => one.cached)));
    // Also those whose prompts are being read: they will be decoded soon, and each size is compiled.
    const used = 1 + Math.max(...this.#active().map((one) => one.row));
    // A product with one row sums in another order than one with several, which all sum alike.
    const atLeast = this.#hasCompany ? Math.max(2, used) : used;
    const logits = await this.#decoder.step(atLeast, ({ tokens, lengths, counts }) => {
      // Rows that only happen to be in the batch write behind what they have, where it is overwritten later.
      for (const one of this.#active()) if (one.row < lengths.length) lengths[one.row] = one.cached;
      for (const one of decoded) {
        tokens[one.row] = one.last;
        counts[one.row] = 1;
      }
    });
    this.#counts.steps++;
    const { vocabulary } = this.#limits;
    for (const one of decoded) {
      one.cached++;
      if (one.stream.isDone) continue;
      const row = logits.subarray(one.row * vocabulary, (one.row + 1) * vocabulary);
      try {
        const hasEnded = one.advance(this.#sampler, row);
        this.#counts.generatedTokens++;
        if (hasEnded) this.#leave(one);
      } catch (error) {
        this.#leave(one, error);
      }
    }
  }

  /** Moves sequences into lower rows where fewer rows then have to be computed. */
  #compact(): void {
    const slots = this.#rows.length;
    const active = this.#active();
    const wanted = roundUp(active.length, slots);
    for (let from = slots - 1; from >= wanted; from--) {
      const sequence = this.#rows[from];
      if (!sequence) continue;
      const to = this.#rows.indexOf(undefined);
      this.#decoder.copyRow(from, to, sequence.cached);
      this.#rows[to] = sequence;
      this.#rows[from] = undefined;
      sequence.row = to;
    }
  }
}
