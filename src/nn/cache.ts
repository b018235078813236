import { allocate, type TypedArray } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { sizeOf } from '../core/shape.js';
import { Variable } from '../core/variable.js';

/**
 * What a layer caches besides keys and values: `heads` vectors of `size` floats for every token, or a state of one
 * `shape` for a whole row.
 */
export type CacheExtra =
  | { readonly perToken: true; readonly heads: number; readonly size: number }
  | { readonly perToken?: false; readonly shape: readonly number[] };

/** What the size of a KV cache depends on, besides its rows and capacity. */
export interface CacheShape {
  layers: number;
  kvHeads: number;
  headDim: number;
  /** By name; the same in every layer. */
  extras?: Readonly<Record<string, CacheExtra>>;
  /** The cache is a state that every token changes: a row can be continued from where it is, not from earlier. */
  isStateful?: boolean;
}

/** Keys and values of one layer, [rows, kvHeads, capacity, headDim] each, and what else it keeps. */
export interface LayerCache {
  readonly keys: Variable;
  readonly values: Variable;
  /** [rows, heads, capacity, size] or [rows, ...shape]. */
  readonly extras: Readonly<Record<string, Variable>>;
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
  readonly #parts: Readonly<Record<string, CacheExtra>>;

  /** @throws AnnealError if a size is no positive integer. */
  constructor(
    readonly shape: CacheShape,
    readonly rows: number,
    readonly capacity: number,
  ) {
    const { layers, kvHeads, headDim, extras = {} } = shape;
    for (const [name, n] of Object.entries({ layers, kvHeads, headDim, rows, capacity })) {
      if (!Number.isInteger(n) || n < 1)
        throw new AnnealError(`KVCache: ${name} is ${n}; it must be a positive integer`);
    }
    const vectors = { perToken: true, heads: kvHeads, size: headDim } as const;
    this.#parts = { keys: vectors, values: vectors, ...extras };
    const make = (layer: number, name: string) => {
      const part = this.#parts[name]!;
      const dims = part.perToken ? [rows, part.heads, capacity, part.size] : [rows, ...part.shape];
      const data = allocate('float32', sizeOf(dims));
      return new Variable(data, 'float32', dims, { name: `cache.${layer}.${name}`, trainable: false });
    };
    this.layers = Array.from({ length: layers }, (_, i) => ({
      keys: make(i, 'keys'),
      values: make(i, 'values'),
      extras: Object.fromEntries(Object.keys(extras).map((name) => [name, make(i, name)])),
    }));
  }

  /** Floats of one row of the keys, or of the values, of one layer. */
  get rowSize(): number {
    return this.shape.kvHeads * this.capacity * this.shape.headDim;
  }

  /** Bytes of everything that is cached. */
  get bytes(): number {
    return (
      4 * this.layers.flatMap((layer) => this.#of(layer)).reduce((n, [variable]) => n + variable.size, 0)
    );
  }

  /**
   * Copies the first `length` tokens of row `from` of `source` into row `to` of this cache; the capacities may
   * differ, and `source` may be this cache itself (a fork). Call it between runs only. A stateful cache has to be
   * copied as it is: `length` is then all that the row has read.
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
      const theirs = source.#of(source.layers[i]!);
      for (const [n, [variable, part]] of this.#of(layer).entries()) {
        const data = theirs[n]![0].data;
        if (part.perToken)
          copyTokens(data, source.capacity, from, variable.data, this.capacity, to, part, length);
        else {
          const size = sizeOf(part.shape);
          variable.data.set(data.subarray(from * size, (from + 1) * size), to * size);
        }
      }
    });
  }

  /** Makes this cache a window on the rows of a larger one of the same capacity, from row `first` on: they share memory. */
  viewRows(source: KVCache, first: number): void {
    this.layers.forEach((layer, i) => {
      const theirs = source.#of(source.layers[i]!);
      for (const [n, [variable]] of this.#of(layer).entries()) {
        const size = variable.size / this.rows;
        variable.data = theirs[n]![0].data.subarray(first * size, (first + this.rows) * size);
      }
    });
  }

  /** The variables of a layer and what they hold, in a fixed order. */
  #of({ keys, values, extras }: LayerCache): [Variable, CacheExtra][] {
    const all: Record<string, Variable> = { keys, values, ...extras };
    return Object.entries(all).map(([name, variable]) => [variable, this.#parts[name]!]);
  }
}

/** Copies the first `length` vectors of each head from one row to another. */
function copyTokens(
  data: TypedArray,
  dataCapacity: number,
  from: number,
  out: TypedArray,
  outCapacity: number,
  to: number,
  { heads, size }: { heads: number; size: number },
  length: number,
): void {
  for (let h = 0; h < heads; h++) {
    const start = (from * heads + h) * dataCapacity * size;
    out.set(data.subarray(start, start + length * size), (to * heads + h) * outCapacity * size);
  }
}
