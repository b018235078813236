import { isBusy } from '../core/device.js';
import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { int32 } from '../core/feeds.js';
import { reshape } from '../core/ops/view.js';
import { type Program, program } from '../core/program.js';
import { Variable } from '../core/variable.js';
import { KVCache } from '../nn/cache.js';
import { parametersOf } from '../nn/module.js';
import type { GenerativeModel } from './model.js';
import { roundUp } from './shapes.js';

/** Tokens a row in the first cache; more are made as sequences grow. */
const firstCapacity = 256;

/** Steps for which a larger pass than needed will do, before one of the right size is compiled. */
const patience = 16;

/** Steps that have been faster than this, in milliseconds, may hold the calling thread. */
const shortStep = 8;

/** Lets timers, input and other tasks through. Only where that costs microseconds; in browsers it would be milliseconds. */
const eventLoopTurn: (() => Promise<void>) | undefined =
  typeof setImmediate === 'function' ? () => new Promise((resolve) => setImmediate(resolve)) : undefined;

/** A compiled pass over some rows, with the arrays that it is fed. */
interface Pass {
  run: Program<'tokens' | 'lengths' | 'counts', never>;
  /** Its view of the cache. */
  cache: KVCache;
  feeds: PassFeeds;
}

/** A pass that decodes, with its logits and the time of the fastest run so far. */
type StepPass = Pass & { logits: Variable; ms: number };

/** What a pass reads: new tokens [rows, length], and for each row how many it has and how many of the new ones count. */
export interface PassFeeds {
  tokens: Int32Array;
  lengths: Int32Array;
  counts: Int32Array;
}

/** @throws AnnealError if there is no memory for it */
function makeCache(model: GenerativeModel, rows: number, capacity: number): KVCache {
  try {
    return new KVCache(model.cacheShape(), rows, capacity);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new AnnealError(
      `no memory for a KV cache of ${rows} slots with ${capacity} tokens each; use fewer slots or a smaller capacity`,
    );
  }
}

/**
 * The device side of generation: one KV cache with a row per slot, and the compiled passes that write into it.
 * Passes of different sizes share the cache's memory: each has variables of its own, whose arrays are parts of
 * the same buffers. Their results are written into variables too, so that nothing is allocated or copied per step.
 * Calls must not overlap.
 */
export class Decoder {
  readonly #model: GenerativeModel;
  readonly #slots: number;
  readonly #limit: number;
  readonly #mayBlock: boolean;
  /** Milliseconds for which steps have held the calling thread. */
  blockedMs = 0;
  #cache: KVCache;
  /** What the passes were traced over. */
  #variables: readonly Variable[] = [];
  /** Decoding passes by their number of rows, with their logits. */
  readonly #steps = new Map<number, StepPass>();
  /** How often a size of decoding pass would have been right and a larger one had to do. */
  readonly #misses = new Map<number, number>();
  /** Prompt passes over one row of the cache, by length. */
  readonly #pieces = new Map<number, Pass>();
  /** Prompt passes over several rows of a cache of their own, by `rows x length`. They survive growth. */
  readonly #groups = new Map<string, Pass>();

  /**
   * @param limit most tokens a row
   * @param mayBlock whether short steps may run on the calling thread
   */
  constructor(model: GenerativeModel, slots: number, limit: number, mayBlock = false) {
    this.#model = model;
    this.#slots = slots;
    this.#limit = limit;
    this.#mayBlock = mayBlock && eventLoopTurn !== undefined;
    this.#cache = makeCache(model, slots, Math.min(limit, firstCapacity));
  }

  /** Tokens that a row has room for now. */
  get capacity(): number {
    return this.#cache.capacity;
  }

  /** A row can be continued from where it is only, not from an earlier token. */
  get isStateful(): boolean {
    return this.#cache.shape.isStateful ?? false;
  }

  get cacheBytes(): number {
    return this.#cache.bytes;
  }

