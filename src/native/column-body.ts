import type { Assembler, Memory } from './assembler.js';
import type { ConstantPool } from './constant-pool.js';
import type { Value } from './formula.js';
import { avx2Mask, type InstructionName, tailMask } from './instructions.js';

/** Where the body of a loop finds what it works on. */
export interface BodyContext {
  /** Values that stay in a register of their own. */
  pinned: ReadonlyMap<Value, number>;
  /** Registers below this number are free. */
  free: number;
  /** Only the lanes of the tail mask may be touched. */
  isTail: boolean;
  /** Address of a matrix at the current element, and of a vector at the current column. */
  matrix(tensor: number): Memory;
  row(tensor: number): Memory;
}

export const readsMemory = (value: Value): boolean =>
  ['matrix', 'row', 'column', 'scalar'].includes(value.kind);

/** The values that `roots` are made from, operands first. */
export function reachable(roots: readonly Value[]): Value[] {
  const order = new Set<Value>();
  const visit = (value: Value) => {
    if (order.has(value)) return;
    for (const operand of value.operands) visit(operand);
    order.add(value);
  };
  for (const root of roots) visit(root);
  return [...order];
}

/** Stores a vector, or the lanes of it that the tail has. */
export function storeVector(a: Assembler, register: number, to: Memory, isTail: boolean): void {
  if (isTail && a.set === 'avx2') a.vector('maskStore', register, avx2Mask, to);
  else a.vector('store', register, 0, to, isTail ? { mask: tailMask } : {});
}

/** Loads a vector; lanes that the tail lacks become 0. */
export function loadVector(a: Assembler, register: number, from: Memory, isTail: boolean): void {
  if (isTail && a.set === 'avx2') a.vector('maskLoad', register, avx2Mask, from);
  else a.vector('load', register, 0, from, isTail ? { mask: tailMask, zero: true } : {});
}

const twoOperands = new Map<Value['kind'], InstructionName>([
  ['add', 'add'],
  ['sub', 'sub'],
  ['mul', 'mul'],
  ['div', 'div'],
  ['minimum', 'min'],
  ['maximum', 'max'],
]);
/** 127, the bias of a float's exponent, as an integer in a float's bits. */
const exponentBias = 127 * 2 ** -149;
/** Immediate of the rounding instructions: to nearest, without an exception. */
const toNearest = 8;

/**
 * One step of a loop over columns: computes values in registers that are free as soon as their last user
 * is done. It does not spill; a formula with too many values at once throws, when it is compiled.
 */
export class ColumnBody {
  readonly #a: Assembler;
  readonly #pool: ConstantPool;
  readonly #context: BodyContext;
  readonly #actions: { value: Value; run(register: number): void }[] = [];
  readonly #registers = new Map<Value, number>();
  readonly #uses = new Map<Value, number>();
  readonly #free: number[];

  constructor(assembler: Assembler, pool: ConstantPool, context: BodyContext) {
    this.#a = assembler;
    this.#pool = pool;
    this.#context = context;
    this.#free = Array.from({ length: context.free }, (_, i) => context.free - 1 - i);
  }

