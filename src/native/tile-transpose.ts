import type { Assembler } from './assembler.js';
import { gp } from './instructions.js';

const { rax, rcx, rdx, r8, r9, r10, r11 } = gp;

/** Sizes of a matrix to be transposed, and the floats from row to row of it and of the result. */
export interface Transpose {
  rows: number;
  columns: number;
  from: number;
  to: number;
}

/** Transposes 16 x 16 floats at a time, from r8 to r9. Uses rax, rcx, rdx, r10, r11 and all vectors. */
export function emitTranspose(a: Assembler, { rows, columns, from, to }: Transpose): void {
  a.movImmediate(r10, rows / 16);
  const nextRows = a.here();
  a.movImmediate(r11, columns / 16);
  a.mov(rcx, r8);
  a.mov(rdx, r9);
  const next = a.here();
  for (let i = 0; i < 16; i++) a.vector('load', i, 0, { base: rcx, offset: 4 * from * i });
  turn(a, (column, register) => a.vector('store', register, 0, { base: rdx, offset: 4 * to * column }));
  a.addImmediate(rcx, 64);
  a.movImmediate(rax, 64 * to);
  a.add(rdx, rax);
  a.addImmediate(r11, -1);
  a.jumpIf('notEqual', next);
  a.movImmediate(rax, 64 * from);
  a.add(r8, rax);
  a.addImmediate(r9, 64);
  a.addImmediate(r10, -1);
  a.jumpIf('notEqual', nextRows);
}

/** Hands out the columns of the matrix whose rows are in registers 0 … 15. */
function turn(a: Assembler, store: (column: number, register: number) => void): void {
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
  const [even, odd] = [{ immediate: 0x88 }, { immediate: 0xdd }];
  for (let c = 0; c < 4; c++) {
    a.vector('shuffle128', 16, c, 4 + c, even);
    a.vector('shuffle128', 17, c, 4 + c, odd);
    a.vector('shuffle128', 18, 8 + c, 12 + c, even);
    a.vector('shuffle128', 19, 8 + c, 12 + c, odd);
    [
      [16, even],
      [17, even],
      [16, odd],
      [17, odd],
    ].forEach(([left, which], lane) => {
      a.vector('shuffle128', 20 + lane, left as number, (left as number) + 2, which as { immediate: number });
      store(4 * lane + c, 20 + lane);
    });
  }
}
