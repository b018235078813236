import { Assembler, type Memory } from './assembler.js';
import { gp } from './instructions.js';
import {
  columnMask,
  local,
  localBytes,
  longestChunk,
  longestPackedChunk,
  type MatmulCode,
  matmulParameter,
  type Parameter,
  packedRows,
  packMask,
  rowsOf,
} from './matmul-layout.js';
import { laneBytes, loadRows, slotBytes, transposeBlock } from './matmul-tile.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, r8, r9, r11, r12, r14, r15 } = gp;

/** The part of a product that copies operands to the stack, in the order in which tiles read them. `compileMatmul` says what for. */
export class PanelPacker {
  protected readonly a = new Assembler('avx512');
  protected readonly code: MatmulCode;
  protected readonly rows: number;
  protected readonly panelBytes: number;
  protected readonly packedA: number;
  protected readonly stripBytes: number;
  protected readonly packedB: number;
  protected readonly stack: number;

  constructor(code: MatmulCode) {
    this.code = code;
    this.rows = rowsOf(code);
    this.panelBytes = laneBytes * code.vectors;
    this.packedA = localBytes;
    const strips = code.transA ? Math.ceil(packedRows / (2 * this.rows)) : 1;
    const chunk = code.transA ? longestPackedChunk : longestChunk;
    this.stripBytes = chunk * slotBytes;
    this.packedB = this.packedA + strips * this.stripBytes;
    // Transposing writes whole blocks of 16 steps.
    this.stack = this.packedB + (chunk + 16) * this.panelBytes;
  }

  protected local = (name: keyof typeof local): Memory => ({ base: rsp, offset: 8 * local[name] });
  /** rbp points at the parameters throughout. */
  protected parameter = (name: Parameter): Memory => ({ base: rbp, offset: 8 * matmulParameter[name] });

  /** mask = the lowest `count` bits, at most `most`, from a register that holds 0 or more. Uses rcx. */
  protected mask(mask: number, count: number, most: number): void {
    const a = this.a;
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

  /** Runs `body` so many times, which may be none. Counts in r14. */
  protected times(count: Memory, body: () => void): void {
    const a = this.a;
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

  /** Strips of 2·rows rows of Aᵀ, as [steps][16]. */
  protected packRowsOfA(): void {
    const a = this.a;
    const strip = 2 * this.rows;
    a.mov(r15, this.local('firstRow'));
    a.lea(r12, { base: rsp, offset: this.packedA });
    const next = a.here();
    a.mov(rax, this.local('endRow'));
    a.sub(rax, r15);
    this.mask(packMask, rax, strip);
    a.mov(r9, this.local('step'));
    a.mov(r8, this.parameter('lda'));
    a.imul(r9, r8);
    a.lea(r9, { base: r9, index: r15, scale: 4 });
    a.add(r9, this.local('a'));
    a.mov(rbx, r12);
    this.times(this.local('steps'), () => {
      a.vector('load', 0, 0, { base: r9 }, { mask: packMask, zero: true });
      a.vector('store', 0, 0, { base: rbx });
      a.add(r9, r8);
      a.addImmediate(rbx, slotBytes);
    });
    a.addImmediate(r12, this.stripBytes);
    a.addImmediate(r15, strip);
    a.cmp(r15, this.local('endRow'));
    a.jumpIf('less', next);
  }

  /** The last rows, if they fill no tile, as [steps][16]; what is beyond them there is never stored. */
  protected packTailOfA(): void {
    const a = this.a;
    const none = a.label();
    // r15 = first row of the last tile, rcx = rows in it.
    a.mov(rax, this.local('endRow'));
    a.sub(rax, this.local('firstRow'));
    a.zero(rdx);
    a.movImmediate(rcx, this.rows);
    a.divide(rcx);
    a.test(rdx, rdx);
    a.jumpIf('equal', none);
    a.mov(r15, this.local('endRow'));
    a.sub(r15, rdx);
    a.lea(r12, { base: rsp, offset: this.packedA });
    const row = a.here();
    a.mov(r9, r15);
    a.imul(r9, this.parameter('lda'));
    a.mov(rax, this.local('step'));
    a.lea(r9, { base: r9, index: rax, scale: 4 });
    a.add(r9, this.local('a'));
    a.mov(rbx, r12);
    this.times(this.local('steps'), () => {
      a.mov32(rax, { base: r9 });
      a.store32({ base: rbx }, rax);
      a.addImmediate(r9, 4);
      a.addImmediate(rbx, slotBytes);
    });
    a.addImmediate(r12, 4);
    a.addImmediate(r15, 1);
    a.cmp(r15, this.local('endRow'));
    a.jumpIf('less', row);
    a.bind(none);
  }

  /** Rows of B, cut to the panel and filled up with zeros. */
  protected packB(): void {
    const a = this.a;
    const { vectors } = this.code;
    a.mov(r8, this.parameter('ldb'));
    a.mov(r9, this.local('step'));
    a.imul(r9, r8);
    a.mov(rax, this.local('column'));
    a.lea(r9, { base: r9, index: rax, scale: 4 });
    a.add(r9, this.local('b'));
    a.lea(rbx, { base: rsp, offset: this.packedB });
    this.times(this.local('steps'), () => {
      for (let v = 0; v < vectors; v++) {
        const from = { base: r9, offset: laneBytes * v };
        a.vector('load', v, 0, from, { mask: columnMask(v), zero: true });
        a.vector('store', v, 0, { base: rbx, offset: laneBytes * v });
      }
      a.add(r9, r8);
      a.addImmediate(rbx, this.panelBytes);
    });
  }

  /** The same from Bᵀ, by blocks of 16 columns and 16 steps. */
  protected packTransposedB(): void {
    const a = this.a;
    const { vectors } = this.code;
    a.mov(r8, this.parameter('ldb'));
    for (let v = 0; v < vectors; v++) {
      // rcx = columns of this vector that exist, r9 = where they begin.
      a.mov(r9, this.local('column'));
      a.addImmediate(r9, 16 * v);
      a.mov(rsi, this.local('endColumn'));
      a.sub(rsi, r9);
      a.imul(r9, r8);
      a.mov(rax, this.local('step'));
      a.lea(r9, { base: r9, index: rax, scale: 4 });
      a.add(r9, this.local('b'));
      a.lea(rbx, { base: rsp, offset: this.packedB + laneBytes * v });
      a.mov(r14, this.local('steps'));
      const done = a.label();
      const block = a.here();
      a.test(r14, r14);
      a.jumpIf('notGreater', done);
      this.mask(packMask, r14, 16);
      loadRows(a, packMask);
      transposeBlock(a, rbx, this.panelBytes);
      a.addImmediate(rbx, 16 * this.panelBytes);
      a.addImmediate(r9, laneBytes);
      a.addImmediate(r14, -16);
      a.jump(block);
      a.bind(done);
    }
  }
}
