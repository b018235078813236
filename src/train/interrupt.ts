/** A wish to end, from a signal of the system or from the caller. */
export class Interrupt {
  #reason: 'interrupted' | 'aborted' | undefined;
  #remove: (() => void)[] = [];

  /** Why the run should end after the step under way; undefined while it should not. */
  get reason(): 'interrupted' | 'aborted' | undefined {
    return this.#reason;
  }

  /** Listens to SIGINT and SIGTERM; the second of them ends the process as if nobody had listened. */
  listen(onFirst: (name: string) => void): void {
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      const handler = () => {
        if (this.#reason === 'interrupted') process.exit(name === 'SIGINT' ? 130 : 143);
        this.#reason = 'interrupted';
        onFirst(name);
      };
      process.on(name, handler);
      this.#remove.push(() => process.off(name, handler));
    }
  }

  /** Ends the run when the caller's signal says so. */
  follow(signal: AbortSignal): void {
    const handler = () => {
      this.#reason ??= 'aborted';
    };
    if (signal.aborted) handler();
    signal.addEventListener('abort', handler);
    this.#remove.push(() => signal.removeEventListener('abort', handler));
  }

  /** Stops listening. */
  dispose(): void {
    for (const remove of this.#remove) remove();
    this.#remove = [];
  }
}
