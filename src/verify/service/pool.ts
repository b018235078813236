import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { AnnealError } from '../../core/errors.js';
import type { Verdict, Verifier } from '../verdict.js';
import type { AnswerItem } from './rows.js';

export interface VerifierPoolOptions {
  /** Threads; default one for each processor, at most 8. */
  workers?: number;
  /**
   * Milliseconds of one item from the moment a thread begins it; default 5000. Rules end by their own count of
   * work long before. Past the deadline the thread is ended and the item's verdict is an abstention.
   */
  deadlineMs?: number;
  /** Megabytes of a thread's heap; default 256. A thread that needs more is replaced, and its item abstained from. */
  memoryMb?: number;
  /** The module that threads run, for bundlers that put `service/worker.js` elsewhere. */
  program?: URL | string;
}

/** An item that waits, or that a thread works on. */
interface Job {
  item: AnswerItem;
  resolve(verdict: Verdict): void;
  reject(error: unknown): void;
  signal: AbortSignal | undefined;
}

/** A thread, and what it is doing. */
interface Lane {
  worker: Worker;
  job: Job | undefined;
  begunAt: number;
  timer: NodeJS.Timeout | undefined;
}

const workerModule = new URL('./worker.js', import.meta.url);

/** Starts in a row that may fail before a pool gives up: one failure can be chance, five are a missing module. */
const mostFailedStarts = 5;

/**
 * Rule verifiers in worker threads. Every thread has one item at a time and takes the next from a common queue, so that
 * a slow item holds up its own thread and nobody else. Close it when done.
 */
export class VerifierPool implements Verifier {
  readonly name = 'rules';
  readonly workers: number;
  readonly #deadlineMs: number;
  readonly #memoryMb: number;
  readonly #program: URL | string;
  readonly #lanes = new Set<Lane>();
  readonly #ending = new Set<Promise<unknown>>();
  readonly #signals = new Map<AbortSignal, { jobs: Set<Job>; listener: () => void }>();
  #queue: Job[] = [];
  #failedStarts = 0;
  #closed = false;

  /** @throws AnnealError for an option out of range */
  constructor(options: VerifierPoolOptions = {}) {
    const { workers = Math.min(8, availableParallelism()), deadlineMs = 5000, memoryMb = 256 } = options;
    if (!(Number.isSafeInteger(workers) && workers > 0 && workers <= 1024))
      throw new AnnealError(`workers is ${workers}; pass a whole number from 1 to 1024`);
    if (!(deadlineMs > 0)) throw new AnnealError(`deadlineMs is ${deadlineMs}; pass a time above 0`);
    this.workers = workers;
    this.#deadlineMs = deadlineMs;
    this.#memoryMb = memoryMb;
    this.#program = options.program ?? workerModule;
  }

