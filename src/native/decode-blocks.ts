import { Assembler, type Memory } from './assembler.js';
import { ColumnBody } from './column-body.js';
import { ConstantPool } from './constant-pool.js';
import { Formula, type Value } from './formula.js';
import { gp, type InstructionSet } from './instructions.js';
import { acrossLanes } from './lanes.js';

const { rax, rcx, rdx, rbx, rsp, rbp, r8, r9, r12, r13, r14, r15 } = gp;

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

/** Variables on the stack, in 8-byte words; vectors lie above them. */
const local = { caller: 0, frame: 1, pair: 2, endPair: 3, left: 4, result: 5, ahead: 6, block: 7 } as const;
const localBytes = 64;
/** Bytes of a number that is kept in all lanes of a vector. */
const slotBytes = 64;
const cacheLine = 64;

/** Most keys whose scores are computed before their values are read: both lie in the first-level cache until then. */
const blockOf = (size: number): number =>
  2 ** Math.floor(Math.log2(Math.min(256, Math.max(16, 4096 / size))));

/** Floats of all queries of a key head: what fits the stack easily. */
export const largestGroup = 8192;

/**
 * The part of a step of decoding that reads the caches: softmax and sum of values a block of keys at a time, for all
 * queries of a key head. `compileDecode` says what comes before and after it.
 */
export class BlockCompiler {
  protected readonly a: Assembler;
  protected readonly pool: ConstantPool;
  protected readonly code: DecodeCode;
  /** Bytes of a head, and of all heads of a group. */
  protected readonly head: number;
  protected readonly all: number;
  protected readonly block: number;
  /** Places of vectors on the stack. */
  protected readonly at: Record<'queries' | 'sums' | 'largest' | 'totals' | 'factor' | 'scores', number>;
  protected readonly stack: number;
  /** Registers of the largest score, in all lanes, and of the sum of a block. */
  protected readonly max: number;
  protected readonly total: number;

  constructor(code: DecodeCode, set: InstructionSet) {
    this.a = new Assembler(set);
    this.pool = new ConstantPool(this.a);
    this.code = code;
    this.head = 4 * code.size;
    this.all = code.group * this.head;
    this.block = blockOf(code.size);
    const sums = localBytes + this.all;
    const largest = sums + this.all;
    const totals = largest + code.group * slotBytes;
    const factor = totals + code.group * slotBytes;
    const scores = factor + slotBytes;
    this.at = { queries: localBytes, sums, largest, totals, factor, scores };
    // Scores are padded to a whole vector.
    this.stack = scores + 4 * this.block + slotBytes;
    this.max = this.a.registers - 2;
    this.total = this.a.registers - 3;
  }

  protected local = (name: keyof typeof local): Memory => ({ base: rsp, offset: 8 * local[name] });
  /** rbp points at the parameters throughout. */
  protected parameter = (name: keyof typeof decodeParameter): Memory => ({
    base: rbp,
    offset: 8 * decodeParameter[name],
  });
  /** A vector on the stack, of the query head that r15 (or rbx, in slots) stands for. */
  protected vector = (name: 'queries' | 'sums', offset: number): Memory => ({
    base: rsp,
    index: r15,
    offset: this.at[name] + offset,
  });
  protected slot = (name: 'largest' | 'totals'): Memory => ({ base: rsp, index: rbx, offset: this.at[name] });

  /** Nothing has been seen yet. */
  protected clear(): void {
    const a = this.a;
    a.vector('xor', 0, 0, 0);
    this.pool.load(1, Number.NEGATIVE_INFINITY);
    this.overQueries(() => {
      for (let offset = 0; offset < this.head; offset += a.width) {
        a.vector('store', 0, 0, this.vector('sums', offset));
      }
      a.vector('store', 0, 0, this.slot('totals'));
      a.vector('store', 1, 0, this.slot('largest'));
    });
  }

  /** `body` for every query head of the group: r15 is its place among heads, rbx among slots. */
  protected overQueries(body: () => void): void {
    const a = this.a;
    a.zero(r15);
    a.zero(rbx);
    const query = a.here();
    body();
    a.addImmediate(rbx, slotBytes);
    a.addImmediate(r15, this.head);
    a.cmpImmediate(r15, this.all);
    a.jumpIf('less', query);
  }

  /** Blocks of almost one length: a short last one would not last for the next keys to come. */
  protected divide(): void {
    const a = this.a;
    const tokens = this.local('left');
    a.mov(rax, tokens);
    a.addImmediate(rax, this.block - 1);
    a.shiftRight(rax, Math.log2(this.block));
    a.mov(rcx, rax);
    a.add(rax, tokens);
    a.addImmediate(rax, -1);
    a.zero(rdx);
    a.divide(rcx);
    a.store(this.local('block'), rax);
  }

  /** All tokens of the row, in blocks of r14; r12 and r13 walk over keys and values. */
  protected blocks(): void {
    const a = this.a;
    const block = a.here();
    a.mov(rax, this.local('left'));
    a.mov(r14, this.local('block'));
    a.cmp(rax, r14);
    a.movIf('less', r14, rax);
    this.overQueries(() => {
      this.scores();
      this.softmax();
      this.mix();
    });
    a.movImmediate(rcx, this.head);
    a.imul(rcx, r14);
    a.add(r12, rcx);
    a.add(r13, rcx);
    a.mov(rax, this.local('left'));
    a.sub(rax, r14);
    a.store(this.local('left'), rax);
    a.jumpIf('greater', block);
  }

