import type { Assembler, Memory } from './assembler.js';
import { ColumnBody } from './column-body.js';
import type { ConstantPool } from './constant-pool.js';
import { gatedProduct } from './formulas.js';
import { gp } from './instructions.js';
import { laneBytes } from './matmul-tile.js';

const { rsp, rdx, r13, r14, r15 } = gp;

/** A tile whose first half of columns gates the second. */
export interface GatedTile {
  rows: number;
  vectors: number;
  /** Where the stack has room for the sums. */
  sums: number;
  /** Bytes from row to row of the result. */
  ldc: Memory;
}

/**
 * Writes silu(gate)·value of the sums in registers 0 … to r15. They go through the stack, to have registers for the exponential.
 * Uses rdx, r13 and r14.
 */
export function storeGated(a: Assembler, pool: ConstantPool, { rows, vectors, sums, ldc }: GatedTile): void {
  const half = vectors / 2;
  for (let i = 0; i < rows * vectors; i++) {
    a.vector('store', i, 0, { base: rsp, offset: sums + laneBytes * i });
  }
  a.mov(rdx, ldc);
  a.lea(r13, { base: rsp, offset: sums });
  a.movImmediate(r14, rows);
  const row = a.here();
  for (let v = 0; v < half; v++) {
    const places: Memory[] = [
      { base: r13, offset: laneBytes * v },
      { base: r13, offset: laneBytes * (v + half) },
      { base: r15, offset: laneBytes * v },
    ];
    const matrix = (tensor: number) => places[tensor]!;
    const pinned = new Map();
    const body = new ColumnBody(a, pool, { pinned, free: a.registers, isTail: false, matrix, row: matrix });
    for (const { tensor, value } of gatedProduct().results) body.write(false, tensor, value);
    body.emit();
  }
  a.addImmediate(r13, laneBytes * vectors);
  a.add(r15, rdx);
  a.addImmediate(r14, -1);
  a.jumpIf('notEqual', row);
}
