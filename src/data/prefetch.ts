import type { BatchSource, Feeds, Json } from './batch-source.js';

/** A batch that is ready, or the error that took its place, with the state after it. */
type Ready<F> = { batch: F; state: Json } | { error: unknown };

/**
 * Prepares batches ahead, `depth` at most, in turns of the event loop in which the caller waits for something
 * else, such as a training step. `state` is the state after the batches that were handed out, not after those
 * that were prepared, so that saving and restoring work as on the source itself.
 */
export function prefetch<F extends Feeds>(source: BatchSource<F>, depth = 2): BatchSource<F> {
  return new Prefetch(source, depth);
}

class Prefetch<F extends Feeds> implements BatchSource<F> {
  readonly #source: BatchSource<F>;
  readonly #depth: number;
  #ready: Ready<F>[] = [];
  #state: Json;
  /** The batch that is being prepared. */
  #working: Promise<void> | undefined;
  /** Calls are served one after the other. */
  #line: Promise<unknown> = Promise.resolve();
  /** Counts restorations: what was prepared before one is of no use after it. */
  #era = 0;

  constructor(source: BatchSource<F>, depth: number) {
    this.#source = source;
    this.#depth = depth;
    this.#state = source.state();
  }

  next(): Promise<F> {
    const turn = this.#line.then(() => this.#take());
    this.#line = turn.catch(() => undefined);
    return turn;
  }

  state(): Json {
    return this.#state;
  }

  restore(state: Json): void {
    // A state that does not fit is refused here, before anything is dropped.
    this.#source.restore(state);
    this.#era++;
    this.#ready = [];
    this.#state = state;
  }

  async #take(): Promise<F> {
    while (!this.#ready.length) await this.#prepare();
    const ready = this.#ready.shift()!;
    this.#refillLater();
    if ('error' in ready) throw ready.error;
    this.#state = ready.state;
    return ready.batch;
  }

  /** Not at once: the caller has yet to start the work that is to hide the preparation. */
  #refillLater(): void {
    setTimeout(() => {
      if (this.#working || this.#ready.length >= this.#depth) return;
      // An error waits in its place for the call that would have got the batch; nothing is prepared behind it.
      if (this.#ready.some((ready) => 'error' in ready)) return;
      void this.#prepare().then(() => this.#refillLater());
    }, 0);
  }

  #prepare(): Promise<void> {
    this.#working ??= this.#prepareOne().finally(() => {
      this.#working = undefined;
    });
    return this.#working;
  }

  async #prepareOne(): Promise<void> {
    const era = this.#era;
    const ready = await this.#readNext();
    if (era === this.#era) this.#ready.push(ready);
    // Meanwhile the source was put elsewhere, and this batch has moved it on from there.
    else this.#source.restore(this.#state);
  }

  async #readNext(): Promise<Ready<F>> {
    try {
      const batch = await this.#source.next();
      return { batch, state: this.#source.state() };
    } catch (error) {
      return { error };
    }
  }
}
