import type { Decoder } from './decoder.js';
import type { Sequence } from './sequence.js';
import { paddedLength, pieceLength, roundDown } from './shapes.js';

/**
 * Gets prompts into the cache: long ones in pieces, short ones of about one length together, equal ones once.
 * All but a prompt's last token, which is decoded like any other.
 */
export class PromptReader {
  readonly #decoder: Decoder;
  readonly #chunk: number;
  readonly #groupTokens: number;

  /**
   * @param chunk most tokens of one prompt that a call reads, a power of two
   * @param groupTokens most tokens of several prompts that are read as one batch; 0 reads them one by one
   */
  constructor(decoder: Decoder, chunk: number, groupTokens: number) {
    this.#decoder = decoder;
    this.#chunk = chunk;
    this.#groupTokens = groupTokens;
  }

  /** Reads at most one chunk of the prompts of those that have a row; returns how many tokens it computed. */
  async read(active: readonly Sequence[]): Promise<number> {
    const unread = this.#fork(active);
    const first = unread[0];
    if (!first) return 0;
    const padded = paddedLength(first.unread, this.#chunk);
    const isAlike = (one: Sequence) =>
      one.cached === 0 && one.unread <= padded && paddedLength(one.unread, this.#chunk) === padded;
    const alike = this.#groupTokens > 0 && isAlike(first) ? unread.filter(isAlike) : [];
    // As many as may be read, in powers of two, since each number is compiled.
    const count = roundDown(Math.max(1, Math.min(alike.length, this.#groupTokens / padded)));
    const tokens =
      count > 1 ? await this.#readGroup(alike.slice(0, count), padded) : await this.#readPiece(first);
    // At once: the rows that have it now are about to go on.
    this.#fork(active);
    return tokens;
  }

  /**
   * Copies prompts that another row has read already. Returns those that are still to be read, of equal ones only
   * the first.
   */
  #fork(active: readonly Sequence[]): Sequence[] {
    const unread = active.filter((one) => one.unread > 0);
    if (unread.length === 0) return unread;
    const sources = new Map<string, Sequence>();
    for (const one of active) {
      const isUsable = this.#decoder.isStateful ? one.cached === one.promptLength - 1 : one.unread === 0;
      if (isUsable) sources.set(one.promptKey, one);
    }
    const first = new Map<string, Sequence>();
    for (const one of unread) {
      const source = sources.get(one.promptKey);
      if (source) {
        one.cached = one.promptLength - 1;
        this.#decoder.copyRow(source.row, one.row, one.cached);
      } else if (!first.has(one.promptKey) || one.cached > 0) first.set(one.promptKey, one);
    }
    return [...first.values()];
  }

  async #readGroup(group: readonly Sequence[], padded: number): Promise<number> {
    const prompts = group.map((one) => ({ row: one.row, tokens: one.promptTokens(0, one.unread) }));
    await this.#decoder.readGroup(prompts, padded);
    let tokens = 0;
    for (const one of group) {
      tokens += one.unread;
      one.cached += one.unread;
    }
    return tokens;
  }

  async #readPiece(sequence: Sequence): Promise<number> {
    const { capacity, isStateful } = this.#decoder;
    let length = pieceLength(sequence.unread, this.#chunk);
    let start = sequence.cached;
    if (start + length > capacity) {
      // A padded piece must end within the row: near its end, some tokens are read a second time, or just those left.
      if (isStateful) length = Math.min(length, sequence.unread);
      else start = capacity - length;
    }
    const end = Math.min(start + length, sequence.promptLength - 1);
    await this.#decoder.readPiece(sequence.row, sequence.promptTokens(start, end), length, start);
    const tokens = end - sequence.cached;
    sequence.cached = end;
    return tokens;
  }
}
