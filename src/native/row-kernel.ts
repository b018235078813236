import { Assembler, type Memory } from './assembler.js';
import { ColumnBody, reachable, readsMemory, storeVector } from './column-body.js';
import { ConstantPool } from './constant-pool.js';
import type { Formula, Result, Value } from './formula.js';
import { avx2Mask, gp, type InstructionSet, tailMask } from './instructions.js';
import { acrossLanes } from './lanes.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = gp;
/** Registers that hold the addresses of tensors, and those among them that belong to the caller. */
const pointerRegisters = [r8, r9, rdi, rbx, rbp, r12, r13, r14, r15];
const callersRegisters = [rbx, rbp, r12, r13, r14, r15];

/** Indices of the parameters that every row kernel reads (see `rowParameters`). */
const parameter = { total: 0, rows: 1, columns: 2, period: 3, shift: 4 } as const;

/** Stack slots in bytes: columns in bytes, row inside its period, period, shift, end of the current task. */
const slot = { columns: 0, row: 8, period: 16, shift: 24, total: 32, index: 40 } as const;
const stackBytes = 56;

/** How a kernel goes over its rows. */
export interface RowOptions {
  /**
   * Row i of every `period` rows uses the columns up to i + shift only; the rest of a matrix result becomes 0.
   * What lies there in the inputs is not read.
   */
  causal?: boolean;
}

/** Parameters of a kernel for `total` elements in rows of `columns`, of which a task takes `rows`. */
export function rowParameters(
  total: number,
  rows: number,
  columns: number,
  period = 1,
  shift = 0,
): BigInt64Array<ArrayBuffer> {
  const values = new BigInt64Array(new ArrayBuffer(128));
  [total, rows, columns, period, shift].forEach((value, i) => {
    values[i] = BigInt(value);
  });
  return values;
}

/** Machine code of a formula: `void task(void **frame, size_t index)`, see OperatorSpec. */
export function compileRows(formula: Formula, set: InstructionSet, options: RowOptions = {}): Uint8Array {
  return new RowCompiler(formula, set, options.causal ?? false).compile();
}

class RowCompiler {
  readonly #a: Assembler;
  readonly #results: readonly Result[];
  readonly #isCausal: boolean;
  readonly #pointers = new Map<number, number>();
  /** Values that keep their register until the end of the row or the task. */
  readonly #pinned = new Map<Value, number>();
  /** The next register to pin, from the top. */
  #top: number;
  readonly #pool: ConstantPool;

  constructor(formula: Formula, set: InstructionSet, isCausal: boolean) {
    this.#a = new Assembler(set);
    this.#pool = new ConstantPool(this.#a);
    this.#results = formula.results;
    this.#isCausal = isCausal;
    this.#top = (set === 'avx2' ? avx2Mask : this.#a.registers) - 1;
  }

