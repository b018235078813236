import type { BatchSource, Feeds, Json } from '../data/batch-source.js';

/**
 * Hands out the batches of a source and knows where the stream stood before each, so that a checkpoint can be
 * written while the next batch is already being made.
 */
export class Feeder {
  private upcoming: Promise<Feeds> | undefined;
  private before: Json;

  constructor(private readonly source: BatchSource) {
    this.before = source.state();
  }

  /** State of the stream before the batch that `peek` returns. */
  get cursor(): Json {
    return this.before;
  }

  /** The next batch, without moving on: the same until `advance`. */
  peek(): Promise<Feeds> {
    if (!this.upcoming) {
      this.upcoming = Promise.resolve()
        .then(() => this.source.next())
        .catch((error: unknown) => {
          // Asking again tries again.
          this.upcoming = undefined;
          throw error;
        });
      // Whoever awaits it sees the error; a prefetched batch may never be asked for.
      this.upcoming.catch(() => undefined);
    }
    return this.upcoming;
  }

  /** The batch has been taken; its arrays stay as they are. */
  advance(): void {
    this.upcoming = undefined;
    this.before = this.source.state();
  }

  /** Takes the stream back to a state. */
  restore(state: Json): void {
    this.source.restore(state);
    this.upcoming = undefined;
    this.before = state;
  }
}
