import { AnnealError } from '../core/errors.js';
import { Rng } from '../core/random.js';
import { Fingerprint } from './fingerprint.js';

/** Token ids, two bytes each where the vocabulary allows it. */
export type TokenArray = Uint16Array | Int32Array;

/** Storage for ids below `vocabularySize`. */
export const tokenArray = (vocabularySize: number, length: number): TokenArray =>
  vocabularySize <= 2 ** 16 ? new Uint16Array(length) : new Int32Array(length);

/**
 * Documents as one stream of tokens, in memory.
 *
 * `starts` has the index of each document's first token, ascending from 0, and no end: a document ends where the
 * next begins. `mask`, where there is one, says which tokens a model has to produce (1) or is only given (0).
 */
export class TokenDataset {
  #fingerprint: string | undefined;

  constructor(
    readonly tokens: TokenArray,
    /** Ids are 0 … vocabularySize - 1. */
    readonly vocabularySize: number,
    readonly starts: Int32Array = tokens.length ? Int32Array.of(0) : new Int32Array(0),
    readonly mask?: Uint8Array,
  ) {
    const isOrdered = starts.every((start, i) => start < tokens.length && start > (starts[i - 1] ?? -1));
    if (!isOrdered || (tokens.length > 0 && starts[0] !== 0)) {
      throw new AnnealError('document starts must ascend from 0 and lie within the tokens');
    }
    if (mask && mask.length !== tokens.length) {
      throw new AnnealError(`the mask has ${mask.length} entries for ${tokens.length} tokens`);
    }
    // A loop, because a callback for each of 100 million tokens takes a second.
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i]!;
      if (token >= 0 && token < vocabularySize) continue;
      throw new AnnealError(`token ${token} is outside the vocabulary of ${vocabularySize}`);
    }
  }

  /** A dataset of whole documents. */
  static fromDocuments(
    documents: Iterable<{ tokens: ArrayLike<number>; mask?: ArrayLike<number> | undefined }>,
    vocabularySize: number,
  ): TokenDataset {
    const kept = [...documents].filter(({ tokens }) => tokens.length > 0);
    const length = kept.reduce((sum, { tokens }) => sum + tokens.length, 0);
    if (length >= 2 ** 31)
      throw new AnnealError(`${length} tokens are more than a dataset holds (2^31 - 1); split it`);
    const hasMask = kept.some(({ mask }) => mask);
    const tokens = tokenArray(vocabularySize, length);
    const mask = hasMask ? new Uint8Array(length).fill(1) : undefined;
    const starts = new Int32Array(kept.length);
    let at = 0;
    kept.forEach((document, index) => {
      starts[index] = at;
      tokens.set(document.tokens, at);
      if (document.mask) mask!.set(document.mask, at);
      at += document.tokens.length;
    });
    return new TokenDataset(tokens, vocabularySize, starts, mask);
  }

  /** Number of tokens. */
  get length(): number {
    return this.tokens.length;
  }

  /** Number of documents. */
  get documents(): number {
    return this.starts.length;
  }

  /** Index after the last token of a document. */
  end(document: number): number {
    return this.starts[document + 1] ?? this.tokens.length;
  }

  /** Tells datasets of different contents apart; 16 hexadecimal digits. */
  get fingerprint(): string {
    this.#fingerprint ??= new Fingerprint()
      .add([this.vocabularySize, this.tokens.length, this.starts.length, this.mask ? 1 : 0])
      .add(this.tokens)
      .add(this.starts)
      .add(this.mask ?? [])
      .digits();
    return this.#fingerprint;
  }

  /** The documents with these numbers, in this order. */
  select(documents: ArrayLike<number>): TokenDataset {
    const pieces = Array.from(documents, (document) => {
      const [from, to] = [this.starts[document]!, this.end(document)];
      return { tokens: this.tokens.subarray(from, to), mask: this.mask?.subarray(from, to) };
    });
    return TokenDataset.fromDocuments(pieces, this.vocabularySize);
  }

  /** Tokens `from` … `to`-1 as a view; a document that is cut begins at `from`. */
  slice(from: number, to = this.length): TokenDataset {
    const inside = this.starts.filter((start) => start > from && start < to).map((start) => start - from);
    const starts = new Int32Array(inside.length + (to > from ? 1 : 0));
    starts.set(inside, starts.length - inside.length);
    return new TokenDataset(
      this.tokens.subarray(from, to),
      this.vocabularySize,
      starts,
      this.mask?.subarray(from, to),
    );
  }
}

/** Data to train on and data that stay unseen. */
export interface Split {
  train: TokenDataset;
  validation: TokenDataset;
}

function checkFraction(fraction: number): void {
  if (fraction > 0 && fraction < 1) return;
  throw new AnnealError(`the validation share is ${fraction}; pass a fraction between 0 and 1, such as 0.1`);
}

/** Keeps the last tokens for validation, as for one long text. */
export function splitTail(dataset: TokenDataset, fraction = 0.1): Split {
  checkFraction(fraction);
  // 1 - 0.8 is a little less than 0.2: the smallest addend keeps a whole number whole.
  const border = Math.floor(dataset.length * (1 - fraction) + 1e-6);
  return { train: dataset.slice(0, border), validation: dataset.slice(border) };
}

/** Keeps randomly chosen whole documents for validation; both parts keep the order of the documents. */
export function splitDocuments(dataset: TokenDataset, fraction = 0.1, seed = 0): Split {
  checkFraction(fraction);
  const count = Math.round(dataset.documents * fraction);
  if (count < 1 || count === dataset.documents) {
    throw new AnnealError(
      `a share of ${fraction} of ${dataset.documents} documents leaves one part empty; use splitTail, or another share`,
    );
  }
  const order = new Rng(seed, 'validation').permutation(dataset.documents);
  return {
    train: dataset.select(order.slice(count).sort()),
    validation: dataset.select(order.slice(0, count).sort()),
  };
}
