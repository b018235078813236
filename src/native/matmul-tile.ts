import type { Assembler, Label, Memory } from './assembler.js';
import { gp } from './instructions.js';

const { rdi, rsi, r8, r9, r10, r11, r12, r14 } = gp;

/** Bytes of a vector, and of a step of packed rows of the left operand. */
export const laneBytes = 64;
export const slotBytes = 64;

/** Rows and vectors of columns of a tile, whose sums stay in registers. */
export interface TileShape {
  rows: number;
  vectors: number;
}

/** Function: the sums over r14 steps of A at r9 (rows r8 bytes apart, or packed) and the panel at r12. */
export function emitTile(a: Assembler, label: Label, { rows, vectors }: TileShape, isPacked: boolean): void {
  const panelBytes = laneBytes * vectors;
  const sums = rows * vectors;
  const spare = a.registers - sums - vectors;
  a.align(64);
  a.bind(label);
  for (let i = 0; i < sums; i++) a.vector('xor', i, i, i);
  if (!isPacked) {
    a.lea(r10, { base: r8, index: r8, scale: 2 });
    a.lea(r11, { base: r9, index: r10, scale: 2 });
    a.add(r10, r9);
  }
  /** Rows 0 … 7 of A from three addresses: at 0, 3 and 6 rows. */
  const element = (row: number, step: number): Memory => {
    const offset = 4 * step;
    if (isPacked) return { base: r9, offset: slotBytes * step + 4 * row };
    if (row === 6) return { base: r11, offset };
    if (row === 3) return { base: r10, offset };
    if (row === 0) return { base: r9, offset };
    const [base, scale] = row === 5 || row === 7 ? [r10, row - 3] : [r9, row];
    return { base, index: r8, scale: scale as 1 | 2 | 4, offset };
  };
  const step = (number: number) => {
    for (let v = 0; v < vectors; v++) {
      const offset = panelBytes * number + laneBytes * v;
      a.vector('load', sums + v, 0, { base: r12, offset });
    }
    for (let row = 0; row < rows; row++) {
      const factor = sums + vectors + (row % spare);
      a.vector('broadcast', factor, 0, element(row, number));
      for (let v = 0; v < vectors; v++) a.vector('fma231', row * vectors + v, factor, sums + v);
    }
  };
  const advance = (count: number) => {
    a.addImmediate(r12, panelBytes * count);
    for (const register of isPacked ? [r9] : [r9, r10, r11]) {
      a.addImmediate(register, (isPacked ? slotBytes : 4) * count);
    }
  };
  const unrolled = 4;
  const rest = a.label();
  const done = a.label();
  a.addImmediate(r14, -unrolled);
  a.jumpIf('less', rest);
  a.align(64);
  const loop = a.here();
  for (let i = 0; i < unrolled; i++) step(i);
  advance(unrolled);
  a.addImmediate(r14, -unrolled);
  a.jumpIf('notLess', loop);
  a.bind(rest);
  a.addImmediate(r14, unrolled);
  a.jumpIf('equal', done);
  const single = a.here();
  step(0);
  advance(1);
  a.addImmediate(r14, -1);
  a.jumpIf('notEqual', single);
  a.bind(done);
  a.ret();
}

/** Registers 0 … 15 = 16 rows of Bᵀ at r9, zeros for those from rsi on. */
export function loadRows(a: Assembler, mask: number): void {
  const loaded = a.label();
  for (let i = 0; i < 16; i++) a.vector('xor', i, i, i);
  a.mov(rdi, r9);
  for (let i = 0; i < 16; i++) {
    a.cmpImmediate(rsi, i);
    a.jumpIf('notGreater', loaded);
    a.vector('load', i, 0, { base: rdi }, { mask, zero: true });
    a.add(rdi, r8);
  }
  a.bind(loaded);
}

/** Stores the columns of the 16 x 16 matrix in registers 0 … 15 as rows, a panel's row apart. */
export function transposeBlock(a: Assembler, to: number, panelBytes: number): void {
  for (let i = 0; i < 16; i += 2) {
    a.vector('unpackLow', 16 + i, i, i + 1);
    a.vector('unpackHigh', 17 + i, i, i + 1);
  }
  for (let g = 0; g < 16; g += 4) {
    a.vector('unpackLowPair', g, 16 + g, 18 + g);
    a.vector('unpackHighPair', g + 1, 16 + g, 18 + g);
    a.vector('unpackLowPair', g + 2, 17 + g, 19 + g);
    a.vector('unpackHighPair', g + 3, 17 + g, 19 + g);
  }
  const even = { immediate: 0x88 };
  const odd = { immediate: 0xdd };
  for (let c = 0; c < 4; c++) {
    a.vector('shuffle128', 16, c, 4 + c, even);
    a.vector('shuffle128', 17, c, 4 + c, odd);
    a.vector('shuffle128', 18, 8 + c, 12 + c, even);
    a.vector('shuffle128', 19, 8 + c, 12 + c, odd);
    const column = (lane: number, left: number, which: { immediate: number }) => {
      a.vector('shuffle128', 20 + lane, left, left + 2, which);
      a.vector('store', 20 + lane, 0, { base: to, offset: (4 * lane + c) * panelBytes });
    };
    column(0, 16, even);
    column(1, 17, even);
    column(2, 16, odd);
    column(3, 17, odd);
  }
}
