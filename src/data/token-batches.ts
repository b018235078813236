import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { Value } from '../core/value.js';
import type { BatchSource, Json } from './batch-source.js';
import { packBestFit } from './pack.js';
import { type BatchMode, documentSegments, planRows, type RowPlan, type Segment } from './rows.js';
import type { TokenDataset } from './token-dataset.js';

/** What a language model is trained on: B rows of T positions. */
export interface LanguageBatch extends Readonly<Record<string, Value>> {
  /** int32 [B, T] */
  readonly tokens: Value;
  /** int32 [B, T]: the token that follows each position; 0 at padding. */
  readonly targets: Value;
  /** float32 [B, T]: 0 where nothing is to be learnt; their mean over the batch is 1. */
  readonly weights: Value;
}

/** A batch whose rows hold several documents. */
export interface PackedBatch extends LanguageBatch {
  /** int32 [B, T]: number of the document within its row; attention stays inside. Padding has a number of its own. */
  readonly documents: Value;
  /** int32 [B, T]: position within the document. */
  readonly positions: Value;
}

export interface BatchOptions {
  /** Rows of a batch, B. */
  batch: number;
  /** Positions of a row, T. */
  context: number;
  /**
   * - `random`: windows of the stream at random places, as nanoGPT's;
   * - `windows`: windows side by side, each once an epoch, in random order;
   * - `packed`: whole documents, several to a row, with `documents` and `positions`;
   * - `padded`: one document a row, cut off at the context, for conversations.
   */
  mode: BatchMode;
  /** Orders the data. */
  seed?: number;
}

/** Where a stream of batches is: the next row to come. */
interface Cursor {
  epoch: number;
  row: number;
}

const int32 = (data: Int32Array, shape: number[]) => new Value(data, shape, 'int32');

/** Fills rows with segments of a dataset. */
export function fillBatch(
  dataset: TokenDataset,
  rows: readonly (readonly Segment[])[],
  context: number,
  withDocuments: boolean,
): LanguageBatch | PackedBatch {
  const shape = [rows.length, context];
  const size = rows.length * context;
  const ints = () => allocate('int32', size) as Int32Array;
  const [tokens, targets, documents, positions] = [ints(), ints(), ints(), ints()];
  const weights = allocate('float32', size) as Float32Array;
  rows.forEach((segments, row) => {
    let at = row * context;
    segments.forEach(({ from, length }, document) => {
      tokens.set(dataset.tokens.subarray(from, from + length), at);
      targets.set(dataset.tokens.subarray(from + 1, from + length + 1), at);
      const mask = dataset.mask?.subarray(from + 1, from + length + 1);
      if (mask) weights.set(mask, at);
      else weights.fill(1, at, at + length);
      documents.fill(document, at, at + length);
      for (let i = 0; i < length; i++) positions[at + i] = i;
      at += length;
    });
    const end = (row + 1) * context;
    documents.fill(segments.length, at, end);
    for (let i = 0; at + i < end; i++) positions[at + i] = i;
  });
  const counted = weights.reduce((sum, weight) => sum + weight, 0);
  // With a mean of 1, the mean of weight · loss is the mean loss of the tokens that count.
  if (counted > 0 && counted < size) for (let i = 0; i < size; i++) weights[i]! *= size / counted;
  const batch = {
    tokens: int32(tokens, shape),
    targets: int32(targets, shape),
    weights: new Value(weights, shape, 'float32'),
  };
  if (!withDocuments) return batch;
  return { ...batch, documents: int32(documents, shape), positions: int32(positions, shape) };
}

/**
 * Endless batches of a dataset. Batch n depends on the data, the options and n alone; rows run on from one epoch
 * into the next, so that no data are left out.
 */
export class TokenBatches implements BatchSource<LanguageBatch> {
  readonly #dataset: TokenDataset;
  readonly #options: Required<BatchOptions>;
  readonly #plan: RowPlan;
  #cursor: Cursor = { epoch: 0, row: 0 };

