import { Assembler, type Label, type Memory } from './assembler.js';
import {
  type BlockProductCode,
  blockParameter,
  blockTile,
  local,
  localBytes,
  partParameter,
  wordsOfPart,
} from './block-layout.js';
import { ConstantPool } from './constant-pool.js';
import { storeGated } from './gated-store.js';
import { gp } from './instructions.js';
import { emitTile, laneBytes } from './matmul-tile.js';
import { findPair, findPart } from './panel-parts.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = gp;
const saved = [rbx, rbp, r12, r13, r14, r15];

const { rows: tileRows, vectors, bytes: panelBytes } = blockTile;

/**
 * Machine code (AVX-512) of `task(frame, index)` for products of a block of rows with up to three matrices of the same height, a panel of
 * their columns a task. Rows are few, so packing a panel would not pay: tiles read it where it is. The first brings it
 * to the second-level cache; asking for the next panel meanwhile was measured to be no faster.
 *
 * frame: parameters, A, the right operands, the addend if there is one, the result; with `asks`, the caches of keys and
 * values and the lengths of the rows that attend next. There are no masks: columns come in whole panels.
 */
export function compileBlockProduct(code: BlockProductCode): Uint8Array {
  return new BlockProductCompiler(code).compile();
}

class BlockProductCompiler {
  readonly #a = new Assembler('avx512');
  readonly #pool = new ConstantPool(this.#a);
  readonly #code: BlockProductCode;
  /** Bytes of a panel's columns in a row of the result. */
  readonly #resultBytes: number;

  constructor(code: BlockProductCode) {
    this.#code = code;
    this.#resultBytes = panelBytes / (code.gated ? 2 : 1);
  }

