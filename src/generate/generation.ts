import { KeptTokens } from './kept-tokens.js';
import type { Completion, FinishReason, GeneratedToken } from './request.js';
import type { SampledToken } from './sampler.js';

/** A sequence that is being generated: its tokens as they come, and all of it at the end. */
export interface Generation extends AsyncIterable<GeneratedToken> {
  /** The finished sequence; rejects if the model fails. */
  readonly result: Promise<Completion>;
  /** Ends the generation. `result` resolves with what there is and the reason 'cancelled'. */
  cancel(): void;
}

/**
 * The side of a generation that the generator writes to. Tokens are kept (at most `maxTokens` of them), so a
 * reader may be as slow as it likes without holding up others, and every reader gets all of them.
 */
export class GenerationStream implements Generation {
  readonly result: Promise<Completion>;
  readonly #kept = new KeptTokens();
  readonly #onCancel: () => void;
  #text = '';
  #end: { reason: FinishReason } | { error: unknown } | undefined;
  #wake: (() => void)[] = [];
  #settle!: { resolve: (completion: Completion) => void; reject: (error: unknown) => void };

  constructor(onCancel: () => void) {
    this.#onCancel = onCancel;
    this.result = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // A reader of the tokens sees the error there, and need not look at the result too.
    this.result.catch(() => {});
  }

  get isDone(): boolean {
    return this.#end !== undefined;
  }

  cancel(): void {
    if (!this.#end) this.#onCancel();
  }

  /** @param text what the token completes */
  push(token: SampledToken, text: string): void {
    this.#kept.push(token, text);
    if (text !== '') this.#text += text;
    if (this.#wake.length > 0) this.#notify();
  }

  /** @param rest text that belongs to no token, because none came after it */
  finish(reason: FinishReason, rest = ''): void {
    if (this.#end) return;
    this.#end = { reason };
    this.#settle.resolve({
      ...this.#kept.arrays(),
      text: this.#text + rest,
      finishReason: reason,
    });
    this.#notify();
  }

  fail(error: unknown): void {
    if (this.#end) return;
    this.#end = { error };
    this.#settle.reject(error);
    this.#notify();
  }

  /** Leaving the loop early cancels the generation. */
  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedToken, void> {
    let next = 0;
    try {
      while (true) {
        while (next < this.#kept.length) yield this.#kept.at(next++);
        if (this.#end) break;
        await new Promise<void>((resolve) => this.#wake.push(resolve));
      }
    } finally {
      this.cancel();
    }
    if ('error' in this.#end!) throw this.#end.error;
  }

  #notify(): void {
    if (this.#wake.length === 0) return;
    const waiting = this.#wake;
    this.#wake = [];
    for (const resolve of waiting) resolve();
  }
}