  /** @throws AnnealError for data that hold not one row */
  constructor(dataset: TokenDataset, options: BatchOptions) {
    const { batch, context, seed = 0 } = options;
    for (const [name, value] of Object.entries({ batch, context })) {
      if (!Number.isInteger(value) || value < 1)
        throw new AnnealError(`${name} is ${value}; pass an integer of 1 or more`);
    }
    this.#dataset = dataset;
    this.#options = { ...options, seed };
    this.#plan = planRows(dataset, options.mode, context, seed);
  }

  /** Rows of the epoch that the next batch begins in. */
  get rowsPerEpoch(): number {
    return this.#plan.count(this.#cursor.epoch);
  }

  /** Epochs that are done, with the share of the current one. */
  get epochs(): number {
    return this.#cursor.epoch + this.#cursor.row / this.rowsPerEpoch;
  }

  next(): LanguageBatch {
    const { batch, context, mode } = this.#options;
    let { epoch, row } = this.#cursor;
    const rows: Segment[][] = [];
    while (rows.length < batch) {
      if (row >= this.#plan.count(epoch)) {
        epoch++;
        row = 0;
      }
      rows.push(this.#plan.row(epoch, row++));
    }
    this.#cursor = { epoch, row };
    return fillBatch(this.#dataset, rows, context, mode === 'packed');
  }

  state(): Json {
    return { ...this.#identity(), ...this.#cursor };
  }

  restore(state: Json): void {
    const given = (state ?? {}) as Record<string, Json>;
    for (const [name, own] of Object.entries(this.#identity())) {
      if (given[name] === own) continue;
      throw new AnnealError(
        `the saved place in the data is one of ${name} ${JSON.stringify(given[name])}, and this is ${name} ` +
          `${JSON.stringify(own)}; continue with the data and settings of the saved run, or start a new one`,
      );
    }
    const { epoch, row } = given as unknown as Cursor;
    const isPlace = Number.isSafeInteger(epoch) && Number.isSafeInteger(row) && epoch >= 0 && row >= 0;
    if (!isPlace || row > this.#plan.count(epoch)) {
      throw new AnnealError(
        `epoch ${epoch}, row ${row} is no place in these data; pass what state() returned`,
      );
    }
    this.#cursor = { epoch, row };
  }

  #identity(): Record<string, string | number> {
    const { batch, context, mode, seed } = this.#options;
    return { dataset: this.#dataset.fingerprint, mode, batch, context, seed };
  }
}

/**
 * All of a dataset once, in order, for evaluation: windows of the stream side by side, or with `documents` whole
 * documents, in the order in which they pack. The last batch may have fewer targets: `counted` says how many a
 * batch has, to weigh its mean by.
 */
export function* sequentialBatches(
  dataset: TokenDataset,
  options: { batch: number; context: number; documents?: boolean },
): Generator<{ batch: LanguageBatch; counted: number }> {
  const { batch, context, documents = false } = options;
  const rows = documents
    ? packBestFit(documentSegments(dataset, context), context)
    : windowsInOrder(dataset, context);
  for (let at = 0; at < rows.length; at += batch) {
    // Rows without segments fill the last batch: it has the shape of the others.
    const some = Array.from({ length: batch }, (_, i) => rows[at + i] ?? []);
    const counted = some.flat().reduce((sum, segment) => sum + countTargets(dataset, segment), 0);
    yield { batch: fillBatch(dataset, some, context, documents), counted };
  }
}

const countTargets = ({ mask }: TokenDataset, { from, length }: Segment): number =>
  mask ? mask.subarray(from + 1, from + length + 1).reduce((sum, one) => sum + one, 0) : length;

function windowsInOrder(dataset: TokenDataset, context: number): Segment[][] {
  const rows: Segment[][] = [];
  const last = dataset.length - 1;
  for (let from = 0; from < last; from += context)
    rows.push([{ from, length: Math.min(context, last - from) }]);
  return rows;
}
