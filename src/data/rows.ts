import { AnnealError } from '../core/errors.js';
import { Rng } from '../core/random.js';
import { packBestFit } from './pack.js';
import type { TokenDataset } from './token-dataset.js';

/**
 * A stretch of a row: inputs are the tokens `from` … `from + length - 1` of the dataset, targets those one further.
 * It never reads past the document (or stream) that it was cut from.
 */
export interface Segment {
  from: number;
  length: number;
}

/** How batches are cut from a dataset. */
export type BatchMode = 'random' | 'windows' | 'packed' | 'padded';

/** The rows of a dataset, epoch by epoch; a pure function of (data, context, seed). */
export interface RowPlan {
  /** Rows of an epoch. */
  count(epoch: number): number;
  /** Segments of a row, left to right; what they leave free is padding. */
  row(epoch: number, index: number): Segment[];
}

/** @throws AnnealError if the data hold not one row */
export function planRows(dataset: TokenDataset, mode: BatchMode, context: number, seed: number): RowPlan {
  const rng = new Rng(seed, 'batches');
  if (mode === 'packed') return new PackedRows(dataset, context, rng);
  if (mode === 'padded') return new PaddedRows(dataset, context, rng);
  if (dataset.length < context + 1) {
    throw new AnnealError(
      `${dataset.length} tokens are too few for a context of ${context}: a window needs one more than the context; ` +
        'shorten the context, or add text',
    );
  }
  return mode === 'random' ? new RandomRows(dataset, context, rng) : new WindowRows(dataset, context, rng);
}

/** Windows at random places, with repetition. An epoch is as many windows as the stream has apart from each other. */
class RandomRows implements RowPlan {
  readonly #places: number;
  readonly #context: number;
  readonly #rng: Rng;

  constructor(dataset: TokenDataset, context: number, rng: Rng) {
    this.#places = dataset.length - context;
    this.#context = context;
    this.#rng = rng.split('random');
  }

  count(): number {
    return Math.ceil(this.#places / this.#context);
  }

  row(epoch: number, index: number): Segment[] {
    const [from] = this.#rng.split(epoch).split(index).integers(1, 0, this.#places);
    return [{ from: from!, length: this.#context }];
  }
}

/** Keeps what was computed for one epoch. */
class PerEpoch<T> {
  #epoch = -1;
  #value: T | undefined;

  constructor(readonly compute: (epoch: number) => T) {}

  at(epoch: number): T {
    if (epoch !== this.#epoch) {
      this.#value = this.compute(epoch);
      this.#epoch = epoch;
    }
    return this.#value!;
  }
}

/** Windows side by side, each once an epoch, in a new order each. The last tokens that fill no window are left out. */
class WindowRows implements RowPlan {
  readonly #order: PerEpoch<Int32Array>;
  readonly #count: number;
  readonly #context: number;

  constructor(dataset: TokenDataset, context: number, rng: Rng) {
    this.#count = Math.floor((dataset.length - 1) / context);
    this.#context = context;
    this.#order = new PerEpoch((epoch) => rng.split('windows').split(epoch).permutation(this.#count));
  }

  count(): number {
    return this.#count;
  }

  row(epoch: number, index: number): Segment[] {
    return [{ from: this.#order.at(epoch)[index]! * this.#context, length: this.#context }];
  }
}

/** Documents as segments; those longer than the context are cut, each piece ending in the input of the next. */
export function documentSegments(dataset: TokenDataset, context: number): Segment[] {
  const segments: Segment[] = [];
  for (let document = 0; document < dataset.documents; document++) {
    const last = dataset.end(document) - 1;
    for (let from = dataset.starts[document]!; from < last; from += context)
      segments.push({ from, length: Math.min(context, last - from) });
  }
  return segments;
}

/** Whether a segment asks for anything: some target must not be masked. */
function hasTarget({ mask }: TokenDataset, { from, length }: Segment): boolean {
  return !mask || mask.subarray(from + 1, from + length + 1).includes(1);
}

/** Whole documents, several to a row, packed anew each epoch. */
class PackedRows implements RowPlan {
  readonly #rows: PerEpoch<Segment[][]>;

  constructor(dataset: TokenDataset, context: number, rng: Rng) {
    const segments = documentSegments(dataset, context).filter((segment) => hasTarget(dataset, segment));
    if (!segments.length) throw new AnnealError('no document has two tokens, so there is nothing to predict');
    this.#rows = new PerEpoch((epoch) => {
      const order = rng.split('packed').split(epoch).permutation(segments.length);
      return packBestFit(
        Array.from(order, (i) => segments[i]!),
        context,
      );
    });
  }

  count(epoch: number): number {
    return this.#rows.at(epoch).length;
  }

  row(epoch: number, index: number): Segment[] {
    return this.#rows.at(epoch)[index]!;
  }
}

/** One document a row, cut off at the context, in a new order each epoch; those without targets are left out. */
class PaddedRows implements RowPlan {
  readonly #segments: Segment[];
  readonly #order: PerEpoch<Int32Array>;

  constructor(dataset: TokenDataset, context: number, rng: Rng) {
    const cut = (document: number): Segment => {
      const from = dataset.starts[document]!;
      return { from, length: Math.min(context, dataset.end(document) - from - 1) };
    };
    const all = Array.from({ length: dataset.documents }, (_, document) => cut(document));
    this.#segments = all.filter((segment) => segment.length > 0 && hasTarget(dataset, segment));
    if (!this.#segments.length) {
      throw new AnnealError(
        `no document has anything to predict within a context of ${context}; lengthen the context`,
      );
    }
    const { length } = this.#segments;
    this.#order = new PerEpoch((epoch) => rng.split('padded').split(epoch).permutation(length));
  }

  count(): number {
    return this.#segments.length;
  }

  row(epoch: number, index: number): Segment[] {
    return [this.#segments[this.#order.at(epoch)[index]!]!];
  }
}
