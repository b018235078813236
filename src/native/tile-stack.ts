import { Assembler, type Memory } from './assembler.js';
import { ConstantPool } from './constant-pool.js';
import { gp } from './instructions.js';

const { rax, rcx, rdx, rsp } = gp;

/** A word on the stack: a count, an index or an address. */
export interface Slot {
  readonly at: number;
}

/** A matrix in memory, row by row: the address in a slot, or a buffer on the stack; `ld` floats from row to row. */
export interface Block {
  readonly base: Slot | 'stack';
  /** Bytes behind the base. */
  readonly offset: number;
  readonly ld: number;
}

/** A number that is known when code is emitted, or one on the stack. */
export type Count = number | Slot;

/** State of an emitted task that lies on the stack: numbers, addresses and buffers, and the loops and branches that they steer. */
export class TileStack {
  readonly a = new Assembler('avx512');
  readonly pool: ConstantPool;
  protected frameBytes = 8;

  protected constructor(readonly stackBytes: number) {
    this.pool = new ConstantPool(this.a);
  }

  // --- The stack -------------------------------------------------------------------------------------------------

  slot(): Slot {
    const at = this.frameBytes;
    this.frameBytes += 8;
    return { at };
  }
  at = (slot: Slot): Memory => ({ base: rsp, offset: slot.at });

  /** A buffer of rows x columns floats on the stack. */
  buffer(rows: number, columns: number): Block {
    const offset = Math.ceil(this.frameBytes / 64) * 64;
    this.frameBytes = offset + 4 * rows * columns;
    return { base: 'stack', offset, ld: columns };
  }

  /** Part of a block: from so many rows and columns on. */
  within = (block: Block, row: number, column = 0): Block => ({
    ...block,
    offset: block.offset + 4 * (row * block.ld + column),
  });

  /** register = address of the block. */
  address(register: number, { base, offset }: Block): void {
    const { a } = this;
    if (base === 'stack') {
      a.lea(register, { base: rsp, offset });
      return;
    }
    a.mov(register, this.at(base));
    if (offset !== 0) a.addImmediate(register, offset);
  }

  /** slot = count. */
  set(slot: Slot, value: Count): void {
    this.value(rax, value);
    this.a.store(this.at(slot), rax);
  }
  /** register = count. */
  value(register: number, value: Count): void {
    if (typeof value === 'number') this.a.movImmediate(register, value);
    else this.a.mov(register, this.at(value));
  }
  /** slot += count. */
  increase(slot: Slot, by: Count): void {
    this.a.mov(rax, this.at(slot));
    if (typeof by === 'number') this.a.addImmediate(rax, by);
    else this.a.add(rax, this.at(by));
    this.a.store(this.at(slot), rax);
  }

  /** target = base + Σ index · bytes + offset: an address, or (with base 0) a number. */
  combine(target: Slot, base: Count, terms: readonly (readonly [Slot, number])[], offset = 0): void {
    const { a } = this;
    this.value(rax, base);
    for (const [index, factor] of terms) {
      a.movImmediate(rcx, factor);
      a.imul(rcx, this.at(index));
      a.add(rax, rcx);
    }
    if (offset !== 0) a.addImmediate(rax, offset);
    a.store(this.at(target), rax);
  }

  /** The rows x columns matrix number `index` of a tensor of such matrices. */
  block(tensor: Slot, terms: readonly (readonly [Slot, number])[], ld: number, offset = 0): Block {
    const base = this.slot();
    const bytes = terms.map(([index, floats]) => [index, 4 * floats] as const);
    this.combine(base, tensor, bytes, 4 * offset);
    return { base, offset: 0, ld };
  }

  /** quotient and remainder of a number that is not negative. */
  divide(value: Slot, by: number, quotient: Slot, remainder: Slot): void {
    const { a } = this;
    a.mov(rax, this.at(value));
    a.zero(rdx);
    a.movImmediate(rcx, by);
    a.divide(rcx);
    a.store(this.at(quotient), rax);
    a.store(this.at(remainder), rdx);
  }

  // --- Control ---------------------------------------------------------------------------------------------------

  /** Runs `body` for index = from … to - 1. */
  loop(index: Slot, from: Count, to: Count, body: () => void): void {
    const { a } = this;
    const end = a.label();
    this.set(index, from);
    const again = a.here();
    this.value(rcx, to);
    a.cmp(rcx, this.at(index));
    a.jumpIf('notGreater', end);
    body();
    this.increase(index, 1);
    a.jump(again);
    a.bind(end);
  }

  /** Runs `body` for index = from - 1 … to. */
  loopDown(index: Slot, from: Count, to: Count, body: () => void): void {
    const { a } = this;
    const end = a.label();
    this.set(index, from);
    const again = a.here();
    this.value(rcx, to);
    a.cmp(rcx, this.at(index));
    a.jumpIf('notLess', end);
    this.increase(index, -1);
    body();
    a.jump(again);
    a.bind(end);
  }

  /** Runs one of two bodies by a bit of a number. */
  ifBit(value: Slot, bit: number, set: () => void, clear: () => void = () => {}): void {
    const { a } = this;
    const otherwise = a.label();
    const end = a.label();
    a.mov(rax, this.at(value));
    a.movImmediate(rcx, 2 ** bit);
    a.andImmediate(rax, 2 ** bit);
    a.cmp(rax, rcx);
    a.jumpIf('notEqual', otherwise);
    set();
    a.jump(end);
    a.bind(otherwise);
    clear();
    a.bind(end);
  }

  /** Runs the body if value < limit. */
  ifBelow(value: Slot, limit: Count, body: () => void): void {
    const { a } = this;
    const end = a.label();
    this.value(rcx, limit);
    a.cmp(rcx, this.at(value));
    a.jumpIf('notGreater', end);
    body();
    a.bind(end);
  }

  /** Runs the body if value >= limit. */
  ifNotBelow(value: Slot, limit: Count, body: () => void): void {
    const { a } = this;
    const end = a.label();
    this.value(rcx, limit);
    a.cmp(rcx, this.at(value));
    a.jumpIf('greater', end);
    body();
    a.bind(end);
  }

  /** slot = the smaller of it and a limit. */
  limit(slot: Slot, limit: number): void {
    const { a } = this;
    a.mov(rax, this.at(slot));
    a.movImmediate(rcx, limit);
    a.cmp(rax, rcx);
    a.movIf('greater', rax, rcx);
    a.store(this.at(slot), rax);
  }
}