  /** accumulator = accumulator + value (or the larger), in the lanes that count. */
  accumulate(operation: 'add' | 'max', accumulator: number, value: Value): void {
    const a = this.#a;
    const { isTail } = this.#context;
    this.#actions.push({
      value,
      run: (register) => {
        if (!isTail) a.vector(operation, accumulator, accumulator, register);
        else if (a.set === 'avx512')
          a.vector(operation, accumulator, accumulator, register, { mask: tailMask });
        else {
          const both = this.#take();
          a.vector(operation, both, accumulator, register);
          a.vector('blend', accumulator, accumulator, both, { immediate: avx2Mask << 4 });
          this.#free.push(both);
        }
      },
    });
  }

  /** Stores a value, or adds it to what is there. */
  write(isSum: boolean, tensor: number, value: Value): void {
    const a = this.#a;
    const { isTail, matrix, row } = this.#context;
    this.#actions.push({
      value,
      run: (register) => {
        if (!isSum) return storeVector(a, register, matrix(tensor), isTail);
        const sum = this.#take();
        loadVector(a, sum, row(tensor), isTail);
        a.vector('add', sum, sum, register);
        storeVector(a, sum, row(tensor), isTail);
        this.#free.push(sum);
      },
    });
  }

  emit(): void {
    const isKept = (value: Value) => this.#context.pinned.has(value) || value.kind === 'constant';
    const order = reachable(this.#actions.map((action) => action.value)).filter(
      (value) => value.level === 'column' && !isKept(value),
    );
    for (const value of order) for (const operand of value.operands) this.#count(operand);
    for (const { value } of this.#actions) this.#count(value);
    for (const { value, run } of this.#actions) {
      if (isKept(value)) this.#withRegister(value, run);
    }
    for (const value of order) {
      this.#registers.set(value, this.#compute(value));
      for (const action of this.#actions) {
        if (action.value !== value) continue;
        action.run(this.#registers.get(value)!);
        this.#release(value);
      }
    }
  }

  /** Computes a value whose operands are all pinned or constant. */
  into(register: number, value: Value): void {
    for (const operand of value.operands) this.#count(operand);
    const found = this.#compute(value);
    this.#a.vector('load', register, 0, found);
  }

  #count(value: Value): void {
    this.#uses.set(value, (this.#uses.get(value) ?? 0) + 1);
  }
  #take(): number {
    const register = this.#free.pop();
    if (register === undefined) throw new Error('a kernel has too many values at once');
    return register;
  }
  /** One use less; the register is free after the last. */
  #release(value: Value): void {
    const left = this.#uses.get(value)! - 1;
    this.#uses.set(value, left);
    const register = this.#registers.get(value);
    if (left === 0 && register !== undefined) this.#free.push(register);
  }
  /** Its register may be written over by its only remaining user. */
  #dies(value: Value): boolean {
    return this.#registers.has(value) && this.#uses.get(value) === 1;
  }
  #register(value: Value): number | undefined {
    return this.#context.pinned.get(value) ?? this.#registers.get(value);
  }
  /** Runs `body` with the value in a register, a temporary one for a constant. */
  #withRegister<T>(value: Value, body: (register: number) => T): T {
    const known = this.#register(value);
    if (known !== undefined) return body(known);
    const register = this.#take();
    this.#pool.load(register, value.number);
    const result = body(register);
    this.#free.push(register);
    return result;
  }
  /** The last operand of an instruction may be a constant in memory. */
  #operand(name: InstructionName, target: number, source: number, last: Value, immediate?: number): void {
    const register = this.#register(last);
    const isSpread = register === undefined && this.#a.set === 'avx512';
    this.#a.vector(name, target, source, register ?? this.#pool.at(last.number), {
      ...(immediate === undefined ? {} : { immediate }),
      ...(isSpread ? { spread: true } : {}),
    });
  }

  #compute(value: Value): number {
    const { kind, operands, number } = value;
    const [x, y] = operands;
    const simple = twoOperands.get(kind);
    if (simple) return this.#binary(simple, x!, y!);
    if (kind === 'fma' || kind === 'fnma') return this.#fused(kind, operands as [Value, Value, Value]);
    if (kind === 'sqrt' || kind === 'round') {
      const target = this.#take();
      this.#operand(kind, target, 0, x!, kind === 'round' ? toNearest : undefined);
      this.#release(x!);
      return target;
    }
    if (kind === 'scale') return this.#scale(x!, y!);
    const { isTail, matrix, row } = this.#context;
    if (kind !== 'matrix' && kind !== 'row') throw new Error(`${kind} is no value of a column`);
    const target = this.#take();
    loadVector(this.#a, target, kind === 'matrix' ? matrix(number) : row(number), isTail);
    return target;
  }

  #binary(name: InstructionName, x: Value, y: Value): number {
    const canSwap = name === 'add' || name === 'mul';
    const [first, second] = canSwap && this.#register(x) === undefined ? [y, x] : [x, y];
    return this.#withRegister(first, (register) => {
      const target = this.#take();
      this.#operand(name, target, register, second);
      this.#release(x);
      this.#release(y);
      return target;
    });
  }

  /** ±x·y + z in the form whose overwritten operand dies here. */
  #fused(kind: 'fma' | 'fnma', [x, y, z]: readonly [Value, Value, Value]): number {
    const [a, b] = this.#register(x) === undefined ? [y, x] : [x, y];
    const factor = [a, b].find((v) => this.#dies(v) && v !== z && x !== y);
    const release = () => {
      for (const operand of [x, y, z]) this.#release(operand);
    };
    if (this.#dies(z) && z !== x && z !== y) {
      const target = this.#registers.get(z)!;
      this.#withRegister(a, (register) => this.#operand(`${kind}231`, target, register, b));
      return this.#handOver(z, target, release);
    }
    if (factor) {
      const target = this.#registers.get(factor)!;
      const other = factor === a ? b : a;
      this.#withRegister(other, (register) => this.#operand(`${kind}213`, target, register, z));
      return this.#handOver(factor, target, release);
    }
    const target = this.#take();
    const addend = this.#register(z);
    if (addend === undefined) this.#pool.load(target, z.number);
    else this.#a.vector('load', target, 0, addend);
    this.#withRegister(a, (register) => this.#operand(`${kind}231`, target, register, b));
    release();
    return target;
  }

  /** `value` dies and its register becomes that of a result. */
  #handOver(value: Value, register: number, release: () => void): number {
    this.#registers.delete(value);
    release();
    return register;
  }

  /** x · 2^n. AVX2 has no such instruction, and two factors of half the exponent reach the denormals too. */
  #scale(x: Value, n: Value): number {
    const a = this.#a;
    const target = this.#take();
    if (a.set === 'avx512') {
      this.#withRegister(x, (register) => this.#operand('scale', target, register, n));
    } else {
      const half = this.#take();
      this.#withRegister(n, (exponent) => {
        a.vector('mul', half, exponent, this.#pool.at(0.5));
        a.vector('round', half, 0, half, { immediate: toNearest });
        a.vector('sub', target, exponent, half);
      });
      for (const register of [half, target]) {
        a.vector('toInt', register, 0, register);
        a.vector('addInt', register, register, this.#pool.at(exponentBias));
        a.shiftLanesLeft(register, register, 23);
      }
      this.#withRegister(x, (register) => a.vector('mul', half, half, register));
      a.vector('mul', target, target, half);
      this.#free.push(half);
    }
    this.#release(x);
    this.#release(n);
    return target;
  }
}
