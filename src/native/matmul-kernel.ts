import { gp } from './instructions.js';
import { columnMask, type local, type MatmulCode, type Parameter } from './matmul-layout.js';
import { TileStore } from './matmul-store.js';
import { emitTile } from './matmul-tile.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r12, r13, r14, r15 } = gp;
const saved = [rbx, rbp, r12, r13, r14, r15];

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

class MatmulCompiler extends TileStore {
  readonly #tileInPlace = this.a.label();
  readonly #tilePacked = this.a.label();

  compile(): Uint8Array {
    const a = this.a;
    for (const register of saved) a.push(register);
    a.mov(rbx, rsp);
    a.addImmediate(rsp, -this.stack);
    a.andImmediate(rsp, -64);
    a.store(this.local('caller'), rbx);
    this.#locate();
    const chunk = a.here();
    this.#chunkSteps();
    if (this.code.transA) this.packRowsOfA();
    else this.packTailOfA();
    this.#panels();
    a.mov(rax, this.local('step'));
    a.add(rax, this.local('steps'));
    a.store(this.local('step'), rax);
    a.cmp(rax, this.local('endStep'));
    a.jumpIf('less', chunk);
    a.mov(rsp, this.local('caller'));
    a.zeroUpper();
    for (const register of [...saved].reverse()) a.pop(register);
    a.ret();
    const tile = { rows: this.rows, vectors: this.code.vectors, right: 'panel' } as const;
    if (!this.code.transA) emitTile(a, this.#tileInPlace, { ...tile, left: 'rows' });
    emitTile(a, this.#tilePacked, { ...tile, left: 'packed' });
    return a.finish();
  }

  /** Finds the block of the result that belongs to the task, and the operands of its batch. */
  #locate(): void {
    const a = this.a;
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
      a.divide(this.parameter(count));
      a.imul(rdx, this.parameter(length));
      a.store(this.local(first), rdx);
      a.add(rdx, this.parameter(length));
      a.mov(rcx, this.parameter(size));
      a.cmp(rdx, rcx);
      a.movIf('greater', rdx, rcx);
      a.store(this.local(end), rdx);
    };
    block('columnBlocks', 'columnBlock', 'n', 'firstColumn', 'endColumn');
    block('rowBlocks', 'rowBlock', 'm', 'firstRow', 'endRow');
    // rax is the number in the batch; frame[1] and on are the inputs, then the result.
    const { addend } = this.code;
    const operands: [keyof typeof local, Parameter, number][] = [
      ['a', 'batchA', 1],
      ['b', 'batchB', 2],
      ['c', 'batchC', addend ? 4 : 3],
    ];
    if (addend) operands.push(['addend', 'batchAddend', 3]);
    for (const [name, stride, position] of operands) {
      a.mov(rcx, rax);
      a.imul(rcx, this.parameter(stride));
      a.add(rcx, { base: rdi, offset: 8 * position });
      a.store(this.local(name), rcx);
    }
    this.#limitSteps();
  }

  /** The steps of the inner dimension at which the block's rows of the left operand are not all zeros. */
  #limitSteps(): void {
    const a = this.a;
    const isLeft = this.code.triangle === 'left';
    a.zero(rax);
    a.mov(rcx, this.parameter('k'));
    if (isLeft && this.code.transA) {
      a.mov(rdx, this.local('firstRow'));
      a.sub(rdx, this.parameter('shift'));
      a.cmp(rdx, rax);
      a.movIf('greater', rax, rdx);
    } else if (isLeft) {
      a.mov(rdx, this.local('endRow'));
      a.add(rdx, this.parameter('shift'));
      a.cmp(rdx, rcx);
      a.movIf('less', rcx, rdx);
    }
    for (const name of ['step', 'firstStep'] as const) a.store(this.local(name), rax);
    a.store(this.local('endStep'), rcx);
  }

  #chunkSteps(): void {
    const a = this.a;
    a.mov(rax, this.local('endStep'));
    a.sub(rax, this.local('step'));
    a.mov(rcx, this.parameter('chunk'));
    a.cmp(rax, rcx);
    a.movIf('greater', rax, rcx);
    a.store(this.local('steps'), rax);
  }

  /** For every panel of columns: pack B, then all rows. */
  #panels(): void {
    const a = this.a;
    const { vectors } = this.code;
    a.mov(rax, this.local('firstColumn'));
    a.store(this.local('column'), rax);
    const panel = a.here();
    a.mov(rax, this.local('endColumn'));
    a.sub(rax, this.local('column'));
    for (let v = 0; v < vectors; v++) {
      this.mask(columnMask(v), rax, 16);
      a.addImmediate(rax, -16);
      const positive = a.label();
      a.jumpIf('notLess', positive);
      a.zero(rax);
      a.bind(positive);
    }
    if (this.code.transB) this.packTransposedB();
    else this.packB();
    a.mov(rax, this.local('firstRow'));
    a.store(this.local('row'), rax);
    const row = a.here();
    this.#callTile();
    this.storeTile();
    a.mov(rax, this.local('row'));
    a.addImmediate(rax, this.rows);
    a.store(this.local('row'), rax);
    a.cmp(rax, this.local('endRow'));
    a.jumpIf('less', row);
    a.mov(rax, this.local('column'));
    a.addImmediate(rax, 16 * vectors);
    a.store(this.local('column'), rax);
    a.cmp(rax, this.local('endColumn'));
    a.jumpIf('less', panel);
  }

  /** Puts the operands of the tile into place and computes it. */
  #callTile(): void {
    const a = this.a;
    const done = a.label();
    const packed = a.label();
    a.lea(r12, { base: rsp, offset: this.packedB });
    a.mov(r14, this.local('steps'));
    if (this.code.triangle === 'result') {
      // Above the diagonal of all rows of the block: no steps, so the sums are 0.
      a.mov(rax, this.local('endRow'));
      a.add(rax, this.parameter('shift'));
      a.zero(rcx);
      a.cmp(rax, this.local('column'));
      a.movIf('notGreater', r14, rcx);
    }
    if (!this.code.transA) {
      a.mov(rax, this.local('endRow'));
      a.sub(rax, this.local('row'));
      a.cmpImmediate(rax, this.rows);
      a.jumpIf('less', packed);
      a.mov(r8, this.parameter('lda'));
      a.mov(r9, this.local('row'));
      a.imul(r9, r8);
      a.mov(rax, this.local('step'));
      a.lea(r9, { base: r9, index: rax, scale: 4 });
      a.add(r9, this.local('a'));
      a.callLabel(this.#tileInPlace);
      a.jump(done);
      a.bind(packed);
      a.lea(r9, { base: rsp, offset: this.packedA });
    } else {
      // Two tiles lie side by side in a strip.
      a.mov(rax, this.local('row'));
      a.sub(rax, this.local('firstRow'));
      a.zero(rdx);
      a.movImmediate(rcx, 2 * this.rows);
      a.divide(rcx);
      a.movImmediate(rcx, this.stripBytes);
      a.imul(rax, rcx);
      a.lea(r9, { base: rsp, index: rax, offset: this.packedA });
      a.lea(r9, { base: r9, index: rdx, scale: 4 });
    }
    a.callLabel(this.#tilePacked);
    a.bind(done);
  }
}
