import type { Memory } from './assembler.js';
import { BlockCompiler, type DecodeCode } from './decode-blocks.js';
import { gp, type InstructionSet } from './instructions.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = gp;
const saved = [rbx, rbp, r12, r13, r14, r15];

/** Words of the frame that a task gets. */
const operand = {
  projections: 1,
  keys: 2,
  values: 3,
  lengths: 4,
  cos: 5,
  sin: 6,
  result: 7,
  nextKeys: 8,
  nextValues: 9,
} as const;

/**
 * Machine code of `task(frame, index)` for `decodeAttention`: for some rows and key heads, rotates the new queries
 * and key, writes key and value into the cache, and attends to all tokens of the row in one pass over keys and values
 * (Milakov and Gimelshein 2018; a block of keys at a time, as in FlashAttention).
 *
 * A pair's result depends on its own operands only, so neither other rows nor threads change a bit of it.
 */
export function compileDecode(code: DecodeCode, set: InstructionSet): Uint8Array {
  return new DecodeCompiler(code, set).compile();
}

class DecodeCompiler extends BlockCompiler {
  compile(): Uint8Array {
    const a = this.a;
    for (const register of saved) a.push(register);
    a.mov(rbx, rsp);
    a.addImmediate(rsp, -this.stack);
    a.andImmediate(rsp, -64);
    a.store(this.local('caller'), rbx);
    a.store(this.local('frame'), rdi);
    a.mov(rbp, { base: rdi });
    a.imul(rsi, this.parameter('pairsPerTask'));
    a.store(this.local('pair'), rsi);
    a.add(rsi, this.parameter('pairsPerTask'));
    a.mov(rax, this.parameter('pairs'));
    a.cmp(rax, rsi);
    a.movIf('less', rsi, rax);
    a.store(this.local('endPair'), rsi);
    const finished = a.label();
    const pair = a.here();
    a.mov(rax, this.local('pair'));
    a.cmp(rax, this.local('endPair'));
    a.jumpIf('notLess', finished);
    this.#caches();
    this.#locate();
    this.#newToken();
    this.clear();
    this.divide();
    this.blocks();
    this.#results();
    a.mov(rax, this.local('pair'));
    a.addImmediate(rax, 1);
    a.store(this.local('pair'), rax);
    a.jump(pair);
    a.bind(finished);
    a.mov(rsp, this.local('caller'));
    a.zeroUpper();
    for (const register of [...saved].reverse()) a.pop(register);
    a.ret();
    this.pool.emit();
    return a.finish();
  }

  #operand = (name: keyof typeof operand): Memory => ({ base: rdi, offset: 8 * operand[name] });