  compile(): Uint8Array {
    const a = this.#a;
    const [tile, tailTile, tail, done] = [a.label(), a.label(), a.label(), a.label()];
    for (const register of saved) a.push(register);
    a.mov(rbx, rsp);
    a.addImmediate(rsp, -(localBytes + tileRows * panelBytes));
    a.andImmediate(rsp, -64);
    a.store(this.#local('caller'), rbx);
    a.mov(rbp, { base: rdi });
    if (this.#code.asks) this.#findRuns();
    this.#locate();
    if (this.#code.gated) findPair(a, this.#part, this.#resultBytes);
    else findPart(a, this.#code.parts, this.#part, this.#resultBytes);
    this.#keepPlace();
    // Whole tiles: two of them where a task is a group, and then the tail if this is the last.
    const { tail: tailRows, gated, asks } = this.#code;
    for (let i = 0; i < (asks ? 2 : 1); i++) {
      const next = a.here();
      a.mov(rax, this.#local('left'));
      a.addImmediate(rax, -1);
      a.store(this.#local('left'), rax);
      a.jumpIf('less', tail);
      this.#tile(tile, tileRows);
      if (!asks) a.jump(next);
    }
    if (asks) a.jump(done);
    a.bind(tail);
    if (tailRows > 0) this.#tile(tailTile, tailRows);
    a.bind(done);
    a.mov(rsp, this.#local('caller'));
    a.zeroUpper();
    for (const register of [...saved].reverse()) a.pop(register);
    a.ret();
    const right = gated ? 'pair' : 'rows';
    const shape = { vectors, left: 'rows', right, asks } as const;
    emitTile(a, tile, { ...shape, rows: tileRows });
    if (tailRows > 0) emitTile(a, tailTile, { ...shape, rows: tailRows });
    this.#pool.emit();
    return a.finish();
  }

  #local = (name: keyof typeof local): Memory => ({ base: rsp, offset: 8 * local[name] });
  /** rbp points at the parameters throughout. */
  #parameter = (name: keyof typeof blockParameter): Memory => ({
    base: rbp,
    offset: 8 * blockParameter[name],
  });
  #part = (part: number, name: keyof typeof partParameter): Memory => ({
    base: rbp,
    offset: 8 * (blockParameter.parts + wordsOfPart * part + partParameter[name]),
  });
  /** Word `place` behind the right operands in the frame, at rdi. */
  #operand = (place: number): Memory => ({ base: rdi, offset: 8 * (2 + this.#code.parts + place) });

  /** Which keys and values the panel, rsi, asks for. */
  #findRuns(): void {
    const a = this.#a;
    const first = this.#code.addend ? 2 : 1;
    (['keys', 'values', 'lengths'] as const).forEach((name, i) => {
      a.mov(rax, this.#operand(first + i));
      a.store(this.#local(name), rax);
    });
    a.mov(rax, this.#parameter('runsOfTask'));
    a.mov(rcx, rax);
    a.imul(rax, rsi);
    a.add(rax, this.#parameter('firstRun'));
    a.store(this.#local('run'), rax);
    a.add(rcx, rax);
    a.mov(rax, this.#parameter('runs'));
    a.cmp(rcx, rax);
    a.movIf('greater', rcx, rax);
    a.store(this.#local('endRun'), rcx);
  }

  /** The task's panel, rdx, and its rows in the left operand, in the result and in what is added. */
  #locate(): void {
    const a = this.#a;
    const { addend, asks } = this.#code;
    a.mov(rax, rsi);
    a.zero(rdx);
    a.divide(this.#parameter('groups'));
    // rdx = the group; its first tile and how many there are.
    a.mov(r8, this.#parameter('tiles'));
    if (asks) {
      a.shiftLeft(rdx, 1);
      a.sub(r8, rdx);
    }
    a.store(this.#local('left'), r8);
    a.movImmediate(rcx, tileRows);
    a.imul(rdx, rcx);
    const place = (
      name: 'x' | 'c' | 'addend',
      stride: 'lda' | 'ldc' | 'ldAddend',
      base: Memory,
      bytes: number,
    ) => {
      a.mov(rcx, rdx);
      a.imul(rcx, this.#parameter(stride));
      a.movImmediate(r9, bytes);
      a.imul(r9, rax);
      a.add(rcx, r9);
      a.add(rcx, base);
      a.store(this.#local(name), rcx);
    };
    place('x', 'lda', { base: rdi, offset: 8 }, 0);
    if (addend) place('addend', 'ldAddend', this.#operand(0), this.#resultBytes);
    place('c', 'ldc', this.#operand(addend ? 1 : 0), this.#resultBytes);
    a.mov(rdx, rax);
  }

  #keepPlace(): void {
    const a = this.#a;
    a.store(this.#local('stride'), r8);
    a.store(this.#local('b'), r9);
    if (this.#code.gated) a.store(this.#local('bOther'), r10);
  }

  /** Computes and stores a tile of so many rows, and goes on to those below. */
  #tile(tile: Label, rows: number): void {
    const a = this.#a;
    const { gated, addend, asks } = this.#code;
    if (asks) this.#nextRun();
    a.mov(r8, this.#parameter('lda'));
    a.mov(r9, this.#local('x'));
    a.mov(r12, this.#local('b'));
    a.mov(rdi, this.#local('stride'));
    if (gated) a.mov(rsi, this.#local('bOther'));
    a.mov(r14, this.#parameter('k'));
    a.callLabel(tile);
    a.mov(r15, this.#local('c'));
    if (gated) {
      storeGated(a, this.#pool, { rows, vectors, sums: localBytes, ldc: this.#parameter('ldc') });
    } else this.#store(rows);
    for (const [place, stride] of [
      ['x', 'lda'],
      ['c', 'ldc'],
      ...(addend ? ([['addend', 'ldAddend']] as const) : []),
    ] as const) {
      a.movImmediate(rax, rows);
      a.imul(rax, this.#parameter(stride));
      a.add(rax, this.#local(place));
      a.store(this.#local(place), rax);
    }
  }

  /** rax = where the next run begins; rdx and rcx = rounds in which twice, and once, 256 bytes of it are asked for. */
  #nextRun(): void {
    const a = this.#a;
    const none = a.label();
    a.zero(rcx);
    a.zero(rdx);
    a.mov(rax, this.#local('run'));
    a.cmp(rax, this.#local('endRun'));
    a.jumpIf('notLess', none);
    a.lea(r11, { base: rax, offset: 1 });
    a.store(this.#local('run'), r11);
    a.mov(r8, rax);
    a.shiftRight(r8, 1);
    a.mov(r10, this.#local('keys'));
    a.mov(r11, this.#local('values'));
    a.andImmediate(rax, 1);
    a.movIf('notEqual', r10, r11);
    a.mov(rax, r8);
    a.imul(r8, this.#parameter('pairBytes'));
    a.add(r10, r8);
    a.zero(rdx);
    a.divide(this.#parameter('kvHeads'));
    a.mov(rdx, this.#local('lengths'));
    a.mov32(rax, { base: rdx, index: rax, scale: 4 });
    a.imul(rax, this.#parameter('head'));
    a.shiftRight(rax, Math.log2(4 * laneBytes));
    a.mov(r8, this.#parameter('rounds'));
    a.lea(rcx, { base: r8, index: r8 });
    a.cmp(rax, rcx);
    // As unsigned numbers: nothing depends on a negative length but what is asked for.
    a.movIf('above', rax, rcx);
    a.zero(rcx);
    a.mov(rdx, rax);
    a.sub(rdx, r8);
    a.movIf('less', rdx, rcx);
    a.mov(rcx, rax);
    a.sub(rcx, rdx);
    a.sub(rcx, rdx);
    a.mov(rax, r10);
    a.bind(none);
  }

  /** Writes the tile's sums to r15, plus what is added. */
  #store(rows: number): void {
    const a = this.#a;
    const { addend } = this.#code;
    a.mov(rdx, this.#parameter('ldc'));
    if (addend) {
      a.mov(r13, this.#local('addend'));
      a.mov(rcx, this.#parameter('ldAddend'));
    }
    for (let row = 0; row < rows; row++) {
      for (let v = 0; v < vectors; v++) {
        const sum = row * vectors + v;
        if (addend) a.vector('add', sum, sum, { base: r13, offset: laneBytes * v });
        a.vector('store', sum, 0, { base: r15, offset: laneBytes * v });
      }
      if (row === rows - 1) break;
      a.add(r15, rdx);
      if (addend) a.add(r13, rcx);
    }
  }
}