  compile(): Uint8Array {
    const a = this.#a;
    const values = reachable(this.#results.map((r) => r.value));
    const inMemory = values.filter((v) => readsMemory(v) && v.kind !== 'scalar');
    const tensors = [...new Set([...inMemory.map((v) => v.number), ...this.#results.map((r) => r.tensor)])];
    if (tensors.length > pointerRegisters.length) throw new Error('a kernel has too many tensors');
    tensors.forEach((tensor, i) => {
      this.#pointers.set(tensor, pointerRegisters[i]!);
    });
    const saved = callersRegisters.filter((r) => [...this.#pointers.values()].includes(r));
    for (const register of saved) a.push(register);
    a.addImmediate(rsp, -stackBytes);
    this.#prologue(values);
    const finished = a.label();
    const row = a.here();
    a.cmp(r10, r11);
    a.jumpIf('notLess', finished);
    this.#row(values);
    a.jump(row);
    a.bind(finished);
    a.addImmediate(rsp, stackBytes);
    a.zeroUpper();
    for (const register of saved.reverse()) a.pop(register);
    a.ret();
    this.#pool.emit();
    return a.finish();
  }

  /** Leaves r10 at the first byte of the task's first row, r11 behind its last, and all addresses in place. */
  #prologue(values: readonly Value[]): void {
    const a = this.#a;
    const field = (index: number): Memory => ({ base: rax, offset: 8 * index });
    a.mov(rax, { base: rdi });
    a.mov(rcx, field(parameter.columns));
    a.mov(r10, field(parameter.rows));
    a.imul(r10, rsi); // first row
    a.store({ base: rsp, offset: slot.index }, r10);
    a.mov(r11, field(parameter.rows));
    a.imul(r11, rcx);
    a.imul(r10, rcx); // first element
    a.add(r11, r10);
    a.mov(rdx, field(parameter.total));
    a.cmp(r11, rdx);
    a.movIf('greater', r11, rdx);
    a.shiftLeft(r10, 2);
    a.shiftLeft(r11, 2);
    a.shiftLeft(rcx, 2);
    a.store({ base: rsp, offset: slot.columns }, rcx);
    if (this.#isCausal) {
      a.mov(rcx, field(parameter.period));
      a.store({ base: rsp, offset: slot.period }, rcx);
      a.mov(rcx, field(parameter.shift));
      a.store({ base: rsp, offset: slot.shift }, rcx);
      a.mov(rax, { base: rsp, offset: slot.index });
      a.zero(rdx);
      a.divide({ base: rsp, offset: slot.period });
      a.store({ base: rsp, offset: slot.row }, rdx);
    }
    // rdi points at the frame, so the tensor that takes its place is loaded last.
    const order = [...this.#pointers].sort(([, p], [, q]) => Number(p === rdi) - Number(q === rdi));
    for (const value of values) {
      if (value.kind !== 'scalar') continue;
      a.mov(rax, { base: rdi, offset: 8 + 8 * value.number });
      a.vector('broadcast', this.#pin(value), 0, { base: rax });
    }
    for (const [tensor, register] of order) a.mov(register, { base: rdi, offset: 8 + 8 * tensor });
    this.#placeByRow(values);
  }

  /** Moves the addresses of vectors over rows to the task's first row, and clears its column sums. */
  #placeByRow(values: readonly Value[]): void {
    const a = this.#a;
    const columns = new Set(values.filter((v) => v.kind === 'column').map((v) => v.number));
    for (const { to, tensor } of this.#results) if (to === 'column') columns.add(tensor);
    a.mov(rax, { base: rsp, offset: slot.index });
    for (const tensor of columns)
      a.lea(this.#pointer(tensor), { base: this.#pointer(tensor), index: rax, scale: 4 });
    const sums = this.#results.filter(({ to }) => to === 'columnSums');
    if (sums.length === 0) return;
    // The address of row `task` of the sums; rsi still holds the task's number.
    a.imul(rsi, { base: rsp, offset: slot.columns });
    a.mov(rdx, { base: rsp, offset: slot.columns });
    a.vector('xor', 0, 0, 0);
    for (const { tensor } of sums) a.add(this.#pointer(tensor), rsi);
    a.zero(rcx);
    this.#columns((isTail) => {
      for (const { tensor } of sums) storeVector(a, 0, { base: this.#pointer(tensor), index: rcx }, isTail);
    });
  }

  #row(values: readonly Value[]): void {
    const a = this.#a;
    const pinned = new Set(this.#pinned.keys());
    const top = this.#top;
    a.mov(rdx, { base: rsp, offset: slot.columns });
    if (this.#isCausal) this.#limitColumns();
    else this.#shortenLastRow();
    const reductions = values.filter((v) => v.kind === 'sumOf' || v.kind === 'maxOf');
    const last = Math.max(0, ...reductions.map((v) => v.depth));
    for (let depth = 1; depth <= last; depth++) this.#reduce(reductions.filter((v) => v.depth === depth));
    const overColumns = this.#results.filter(({ to }) => to !== 'column');
    if (overColumns.length > 0) this.#overColumns(overColumns);
    for (const { to, tensor, value } of this.#results) {
      if (to === 'column')
        a.vector('storeScalar', this.#rowValue(value), 0, { base: this.#pointer(tensor) }, { bits: 128 });
    }
    if (this.#isCausal) this.#clearRest();
    this.#nextRow(values);
    // The next row computes its values anew, into the same registers.
    for (const value of [...this.#pinned.keys()]) if (!pinned.has(value)) this.#pinned.delete(value);
    this.#top = top;
  }

  /** rdx = bytes of the columns that this row may use. */
  #limitColumns(): void {
    const a = this.#a;
    a.mov(rax, { base: rsp, offset: slot.row });
    a.add(rax, { base: rsp, offset: slot.shift });
    a.addImmediate(rax, 1);
    a.shiftLeft(rax, 2);
    a.cmp(rax, rdx);
    a.movIf('less', rdx, rax);
  }

  /** A flat array rarely ends with a full row. */
  #shortenLastRow(): void {
    const a = this.#a;
    a.mov(rax, r11);
    a.sub(rax, r10);
    a.cmp(rax, rdx);
    a.movIf('less', rdx, rax);
  }

  #nextRow(values: readonly Value[]): void {
    const a = this.#a;
    a.add(r10, { base: rsp, offset: slot.columns });
    const columns = new Set(values.filter((v) => v.kind === 'column').map((v) => v.number));
    for (const { to, tensor } of this.#results) if (to === 'column') columns.add(tensor);
    for (const tensor of columns) a.addImmediate(this.#pointer(tensor), 4);
    if (!this.#isCausal) return;
    const inside = a.label();
    a.mov(rax, { base: rsp, offset: slot.row });
    a.addImmediate(rax, 1);
    a.cmp(rax, { base: rsp, offset: slot.period });
    a.jumpIf('less', inside);
    a.zero(rax);
    a.bind(inside);
    a.store({ base: rsp, offset: slot.row }, rax);
  }

  /** One pass over the columns that computes reductions, whose results become row values. */
  #reduce(reductions: readonly Value[]): void {
    const roots = reductions.map((v) => v.operands[0]!);
    for (const root of roots) this.#rowValuesOf(root);
    const accumulators = reductions.map((v) => {
      const register = this.#pin(v);
      this.#pool.load(register, v.kind === 'sumOf' ? 0 : Number.NEGATIVE_INFINITY);
      return register;
    });
    this.#startRow();
    this.#columns((isTail) => {
      const body = this.#body(isTail);
      roots.forEach((root, i) => {
        body.accumulate(reductions[i]!.kind === 'sumOf' ? 'add' : 'max', accumulators[i]!, root);
      });
      body.emit();
    });
    reductions.forEach((v, i) => {
      acrossLanes(this.#a, v.kind === 'sumOf' ? 'add' : 'max', accumulators[i]!, 0);
    });
  }

  #overColumns(results: readonly Result[]): void {
    for (const { value } of results) this.#rowValuesOf(value);
    this.#startRow();
    this.#columns((isTail) => {
      const body = this.#body(isTail);
      for (const { to, tensor, value } of results) body.write(to === 'columnSums', tensor, value);
      body.emit();
    });
  }

  #startRow(): void {
    this.#a.zero(rcx);
    this.#a.mov(rsi, r10);
  }

  /** Runs `body` over columns rcx … rdx (in bytes), a vector at a time, then for the rest of them under a mask. */
  #columns(body: (isTail: boolean) => void): void {
    const a = this.#a;
    const tail = a.label();
    const done = a.label();
    a.lea(rax, { base: rcx, offset: a.width });
    a.cmp(rax, rdx);
    a.jumpIf('greater', tail);
    a.align(16);
    const loop = a.here();
    body(false);
    a.addImmediate(rcx, a.width);
    a.addImmediate(rsi, a.width);
    a.lea(rax, { base: rcx, offset: a.width });
    a.cmp(rax, rdx);
    a.jumpIf('notGreater', loop);
    a.bind(tail);
    a.cmp(rcx, rdx);
    a.jumpIf('notLess', done);
    this.#maskTail();
    body(true);
    a.bind(done);
  }

  /** Sets the mask for the rdx - rcx bytes that are left. Uses rax, and rcx in between. */
  #maskTail(): void {
    const a = this.#a;
    if (a.set === 'avx2') {
      // Eight ones, then eight zeros: read from further on, the shorter the tail.
      a.lea(rax, { at: this.#pool.tailMasks });
      a.addImmediate(rax, a.width);
      a.add(rax, rcx);
      a.sub(rax, rdx);
      a.vector('load', avx2Mask, 0, { base: rax });
      return;
    }
    a.store({ base: rsp, offset: slot.index }, rcx);
    a.sub(rcx, rdx);
    a.addImmediate(rcx, a.width);
    a.shiftRight(rcx, 2);
    // 16 - n lanes are off.
    a.movImmediate(rax, 0xffff);
    a.shiftRightByCl(rax);
    a.maskFrom(tailMask, rax);
    a.mov(rcx, { base: rsp, offset: slot.index });
  }

  /** Zeros behind the columns that a causal row used. */
  #clearRest(): void {
    const a = this.#a;
    a.mov(rcx, rdx);
    a.lea(rsi, { base: r10, index: rdx });
    a.mov(rdx, { base: rsp, offset: slot.columns });
    a.vector('xor', 0, 0, 0);
    this.#columns((isTail) => {
      for (const { to, tensor } of this.#results) {
        if (to === 'matrix') storeVector(a, 0, { base: this.#pointer(tensor), index: rsi }, isTail);
      }
    });
  }

  /** Sees to it that the row values below a column value have registers. */
  #rowValuesOf(value: Value): void {
    for (const part of reachable([value])) {
      const isTop = part.level !== 'column' && part.kind !== 'constant';
      if (isTop) this.#rowValue(part);
    }
  }

  /** The register of a row or task value, computed if need be. */
  #rowValue(value: Value): number {
    const known = this.#pinned.get(value);
    if (known !== undefined) return known;
    const a = this.#a;
    for (const operand of value.operands) if (operand.kind !== 'constant') this.#rowValue(operand);
    if (value.kind === 'column') {
      const register = this.#pin(value);
      a.vector('broadcast', register, 0, { base: this.#pointer(value.number) });
      return register;
    }
    const register = this.#pin(value);
    const body = this.#body(false);
    body.into(register, value);
    return register;
  }

  #pin(value: Value): number {
    const register = this.#top--;
    if (register < 2) throw new Error('a kernel has too many row values');
    this.#pinned.set(value, register);
    return register;
  }

  #body(isTail: boolean): ColumnBody {
    return new ColumnBody(this.#a, this.#pool, {
      pinned: this.#pinned,
      free: this.#top + 1,
      isTail,
      matrix: (tensor) => ({ base: this.#pointer(tensor), index: rsi }),
      row: (tensor) => ({ base: this.#pointer(tensor), index: rcx }),
    });
  }

  #pointer(tensor: number): number {
    return this.#pointers.get(tensor)!;
  }
}
