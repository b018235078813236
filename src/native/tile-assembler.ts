import type { Label, Memory } from './assembler.js';
import { expCoefficients, ln2 } from './formula.js';
import { gp } from './instructions.js';
import { emitProduct, type Product } from './tile-product.js';
import { emitSolve, type Solve } from './tile-solve.js';
import { type Block, type Count, type Slot, TileStack } from './tile-stack.js';
import { emitTranspose } from './tile-transpose.js';

export type { Block, Count, Slot } from './tile-stack.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = gp;
const saved = [rbx, rbp, r12, r13, r14, r15];
/** Registers that hold the addresses of blocks in `eachRow`. */
const rowPointers = [r8, r9, r10, r11, r12, r13];

/** Floats of a vector. */
export const lanes = 16;

/** Registers with the constants of `exp`, from the top down. */
const pinned = { one: 31, low: 30, log2e: 29, ln2High: 28, ln2Low: 27, coefficients: 21 } as const;
/** Vector registers that the body of a pass may use. */
export const freeVectors = pinned.coefficients;

const toNearest = 8;

/**
 * Emits tasks that work on small dense matrices: products, transposes and passes over rows, as calls of subroutines and
 * loops whose state is on the stack. All sizes are known when code is emitted. AVX-512.
 *
 * Nothing is kept in registers from one operation to the next.
 */
export class TileAssembler extends TileStack {
  readonly #subroutines = new Map<string, { label: Label; emit(): void }>();

  /**
   * Machine code of `task(frame, index)`: `body` gets the slots with the addresses of the first `tensors` tensors, and one
   * with the task's number. It runs twice, as the size of the stack frame is known only in the end.
   */
  static compile(
    tensors: number,
    body: (t: TileAssembler, tensors: readonly Slot[], task: Slot) => void,
  ): Uint8Array {
    let bytes = 0;
    let code: Uint8Array = new Uint8Array();
    for (let pass = 0; pass < 2; pass++) {
      const t = new TileAssembler(bytes);
      code = t.#task(tensors, body);
      bytes = t.frameBytes + 64;
    }
    return code;
  }

