/** Runs jobs one at a time, in the order in which they were put in. */
export class RunQueue {
  #pending = 0;
  #tail: Promise<unknown> = Promise.resolve();

  /** Jobs that wait or run. */
  get pending(): number {
    return this.#pending;
  }

  /** Settles as `job` does. A failed job does not stop the ones behind it. */
  enqueue<T>(job: () => Promise<T>): Promise<T> {
    this.#pending++;
    const result = this.#tail.then(job).finally(() => {
      this.#pending--;
    });
    this.#tail = result.catch(() => {});
    return result;
  }

  /** Resolves when no job is left, those put in meanwhile included. */
  async idle(): Promise<void> {
    while (this.#pending > 0) await this.#tail;
  }
}

/** Lets at most `limit` jobs run at a time. */
export class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#free = limit;
  }

  /** Settles as `job` does. */
  async pass<T>(job: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await job();
    } finally {
      // The place goes straight to the next in line, so that a newcomer cannot take it.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
