import { laneBytes } from './matmul-tile.js';

/** What is compiled into products of a block of rows. */
export interface BlockProductCode {
  /** Right operands. */
  parts: number;
  /** Two right operands, and the result is silu(A·B₀)·(A·B₁); else results lie side by side. */
  gated: boolean;
  /** Something is added to the result: a matrix like it, or a row. */
  addend: boolean;
  /** Rows that fill no tile. */
  tail: number;
  /** Each tile asks for a run of keys or values of other rows meanwhile, and a task is two tiles. */
  asks: boolean;
}

/** Rows of a tile, and its columns. */
export const blockTile = { rows: 6, vectors: 4, bytes: 4 * laneBytes } as const;

/** Most right operands. */
export const mostParts = 3;

/**
 * Parameters, in 8-byte words; strides are in bytes. For each part: its first panel, the one behind its last, and a row.
 * The rest is about what is asked for, in runs: the keys of a pair of a row and a key head, then its values, then those of
 * the next.
 */
export const blockParameter = {
  tiles: 0,
  k: 1,
  lda: 2,
  ldc: 3,
  ldAddend: 4,
  firstRun: 5,
  runsOfTask: 6,
  runs: 7,
  kvHeads: 8,
  /** Bytes of all keys of a pair, and of one key. */
  pairBytes: 9,
  head: 10,
  /** Rounds of 4 steps of a tile. */
  rounds: 11,
  /** Groups of tiles that are tasks of their own. */
  groups: 12,
  parts: 13,
} as const;
export const partParameter = { start: 0, end: 1, ldb: 2 } as const;
export const wordsOfPart = 3;

/** Variables on the stack, in 8-byte words; the sums of a tile lie above them. */
export const local = {
  caller: 0,
  x: 1,
  c: 2,
  addend: 3,
  b: 4,
  bOther: 5,
  stride: 6,
  left: 7,
  keys: 8,
  values: 9,
  lengths: 10,
  run: 11,
  endRun: 12,
} as const;
export const localBytes = 128;
