/** Where a panel of columns lies when a product has several right operands. */
import type { Assembler, Memory } from './assembler.js';
import { gp } from './instructions.js';

const { rax, rcx, rdx, rdi, r8, r9, r10 } = gp;

/** Parameters of a right operand: its first panel, the one behind its last, and a row in bytes. */
type PartParameter = (part: number, name: 'start' | 'end' | 'ldb') => Memory;

/** Of panel rdx among those of all parts: r9 = its columns in the part that it belongs to, r8 = from row to row of that. */
export function findPart(a: Assembler, parts: number, parameter: PartParameter, panelBytes: number): void {
  const found = a.label();
  for (let part = 0; part < parts; part++) {
    a.mov(r9, { base: rdi, offset: 8 * (2 + part) });
    a.mov(r8, parameter(part, 'ldb'));
    a.mov(rcx, parameter(part, 'start'));
    a.cmp(rdx, parameter(part, 'end'));
    a.jumpIf('less', found);
  }
  a.bind(found);
  a.sub(rdx, rcx);
  a.movImmediate(rax, panelBytes);
  a.imul(rax, rdx);
  a.add(r9, rax);
}

/** r9 and r10 = the columns of panel rdx in the gates and in what is gated, r8 = from row to row of either. */
export function findPair(a: Assembler, parameter: PartParameter, panelBytes: number): void {
  a.mov(r8, parameter(0, 'ldb'));
  a.movImmediate(rax, panelBytes);
  a.imul(rax, rdx);
  a.mov(r9, { base: rdi, offset: 16 });
  a.mov(r10, { base: rdi, offset: 24 });
  a.add(r9, rax);
  a.add(r10, rax);
}
