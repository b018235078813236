/** Anneal's side of the engine suite: the same GPT, built from the library. */
import type { CreateGpt } from './gpt.js';

/** A compiled program with many small inputs and outputs, and the runtime's bare call of the same graph. */
export interface CallProbe {
  /** One call through the library, on the calling thread. */
  runSync(): void;
  /** One call through the library, off the main thread. */
  run(): Promise<void>;
  /** The runtime alone: its own run function on prepared arguments, nothing marshalled. */
  bareSync(): void;
}

const NOT_WIRED = 'the library has no training step yet';

/** Builds the GPT with the library. */
export const createGpt: CreateGpt = async () => {
  throw new Error(NOT_WIRED);
};

/** Compiles out[i] = in[i] + 1 for `count` inputs of `size` floats each. */
export async function createCallProbe(_count: number, _size: number): Promise<CallProbe> {
  throw new Error(NOT_WIRED);
}