  /** Items that wait for a thread, and items that a thread works on. */
  get load(): { waiting: number; running: number } {
    const running = [...this.#lanes].filter(({ job }) => job !== undefined).length;
    return { waiting: this.#queue.length, running };
  }

  /**
   * Verifies one item. Whatever the item is there is a verdict; `ms` counts from where a thread began with it.
   * @throws AnnealError where threads cannot be started or the pool is closed; the signal's reason once it aborts
   */
  verify(item: AnswerItem, { signal }: { signal?: AbortSignal } = {}): Promise<Verdict> {
    if (this.#closed) return Promise.reject(new AnnealError('the verifier pool is closed; make a new one'));
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    return new Promise((resolve, reject) => {
      const job: Job = { item, resolve, reject, signal };
      if (signal) this.#listen(signal, job);
      this.#queue.push(job);
      this.#dispatch();
    });
  }

  /** Verifies many items; verdicts in their order. */
  verifyAll(items: readonly AnswerItem[], options: { signal?: AbortSignal } = {}): Promise<Verdict[]> {
    return Promise.all(items.map((item) => this.verify(item, options)));
  }

  /** Ends the threads; what still waits or runs is rejected. Resolves when no thread is left. */
  async close(): Promise<void> {
    this.#closed = true;
    const closed = new AnnealError('the verifier pool was closed before the item was verified');
    for (const job of this.#queue.splice(0)) this.#settle(job, () => job.reject(closed));
    for (const lane of [...this.#lanes]) {
      const { job } = lane;
      this.#end(lane);
      if (job) this.#settle(job, () => job.reject(closed));
    }
    await Promise.all(this.#ending);
  }

  /** Hands waiting items to idle threads, and starts threads while there are fewer than wanted. */
  #dispatch(): void {
    for (const lane of this.#lanes) {
      if (this.#queue.length === 0) return;
      if (!lane.job) this.#give(lane, this.#queue.shift()!);
    }
    while (this.#queue.length > 0 && this.#lanes.size < this.workers && !this.#closed)
      this.#give(this.#start(), this.#queue.shift()!);
  }

  #give(lane: Lane, job: Job): void {
    lane.job = job;
    lane.begunAt = 0;
    lane.worker.ref();
    const { item } = job;
    try {
      lane.worker.postMessage(item);
    } catch {
      // Options that hold a function cannot travel: the item's fault, and no other's.
      lane.job = undefined;
      const verdict = { verdict: 'abstain', reason: 'not-transferable', ms: 0 } as const;
      this.#settle(job, () => job.resolve(verdict));
    }
  }

  #start(): Lane {
    const worker = new Worker(this.#program, {
      resourceLimits: { maxOldGenerationSizeMb: this.#memoryMb },
      stdout: true,
      stderr: true,
    });
    const lane: Lane = { worker, job: undefined, begunAt: 0, timer: undefined };
    this.#lanes.add(lane);
    worker.on('message', (message: Verdict | 'ready' | 'begun') => {
      if (message === 'ready') this.#failedStarts = 0;
      else if (message === 'begun') this.#begin(lane);
      else this.#finish(lane, message);
    });
    worker.on('error', (error) => this.#lost(lane, error));
    worker.on('exit', () => this.#lost(lane, new Error('the thread ended')));
    return lane;
  }

  /** The clock of an item starts here, so that time in the queue or in a thread's start counts for nothing. */
  #begin(lane: Lane): void {
    lane.begunAt = performance.now();
    lane.timer = setTimeout(() => {
      const { job } = lane;
      this.#end(lane);
      if (job) {
        const ms = performance.now() - lane.begunAt;
        this.#settle(job, () => job.resolve({ verdict: 'abstain', reason: 'deadline', ms }));
      }
      this.#dispatch();
    }, this.#deadlineMs);
  }

  #finish(lane: Lane, verdict: Verdict): void {
    clearTimeout(lane.timer);
    const { job } = lane;
    lane.job = undefined;
    // An idle thread keeps no process alive.
    lane.worker.unref();
    if (job) this.#settle(job, () => job.resolve(verdict));
    this.#dispatch();
  }

  /** A thread ended by itself: of its memory limit, or because its module cannot be loaded. */
  #lost(lane: Lane, error: Error): void {
    if (!this.#lanes.has(lane)) return;
    const { job, begunAt } = lane;
    this.#end(lane);
    if (!job) return;
    if (begunAt > 0) {
      const isMemory = (error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY';
      const reason = isMemory ? 'too-large' : 'verifier-error';
      const ms = performance.now() - begunAt;
      this.#settle(job, () => job.resolve({ verdict: 'abstain', reason, ms }));
    } else if (++this.#failedStarts < mostFailedStarts) {
      // It never saw the item, which goes to another thread.
      this.#queue.unshift(job);
    } else {
      const failure = new AnnealError(`verifier threads cannot be started: ${error.message.split('\n')[0]}`);
      for (const one of [job, ...this.#queue.splice(0)]) this.#settle(one, () => one.reject(failure));
    }
    this.#dispatch();
  }

  #end(lane: Lane): void {
    this.#lanes.delete(lane);
    clearTimeout(lane.timer);
    lane.job = undefined;
    const ended = lane.worker.terminate();
    this.#ending.add(ended);
    void ended.finally(() => this.#ending.delete(ended));
  }

  /** One listener for all items of a signal: a batch of thousands shares one. */
  #listen(signal: AbortSignal, job: Job): void {
    let watch = this.#signals.get(signal);
    if (!watch) {
      const jobs = new Set<Job>();
      // What a thread works on is soon over; only what waits is taken back.
      const listener = () => {
        const waiting = this.#queue.filter((one) => jobs.has(one));
        this.#queue = this.#queue.filter((one) => !jobs.has(one));
        for (const one of waiting) this.#settle(one, () => one.reject(signal.reason));
      };
      watch = { jobs, listener };
      this.#signals.set(signal, watch);
      signal.addEventListener('abort', listener, { once: true });
    }
    watch.jobs.add(job);
  }

  #settle(job: Job, how: () => void): void {
    const watch = job.signal && this.#signals.get(job.signal);
    watch?.jobs.delete(job);
    if (watch?.jobs.size === 0) {
      job.signal!.removeEventListener('abort', watch.listener);
      this.#signals.delete(job.signal!);
    }
    how();
  }
}

/**
 * Verifies items by rules in parallel threads and leaves none of them running. Verdicts come in the order of the items;
 * one that runs into its deadline is an abstention and delays no other.
 */
export async function verifyAll(
  items: readonly AnswerItem[],
  options: VerifierPoolOptions & { signal?: AbortSignal } = {},
): Promise<Verdict[]> {
  const { signal, ...own } = options;
  const pool = new VerifierPool(own);
  try {
    return await pool.verifyAll(items, { ...(signal && { signal }) });
  } finally {
    await pool.close();
  }
}
