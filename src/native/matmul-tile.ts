import type { Assembler, Label, Memory } from './assembler.js';
import { gp } from './instructions.js';

const { rax, rcx, rdx, rdi, rsi, r8, r9, r10, r11, r12, r13, r14 } = gp;

/** Bytes of a vector, and of a step of packed rows of the left operand. */
export const laneBytes = 64;
export const slotBytes = 64;

/** A tile: rows and vectors of columns whose sums stay in registers, and how its operands lie in memory. */
export interface Tile {
  rows: number;
  vectors: number;
  /** Rows of A, r8 bytes apart, or steps of a packed strip. */
  left: 'rows' | 'packed';
  /**
   * A packed panel of B, or B itself, whose rows are rdi bytes apart; in a pair, the second half of the columns comes
   * from another matrix like it, at rsi.
   */
  right: 'panel' | 'rows' | 'pair';
  /**
   * Asks for memory from rax on meanwhile, which is idle while a tile is computed: twice 256 bytes for each of the first rdx times 4
   * steps, then once for each of rcx times 4.
   */
  asks?: boolean;
}

/** Function: the sums over r14 steps of A at r9 and B at r12. Writes over the registers that it names, and r10, r11 and r13. */
export function emitTile(
  a: Assembler,
  label: Label,
  { rows, vectors, left, right, asks = false }: Tile,
): void {
  const isPacked = left === 'packed';
  const isPanel = right === 'panel';
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
  if (!isPanel) a.lea(r13, { base: rdi, index: rdi, scale: 2 });
  /** Vector v of B's columns, up to 3 steps from here. */
  const column = (v: number, step: number): Memory => {
    if (isPanel) return { base: r12, offset: panelBytes * step + laneBytes * v };
    const isSecond = right === 'pair' && v >= vectors / 2;
    const offset = laneBytes * (isSecond ? v - vectors / 2 : v);
    const base = isSecond ? rsi : r12;
    if (step === 0) return { base, offset };
    return step === 3 ? { base, index: r13, offset } : { base, index: rdi, scale: step as 1 | 2, offset };
  };
  const step = (number: number) => {
    for (let v = 0; v < vectors; v++) a.vector('load', sums + v, 0, column(v, number));
    for (let row = 0; row < rows; row++) {
      const factor = sums + vectors + (row % spare);
      a.vector('broadcast', factor, 0, element(row, number));
      for (let v = 0; v < vectors; v++) a.vector('fma231', row * vectors + v, factor, sums + v);
    }
  };
  const advance = (count: number) => {
    if (isPanel) a.addImmediate(r12, panelBytes * count);
    else {
      for (const base of right === 'pair' ? [r12, rsi] : [r12]) {
        if (count === 1) a.add(base, rdi);
        else a.lea(base, { base, index: rdi, scale: count as 4 });
      }
    }
    for (const register of isPacked ? [r9] : [r9, r10, r11]) {
      a.addImmediate(register, (isPacked ? slotBytes : 4) * count);
    }
  };
  const unrolled = 4;
  const rest = a.label();
  const done = a.label();
  /** A loop that asks for so many times 256 bytes an iteration, of which a register counts. */
  const asking = (counter: number, times: number) => {
    const next = a.label();
    a.test(counter, counter);
    a.jumpIf('equal', next);
    a.align(64);
    const again = a.here();
    for (let i = 0; i < unrolled; i++) {
      step(i);
      for (let t = 0; t < times; t++) {
        a.prefetch({ base: rax, offset: laneBytes * (times * i + t) }, true);
      }
    }
    advance(unrolled);
    a.addImmediate(rax, laneBytes * unrolled * times);
    a.addImmediate(r14, -unrolled);
    a.addImmediate(counter, -1);
    a.jumpIf('notEqual', again);
    a.bind(next);
  };
  if (asks) {
    asking(rdx, 2);
    asking(rcx, 1);
  }
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
