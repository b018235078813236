import { Assembler, type Label, type Memory } from './assembler.js';
import { gp } from './instructions.js';
import { emitTile, laneBytes, loadRows, slotBytes, transposeBlock } from './matmul-tile.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = gp;
const saved = [rbx, rbp, r12, r13, r14, r15];

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
   * that become 0, blocks of the left operand are taken as 0. Or the result is symmetric: blocks above its diagonal are
   * copied from those below.
   */
  triangle?: 'result' | 'left' | 'symmetric' | undefined;
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
type Parameter = keyof typeof matmulParameter;

/** Variables on the stack, in 8-byte words; the packed operands lie above them. */
const local = {
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
const localBytes = 128;

/** Masks of a tile's columns by vector, then those for packing. */
const columnMask = (vector: number) => 1 + vector;
const packMask = 5;
/** Rows of a block that is copied across the diagonal; a tile of three vectors leaves this mask free. */
const rowMask = 4;

/**
 * Machine code (AVX-512) of `task(frame, index)` for alpha·op(A)·op(B) + addend, after Goto and van de Geijn
 * 2008: a task computes a block of the result; for each chunk of the inner dimension it packs a panel of B
 * [chunk][columns of a tile] and goes down the rows of A with it. Sums of a tile stay in registers.
 *
 * A task's result depends on nothing but its operands, so the number of threads does not change a bit.
 */
export function compileMatmul(code: MatmulCode): Uint8Array {
  return new MatmulCompiler(code).compile();
}

class MatmulCompiler {
  readonly #a = new Assembler('avx512');
  readonly #code: MatmulCode;
  readonly #rows: number;
  readonly #panelBytes: number;
  readonly #packedA: number;
  readonly #stripBytes: number;
  readonly #packedB: number;
  readonly #stack: number;
  readonly #tileInPlace: Label;
  readonly #tilePacked: Label;

  constructor(code: MatmulCode) {
    this.#code = code;
    this.#rows = rowsOf(code);
    this.#panelBytes = laneBytes * code.vectors;
    this.#packedA = localBytes;
    const strips = code.transA ? Math.ceil(packedRows / (2 * this.#rows)) : 1;
    const chunk = code.transA ? longestPackedChunk : longestChunk;
    this.#stripBytes = chunk * slotBytes;
    this.#packedB = this.#packedA + strips * this.#stripBytes;
    // Transposing writes whole blocks of 16 steps.
    this.#stack = this.#packedB + (chunk + 16) * this.#panelBytes;
    this.#tileInPlace = this.#a.label();
    this.#tilePacked = this.#a.label();
  }

  compile(): Uint8Array {
    const a = this.#a;
    for (const register of saved) a.push(register);
    a.mov(rbx, rsp);
    a.addImmediate(rsp, -this.#stack);
    a.andImmediate(rsp, -64);
    a.store(this.#local('caller'), rbx);
    const finished = a.label();
    this.#locate(finished);
    const chunk = a.here();
    this.#chunkSteps();
    if (this.#code.transA) this.#packRowsOfA();
    else this.#packTailOfA();
    this.#panels();
    a.mov(rax, this.#local('step'));
    a.add(rax, this.#local('steps'));
    a.store(this.#local('step'), rax);
    a.cmp(rax, this.#local('endStep'));
    a.jumpIf('less', chunk);
    a.bind(finished);
    a.mov(rsp, this.#local('caller'));
    a.zeroUpper();
    for (const register of [...saved].reverse()) a.pop(register);
    a.ret();
    const tile = { rows: this.#rows, vectors: this.#code.vectors, right: 'panel' } as const;
    if (!this.#code.transA) emitTile(a, this.#tileInPlace, { ...tile, left: 'rows' });
    emitTile(a, this.#tilePacked, { ...tile, left: 'packed' });
    return a.finish();
  }

  #local = (name: keyof typeof local): Memory => ({ base: rsp, offset: 8 * local[name] });
  /** rbp points at the parameters throughout. */
  #parameter = (name: Parameter): Memory => ({ base: rbp, offset: 8 * matmulParameter[name] });

  /** Finds the block of the result that belongs to the task, and the operands of its batch; leaves if there is nothing to do. */
  #locate(finished: Label): void {
    const a = this.#a;
    a.mov(rbp, { base: rdi });
    a.mov(rax, rsi);
    const block = (
      count: Parameter,
      length: Parameter,
      size: Parameter,
      first: keyof typeof local,
      end: keyof typeof local,
    ) => {
      a.zero(rdx);
      a.divide(this.#parameter(count));
      a.imul(rdx, this.#parameter(length));
      a.store(this.#local(first), rdx);
      a.add(rdx, this.#parameter(length));
      a.mov(rcx, this.#parameter(size));
      a.cmp(rdx, rcx);
      a.movIf('greater', rdx, rcx);
      a.store(this.#local(end), rdx);
    };
    block('columnBlocks', 'columnBlock', 'n', 'firstColumn', 'endColumn');
    block('rowBlocks', 'rowBlock', 'm', 'firstRow', 'endRow');
    if (this.#code.triangle === 'symmetric') {
      a.mov(rcx, this.#local('firstRow'));
      a.mov(rdx, this.#local('firstColumn'));
      a.cmp(rcx, rdx);
      a.movIf('less', rcx, rdx);
      a.store(this.#local('firstRow'), rcx);
      a.cmp(rcx, this.#local('endRow'));
      a.jumpIf('notLess', finished);
    }
    // rax is the number in the batch; frame[1] and on are the inputs, then the result.
    const { addend } = this.#code;
    const operands: [keyof typeof local, Parameter, number][] = [
      ['a', 'batchA', 1],
      ['b', 'batchB', 2],
      ['c', 'batchC', addend ? 4 : 3],
    ];
    if (addend) operands.push(['addend', 'batchAddend', 3]);
    for (const [name, stride, position] of operands) {
      a.mov(rcx, rax);
      a.imul(rcx, this.#parameter(stride));
      a.add(rcx, { base: rdi, offset: 8 * position });
      a.store(this.#local(name), rcx);
    }
    this.#limitSteps();
  }

  /** The steps of the inner dimension at which the block's rows of the left operand are not all zeros. */
  #limitSteps(): void {
    const a = this.#a;
    const isLeft = this.#code.triangle === 'left';
    a.zero(rax);
    a.mov(rcx, this.#parameter('k'));
    if (isLeft && this.#code.transA) {
      a.mov(rdx, this.#local('firstRow'));
      a.sub(rdx, this.#parameter('shift'));
      a.cmp(rdx, rax);
      a.movIf('greater', rax, rdx);
    } else if (isLeft) {
      a.mov(rdx, this.#local('endRow'));
      a.add(rdx, this.#parameter('shift'));
      a.cmp(rdx, rcx);
      a.movIf('less', rcx, rdx);
    }
    for (const name of ['step', 'firstStep'] as const) a.store(this.#local(name), rax);
    a.store(this.#local('endStep'), rcx);
  }

  #chunkSteps(): void {
    const a = this.#a;
    a.mov(rax, this.#local('endStep'));
    a.sub(rax, this.#local('step'));
    a.mov(rcx, this.#parameter('chunk'));
    a.cmp(rax, rcx);
    a.movIf('greater', rax, rcx);
    a.store(this.#local('steps'), rax);
  }

  /** mask = the lowest `count` bits, at most `most`, from a register that holds 0 or more. Uses rcx. */
  #mask(mask: number, count: number, most: number): void {
    const a = this.#a;
    const full = a.label();
    a.movImmediate(rcx, most);
    a.cmp(count, rcx);
    a.jumpIf('notLess', full);
    a.mov(rcx, count);
    a.bind(full);
    a.movImmediate(r11, 1);
    a.shiftLeftByCl(r11);
    a.addImmediate(r11, -1);
    a.maskFrom(mask, r11);
  }

  /** Strips of 2·rows rows of Aᵀ, as [steps][16]. */
  #packRowsOfA(): void {
    const a = this.#a;
    const strip = 2 * this.#rows;
    a.mov(r15, this.#local('firstRow'));
    a.lea(r12, { base: rsp, offset: this.#packedA });
    const next = a.here();
    a.mov(rax, this.#local('endRow'));
    a.sub(rax, r15);
    this.#mask(packMask, rax, strip);
    a.mov(r9, this.#local('step'));
    a.mov(r8, this.#parameter('lda'));
    a.imul(r9, r8);
    a.lea(r9, { base: r9, index: r15, scale: 4 });
    a.add(r9, this.#local('a'));
    a.mov(rbx, r12);
    this.#times(this.#local('steps'), () => {
      a.vector('load', 0, 0, { base: r9 }, { mask: packMask, zero: true });
      a.vector('store', 0, 0, { base: rbx });
      a.add(r9, r8);
      a.addImmediate(rbx, slotBytes);
    });
    a.addImmediate(r12, this.#stripBytes);
    a.addImmediate(r15, strip);
    a.cmp(r15, this.#local('endRow'));
    a.jumpIf('less', next);
  }

  /** The last rows, if they fill no tile, as [steps][16]; what is beyond them there is never stored. */
  #packTailOfA(): void {
    const a = this.#a;
    const none = a.label();
    // r15 = first row of the last tile, rcx = rows in it.
    a.mov(rax, this.#local('endRow'));
    a.sub(rax, this.#local('firstRow'));
    a.zero(rdx);
    a.movImmediate(rcx, this.#rows);
    a.divide(rcx);
    a.test(rdx, rdx);
    a.jumpIf('equal', none);
    a.mov(r15, this.#local('endRow'));
    a.sub(r15, rdx);
    a.lea(r12, { base: rsp, offset: this.#packedA });
    const row = a.here();
    a.mov(r9, r15);
    a.imul(r9, this.#parameter('lda'));
    a.mov(rax, this.#local('step'));
    a.lea(r9, { base: r9, index: rax, scale: 4 });
    a.add(r9, this.#local('a'));
    a.mov(rbx, r12);
    this.#times(this.#local('steps'), () => {
      a.mov32(rax, { base: r9 });
      a.store32({ base: rbx }, rax);
      a.addImmediate(r9, 4);
      a.addImmediate(rbx, slotBytes);
    });
    a.addImmediate(r12, 4);
    a.addImmediate(r15, 1);
    a.cmp(r15, this.#local('endRow'));
    a.jumpIf('less', row);
    a.bind(none);
  }

  /** Runs `body` so many times, which may be none. Counts in r14. */
  #times(count: Memory, body: () => void): void {
    const a = this.#a;
    const done = a.label();
    a.mov(r14, count);
    a.test(r14, r14);
    a.jumpIf('equal', done);
    const again = a.here();
    body();
    a.addImmediate(r14, -1);
    a.jumpIf('notEqual', again);
    a.bind(done);
  }

  /** For every panel of columns: pack B, then all rows. */
  #panels(): void {
    const a = this.#a;
    const { vectors } = this.#code;
    a.mov(rax, this.#local('firstColumn'));
    a.store(this.#local('column'), rax);
    const panel = a.here();
    a.mov(rax, this.#local('endColumn'));
    a.sub(rax, this.#local('column'));
    for (let v = 0; v < vectors; v++) {
      this.#mask(columnMask(v), rax, 16);
      a.addImmediate(rax, -16);
      const positive = a.label();
      a.jumpIf('notLess', positive);
      a.zero(rax);
      a.bind(positive);
    }
    if (this.#code.transB) this.#packTransposedB();
    else this.#packB();
    const isSymmetric = this.#code.triangle === 'symmetric';
    const below = a.label();
    a.mov(rax, this.#local('firstRow'));
    if (isSymmetric) {
      // Panels and blocks begin at multiples of a tile's rows, so that no tile lies across the diagonal's first row.
      a.mov(rcx, this.#local('column'));
      a.cmp(rax, rcx);
      a.movIf('less', rax, rcx);
    }
    a.store(this.#local('row'), rax);
    if (isSymmetric) {
      a.cmp(rax, this.#local('endRow'));
      a.jumpIf('notLess', below);
    }
    const row = a.here();
    this.#callTile();
    this.#storeTile();
    a.mov(rax, this.#local('row'));
    a.addImmediate(rax, this.#rows);
    a.store(this.#local('row'), rax);
    a.cmp(rax, this.#local('endRow'));
    a.jumpIf('less', row);
    if (isSymmetric) this.#mirror();
    a.bind(below);
    a.mov(rax, this.#local('column'));
    a.addImmediate(rax, 16 * vectors);
    a.store(this.#local('column'), rax);
    a.cmp(rax, this.#local('endColumn'));
    a.jumpIf('less', panel);
  }

  /** After the last chunk: copies the panel's rows below its diagonal block to the columns right of that. */
  #mirror(): void {
    const a = this.#a;
    const { vectors } = this.#code;
    const done = a.label();
    a.mov(rax, this.#local('step'));
    a.add(rax, this.#local('steps'));
    a.cmp(rax, this.#local('endStep'));
    a.jumpIf('less', done);
    a.mov(r8, this.#parameter('ldc'));
    for (let v = 0; v < vectors; v++) {
      // r13 = columns of this vector that exist; r15 = first of 16 rows.
      const next = a.label();
      a.mov(r13, this.#local('endColumn'));
      a.sub(r13, this.#local('column'));
      a.addImmediate(r13, -16 * v);
      a.jumpIf('notGreater', next);
      this.#mask(packMask, r13, 16);
      a.movImmediate(rcx, 16);
      a.cmp(r13, rcx);
      a.movIf('greater', r13, rcx);
      a.mov(r15, this.#local('column'));
      a.addImmediate(r15, 16 * vectors);
      a.mov(rax, this.#local('firstRow'));
      a.cmp(r15, rax);
      a.movIf('less', r15, rax);
      const block = a.here();
      a.mov(rsi, this.#local('endRow'));
      a.sub(rsi, r15);
      a.jumpIf('notGreater', next);
      this.#mask(rowMask, rsi, 16);
      a.mov(r9, r15);
      a.imul(r9, r8);
      a.mov(rax, this.#local('column'));
      a.lea(r9, { base: r9, index: rax, scale: 4, offset: laneBytes * v });
      a.add(r9, this.#local('c'));
      loadRows(a, packMask);
      // The panel of B has been used: its place holds the transposed block.
      a.lea(rbx, { base: rsp, offset: this.#packedB });
      transposeBlock(a, rbx, this.#panelBytes);
      a.mov(r9, this.#local('column'));
      a.addImmediate(r9, 16 * v);
      a.imul(r9, r8);
      a.lea(r9, { base: r9, index: r15, scale: 4 });
      a.add(r9, this.#local('c'));
      a.mov(r14, r13);
      const store = a.here();
      a.vector('load', 0, 0, { base: rbx });
      a.vector('store', 0, 0, { base: r9 }, { mask: rowMask });
      a.addImmediate(rbx, this.#panelBytes);
      a.add(r9, r8);
      a.addImmediate(r14, -1);
      a.jumpIf('notEqual', store);
      a.addImmediate(r15, 16);
      a.jump(block);
      a.bind(next);
    }
    a.bind(done);
  }

  /** Rows of B, cut to the panel and filled up with zeros. */
  #packB(): void {
    const a = this.#a;
    const { vectors } = this.#code;
    a.mov(r8, this.#parameter('ldb'));
    a.mov(r9, this.#local('step'));
    a.imul(r9, r8);
    a.mov(rax, this.#local('column'));
    a.lea(r9, { base: r9, index: rax, scale: 4 });
    a.add(r9, this.#local('b'));
    a.lea(rbx, { base: rsp, offset: this.#packedB });
    this.#times(this.#local('steps'), () => {
      for (let v = 0; v < vectors; v++) {
        const from = { base: r9, offset: laneBytes * v };
        a.vector('load', v, 0, from, { mask: columnMask(v), zero: true });
        a.vector('store', v, 0, { base: rbx, offset: laneBytes * v });
      }
      a.add(r9, r8);
      a.addImmediate(rbx, this.#panelBytes);
    });
  }

  /** The same from Bᵀ, by blocks of 16 columns and 16 steps. */
  #packTransposedB(): void {
    const a = this.#a;
    const { vectors } = this.#code;
    a.mov(r8, this.#parameter('ldb'));
    for (let v = 0; v < vectors; v++) {
      // rcx = columns of this vector that exist, r9 = where they begin.
      a.mov(r9, this.#local('column'));
      a.addImmediate(r9, 16 * v);
      a.mov(rsi, this.#local('endColumn'));
      a.sub(rsi, r9);
      a.imul(r9, r8);
      a.mov(rax, this.#local('step'));
      a.lea(r9, { base: r9, index: rax, scale: 4 });
      a.add(r9, this.#local('b'));
      a.lea(rbx, { base: rsp, offset: this.#packedB + laneBytes * v });
      a.mov(r14, this.#local('steps'));
      const done = a.label();
      const block = a.here();
      a.test(r14, r14);
      a.jumpIf('notGreater', done);
      this.#mask(packMask, r14, 16);
      loadRows(a, packMask);
      transposeBlock(a, rbx, this.#panelBytes);
      a.addImmediate(rbx, 16 * this.#panelBytes);
      a.addImmediate(r9, laneBytes);
      a.addImmediate(r14, -16);
      a.jump(block);
      a.bind(done);
    }
  }

  /** Puts the operands of the tile into place and computes it. */
  #callTile(): void {
    const a = this.#a;
    const done = a.label();
    const packed = a.label();
    a.lea(r12, { base: rsp, offset: this.#packedB });
    a.mov(r14, this.#local('steps'));
    if (this.#code.triangle === 'result') {
      // Above the diagonal of all rows of the block: no steps, so the sums are 0.
      a.mov(rax, this.#local('endRow'));
      a.add(rax, this.#parameter('shift'));
      a.zero(rcx);
      a.cmp(rax, this.#local('column'));
      a.movIf('notGreater', r14, rcx);
    }
    if (!this.#code.transA) {
      a.mov(rax, this.#local('endRow'));
      a.sub(rax, this.#local('row'));
      a.cmpImmediate(rax, this.#rows);
      a.jumpIf('less', packed);
      a.mov(r8, this.#parameter('lda'));
      a.mov(r9, this.#local('row'));
      a.imul(r9, r8);
      a.mov(rax, this.#local('step'));
      a.lea(r9, { base: r9, index: rax, scale: 4 });
      a.add(r9, this.#local('a'));
      a.callLabel(this.#tileInPlace);
      a.jump(done);
      a.bind(packed);
      a.lea(r9, { base: rsp, offset: this.#packedA });
    } else {
      // Two tiles lie side by side in a strip.
      a.mov(rax, this.#local('row'));
      a.sub(rax, this.#local('firstRow'));
      a.zero(rdx);
      a.movImmediate(rcx, 2 * this.#rows);
      a.divide(rcx);
      a.movImmediate(rcx, this.#stripBytes);
      a.imul(rax, rcx);
      a.lea(r9, { base: rsp, index: rax, offset: this.#packedA });
      a.lea(r9, { base: r9, index: rdx, scale: 4 });
    }
    a.callLabel(this.#tilePacked);
    a.bind(done);
  }

  /** Writes the tile's sums, times alpha, plus what is to be added: the addend first, then the earlier chunks. */
  #storeTile(): void {
    const a = this.#a;
    const { vectors, scaled, addend } = this.#code;
    const alpha = a.registers - 1;
    if (scaled) a.vector('broadcast', alpha, 0, this.#parameter('alpha'));
    a.mov(rcx, this.#local('endRow'));
    a.sub(rcx, this.#local('row'));
    a.mov(rsi, this.#local('column'));
    const place = (register: number, stride: number, name: 'c' | 'addend') => {
      a.mov(stride, this.#parameter(name === 'c' ? 'ldc' : 'ldAddend'));
      a.mov(register, this.#local('row'));
      a.imul(register, stride);
      a.lea(register, { base: register, index: rsi, scale: 4 });
      a.add(register, this.#local(name));
    };
    place(r13, rdx, 'c');
    const plain = a.label();
    const added = a.label();
    const done = a.label();
    a.mov(rax, r13);
    a.mov(r10, rdx);
    a.mov(r11, this.#local('step'));
    a.cmp(r11, this.#local('firstStep'));
    a.jumpIf('notEqual', added);
    if (addend) place(rax, r10, 'addend');
    else a.jump(plain);
    a.bind(added);
    this.#storeRows(done, (sum, v) => {
      const from = { base: rax, offset: laneBytes * v };
      if (!scaled) return a.vector('add', sum, sum, from, { mask: columnMask(v) });
      const old = this.#rows * vectors + v;
      a.vector('load', old, 0, from, { mask: columnMask(v), zero: true });
      a.vector('fma213', sum, alpha, old);
    });
    if (!addend) {
      a.jump(done);
      a.bind(plain);
      this.#storeRows(done, (sum) => {
        if (scaled) a.vector('mul', sum, sum, alpha);
      });
    }
    a.bind(done);
  }

  /** Finishes and stores as many rows as there are (rcx), walking down with r13 and rax. */
  #storeRows(done: Label, finish: (sum: number, vector: number) => void): void {
    const a = this.#a;
    const { vectors } = this.#code;
    for (let row = 0; row < this.#rows; row++) {
      for (let v = 0; v < vectors; v++) {
        finish(row * vectors + v, v);
        const to = { base: r13, offset: laneBytes * v };
        a.vector('store', row * vectors + v, 0, to, { mask: columnMask(v) });
      }
      if (row === this.#rows - 1) break;
      a.cmpImmediate(rcx, row + 1);
      a.jumpIf('notGreater', done);
      a.add(r13, rdx);
      a.add(rax, r10);
    }
  }
}
