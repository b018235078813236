/** What is compiled into a product; sizes and strides are parameters. */
export interface MatmulCode {
  transA: boolean;
  transB: boolean;
  /** alpha is not 1. */
  scaled: boolean;
  /** There is a third operand, to be added. */
  addend: boolean;
  /** Vectors of 16 columns in a tile: 3 (with 8 rows) or 4 (with 6). */
  vectors: 3 | 4;
  /**
   * Row i of the result (or of the left operand) counts up to column i + shift only: blocks of the result above
   * that become 0, blocks of the left operand are taken as 0.
   */
  triangle?: 'result' | 'left' | undefined;
}

/** Rows of a tile: with its columns they fill 24 of the 32 registers with sums. */
export const rowsOf = ({ vectors }: Pick<MatmulCode, 'vectors'>): number => (vectors === 3 ? 8 : 6);

/** Inner products are cut into chunks of at most so many steps: a panel of the right operand fits the caches. */
export const longestChunk = 384;
/** Rows of a transposed left operand that a task packs at once, and the longest chunk of them: 256 KiB of stack. */
export const packedRows = 256;
export const longestPackedChunk = 256;

/** Parameters, in 8-byte words. Strides and leading dimensions are in bytes. */
export const matmulParameter = {
  m: 0,
  n: 1,
  k: 2,
  lda: 3,
  ldb: 4,
  ldc: 5,
  rowBlocks: 6,
  columnBlocks: 7,
  rowBlock: 8,
  columnBlock: 9,
  alpha: 10,
  ldAddend: 11,
  batchA: 12,
  batchB: 13,
  batchC: 14,
  batchAddend: 15,
  chunk: 16,
  shift: 17,
} as const;
export type Parameter = keyof typeof matmulParameter;

/** Variables on the stack, in 8-byte words; the packed operands lie above them. */
export const local = {
  caller: 0,
  a: 1,
  b: 2,
  c: 3,
  addend: 4,
  firstRow: 5,
  endRow: 6,
  firstColumn: 7,
  endColumn: 8,
  step: 9,
  steps: 10,
  column: 11,
  row: 12,
  firstStep: 13,
  endStep: 14,
} as const;
export const localBytes = 128;

/** Masks of a tile's columns by vector, then those for packing. */
export const columnMask = (vector: number) => 1 + vector;
export const packMask = 5;
/** Rows of a block that is copied across the diagonal; a tile of three vectors leaves this mask free. */
export const rowMask = 4;
