import { Assembler, type Memory } from './assembler.js';
import { ConstantPool } from './constant-pool.js';
import { storeGated } from './gated-store.js';
import { gp } from './instructions.js';
import { emitTile, laneBytes } from './matmul-tile.js';
import { findPair, findPart } from './panel-parts.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r12, r13, r14, r15 } = gp;
const saved = [rbx, rbp, r12, r13, r14, r15];

/** What is compiled into products of one matrix with several. */
export interface JointCode {
  /** Right operands. */
  parts: number;
  /** Two right operands, and the result is silu(A·B₀)·(A·B₁); else results lie side by side. */
  gated: boolean;
  /** Vectors of 16 columns in a tile: 3 (with 8 rows) or 4 (with 6). */
  vectors: 3 | 4;
}

/** Most right operands. */
export const mostParts = 3;
/** Most steps of the inner dimension, all of which a panel holds: 256 KiB of stack. */
export const mostSteps = 1024;

/** Rows of a tile. */
export const jointRows = ({ vectors }: Pick<JointCode, 'vectors'>): number => (vectors === 3 ? 8 : 6);

/** Parameters, in 8-byte words; strides are in bytes. For each part: its first panel, the one behind its last, and a row. */
export const jointParameter = {
  m: 0,
  k: 1,
  lda: 2,
  ldc: 3,
  panels: 4,
  rowBlock: 5,
  lastTile: 6,
  /** Steps of the next panel that are asked for during a tile. */
  ahead: 7,
  parts: 8,
} as const;
export const partParameter = { start: 0, end: 1, ldb: 2 } as const;
const wordsOfPart = 3;

/** Variables on the stack, in 8-byte words; the panel lies above them. */
const local = { caller: 0, x: 1, c: 2, row: 3, endRow: 4, ahead: 5, aheadOther: 6, stride: 7 } as const;
const localBytes = 64;

/**
 * Machine code (AVX-512) of `task(frame, index)` for the products of one matrix of a good many rows with up to three
 * matrices of the same height: one operator instead of several, and their columns are handed out together. A task
 * packs one panel of columns (of both matrices, where one gates the other) and goes down its rows.
 *
 * There are no masks: columns come in whole panels, and the last tile starts early enough to have all of its rows. It
 * computes a few of them again, to the same bits.
 */
export function compileJoint(code: JointCode): Uint8Array {
  return new JointCompiler(code).compile();
}

class JointCompiler {
  readonly #a = new Assembler('avx512');
  readonly #pool = new ConstantPool(this.#a);
  readonly #code: JointCode;
  readonly #rows: number;
  /** Bytes of a step of the panel, and of the panel's columns in a row of the result. */
  readonly #panelBytes: number;
  readonly #resultBytes: number;
  readonly #packed: number;
  readonly #stack: number;

  constructor(code: JointCode) {
    this.#code = code;
    this.#rows = jointRows(code);
    this.#panelBytes = laneBytes * code.vectors;
    this.#resultBytes = this.#panelBytes / (code.gated ? 2 : 1);
    // The sums of a tile lie between.
    this.#packed = localBytes + this.#rows * this.#panelBytes;
    this.#stack = this.#packed + mostSteps * this.#panelBytes;
  }

