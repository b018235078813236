import type { Assembler, Label, Memory } from './assembler.js';
import { gp } from './instructions.js';

const { rcx, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = gp;

/** A product of small matrices, all sizes known. `m` is a multiple of 8, `n` of 16, `k` of 8. */
export interface Product {
  m: number;
  n: number;
  k: number;
  /** A is stored as [k, m]. */
  transA?: boolean;
  /** Floats from row to row. */
  lda: number;
  ldb: number;
  ldc: number;
  /** C = AB, C += AB, C -= AB or C = -AB. */
  mode: 'set' | 'add' | 'sub' | 'negate';
  /**
   * What is known of a triangle. `lowerA`: A counts up to its diagonal; `upperA`: from it on; `upperC`, `lowerC`: only that part of
   * the result is wanted. By tiles: the rest of a tile that the diagonal crosses is read, or written, too.
   */
  triangle?: 'lowerA' | 'upperA' | 'lowerC' | 'upperC';
}

/** Rows of a tile; with two vectors of columns, 16 sums are under way at once. */
export const tileRows = 8;
const rows = tileRows;
const unrolled = 4;

/**
 * The product of A at r8 and B at r9, into C at r10. Sums stay in registers; A is read element by element, so it may be transposed.
 * Uses all registers but rbx, rbp and rsp.
 */
export function emitProduct(a: Assembler, product: Product): void {
  const { m, n, k, transA = false, lda, ldb, ldc, triangle } = product;
  const [rowBytes, stepBytes] = transA ? [4, 4 * lda] : [4 * lda, 4];
  const tiles = new Map<number, Label>();
  const end = a.label();
  for (let column = 0; column < n; column += 32) {
    const vectors = Math.min(2, (n - column) / 16);
    const label = tiles.get(vectors) ?? a.label();
    tiles.set(vectors, label);
    // Rows whose part of this panel is wanted.
    const first = triangle === 'lowerC' ? Math.min(m, column) : 0;
    const last = triangle === 'upperC' ? Math.min(m, column + 16 * vectors) : m;
    if (first >= last) continue;
    a.lea(r12, { base: r8, offset: first * rowBytes });
    a.lea(r13, { base: r10, offset: 4 * (first * ldc + column) });
    a.lea(r11, { base: r9, offset: 4 * column });
    a.movImmediate(r14, triangle === 'lowerA' ? rows : k);
    a.movImmediate(r15, (last - first) / rows);
    const next = a.here();
    a.mov(rsi, r12);
    a.mov(rdi, r11);
    a.mov(rcx, r14);
    a.callLabel(label);
    storeSums(a, product, vectors);
    a.addImmediate(r12, rows * rowBytes);
    a.addImmediate(r13, 4 * rows * ldc);
    if (triangle === 'lowerA') a.addImmediate(r14, rows);
    if (triangle === 'upperA') {
      a.addImmediate(r12, rows * stepBytes);
      a.addImmediate(r11, 4 * rows * ldb);
      a.addImmediate(r14, -rows);
    }
    a.addImmediate(r15, -1);
    a.jumpIf('notEqual', next);
  }
  a.jump(end);
  for (const [vectors, label] of tiles) emitTile(a, label, vectors, rowBytes, stepBytes, 4 * ldb);
  a.bind(end);
}

/** Function: registers 0 … 8·vectors - 1 = sums over rcx steps (a multiple of 4) of A at rsi and B at rdi, for up to 3 vectors. */
export function emitTile(
  a: Assembler,
  label: Label,
  vectors: number,
  rowBytes: number,
  stepBytes: number,
  panelBytes: number,
): void {
  const sums = rows * vectors;
  // Two steps' vectors of B, and factors from A in what is left.
  const factors = sums + 2 * vectors;
  const spare = Math.min(4, a.registers - factors);
  a.align(64);
  a.bind(label);
  for (let i = 0; i < sums; i++) a.vector('xor', i, i, i);
  a.align(32);
  const loop = a.here();
  for (let step = 0; step < unrolled; step++) {
    const b = sums + vectors * (step % 2);
    for (let v = 0; v < vectors; v++)
      a.vector('load', b + v, 0, { base: rdi, offset: step * panelBytes + 64 * v });
    for (let row = 0; row < rows; row++) {
      const factor = factors + (row % spare);
      a.vector('broadcast', factor, 0, { base: rsi, offset: row * rowBytes + step * stepBytes });
      for (let v = 0; v < vectors; v++) a.vector('fma231', row * vectors + v, factor, b + v);
    }
  }
  a.addImmediate(rsi, unrolled * stepBytes);
  a.addImmediate(rdi, unrolled * panelBytes);
  a.addImmediate(rcx, -unrolled);
  a.jumpIf('notEqual', loop);
  a.ret();
}

/** Stores a tile's sums at r13. */
function storeSums(a: Assembler, { mode, ldc }: Product, vectors: number): void {
  const spare = rows * vectors;
  if (mode === 'negate') a.vector('xor', spare, spare, spare);
  for (let row = 0; row < rows; row++) {
    for (let v = 0; v < vectors; v++) {
      const sum = row * vectors + v;
      const to: Memory = { base: r13, offset: 4 * row * ldc + 64 * v };
      if (mode === 'add') a.vector('add', sum, sum, to);
      else if (mode === 'negate') a.vector('sub', sum, spare, sum);
      else if (mode === 'sub') {
        a.vector('load', spare, 0, to);
        a.vector('sub', sum, spare, sum);
      }
      a.vector('store', sum, 0, to);
    }
  }
}
