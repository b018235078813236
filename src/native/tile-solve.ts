import type { Assembler, Memory } from './assembler.js';
import { gp } from './instructions.js';
import { emitTile, tileRows } from './tile-product.js';

const { rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = gp;

/**
 * Rows vₛ = xₛ - Σ gₛₜ zₜ over t < s, with zₛ = βₛ vₛ: z solves (I + β·stril(G)) z = βx, and no step divides by β. `transposed`: the
 * sum is of gₜₛ zₜ over t > s. Floats from row to row are those of G (`matrix`), x, v and z.
 */
export interface Solve {
  /** A multiple of 8. */
  rows: number;
  /** A multiple of 16. */
  columns: number;
  transposed: boolean;
  matrix: number;
  right: number;
  solution: number;
  scaled: number;
}

/**
 * Rows in groups of 8: what other groups contribute is a product, the rest is substitution in registers. G at r8, x at r9, v to r10,
 * z to r12, β at r13. Uses all registers but rsp.
 */
export function emitSolve(a: Assembler, solve: Solve): void {
  const { rows, columns, transposed, matrix, right, solution, scaled } = solve;
  const vectors = columns % 32 === 0 ? 2 : 1;
  const groups = rows / tileRows;
  const tile = a.label();
  const end = a.label();
  const [rowBytes, stepBytes] = transposed ? [4, 4 * matrix] : [4 * matrix, 4];
  /** target = base + group · bytes. */
  const groupAt = (target: number, base: number, bytes: number) => {
    a.movImmediate(target, bytes);
    a.imul(target, r15);
    a.add(target, base);
  };
  a.movImmediate(r14, columns / (16 * vectors));
  const panel = a.here();
  a.movImmediate(r15, transposed ? groups - 1 : 0);
  const group = a.here();
  const ready = a.label();
  if (transposed) {
    a.movImmediate(rcx, rows - tileRows);
    a.mov(rax, r15);
    a.shiftLeft(rax, 3);
    a.sub(rcx, rax);
    groupAt(rsi, r8, 4 * tileRows * (matrix + 1));
    a.addImmediate(rsi, 4 * tileRows * matrix);
    groupAt(rdi, r12, 4 * tileRows * scaled);
    a.addImmediate(rdi, 4 * tileRows * scaled);
  } else {
    a.mov(rcx, r15);
    a.shiftLeft(rcx, 3);
    groupAt(rsi, r8, 4 * tileRows * matrix);
    a.mov(rdi, r12);
  }
  for (let i = 0; i < tileRows * vectors; i++) a.vector('xor', i, i, i);
  a.test(rcx, rcx);
  a.jumpIf('equal', ready);
  a.callLabel(tile);
  a.bind(ready);
  groupAt(rsi, r9, 4 * tileRows * right);
  groupAt(rdi, r10, 4 * tileRows * solution);
  groupAt(rdx, r12, 4 * tileRows * scaled);
  groupAt(rcx, r8, 4 * tileRows * (matrix + 1));
  groupAt(r11, r13, 4 * tileRows);
  substitute(a, solve, vectors);
  a.addImmediate(r15, transposed ? -1 : 1);
  a.cmpImmediate(r15, transposed ? 0 : groups);
  a.jumpIf(transposed ? 'notLess' : 'less', group);
  for (const register of [r9, r10, r12]) a.addImmediate(register, 64 * vectors);
  a.addImmediate(r14, -1);
  a.jumpIf('notEqual', panel);
  a.jump(end);
  emitTile(a, tile, vectors, rowBytes, stepBytes, 4 * scaled);
  a.bind(end);
}

/** Within a group: x at rsi, v to rdi, z to rdx, the group's part of G at rcx, β at r11; sums in registers become z. */
function substitute(
  a: Assembler,
  { transposed, matrix, right, solution, scaled }: Solve,
  vectors: number,
): void {
  const order = Array.from({ length: tileRows }, (_, i) => (transposed ? tileRows - 1 - i : i));
  order.forEach((row, done) => {
    for (let v = 0; v < vectors; v++) {
      const sum = row * vectors + v;
      const at = (base: number, ld: number): Memory => ({ base, offset: 4 * ld * row + 64 * v });
      a.vector('load', 31, 0, at(rsi, right));
      a.vector('sub', sum, 31, sum);
      for (const other of order.slice(0, done)) {
        const [s, t] = transposed ? [other, row] : [row, other];
        const factor: Memory = { base: rcx, offset: 4 * (s * matrix + t) };
        a.vector('fnma231', sum, other * vectors + v, factor, { spread: true });
      }
      a.vector('store', sum, 0, at(rdi, solution));
      a.vector('mul', sum, sum, { base: r11, offset: 4 * row }, { spread: true });
      a.vector('store', sum, 0, at(rdx, scaled));
    }
  });
}
