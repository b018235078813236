import { Assembler, type Memory } from './assembler.js';
import { ColumnBody } from './column-body.js';
import { ConstantPool } from './constant-pool.js';
import { Formula, type Value } from './formula.js';
import { gp, type InstructionSet } from './instructions.js';
import { acrossLanes } from './lanes.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = gp;
const saved = [rbx, rbp, r12, r13, r14, r15];

/** What is compiled into a step of decoding; all else is a parameter. */
export interface DecodeCode {
  /** Size of a head, a multiple of 16. */
  size: number;
  /** Query heads of each key head. */
  group: number;
}

/** Parameters, in 8-byte words. Strides and offsets are in bytes. A pair is a row and one of its key heads. */
export const decodeParameter = {
  pairs: 0,
  pairsPerTask: 1,
  kvHeads: 2,
  /** Positions of a row: a length is clamped to what leaves room for the new token. */
  last: 3,
  /** Of a row of projections; from its start to the keys; from a key to its value. */
  projections: 4,
  keyOffset: 5,
  valueOffset: 6,
  result: 7,
  table: 8,
  /** Keys of one pair. */
  pair: 9,
  scale: 10,
} as const;

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

/** Variables on the stack, in 8-byte words; vectors lie above them. */
const local = { caller: 0, frame: 1, pair: 2, endPair: 3, left: 4, result: 5, ahead: 6, block: 7 } as const;
const localBytes = 64;
/** Bytes of a number that is kept in all lanes of a vector. */
const slotBytes = 64;
const cacheLine = 64;

/** Most keys whose scores are computed before their values are read: both lie in the first-level cache until then. */
const blockOf = (size: number): number => 2 ** Math.floor(Math.log2(Math.min(256, Math.max(16, 4096 / size))));

/** Floats of all queries of a key head: what fits the stack easily. */
export const largestGroup = 8192;

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

class DecodeCompiler {
  readonly #a: Assembler;
  readonly #pool: ConstantPool;
  readonly #code: DecodeCode;
  /** Bytes of a head, and of all heads of a group. */
  readonly #head: number;
  readonly #all: number;
  readonly #block: number;
  /** Places of vectors on the stack. */
  readonly #at: Record<'queries' | 'sums' | 'largest' | 'totals' | 'factor' | 'scores', number>;
  readonly #stack: number;
  /** Registers of the largest score, in all lanes, and of the sum of a block. */
  readonly #max: number;
  readonly #total: number;

  constructor(code: DecodeCode, set: InstructionSet) {
    this.#a = new Assembler(set);
    this.#pool = new ConstantPool(this.#a);
    this.#code = code;
    this.#head = 4 * code.size;
    this.#all = code.group * this.#head;
    this.#block = blockOf(code.size);
    const sums = localBytes + this.#all;
    const largest = sums + this.#all;
    const totals = largest + code.group * slotBytes;
    const factor = totals + code.group * slotBytes;
    const scores = factor + slotBytes;
    this.#at = { queries: localBytes, sums, largest, totals, factor, scores };
    // Scores are padded to a whole vector.
    this.#stack = scores + 4 * this.#block + slotBytes;
    this.#max = this.#a.registers - 2;
    this.#total = this.#a.registers - 3;
  }