  /** r12 and r13 = keys and values of the pair, copied first where they are to be in other memory than they were. */
  #caches(): void {
    const a = this.a;
    for (const [at, from, to] of [
      [r12, 'keys', 'nextKeys'],
      [r13, 'values', 'nextValues'],
    ] as const) {
      const isSame = a.label();
      a.mov(rdi, this.local('frame'));
      a.mov(at, this.local('pair'));
      a.imul(at, this.parameter('pair'));
      a.mov(rsi, at);
      a.add(rsi, this.#operand(from));
      a.add(at, this.#operand(to));
      a.cmp(rsi, at);
      a.jumpIf('equal', isSame);
      a.mov(rdi, at);
      a.mov(rcx, this.parameter('pair'));
      a.shiftRight(rcx, 3);
      a.copyWords();
      a.bind(isSame);
    }
    a.mov(rax, r12);
    a.add(rax, this.parameter('pair'));
    a.store(this.local('ahead'), rax);
  }

  /** rcx = the row's length, r8 and r9 = its angles, r11 and r10 = the new queries and key. */
  #locate(): void {
    const a = this.a;
    a.mov(rdi, this.local('frame'));
    a.mov(rax, this.local('pair'));
    a.zero(rdx);
    a.divide(this.parameter('kvHeads'));
    a.mov(r8, this.#operand('lengths'));
    a.mov32(rcx, { base: r8, index: rax, scale: 4 });
    a.mov(r9, this.parameter('last'));
    a.cmp(rcx, r9);
    // As unsigned numbers: a negative length is clamped, too.
    a.movIf('above', rcx, r9);
    a.lea(r8, { base: rcx, offset: 1 });
    a.store(this.local('left'), r8);
    a.mov(r8, rcx);
    a.imul(r8, this.parameter('table'));
    a.mov(r9, r8);
    a.add(r8, this.#operand('cos'));
    a.add(r9, this.#operand('sin'));
    a.mov(r10, rax);
    a.imul(r10, this.parameter('projections'));
    a.add(r10, this.#operand('projections'));
    a.imul(rax, this.parameter('result'));
    a.add(rax, this.#operand('result'));
    a.movImmediate(rsi, this.all);
    a.imul(rsi, rdx);
    a.add(rax, rsi);
    a.store(this.local('result'), rax);
    a.lea(r11, { base: r10, index: rsi });
    a.movImmediate(rsi, this.head);
    a.imul(rdx, rsi);
    a.add(r10, rdx);
    a.add(r10, this.parameter('keyOffset'));
  }

  /** Writes the rotated key and the value behind the others, and the rotated queries times the scale to the stack. */
  #newToken(): void {
    const a = this.a;
    a.movImmediate(rdx, this.head);
    a.imul(rdx, rcx);
    a.lea(rsi, { base: r13, index: rdx });
    a.add(rdx, r12);
    this.#rotate(r10, rdx, false);
    a.add(r10, this.parameter('valueOffset'));
    for (let offset = 0; offset < this.head; offset += a.width) {
      a.vector('load', 0, 0, { base: r10, offset });
      a.vector('store', 0, 0, { base: rsi, offset });
    }
    a.vector('broadcast', 7, 0, this.parameter('scale'), { bits: 256 });
    a.lea(rax, { base: rsp, offset: this.at.queries });
    a.movImmediate(rcx, this.code.group);
    const query = a.here();
    this.#rotate(r11, rax, true);
    a.addImmediate(r11, this.head);
    a.addImmediate(rax, this.head);
    a.addImmediate(rcx, -1);
    a.jumpIf('notEqual', query);
  }

  /** (a·cos - b·sin, b·cos + a·sin) of the halves of a head. Halves are whole vectors of 256 bits only. */
  #rotate(from: number, to: number, scaled: boolean): void {
    const a = this.a;
    const wide = { bits: 256 } as const;
    const half = this.head / 2;
    for (let offset = 0; offset < half; offset += 32) {
      a.vector('load', 0, 0, { base: from, offset }, wide);
      a.vector('load', 1, 0, { base: from, offset: offset + half }, wide);
      a.vector('load', 2, 0, { base: r8, offset }, wide);
      a.vector('load', 3, 0, { base: r9, offset }, wide);
      a.vector('mul', 4, 0, 2, wide);
      a.vector('fnma231', 4, 1, 3, wide);
      a.vector('mul', 5, 1, 2, wide);
      a.vector('fma231', 5, 0, 3, wide);
      if (scaled) for (const register of [4, 5]) a.vector('mul', register, register, 7, wide);
      a.vector('store', 4, 0, { base: to, offset }, wide);
      a.vector('store', 5, 0, { base: to, offset: offset + half }, wide);
    }
  }

  #results(): void {
    const a = this.a;
    a.mov(rdx, this.local('result'));
    this.pool.load(1, 1);
    this.overQueries(() => {
      a.vector('div', 0, 1, this.slot('totals'));
      for (let offset = 0; offset < this.head; offset += a.width) {
        a.vector('mul', 2, 0, this.vector('sums', offset));
        a.vector('store', 2, 0, { base: rdx, index: r15, offset });
      }
    });
  }
}