  /** `body` for each of the r14 tokens: rcx counts, `pointers` go from vector to vector. */
  protected overTokens(pointers: readonly number[], body: () => void): void {
    const a = this.a;
    a.zero(rcx);
    a.align(16);
    const token = a.here();
    body();
    for (const register of pointers) a.addImmediate(register, this.head);
    a.addImmediate(rcx, 1);
    a.cmp(rcx, r14);
    a.jumpIf('less', token);
  }

  /**
   * Products of the query with the keys; the values are asked for meanwhile, as lines that are used once: with many rows the
   * last cache will have forgotten them by the next step anyway, while the weights can stay there.
   */
  protected scores(): void {
    const a = this.a;
    const vectors = this.head / a.width;
    const chains = Math.min(4, vectors);
    a.mov(r8, r12);
    a.mov(r9, r13);
    this.overTokens([r8, r9], () => {
      for (let v = 0; v < vectors; v++) {
        const offset = v * a.width;
        a.vector('load', chains + (v % chains), 0, { base: r8, offset });
        const [sum, key, query] = [v % chains, chains + (v % chains), this.vector('queries', offset)];
        if (v < chains) a.vector('mul', sum, key, query);
        else a.vector('fma231', sum, key, query);
      }
      for (let offset = 0; offset < this.head; offset += cacheLine) a.prefetch({ base: r9, offset }, true);
      for (let n = chains; n > 1; n = Math.ceil(n / 2)) {
        for (let i = 0; i + Math.ceil(n / 2) < n; i++) a.vector('add', i, i, i + Math.ceil(n / 2));
      }
      acrossLanes(a, 'add', 0, 1);
      a.vector('storeScalar', 0, 0, this.score(rcx), { bits: 128 });
    });
    this.pool.load(0, Number.NEGATIVE_INFINITY);
    a.vector('store', 0, 0, this.score(r14));
  }

  protected score = (index: number): Memory => ({ base: rsp, index, scale: 4, offset: this.at.scores });

  /** Scores become weights relative to the largest so far; `factor` brings what was summed before to the same scale. */
  protected softmax(): void {
    const a = this.a;
    this.pool.load(1, Number.NEGATIVE_INFINITY);
    this.overVectors(() => a.vector('max', 1, 1, this.score(rcx)));
    acrossLanes(a, 'max', 1, 0);
    a.vector('max', this.max, 1, this.slot('largest'));
    const f = new Formula();
    const largest = f.scalar(3);
    const weight = (tensor: number) => f.exp(f.sub(f.matrix(tensor), largest));
    const places = [this.score(rcx), this.slot('largest'), { base: rsp, offset: this.at.factor }];
    const body = () => this.body(largest, (tensor) => places[tensor]!);
    const once = body();
    once.write(false, 2, weight(1));
    once.emit();
    a.vector('store', this.max, 0, this.slot('largest'));
    a.vector('xor', this.total, this.total, this.total);
    this.overVectors(() => {
      const each = body();
      each.accumulate('add', this.total, weight(0));
      each.write(false, 0, weight(0));
      each.emit();
    });
    acrossLanes(a, 'add', this.total, 0);
    a.vector('load', 0, 0, this.slot('totals'));
    a.vector('load', 1, 0, places[2]!);
    a.vector('fma213', 0, 1, this.total);
    a.vector('store', 0, 0, this.slot('totals'));
  }

  protected body(largest: Value, matrix: (tensor: number) => Memory): ColumnBody {
    const pinned = new Map([[largest, this.max]]);
    return new ColumnBody(this.a, this.pool, {
      pinned,
      free: this.total,
      isTail: false,
      matrix,
      row: matrix,
    });
  }

  /** `body` for each vector of scores. */
  protected overVectors(body: () => void): void {
    const a = this.a;
    a.zero(rcx);
    const next = a.here();
    body();
    a.addImmediate(rcx, a.width / 4);
    a.cmp(rcx, r14);
    a.jumpIf('less', next);
  }

  /** sums = sums·factor + weights·values; the next keys are asked for meanwhile. */
  protected mix(): void {
    const a = this.a;
    const most = a.set === 'avx512' ? 16 : 8;
    const [factor, weight] = [this.max, this.total];
    for (let start = 0; start < this.head; start += most * a.width) {
      const count = Math.min(most, (this.head - start) / a.width);
      const each = (body: (register: number, offset: number) => void) => {
        for (let i = 0; i < count; i++) body(i, start + i * a.width);
      };
      a.vector('load', factor, 0, { base: rsp, offset: this.at.factor });
      each((i, offset) => a.vector('mul', i, factor, this.vector('sums', offset)));
      a.mov(r8, r13);
      this.keysAhead();
      this.overTokens([r8, r9], () => {
        a.vector('broadcast', weight, 0, this.score(rcx));
        each((i, offset) => a.vector('fma231', i, weight, { base: r8, offset }));
        for (let i = 0; i < count * a.width; i += cacheLine)
          a.prefetch({ base: r9, offset: start + i }, true);
      });
      each((i, offset) => a.vector('store', i, 0, this.vector('sums', offset)));
    }
  }

  /** r9 = the keys that are read next: those of the row's next block, or the first of the next pair. */
  protected keysAhead(): void {
    const a = this.a;
    a.movImmediate(r9, this.head);
    a.imul(r9, r14);
    a.add(r9, r12);
    a.mov(rax, this.local('ahead'));
    a.cmp(r14, this.local('left'));
    a.movIf('notLess', r9, rax);
  }
}
