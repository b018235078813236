import type { AnyPass } from './policy-pass.js';

/** Passes that are kept compiled. Shapes come from short lists, so that a run needs fewer. */
const mostPasses = 64;

/** Compiled passes by what they are for; the one that was not used for longest goes first. */
export class PassCache {
  readonly #passes = new Map<string, AnyPass>();

  /** The pass of a key, made if there is none. */
  get(key: string, make: () => AnyPass): AnyPass {
    const pass = this.#passes.get(key) ?? make();
    // A map keeps the order in which keys were set.
    this.#passes.delete(key);
    this.#passes.set(key, pass);
    const [oldest] = this.#passes.keys();
    if (this.#passes.size > mostPasses) this.#drop(oldest!);
    return pass;
  }

  get size(): number {
    return this.#passes.size;
  }

  dispose(): void {
    for (const key of [...this.#passes.keys()]) this.#drop(key);
  }

  #drop(key: string): void {
    this.#passes.get(key)!.dispose();
    this.#passes.delete(key);
  }
}