  /** Makes room for `tokens` in every row; `used[row]` of them are kept. Passes are compiled anew. */
  reserve(tokens: number, used: ArrayLike<number>): void {
    if (tokens <= this.capacity) return;
    const next = makeCache(this.#model, this.#slots, roundUp(tokens, this.#limit));
    for (let row = 0; row < used.length; row++) {
      if (used[row]! > 0) next.copyRow(this.#cache, row, row, used[row]!);
    }
    this.#release(this.#steps, this.#pieces);
    this.#misses.clear();
    this.#cache = next;
  }

  /**
   * Drops passes that were traced over other variables than the model has now, as after an adapter was applied or
   * removed. Call it while no sequence is cached.
   */
  refresh(): void {
    const variables = [...parametersOf(this.#model).values()];
    const old = this.#variables;
    if (variables.length === old.length && variables.every((one, i) => one === old[i])) return;
    this.dispose();
    this.#variables = variables;
  }

  /** Copies the first `length` tokens of one row to another. */
  copyRow(from: number, to: number, length: number): void {
    if (length > 0) this.#cache.copyRow(this.#cache, from, to, length);
  }

  /**
   * One token for each of the first rows, and for some more: sizes are powers of two, and few are compiled.
   * `fill` writes the feeds, which are zero: rows whose count stays 0 are only along. The result is [rows, vocabulary], valid until the next call.
   */
  async step(atLeast: number, fill: (feeds: PassFeeds) => void): Promise<Float32Array> {
    const rows = this.#sizeFor(roundUp(atLeast, this.#slots));
    const pass = this.#steps.get(rows) ?? this.#makeStep(rows);
    for (const feed of Object.values(pass.feeds)) feed.fill(0);
    fill(pass.feeds);
    await this.#run(pass);
    return pass.logits.data as Float32Array;
  }

  /** Waking another thread and being woken by it takes up to 0.3 ms, a good part of a short step. */
  async #run(pass: StepPass): Promise<void> {
    if (this.#mayBlock && pass.ms < shortStep) await eventLoopTurn!();
    const start = performance.now();
    if (this.#mayBlock && pass.ms < shortStep && !isBusy()) {
      pass.run.runSync(pass.feeds);
      this.blockedMs += performance.now() - start;
    } else await pass.run(pass.feeds);
    pass.ms = Math.min(pass.ms, performance.now() - start);
  }

  /** The rows of the pass to use where `wanted` would do. Compiling takes as long as many steps. */
  #sizeFor(wanted: number): number {
    if (this.#steps.has(wanted)) return wanted;
    const larger = [...this.#steps.keys()].filter((rows) => rows > wanted).sort((a, b) => a - b)[0];
    const misses = this.#misses.get(wanted) ?? 0;
    this.#misses.set(wanted, misses + 1);
    return larger !== undefined && misses < patience ? larger : wanted;
  }

  /** Reads tokens of a prompt, padded to `length`, into a row, behind its first `start` tokens. */
  async readPiece(row: number, tokens: Int32Array, length: number, start: number): Promise<void> {
    const pass = this.#pieces.get(length) ?? this.#makePiece(length);
    pass.cache.viewRows(this.#cache, row);
    pass.feeds.tokens.fill(0).set(tokens);
    pass.feeds.lengths[0] = start;
    pass.feeds.counts[0] = tokens.length;
    await pass.run(pass.feeds);
  }

  /** Reads whole prompts, padded to `length`, into rows. */
  async readGroup(prompts: readonly { row: number; tokens: Int32Array }[], length: number): Promise<void> {
    const key = `${prompts.length}x${length}`;
    const pass = this.#groups.get(key) ?? this.#makeGroup(key, prompts.length, length);
    pass.feeds.tokens.fill(0);
    for (const [i, { tokens }] of prompts.entries()) {
      pass.feeds.tokens.set(tokens, i * length);
      pass.feeds.counts[i] = tokens.length;
    }
    await pass.run(pass.feeds);
    for (const [i, { row, tokens }] of prompts.entries()) {
      this.#cache.copyRow(pass.cache, i, row, tokens.length);
    }
  }

  /** Frees everything compiled. */
  dispose(): void {
    this.#release(this.#steps, this.#pieces, this.#groups);
  }

  #release(...maps: Map<unknown, Pass>[]): void {
    for (const passes of maps) {
      for (const pass of passes.values()) pass.run.dispose();
      passes.clear();
    }
  }

  #makeStep(rows: number): StepPass {
    const { vocabulary } = this.#model.config;
    const logits = new Variable(allocate('float32', rows * vocabulary), 'float32', [rows, vocabulary], {
      name: 'logits',
      trainable: false,
    });
    const cache = new KVCache(this.#cache.shape, rows, this.capacity);
    cache.viewRows(this.#cache, 0);
    const pass = { ...this.#makePass(cache, rows, 1, logits), logits, ms: Number.POSITIVE_INFINITY };
    this.#steps.set(rows, pass);
    return pass;
  }

  #makePiece(length: number): Pass {
    const pass = this.#makePass(new KVCache(this.#cache.shape, 1, this.capacity), 1, length);
    this.#pieces.set(length, pass);
    return pass;
  }

  #makeGroup(key: string, rows: number, length: number): Pass {
    const pass = this.#makePass(new KVCache(this.#cache.shape, rows, length), rows, length);
    this.#groups.set(key, pass);
    return pass;
  }

  #makePass(cache: KVCache, rows: number, length: number, logits?: Variable): Pass {
    const run = program(
      { tokens: int32([rows, length]), lengths: int32([rows]), counts: int32([rows]) },
      ({ tokens, lengths, counts }) => {
        const hidden = this.#model.hidden(tokens, { cache: { cache, lengths, counts } });
        // A prompt's pass only fills the cache: what its last layer computes beyond keys and values is dropped.
        logits?.assign(reshape(this.#model.logits(hidden), logits.shape));
        return undefined;
      },
      { name: logits ? `decode ${rows}` : `prompt ${rows} x ${length}` },
    );
    const array = (n: number) => allocate('int32', n) as Int32Array;
    return { run, cache, feeds: { tokens: array(rows * length), lengths: array(rows), counts: array(rows) } };
  }
}
