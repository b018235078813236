import type { Label } from './assembler.js';
import { gp } from './instructions.js';
import { columnMask, packMask, rowMask } from './matmul-layout.js';
import { PanelPacker } from './matmul-pack.js';
import { laneBytes, loadRows, transposeBlock } from './matmul-tile.js';

const { rax, rcx, rdx, rbx, rsp, rsi, r8, r9, r10, r11, r13, r14, r15 } = gp;

/** The part of a product that writes its results: tiles as they come, and blocks that are copied across the diagonal. */
export class TileStore extends PanelPacker {
  /** Writes the tile's sums, times alpha, plus what is to be added: the addend first, then the earlier chunks. */
  protected storeTile(): void {
    const a = this.a;
    const { vectors, scaled, addend } = this.code;
    const alpha = a.registers - 1;
    if (scaled) a.vector('broadcast', alpha, 0, this.parameter('alpha'));
    a.mov(rcx, this.local('endRow'));
    a.sub(rcx, this.local('row'));
    a.mov(rsi, this.local('column'));
    const place = (register: number, stride: number, name: 'c' | 'addend') => {
      a.mov(stride, this.parameter(name === 'c' ? 'ldc' : 'ldAddend'));
      a.mov(register, this.local('row'));
      a.imul(register, stride);
      a.lea(register, { base: register, index: rsi, scale: 4 });
      a.add(register, this.local(name));
    };
    place(r13, rdx, 'c');
    const plain = a.label();
    const added = a.label();
    const done = a.label();
    a.mov(rax, r13);
    a.mov(r10, rdx);
    a.mov(r11, this.local('step'));
    a.cmp(r11, this.local('firstStep'));
    a.jumpIf('notEqual', added);
    if (addend) place(rax, r10, 'addend');
    else a.jump(plain);
    a.bind(added);
    this.#storeRows(done, (sum, v) => {
      const from = { base: rax, offset: laneBytes * v };
      if (!scaled) return a.vector('add', sum, sum, from, { mask: columnMask(v) });
      const old = this.rows * vectors + v;
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
    const a = this.a;
    const { vectors } = this.code;
    for (let row = 0; row < this.rows; row++) {
      for (let v = 0; v < vectors; v++) {
        finish(row * vectors + v, v);
        const to = { base: r13, offset: laneBytes * v };
        a.vector('store', row * vectors + v, 0, to, { mask: columnMask(v) });
      }
      if (row === this.rows - 1) break;
      a.cmpImmediate(rcx, row + 1);
      a.jumpIf('notGreater', done);
      a.add(r13, rdx);
      a.add(rax, r10);
    }
  }

  /** After the last chunk: copies the panel's rows below its diagonal block to the columns right of that. */
  protected mirror(): void {
    const a = this.a;
    const { vectors } = this.code;
    const done = a.label();
    a.mov(rax, this.local('step'));
    a.add(rax, this.local('steps'));
    a.cmp(rax, this.local('endStep'));
    a.jumpIf('less', done);
    a.mov(r8, this.parameter('ldc'));
    for (let v = 0; v < vectors; v++) {
      // r13 = columns of this vector that exist; r15 = first of 16 rows.
      const next = a.label();
      a.mov(r13, this.local('endColumn'));
      a.sub(r13, this.local('column'));
      a.addImmediate(r13, -16 * v);
      a.jumpIf('notGreater', next);
      this.mask(packMask, r13, 16);
      a.movImmediate(rcx, 16);
      a.cmp(r13, rcx);
      a.movIf('greater', r13, rcx);
      a.mov(r15, this.local('column'));
      a.addImmediate(r15, 16 * vectors);
      a.mov(rax, this.local('firstRow'));
      a.cmp(r15, rax);
      a.movIf('less', r15, rax);
      const block = a.here();
      a.mov(rsi, this.local('endRow'));
      a.sub(rsi, r15);
      a.jumpIf('notGreater', next);
      this.mask(rowMask, rsi, 16);
      a.mov(r9, r15);
      a.imul(r9, r8);
      a.mov(rax, this.local('column'));
      a.lea(r9, { base: r9, index: rax, scale: 4, offset: laneBytes * v });
      a.add(r9, this.local('c'));
      loadRows(a, packMask);
      // The panel of B has been used: its place holds the transposed block.
      a.lea(rbx, { base: rsp, offset: this.packedB });
      transposeBlock(a, rbx, this.panelBytes);
      a.mov(r9, this.local('column'));
      a.addImmediate(r9, 16 * v);
      a.imul(r9, r8);
      a.lea(r9, { base: r9, index: r15, scale: 4 });
      a.add(r9, this.local('c'));
      a.mov(r14, r13);
      const store = a.here();
      a.vector('load', 0, 0, { base: rbx });
      a.vector('store', 0, 0, { base: r9 }, { mask: rowMask });
      a.addImmediate(rbx, this.panelBytes);
      a.add(r9, r8);
      a.addImmediate(r14, -1);
      a.jumpIf('notEqual', store);
      a.addImmediate(r15, 16);
      a.jump(block);
      a.bind(next);
    }
    a.bind(done);
  }
}
