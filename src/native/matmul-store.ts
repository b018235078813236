import type { Label } from './assembler.js';
import { gp } from './instructions.js';
import { columnMask } from './matmul-layout.js';
import { PanelPacker } from './matmul-pack.js';
import { laneBytes } from './matmul-tile.js';

const { rax, rcx, rdx, rsi, r10, r11, r13 } = gp;

/** The part of a product that writes its results: tiles as they come. */
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
}