  compile(): Uint8Array {
    const a = this.#a;
    for (const register of saved) a.push(register);
    a.mov(rbx, rsp);
    a.addImmediate(rsp, -this.#stack);
    a.andImmediate(rsp, -64);
    a.store(this.#local('caller'), rbx);
    a.store(this.#local('frame'), rdi);
    a.mov(rbp, { base: rdi });
    a.imul(rsi, this.#parameter('pairsPerTask'));
    a.store(this.#local('pair'), rsi);
    a.add(rsi, this.#parameter('pairsPerTask'));
    a.mov(rax, this.#parameter('pairs'));
    a.cmp(rax, rsi);
    a.movIf('less', rsi, rax);
    a.store(this.#local('endPair'), rsi);
    const finished = a.label();
    const pair = a.here();
    a.mov(rax, this.#local('pair'));
    a.cmp(rax, this.#local('endPair'));
    a.jumpIf('notLess', finished);
    this.#caches();
    this.#locate();
    this.#newToken();
    this.#clear();
    this.#divide();
    this.#blocks();
    this.#results();
    a.mov(rax, this.#local('pair'));
    a.addImmediate(rax, 1);
    a.store(this.#local('pair'), rax);
    a.jump(pair);
    a.bind(finished);
    a.mov(rsp, this.#local('caller'));
    a.zeroUpper();
    for (const register of [...saved].reverse()) a.pop(register);
    a.ret();
    this.#pool.emit();
    return a.finish();
  }

  #local = (name: keyof typeof local): Memory => ({ base: rsp, offset: 8 * local[name] });
  /** rbp points at the parameters throughout. */
  #parameter = (name: keyof typeof decodeParameter): Memory => ({
    base: rbp,
    offset: 8 * decodeParameter[name],
  });
  #operand = (name: keyof typeof operand): Memory => ({ base: rdi, offset: 8 * operand[name] });
  /** A vector on the stack, of the query head that r15 (or rbx, in slots) stands for. */
  #vector = (name: 'queries' | 'sums', offset: number): Memory => ({
    base: rsp,
    index: r15,
    offset: this.#at[name] + offset,
  });
  #slot = (name: 'largest' | 'totals'): Memory => ({ base: rsp, index: rbx, offset: this.#at[name] });

  /** r12 and r13 = keys and values of the pair, copied first where they are to be in other memory than they were. */
  #caches(): void {
    const a = this.#a;
    for (const [at, from, to] of [
      [r12, 'keys', 'nextKeys'],
      [r13, 'values', 'nextValues'],
    ] as const) {
      const isSame = a.label();
      a.mov(rdi, this.#local('frame'));
      a.mov(at, this.#local('pair'));
      a.imul(at, this.#parameter('pair'));
      a.mov(rsi, at);
      a.add(rsi, this.#operand(from));
      a.add(at, this.#operand(to));
      a.cmp(rsi, at);
      a.jumpIf('equal', isSame);
      a.mov(rdi, at);
      a.mov(rcx, this.#parameter('pair'));
      a.shiftRight(rcx, 3);
      a.copyWords();
      a.bind(isSame);
    }
    a.mov(rax, r12);
    a.add(rax, this.#parameter('pair'));
    a.store(this.#local('ahead'), rax);
  }

  /** rcx = the row's length, r8 and r9 = its angles, r11 and r10 = the new queries and key. */
  #locate(): void {
    const a = this.#a;
    a.mov(rdi, this.#local('frame'));
    a.mov(rax, this.#local('pair'));
    a.zero(rdx);
    a.divide(this.#parameter('kvHeads'));
    a.mov(r8, this.#operand('lengths'));
    a.mov32(rcx, { base: r8, index: rax, scale: 4 });
    a.mov(r9, this.#parameter('last'));
    a.cmp(rcx, r9);
    // As unsigned numbers: a negative length is clamped, too.
    a.movIf('above', rcx, r9);
    a.lea(r8, { base: rcx, offset: 1 });
    a.store(this.#local('left'), r8);
    a.mov(r8, rcx);
    a.imul(r8, this.#parameter('table'));
    a.mov(r9, r8);
    a.add(r8, this.#operand('cos'));
    a.add(r9, this.#operand('sin'));
    a.mov(r10, rax);
    a.imul(r10, this.#parameter('projections'));
    a.add(r10, this.#operand('projections'));
    a.imul(rax, this.#parameter('result'));
    a.add(rax, this.#operand('result'));
    a.movImmediate(rsi, this.#all);
    a.imul(rsi, rdx);
    a.add(rax, rsi);
    a.store(this.#local('result'), rax);
    a.lea(r11, { base: r10, index: rsi });
    a.movImmediate(rsi, this.#head);
    a.imul(rdx, rsi);
    a.add(r10, rdx);
    a.add(r10, this.#parameter('keyOffset'));
  }

  /** Writes the rotated key and the value behind the others, and the rotated queries times the scale to the stack. */
  #newToken(): void {
    const a = this.#a;
    a.movImmediate(rdx, this.#head);
    a.imul(rdx, rcx);
    a.lea(rsi, { base: r13, index: rdx });
    a.add(rdx, r12);
    this.#rotate(r10, rdx, false);
    a.add(r10, this.#parameter('valueOffset'));
    for (let offset = 0; offset < this.#head; offset += a.width) {
      a.vector('load', 0, 0, { base: r10, offset });
      a.vector('store', 0, 0, { base: rsi, offset });
    }
    a.vector('broadcast', 7, 0, this.#parameter('scale'), { bits: 256 });
    a.lea(rax, { base: rsp, offset: this.#at.queries });
    a.movImmediate(rcx, this.#code.group);
    const query = a.here();
    this.#rotate(r11, rax, true);
    a.addImmediate(r11, this.#head);
    a.addImmediate(rax, this.#head);
    a.addImmediate(rcx, -1);
    a.jumpIf('notEqual', query);
  }

  /** (a·cos - b·sin, b·cos + a·sin) of the halves of a head. Halves are whole vectors of 256 bits only. */
  #rotate(from: number, to: number, scaled: boolean): void {
    const a = this.#a;
    const wide = { bits: 256 } as const;
    const half = this.#head / 2;
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

  /** Nothing has been seen yet. */
  #clear(): void {
    const a = this.#a;
    a.vector('xor', 0, 0, 0);
    this.#pool.load(1, Number.NEGATIVE_INFINITY);
    this.#overQueries(() => {
      for (let offset = 0; offset < this.#head; offset += a.width) {
        a.vector('store', 0, 0, this.#vector('sums', offset));
      }
      a.vector('store', 0, 0, this.#slot('totals'));
      a.vector('store', 1, 0, this.#slot('largest'));
    });
  }

  /** `body` for every query head of the group: r15 is its place among heads, rbx among slots. */
  #overQueries(body: () => void): void {
    const a = this.#a;
    a.zero(r15);
    a.zero(rbx);
    const query = a.here();
    body();
    a.addImmediate(rbx, slotBytes);
    a.addImmediate(r15, this.#head);
    a.cmpImmediate(r15, this.#all);
    a.jumpIf('less', query);
  }

  /** Blocks of almost one length: a short last one would not last for the next keys to come. */
  #divide(): void {
    const a = this.#a;
    const tokens = this.#local('left');
    a.mov(rax, tokens);
    a.addImmediate(rax, this.#block - 1);
    a.shiftRight(rax, Math.log2(this.#block));
    a.mov(rcx, rax);
    a.add(rax, tokens);
    a.addImmediate(rax, -1);
    a.zero(rdx);
    a.divide(rcx);
    a.store(this.#local('block'), rax);
  }

  /** All tokens of the row, in blocks of r14; r12 and r13 walk over keys and values. */
  #blocks(): void {
    const a = this.#a;
    const block = a.here();
    a.mov(rax, this.#local('left'));
    a.mov(r14, this.#local('block'));
    a.cmp(rax, r14);
    a.movIf('less', r14, rax);
    this.#overQueries(() => {
      this.#scores();
      this.#softmax();
      this.#mix();
    });
    a.movImmediate(rcx, this.#head);
    a.imul(rcx, r14);
    a.add(r12, rcx);
    a.add(r13, rcx);
    a.mov(rax, this.#local('left'));
    a.sub(rax, r14);
    a.store(this.#local('left'), rax);
    a.jumpIf('greater', block);
  }

  /** `body` for each of the r14 tokens: rcx counts, `pointers` go from vector to vector. */
  #overTokens(pointers: readonly number[], body: () => void): void {
    const a = this.#a;
    a.zero(rcx);
    a.align(16);
    const token = a.here();
    body();
    for (const register of pointers) a.addImmediate(register, this.#head);
    a.addImmediate(rcx, 1);
    a.cmp(rcx, r14);
    a.jumpIf('less', token);
  }

  /** Products of the query with the keys; the values are asked for meanwhile. */
  #scores(): void {
    const a = this.#a;
    const vectors = this.#head / a.width;
    const chains = Math.min(4, vectors);
    a.mov(r8, r12);
    a.mov(r9, r13);
    this.#overTokens([r8, r9], () => {
      for (let v = 0; v < vectors; v++) {
        const offset = v * a.width;
        a.vector('load', chains + (v % chains), 0, { base: r8, offset });
        const [sum, key, query] = [v % chains, chains + (v % chains), this.#vector('queries', offset)];
        if (v < chains) a.vector('mul', sum, key, query);
        else a.vector('fma231', sum, key, query);
      }
      for (let offset = 0; offset < this.#head; offset += cacheLine) a.prefetch({ base: r9, offset });
      for (let n = chains; n > 1; n = Math.ceil(n / 2)) {
        for (let i = 0; i + Math.ceil(n / 2) < n; i++) a.vector('add', i, i, i + Math.ceil(n / 2));
      }
      acrossLanes(a, 'add', 0, 1);
      a.vector('storeScalar', 0, 0, this.#score(rcx), { bits: 128 });
    });
    this.#pool.load(0, Number.NEGATIVE_INFINITY);
    a.vector('store', 0, 0, this.#score(r14));
  }

  #score = (index: number): Memory => ({ base: rsp, index, scale: 4, offset: this.#at.scores });

  /** Scores become weights relative to the largest so far; `factor` brings what was summed before to the same scale. */
  #softmax(): void {
    const a = this.#a;
    this.#pool.load(1, Number.NEGATIVE_INFINITY);
    this.#overVectors(() => a.vector('max', 1, 1, this.#score(rcx)));
    acrossLanes(a, 'max', 1, 0);
    a.vector('max', this.#max, 1, this.#slot('largest'));
    const f = new Formula();
    const largest = f.scalar(3);
    const weight = (tensor: number) => f.exp(f.sub(f.matrix(tensor), largest));
    const places = [this.#score(rcx), this.#slot('largest'), { base: rsp, offset: this.#at.factor }];
    const body = () => this.#body(largest, (tensor) => places[tensor]!);
    const once = body();
    once.write(false, 2, weight(1));
    once.emit();
    a.vector('store', this.#max, 0, this.#slot('largest'));
    a.vector('xor', this.#total, this.#total, this.#total);
    this.#overVectors(() => {
      const each = body();
      each.accumulate('add', this.#total, weight(0));
      each.write(false, 0, weight(0));
      each.emit();
    });
    acrossLanes(a, 'add', this.#total, 0);
    a.vector('load', 0, 0, this.#slot('totals'));
    a.vector('load', 1, 0, places[2]!);
    a.vector('fma213', 0, 1, this.#total);
    a.vector('store', 0, 0, this.#slot('totals'));
  }

  #body(largest: Value, matrix: (tensor: number) => Memory): ColumnBody {
    const pinned = new Map([[largest, this.#max]]);
    return new ColumnBody(this.#a, this.#pool, {
      pinned,
      free: this.#total,
      isTail: false,
      matrix,
      row: matrix,
    });
  }

  /** `body` for each vector of scores. */
  #overVectors(body: () => void): void {
    const a = this.#a;
    a.zero(rcx);
    const next = a.here();
    body();
    a.addImmediate(rcx, a.width / 4);
    a.cmp(rcx, r14);
    a.jumpIf('less', next);
  }

  /** sums = sums·factor + weights·values; the next keys are asked for meanwhile. */
  #mix(): void {
    const a = this.#a;
    const most = a.set === 'avx512' ? 16 : 8;
    const [factor, weight] = [this.#max, this.#total];
    for (let start = 0; start < this.#head; start += most * a.width) {
      const count = Math.min(most, (this.#head - start) / a.width);
      const each = (body: (register: number, offset: number) => void) => {
        for (let i = 0; i < count; i++) body(i, start + i * a.width);
      };
      a.vector('load', factor, 0, { base: rsp, offset: this.#at.factor });
      each((i, offset) => a.vector('mul', i, factor, this.#vector('sums', offset)));
      a.mov(r8, r13);
      this.#keysAhead();
      this.#overTokens([r8, r9], () => {
        a.vector('broadcast', weight, 0, this.#score(rcx));
        each((i, offset) => a.vector('fma231', i, weight, { base: r8, offset }));
        for (let i = 0; i < count * a.width; i += cacheLine) a.prefetch({ base: r9, offset: start + i });
      });
      each((i, offset) => a.vector('store', i, 0, this.#vector('sums', offset)));
    }
  }

  /** r9 = the keys that are read next: those of the row's next block, or the first of the next pair. */
  #keysAhead(): void {
    const a = this.#a;
    a.movImmediate(r9, this.#head);
    a.imul(r9, r14);
    a.add(r9, r12);
    a.mov(rax, this.#local('ahead'));
    a.cmp(r14, this.#local('left'));
    a.movIf('notLess', r9, rax);
  }

  #results(): void {
    const a = this.#a;
    a.mov(rdx, this.#local('result'));
    this.#pool.load(1, 1);
    this.#overQueries(() => {
      a.vector('div', 0, 1, this.#slot('totals'));
      for (let offset = 0; offset < this.#head; offset += a.width) {
        a.vector('mul', 2, 0, this.#vector('sums', offset));
        a.vector('store', 2, 0, { base: rdx, index: r15, offset });
      }
    });
  }
}
