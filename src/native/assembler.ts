import {
  type Condition,
  conditions,
  gp,
  type Instruction,
  type InstructionName,
  type InstructionSet,
  instructions,
} from './instructions.js';

/** A place in the code that jumps and addresses refer to, before or after it is bound. */
export class Label {
  position = -1;
}

/** A memory operand: base + index·scale + displacement, or a place in the code. */
export type Memory = { base: number; index?: number; scale?: 1 | 2 | 4 | 8; offset?: number } | { at: Label };

/** Extras of a vector instruction. */
export interface VectorOptions {
  /** Immediate byte. */
  immediate?: number;
  /** AVX-512: mask register (1 to 7); lanes without a bit keep their value, or become 0 with `zero`. */
  mask?: number;
  zero?: boolean;
  /** AVX-512: the memory operand is one float that goes to all lanes. */
  spread?: boolean;
  /** Vector length in bits; default: the longest of the instruction set. */
  bits?: 128 | 256 | 512;
}

/** A displacement to be filled in once its label is bound. `end`: the position that it counts from. */
interface Fixup {
  at: number;
  end: number;
  label: Label;
}

const lengthCode = { 128: 0, 256: 1, 512: 2 } as const;
/** Register numbers that, as a base, need a displacement (rbp, r13) or a SIB byte (rsp, r12). */
const needsDisplacement = (base: number) => (base & 7) === gp.rbp;
const needsSib = (base: number) => (base & 7) === gp.rsp;

/**
 * Emits x86-64 code: a small set of general-purpose instructions, and the vector instructions of the
 * table in VEX form (AVX2, 256 bits, 16 registers) or EVEX form (AVX-512, 512 bits, 32 registers).
 *
 * Operands are in Intel's order, destination first. A register outside the encoding's range throws: a
 * wrong byte would be a wrong address at run time.
 */
export class Assembler {
  #bytes = new Uint8Array(4096);
  #length = 0;
  readonly #fixups: Fixup[] = [];

  constructor(readonly set: InstructionSet) {}

  /** Bytes of a vector register. */
  get width(): number {
    return this.set === 'avx512' ? 64 : 32;
  }
  /** How many vector registers there are. */
  get registers(): number {
    return this.set === 'avx512' ? 32 : 16;
  }

  byte(...values: readonly number[]): void {
    if (this.#length + values.length > this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#bytes.length);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    for (const value of values) this.#bytes[this.#length++] = value & 255;
  }
  int32(value: number): void {
    this.byte(value, value >> 8, value >> 16, value >> 24);
  }

  label(): Label {
    return new Label();
  }
  /** Puts the label here. */
  bind(label: Label): void {
    if (label.position >= 0) throw new Error('label is bound twice');
    label.position = this.#length;
  }
  /** A new label, here. */
  here(): Label {
    const label = new Label();
    this.bind(label);
    return label;
  }
  /** Fills up with no-ops, so that a loop starts on a cache line of its own. */
  align(bytes: number): void {
    while (this.#length % bytes !== 0) this.byte(0x90);
  }

  /** A vector instruction `name target, source, operand`; `source` is 0 where there are just two operands. */
  vector(
    name: InstructionName,
    target: number,
    source: number,
    operand: number | Memory,
    options: VectorOptions = {},
  ): void {
    const instruction: Instruction = instructions[name];
    const bits = options.bits ?? (this.set === 'avx512' ? 512 : 256);
    const isVex = this.set === 'avx2';
    const limit = isVex ? 16 : 32;
    for (const register of [target, source, typeof operand === 'number' ? operand : 0]) {
      if (!(register >= 0 && register < limit)) throw new Error(`${name}: no vector register ${register}`);
    }
    if (isVex && (options.mask || options.spread || bits === 512)) throw new Error(`${name}: not in VEX`);
    if (isVex) this.#vex(instruction, target, source, operand, bits);
    else this.#evex(instruction, target, source, operand, bits, options);
    const whole = bits / (instruction.half ? 16 : 8);
    const unit = isVex ? 0 : instruction.scalar || options.spread ? 4 : whole;
    const tail = options.immediate === undefined ? 0 : 1;
    this.#modRm(target & 7, operand, unit, tail);
    if (options.immediate !== undefined) this.byte(options.immediate);
  }

  #vex(
    { map, prefix, opcode }: Instruction,
    target: number,
    source: number,
    operand: number | Memory,
    bits: 128 | 256 | 512,
  ): void {
    const [r, x, b] = extensions(target, operand);
    const first = ((r ^ 1) << 7) | ((x ^ 1) << 6) | ((b ^ 1) << 5) | map;
    this.byte(0xc4, first, ((~source & 15) << 3) | (lengthCode[bits] << 2) | prefix, opcode);
  }

  #evex(
    { map, prefix, opcode, wide = 0 as never }: Instruction,
    target: number,
    source: number,
    operand: number | Memory,
    bits: 128 | 256 | 512,
    { mask = 0, zero = false, spread = false }: VectorOptions,
  ): void {
    const [r, x, b] = extensions(target, operand);
    // For a register operand, X is the fourth bit of its number.
    const x4 = typeof operand === 'number' ? operand >> 4 : x;
    const high = (target >> 4) ^ 1;
    this.byte(
      0x62,
      ((r ^ 1) << 7) | ((x4 ^ 1) << 6) | ((b ^ 1) << 5) | (high << 4) | map,
      (wide << 7) | ((~source & 15) << 3) | 4 | prefix,
      (Number(zero) << 7) |
        (lengthCode[bits] << 5) |
        (Number(spread) << 4) |
        (((source >> 4) ^ 1) << 3) |
        mask,
      opcode,
    );
  }

