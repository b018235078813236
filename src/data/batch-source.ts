import type { Feed } from '../core/feeds.js';

/** What JSON can hold. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** Inputs of a program by name. */
export type Feeds = Readonly<Record<string, Feed>>;

/**
 * An endless, deterministic stream of batches with a cursor. The state after n calls of `next`, given to
 * `restore` of a fresh source of the same data and settings, makes it continue with batch n + 1.
 */
export interface BatchSource<F extends Feeds = Feeds> {
  next(): F | Promise<F>;
  /** Where the stream is: small, JSON. */
  state(): Json;
  /** @throws AnnealError if the state belongs to other data or settings. */
  restore(state: Json): void;
}