  #task(tensors: number, body: (t: TileAssembler, tensors: readonly Slot[], task: Slot) => void): Uint8Array {
    const { a } = this;
    for (const register of saved) a.push(register);
    a.mov(rbx, rsp);
    a.addImmediate(rsp, -this.stackBytes);
    a.andImmediate(rsp, -64);
    a.store({ base: rsp }, rbx);
    const slots = Array.from({ length: tensors }, () => this.slot());
    slots.forEach((slot, i) => {
      a.mov(rax, { base: rdi, offset: 8 + 8 * i });
      a.store(this.at(slot), rax);
    });
    const task = this.slot();
    a.store(this.at(task), rsi);
    body(this, slots, task);
    a.mov(rsp, { base: rsp });
    a.zeroUpper();
    for (const register of [...saved].reverse()) a.pop(register);
    a.ret();
    for (const { label, emit } of this.#subroutines.values()) {
      a.align(64);
      a.bind(label);
      emit();
      a.ret();
    }
    this.pool.emit();
    return a.finish();
  }

  #call(key: string, emit: () => void): void {
    let found = this.#subroutines.get(key);
    if (!found) {
      found = { label: this.a.label(), emit };
      this.#subroutines.set(key, found);
    }
    this.a.callLabel(found.label);
  }

  /** C = op(A)·B, or added to or subtracted from what is there; see `Product`. */
  product(A: Block, B: Block, C: Block, product: Omit<Product, 'lda' | 'ldb' | 'ldc'>): void {
    const full: Product = { ...product, lda: A.ld, ldb: B.ld, ldc: C.ld };
    this.address(r8, A);
    this.address(r9, B);
    this.address(r10, C);
    this.#call(`product${JSON.stringify(full)}`, () => emitProduct(this.a, full));
  }

  /** to = fromᵀ; rows and columns (of `from`) are multiples of 16. */
  transpose(from: Block, to: Block, rows: number, columns: number): void {
    this.address(r8, from);
    this.address(r9, to);
    const shape = { rows, columns, from: from.ld, to: to.ld };
    this.#call(`transpose${JSON.stringify(shape)}`, () => emitTranspose(this.a, shape));
  }

  /** Solves a triangular system; see `Solve`. */
  solve(
    matrix: Block,
    right: Block,
    solution: Block,
    scaled: Block,
    factors: Block,
    solve: Pick<Solve, 'rows' | 'columns' | 'transposed'>,
  ): void {
    const full: Solve = {
      ...solve,
      matrix: matrix.ld,
      right: right.ld,
      solution: solution.ld,
      scaled: scaled.ld,
    };
    [matrix, right, solution, scaled, factors].forEach((block, i) => {
      this.address([r8, r9, r10, r12, r13][i]!, block);
    });
    this.#call(`solve${JSON.stringify(full)}`, () => emitSolve(this.a, full));
  }

  /** to = from, or the sum of two blocks. */
  copy(from: Block, to: Block, rows: number, columns: number, plus?: Block): void {
    this.eachRow(rows, plus ? [from, to, plus] : [from, to], (at) => {
      for (let v = 0; v < columns / lanes; v++) {
        this.a.vector('load', v % 16, 0, at(0, v));
        if (plus) this.a.vector('add', v % 16, v % 16, at(2, v));
        this.a.vector('store', v % 16, 0, at(1, v));
      }
    });
  }

  /** Sets the elements left of the diagonal to 0 (or, with `keep` lower, those on it and right of it). */
  keepTriangle(block: Block, size: number, keep: 'upper' | 'strictlyLower'): void {
    const { a } = this;
    const vectors = size / lanes;
    this.eachRow(size, [block], (at) => {
      this.columnsFrom(rbx, vectors, false);
      for (let v = 0; v < vectors; v++) {
        const mask = 1 + v;
        if (keep === 'upper') a.vector('load', v, 0, at(0, v), { mask, zero: true });
        else {
          a.vector('load', v, 0, at(0, v));
          a.vector('xor', v, v, v, { mask });
        }
        a.vector('store', v, 0, at(0, v));
      }
    });
  }

  /** Fills a block with zeros. */
  clear(block: Block, rows: number, columns: number): void {
    this.a.vector('xor', 0, 0, 0);
    this.eachRow(rows, [block], (at) => {
      for (let v = 0; v < columns / lanes; v++) this.a.vector('store', 0, 0, at(0, v));
    });
  }

  /**
   * A pass over the rows of blocks, from the first to the last or backwards. `body` emits the code of one row; `at` is vector
   * number v of a block's row. It may use rax, rdx, rsi, rdi, rbp, r14 and r15; rcx counts the rows that are left, rbx those done.
   */
  eachRow(
    rows: Count,
    blocks: readonly Block[],
    body: (at: (block: number, vector: number) => Memory) => void,
    { backwards = false }: { backwards?: boolean } = {},
  ): void {
    const { a } = this;
    if (blocks.length > rowPointers.length) throw new Error('a pass has too many blocks');
    this.value(rcx, rows);
    blocks.forEach((block, i) => {
      this.address(rowPointers[i]!, block);
      if (!backwards) return;
      a.lea(rax, { base: rcx, offset: -1 });
      a.movImmediate(rdx, 4 * block.ld);
      a.imul(rax, rdx);
      a.add(rowPointers[i]!, rax);
    });
    a.zero(rbx);
    a.align(16);
    const again = a.here();
    body((block, vector) => ({ base: rowPointers[block]!, offset: 4 * lanes * vector }));
    blocks.forEach(({ ld }, i) => {
      if (ld !== 0) a.addImmediate(rowPointers[i]!, backwards ? -4 * ld : 4 * ld);
    });
    a.addImmediate(rbx, 1);
    a.addImmediate(rcx, -1);
    a.jumpIf('notEqual', again);
  }

  /** Masks 1 … n = the columns of vectors 0 … n-1 that are at least (or beyond) a row's number, in a register. Uses rax, r14, rcx. */
  columnsFrom(row: number, vectors: number, isBeyond: boolean): void {
    const { a } = this;
    a.mov(r14, rcx);
    a.mov(rcx, row);
    a.movImmediate(rax, -1);
    a.shiftLeftByCl(rax);
    if (isBeyond) a.shiftLeft(rax, 1);
    a.mov(rcx, r14);
    for (let v = 0; v < vectors; v++) {
      a.maskFrom(1 + v, rax);
      a.shiftRight(rax, 16);
    }
  }

  /** Loads what `exp` needs into the registers from `freeVectors` on. */
  loadConstants(): void {
    const { pool } = this;
    pool.load(pinned.one, 1);
    pool.load(pinned.low, -104);
    pool.load(pinned.log2e, Math.LOG2E);
    pool.load(pinned.ln2High, ln2[0]);
    pool.load(pinned.ln2Low, ln2[1]);
    for (let i = 0; i < 6; i++) pool.load(pinned.coefficients + i, expCoefficients[i]!);
  }
  readonly one = pinned.one;

  /** to = e^x; x and n are written over. */
  exp(to: number, x: number, n: number): void {
    const { a } = this;
    a.vector('max', x, pinned.low, x);
    a.vector('mul', n, x, pinned.log2e);
    a.vector('round', n, 0, n, { immediate: toNearest });
    a.vector('fnma231', x, n, pinned.ln2High);
    a.vector('fnma231', x, n, pinned.ln2Low);
    a.vector('load', to, 0, pinned.coefficients);
    for (let i = 1; i < 6; i++) a.vector('fma213', to, x, pinned.coefficients + i);
    for (let i = 0; i < 2; i++) a.vector('fma213', to, x, pinned.one);
    a.vector('scale', to, to, n);
  }
}