  /** ModRM, SIB and displacement. `unit`: EVEX counts a short displacement in these; 0: bytes. `tail`: bytes after it. */
  #modRm(register: number, operand: number | Memory, unit: number, tail: number): void {
    const field = register << 3;
    if (typeof operand === 'number') {
      this.byte(0xc0 | field | (operand & 7));
      return;
    }
    if ('at' in operand) {
      this.byte(0x05 | field);
      this.#reference(operand.at, tail);
      return;
    }
    const { base, index, scale = 1, offset = 0 } = operand;
    if (index === gp.rsp) throw new Error('rsp cannot be an index');
    const short = offset / (unit || 1);
    const isShort = Number.isInteger(short) && short >= -128 && short < 128;
    const mode = offset === 0 && !needsDisplacement(base) ? 0 : isShort ? 0x40 : 0x80;
    if (index === undefined && !needsSib(base)) this.byte(mode | field | (base & 7));
    else {
      this.byte(mode | field | 4, (Math.log2(scale) << 6) | (((index ?? 4) & 7) << 3) | (base & 7));
    }
    if (mode === 0x40) this.byte(short);
    else if (mode === 0x80) this.int32(offset);
  }

  #reference(label: Label, tail = 0): void {
    this.#fixups.push({ at: this.#length, end: this.#length + 4 + tail, label });
    this.int32(0);
  }

  /** A 64-bit general-purpose instruction of one or two opcode bytes. `tail`: bytes of an immediate after it. */
  #general(opcode: readonly number[], register: number, operand: number | Memory, tail = 0): void {
    const [r, x, b] = extensions(register, operand);
    this.byte(0x48 | (r << 2) | (x << 1) | b, ...opcode);
    this.#modRm(register & 7, operand, 0, tail);
  }
  mov(target: number, source: number | Memory): void {
    this.#general([0x8b], target, source);
  }
  store(target: Memory, source: number): void {
    this.#general([0x89], source, target);
  }
  lea(target: number, source: Memory): void {
    this.#general([0x8d], target, source);
  }
  add(target: number, source: number | Memory): void {
    this.#general([0x03], target, source);
  }
  sub(target: number, source: number | Memory): void {
    this.#general([0x2b], target, source);
  }
  cmp(left: number, right: number | Memory): void {
    this.#general([0x3b], left, right);
  }
  test(left: number, right: number): void {
    this.#general([0x85], left, right);
  }
  imul(target: number, source: number | Memory): void {
    this.#general([0x0f, 0xaf], target, source);
  }
  /** target = source if the flags say so. */
  movIf(condition: Condition, target: number, source: number): void {
    this.#general([0x0f, 0x40 | conditions[condition]], target, source);
  }
  /** rdx:rax / operand: quotient in rax, remainder in rdx; rdx must be 0. */
  divide(operand: number | Memory): void {
    this.#general([0xf7], 6, operand);
  }
  addImmediate(target: number, value: number): void {
    this.#group(0, target, value);
  }
  andImmediate(target: number, value: number): void {
    this.#group(4, target, value);
  }
  cmpImmediate(target: number, value: number): void {
    this.#group(7, target, value);
  }
  #group(operation: number, target: number, value: number): void {
    const isShort = value >= -128 && value < 128;
    this.#general([isShort ? 0x83 : 0x81], operation, target, isShort ? 1 : 4);
    if (isShort) this.byte(value);
    else this.int32(value);
  }
  shiftLeft(target: number, count: number): void {
    this.#general([0xc1], 4, target, 1);
    this.byte(count);
  }
  shiftRight(target: number, count: number): void {
    this.#general([0xc1], 5, target, 1);
    this.byte(count);
  }
  /** target <<= cl. */
  shiftLeftByCl(target: number): void {
    this.#general([0xd3], 4, target);
  }
  /** target >>= cl. */
  shiftRightByCl(target: number): void {
    this.#general([0xd3], 5, target);
  }
  /** Sets all 64 bits. */
  movImmediate(target: number, value: number | bigint): void {
    this.byte(0x48 | (target >> 3), 0xb8 | (target & 7));
    const bits = BigInt.asUintN(64, BigInt(value));
    for (let i = 0n; i < 64n; i += 8n) this.byte(Number((bits >> i) & 255n));
  }
  zero(target: number): void {
    this.#general([0x33], target, target);
  }
  push(register: number): void {
    if (register > 7) this.byte(0x41);
    this.byte(0x50 | (register & 7));
  }
  pop(register: number): void {
    if (register > 7) this.byte(0x41);
    this.byte(0x58 | (register & 7));
  }
  call(register: number): void {
    if (register > 7) this.byte(0x41);
    this.byte(0xff, 0xd0 | (register & 7));
  }
  callLabel(label: Label): void {
    this.byte(0xe8);
    this.#reference(label);
  }
  /**
   * Asks for a cache line ahead of its use. An address that is nobody's does no harm. `once`: it is used only once, so that the
   * outer caches need not keep it.
   */
  prefetch(from: Memory, once = false): void {
    const [, x, b] = extensions(0, from);
    this.byte(0x40 | (x << 1) | b, 0x0f, 0x18);
    this.#modRm(once ? 0 : 1, from, 0, 0);
  }
  /** Copies rcx words of 8 bytes from rsi to rdi, upwards. */
  copyWords(): void {
    this.byte(0xf3, 0x48, 0xa5);
  }
  /** 32-bit copies, for single floats. */
  mov32(target: number, source: Memory): void {
    const [r, x, b] = extensions(target, source);
    this.byte(0x40 | (r << 2) | (x << 1) | b, 0x8b);
    this.#modRm(target & 7, source, 0, 0);
  }
  store32(target: Memory, source: number): void {
    const [r, x, b] = extensions(source, target);
    this.byte(0x40 | (r << 2) | (x << 1) | b, 0x89);
    this.#modRm(source & 7, target, 0, 0);
  }
  ret(): void {
    this.byte(0xc3);
  }
  jump(label: Label): void {
    this.byte(0xe9);
    this.#reference(label);
  }
  jumpIf(condition: Condition, label: Label): void {
    this.byte(0x0f, 0x80 | conditions[condition]);
    this.#reference(label);
  }

  /** AVX-512: mask register from the low 16 bits of a general-purpose one. */
  maskFrom(mask: number, source: number): void {
    this.byte(0xc4, 0xe1 ^ ((source >> 3) << 5), 0x78, 0x92, 0xc0 | (mask << 3) | (source & 7));
  }
  /** AVX2: integer lanes shifted left. */
  shiftLanesLeft(target: number, source: number, count: number): void {
    if (this.set !== 'avx2') throw new Error('shiftLanesLeft: VEX only');
    this.byte(0xc4, 0xe1 ^ ((source >> 3) << 5), ((~target & 15) << 3) | 5, 0x72, 0xf0 | (source & 7), count);
  }
  /** Ends the use of wide registers, so that the caller's SSE code does not stall. */
  zeroUpper(): void {
    this.byte(0xc5, 0xf8, 0x77);
  }

  /** The code, with every reference filled in. */
  finish(): Uint8Array {
    const code = this.#bytes.slice(0, this.#length);
    const view = new DataView(code.buffer);
    for (const { at, end, label } of this.#fixups) {
      if (label.position < 0) throw new Error('a label was never bound');
      view.setInt32(at, label.position - end, true);
    }
    return code;
  }
}

/** The third bits of register, index and base (or of a register operand). */
function extensions(register: number, operand: number | Memory): [number, number, number] {
  const r = (register >> 3) & 1;
  if (typeof operand === 'number') return [r, 0, (operand >> 3) & 1];
  if ('at' in operand) return [r, 0, 0];
  return [r, ((operand.index ?? 0) >> 3) & 1, (operand.base >> 3) & 1];
}
