import { AnnealError } from '../core/errors.js';
import { Rng, type RngState } from '../core/random.js';
import type { BatchSource, Json } from '../data/batch-source.js';

/** A batch of windows: int32 [batch, context] each. */
export type Windows = { tokens: Int32Array; targets: Int32Array };

/** Copies the window that begins at `start` into row `row` of a batch: tokens, and the same moved on by one. */
function copyWindow(text: Int32Array, start: number, context: number, batch: Windows, row: number): void {
  batch.tokens.set(text.subarray(start, start + context), row * context);
  batch.targets.set(text.subarray(start + 1, start + context + 1), row * context);
}

const emptyBatch = (rows: number, context: number): Windows => ({
  tokens: new Int32Array(rows * context),
  targets: new Int32Array(rows * context),
});

/** Batches of windows that begin anywhere in a text, each place equally likely (as nanoGPT's). */
export function randomWindows(
  text: Int32Array,
  batch: number,
  context: number,
  seed: Rng,
): BatchSource<Windows> {
  let rng = seed;
  return {
    next() {
      const windows = emptyBatch(batch, context);
      rng.integers(batch, 0, text.length - context).forEach((start, row) => {
        copyWindow(text, start, context, windows, row);
      });
      return windows;
    },
    state: () => ({ ...rng.state(), tokens: text.length }),
    restore(state: Json) {
      const { tokens, ...position } = state as unknown as RngState & { tokens: number };
      if (tokens !== text.length) {
        throw new AnnealError(
          `the text has ${text.length} tokens, the run began with ${tokens}; it must not change`,
        );
      }
      rng = Rng.restore(position);
    },
  };
}

/**
 * The windows of a text one after the other, in batches of at most `rows`; a remainder that fills no batch is left
 * out, so that every token counts alike in the mean over batches.
 * @param limit most windows to take, spread evenly over the text. Default: all.
 */
export function allWindows(
  text: Int32Array,
  rows: number,
  context: number,
  limit = Number.POSITIVE_INFINITY,
): Windows[] {
  const available = Math.floor((text.length - 1) / context);
  const wanted = Math.min(available, limit);
  const perBatch = Math.min(rows, wanted);
  return Array.from({ length: Math.floor(wanted / perBatch) }, (_, i) => {
    const windows = emptyBatch(perBatch, context);
    for (let row = 0; row < perBatch; row++) {
      const window = Math.floor(((i * perBatch + row) * available) / wanted);
      copyWindow(text, window * context, context, windows, row);
    }
    return windows;
  });
}