  compile(): Uint8Array {
    const a = this.#a;
    const tile = a.label();
    for (const register of saved) a.push(register);
    a.mov(rbx, rsp);
    a.addImmediate(rsp, -this.#stack);
    a.andImmediate(rsp, -64);
    a.store(this.#local('caller'), rbx);
    this.#locate();
    if (this.#code.gated) findPair(a, this.#part, this.#resultBytes);
    else findPart(a, this.#code.parts, this.#part, this.#resultBytes);
    this.#startAhead();
    this.#pack();
    const row = a.here();
    this.#askAhead();
    a.mov(r15, this.#local('row'));
    a.mov(rax, this.#parameter('lastTile'));
    a.cmp(r15, rax);
    a.movIf('greater', r15, rax);
    a.mov(r8, this.#parameter('lda'));
    a.mov(r9, r15);
    a.imul(r9, r8);
    a.add(r9, this.#local('x'));
    a.lea(r12, { base: rsp, offset: this.#packed });
    a.mov(r14, this.#parameter('k'));
    a.callLabel(tile);
    a.imul(r15, this.#parameter('ldc'));
    a.add(r15, this.#local('c'));
    if (this.#code.gated)
      storeGated(a, this.#pool, {
        rows: this.#rows,
        vectors: this.#code.vectors,
        sums: localBytes,
        ldc: this.#parameter('ldc'),
      });
    else this.#store();
    a.mov(rax, this.#local('row'));
    a.addImmediate(rax, this.#rows);
    a.store(this.#local('row'), rax);
    a.cmp(rax, this.#local('endRow'));
    a.jumpIf('less', row);
    a.mov(rsp, this.#local('caller'));
    a.zeroUpper();
    for (const register of [...saved].reverse()) a.pop(register);
    a.ret();
    emitTile(a, tile, { rows: this.#rows, vectors: this.#code.vectors, left: 'rows', right: 'panel' });
    this.#pool.emit();
    return a.finish();
  }

  #local = (name: keyof typeof local): Memory => ({ base: rsp, offset: 8 * local[name] });
  /** rbp points at the parameters throughout. */
  #parameter = (name: keyof typeof jointParameter): Memory => ({
    base: rbp,
    offset: 8 * jointParameter[name],
  });
  #part = (part: number, name: keyof typeof partParameter): Memory => ({
    base: rbp,
    offset: 8 * (jointParameter.parts + wordsOfPart * part + partParameter[name]),
  });

  /** The task's rows and its panel, rdx. */
  #locate(): void {
    const a = this.#a;
    a.mov(rbp, { base: rdi });
    a.mov(rax, rsi);
    a.zero(rdx);
    a.divide(this.#parameter('panels'));
    a.imul(rax, this.#parameter('rowBlock'));
    a.store(this.#local('row'), rax);
    a.add(rax, this.#parameter('rowBlock'));
    a.mov(rcx, this.#parameter('m'));
    a.cmp(rax, rcx);
    a.movIf('greater', rax, rcx);
    a.store(this.#local('endRow'), rax);
    a.mov(rax, { base: rdi, offset: 8 });
    a.store(this.#local('x'), rax);
    a.movImmediate(rax, this.#resultBytes);
    a.imul(rax, rdx);
    a.add(rax, { base: rdi, offset: 8 * (2 + this.#code.parts) });
    a.store(this.#local('c'), rax);
  }

  /** The panel after the next: with two threads the one that this thread is likely to get. */
  #startAhead(): void {
    const a = this.#a;
    const isPair = this.#code.gated;
    a.lea(rax, { base: r9, offset: 2 * this.#resultBytes });
    a.store(this.#local('ahead'), rax);
    a.store(this.#local('stride'), r8);
    if (!isPair) return;
    a.lea(rax, { base: r10, offset: 2 * this.#resultBytes });
    a.store(this.#local('aheadOther'), rax);
  }

  /** Asks for some of its steps: memory is idle while a tile is computed. */
  #askAhead(): void {
    const a = this.#a;
    a.mov(r8, this.#local('stride'));
    for (const name of this.#code.gated ? (['ahead', 'aheadOther'] as const) : (['ahead'] as const)) {
      a.mov(rax, this.#local(name));
      a.mov(rcx, this.#parameter('ahead'));
      const step = a.here();
      for (let offset = 0; offset < this.#resultBytes; offset += laneBytes) a.prefetch({ base: rax, offset });
      a.add(rax, r8);
      a.addImmediate(rcx, -1);
      a.jumpIf('notEqual', step);
      a.store(this.#local(name), rax);
    }
  }

  /** The panel, step by step. */
  #pack(): void {
    const a = this.#a;
    const { gated, vectors } = this.#code;
    a.lea(rbx, { base: rsp, offset: this.#packed });
    a.mov(r14, this.#parameter('k'));
    const step = a.here();
    for (let v = 0; v < vectors; v++) {
      const isSecond = gated && v >= vectors / 2;
      const from = isSecond ? r10 : r9;
      a.vector('load', v, 0, { base: from, offset: laneBytes * (isSecond ? v - vectors / 2 : v) });
      a.vector('store', v, 0, { base: rbx, offset: laneBytes * v });
    }
    for (const register of gated ? [r9, r10] : [r9]) a.add(register, r8);
    a.addImmediate(rbx, this.#panelBytes);
    a.addImmediate(r14, -1);
    a.jumpIf('notEqual', step);
  }

  /** Writes the tile's sums to r15. */
  #store(): void {
    const a = this.#a;
    const { vectors } = this.#code;
    a.mov(rdx, this.#parameter('ldc'));
    for (let row = 0; row < this.#rows; row++) {
      for (let v = 0; v < vectors; v++) {
        a.vector('store', row * vectors + v, 0, { base: r15, offset: laneBytes * v });
      }
      if (row < this.#rows - 1) a.add(r15, rdx);
    }
  }
}
