import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { Variable } from '../core/variable.js';

/** What the size of a KV cache depends on, besides its rows and capacity. */
export interface CacheShape {
  layers: number;
  kvHeads: number;
  headDim: number;
}

/** Keys and values of one layer, [rows, kvHeads, capacity, headDim] each. */
export interface LayerCache {
  readonly keys: Variable;
  readonly values: Variable;
}

/**
 * The keys and values that attention has computed for the tokens of `rows` sequences, up to `capacity` tokens
 * each. Programs write into it in place; how many tokens of a row are valid is the caller's knowledge, and
 * an input of the program (`lengths`).
 *
 * Between runs the host may copy rows through `variable.data`: row b of a variable is the contiguous range of
 * kvHeads · capacity · headDim floats at b times that number.
 */
export class KVCache {
  readonly layers: LayerCache[];

  /** @throws AnnealError if a size is no positive integer. */
  constructor(
    readonly shape: CacheShape,
    readonly rows: number,
    readonly capacity: number,
  ) {
    for (const [name, n] of Object.entries({ ...shape, rows, capacity })) {
      if (!Number.isInteger(n) || n < 1)
        throw new AnnealError(`KVCache: ${name} is ${n}; it must be a positive integer`);
    }
    const dims = [rows, shape.kvHeads, capacity, shape.headDim];
    const make = (name: string) =>
      new Variable(allocate('float32', rows * this.rowSize), 'float32', dims, { name, trainable: false });
    this.layers = Array.from({ length: shape.layers }, (_, i) => ({
      keys: make(`cache.${i}.keys`),
      values: make(`cache.${i}.values`),
    }));
  }

  /** Floats of one row of one variable. */
  get rowSize(): number {
    return this.shape.kvHeads * this.capacity * this.shape.headDim;
  }

  /** Bytes of all keys and values. */
  get bytes(): number {
    return 2 * 4 * this.shape.layers * this.rows * this.rowSize;
  }

  /**
   * Copies the first `length` tokens of row `from` of `source` into row `to` of this cache; the capacities may
   * differ, and `source` may be this cache itself (a fork). Call it between runs only.
   * @throws AnnealError if the caches differ in shape, or a row or the length is out of range.
   */
  copyRow(source: KVCache, from: number, to: number, length: number): void {
    const { kvHeads, headDim, layers } = this.shape;
    const isAlike =
      source.shape.kvHeads === kvHeads && source.shape.headDim === headDim && source.shape.layers === layers;
    if (!isAlike) throw new AnnealError('copyRow: the caches belong to models of different shapes');
    const fits = (row: number, cache: KVCache) => row >= 0 && row < cache.rows && length <= cache.capacity;
    if (!fits(from, source) || !fits(to, this) || length < 0) {
      throw new AnnealError(
        `copyRow: ${length} tokens from row ${from} (of ${source.rows}, capacity ${source.capacity}) to row ${to} (of ${this.rows}, capacity ${this.capacity})`,
      );
    }
    this.layers.forEach((layer, i) => {
      for (const part of ['keys', 'values'] as const) {
        const out = layer[part].data;
        const data = source.layers[i]![part].data;
        for (let h = 0; h < kvHeads; h++) {
          const start = (from * kvHeads + h) * source.capacity * headDim;
          out.set(
            data.subarray(start, start + length * headDim),
            (to * kvHeads + h) * this.capacity * headDim,
          );
        }
      }
    });
  }
}
