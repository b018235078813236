import { Assembler, type Label, type Memory } from './assembler.js';
import { gp, type InstructionSet } from './instructions.js';
import {
  type Field,
  group,
  local,
  localBytes,
  masks,
  type PackedCode,
  packedLayout,
  packedParameter,
} from './packed-layout.js';

const { rax, rcx, rbx, rsp, rbp, rsi, rdi, r13, r14 } = gp;

/** The part of a product with packed weights that rounds a task's rows, and what is needed throughout. `compilePacked` says what for. */
export class RowQuantizer {
  protected readonly a: Assembler;
  protected readonly is512: boolean;
  protected readonly code: PackedCode;
  protected readonly layout: ReturnType<typeof packedLayout>;
  protected readonly stack: number;
  protected readonly data: { label: Label; bytes: Uint8Array }[] = [];

  constructor(code: PackedCode, set: InstructionSet, stackRows: number) {
    this.a = new Assembler(set);
    this.is512 = set === 'avx512';
    this.code = code;
    this.layout = packedLayout(code, set);
    this.stack = localBytes + stackRows * this.layout.rowBytes;
  }

  protected local = (name: keyof typeof local): Memory => ({ base: rsp, offset: 8 * local[name] });
  protected parameter = (name: keyof typeof packedParameter): Memory => ({
    base: rbp,
    offset: 8 * packedParameter[name],
  });

  /** A vector of constants, one vector long. */
  protected vector(bytes: Uint8Array): Memory {
    const label = this.a.label();
    const vector = new Uint8Array(64);
    for (let i = 0; i < 64; i++) vector[i] = bytes[i % bytes.length]!;
    this.data.push({ label, bytes: vector });
    return { at: label };
  }
  protected bytes = (...values: number[]) => this.vector(Uint8Array.from(values));
  protected words = (value: number) => this.vector(new Uint8Array(Int16Array.of(value).buffer));
  protected ints = (...values: number[]) => this.vector(new Uint8Array(Int32Array.from(values).buffer));
  protected floats = (value: number) => this.vector(new Uint8Array(Float32Array.of(value).buffer));

  /** Writes what the tiles need of all rows. Always in vectors of 256 bits: a group is 32 bytes. */
  protected quantizeRows(): void {
    const a = this.a;
    const { bits, hasMinima } = this.code;
    const { groupsPerChunk, chunkBytes, rest, chunks, offsets } = this.layout;
    const constants: [register: number, at: Memory][] = [
      [8, this.ints(0x7fffffff)],
      [9, this.floats(127)],
      [10, this.floats(1e-30)],
      // 4 bits: bytes at even places of each half, then those at odd ones. 8 bits: undoes the order of packing.
      bits === 4
        ? [11, this.bytes(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15)]
        : [11, this.ints(0, 4, 1, 5, 2, 6, 3, 7)],
      [12, this.bytes(1)],
      [13, this.words(hasMinima ? 1 : bits === 4 ? -8 : -128)],
    ];
    for (const [register, at] of constants) a.vector('load', register, 0, at, { bits: 256 });
    a.vector('xor', 15, 15, 15);
    a.mov(rsi, r13);
    a.movImmediate(rax, 4 * this.code.inputs);
    a.imul(rsi, rax);
    a.add(rsi, { base: rbx, offset: 8 });
    a.lea(rdi, { base: rsp, offset: localBytes });
    a.mov(r14, this.local('rows'));
    const row = a.here();
    if (chunks > 0) {
      a.movImmediate(rcx, chunks);
      const chunk = a.here();
      // The lanes of the sums that are not written below.
      if (hasMinima) a.vector('store', 15, 0, { base: rdi, offset: offsets.sums });
      for (let i = 0; i < groupsPerChunk; i++) this.#quantizeGroup(i);
      a.addImmediate(rsi, 4 * group * groupsPerChunk);
      a.addImmediate(rdi, chunkBytes);
      a.addImmediate(rcx, -1);
      a.jumpIf('notEqual', chunk);
    }
    if (rest > 0) {
      // Zeros where the row ends: they multiply whatever the tile finds there.
      for (let at = 0; at < chunkBytes; at += this.layout.width)
        a.vector('store', 15, 0, { base: rdi, offset: at });
      for (let i = 0; i < rest / group; i++) this.#quantizeGroup(i);
      a.addImmediate(rsi, 4 * rest);
      a.addImmediate(rdi, chunkBytes);
    }
    a.addImmediate(r14, -1);
    a.jumpIf('notEqual', row);
  }

  /** Group i of the chunk: 32 floats at rsi to the fields at rdi. */
  #quantizeGroup(i: number): void {
    const a = this.a;
    const { bits, hasMinima } = this.code;
    const { offsets } = this.layout;
    const half = { bits: 128 } as const;
    const whole = { bits: 256 } as const;
    const field = (name: Field) => ({ base: rdi, offset: offsets[name] + i * (bits === 4 ? 16 : 32) });
    const isWide = bits === 8;
    for (let j = 0; j < 4; j++) a.vector('load', j, 0, { base: rsi, offset: 4 * group * i + 32 * j }, whole);
    // The largest magnitude, as an integer: NaN is above infinity, and stays.
    a.vector('and', 4, 8, 0, whole);
    for (let j = 1; j < 4; j++) {
      a.vector('and', 5, 8, j, whole);
      a.vector('maxInt', 4, 4, 5, whole);
    }
    a.vector('extractHigh', 4, 0, 5, { ...whole, immediate: 1 });
    a.vector('maxInt', 4, 4, 5, half);
    for (const immediate of [0x4e, 0xb1]) {
      a.vector('permute', 5, 0, 4, { ...half, immediate });
      a.vector('maxInt', 4, 4, 5, half);
    }
    // 6: 127 / largest, in all lanes; 7: largest / 127.
    a.vector('max', 6, 4, 10, half);
    a.vector('div', 6, 9, 6, half);
    a.vector('div', 7, 4, 9, half);
    a.vector('broadcast', 6, 0, 6, whole);
    if (isWide) a.vector('broadcast', 7, 0, 7, whole);
    a.vector('store', 7, 0, field('scale'), isWide ? whole : half);
    for (let j = 0; j < 4; j++) {
      a.vector('mul', j, j, 6, whole);
      a.vector('toInt', j, 0, j, whole);
    }
    a.vector('packInts', 0, 0, 1, whole);
    a.vector('packInts', 2, 2, 3, whole);
    a.vector('packWords', 0, 0, 2, whole);
    if (isWide) {
      a.vector('permuteLanes', 0, 11, 0, whole);
      a.vector('store', 0, 0, field('low'), whole);
      if (!this.layout.hasStart) return;
      a.vector('mulAddBytes', 4, 12, 0, whole);
      a.vector('mulAddWords', 4, 4, 13, whole);
      a.vector('store', 4, 0, field('start'), whole);
      return;
    }
    a.vector('shuffleBytes', 0, 0, 11, whole);
    a.vector('extractHigh', 0, 0, 1, { ...whole, immediate: 1 });
    a.vector('unpackLowWords', 2, 0, 1, half);
    a.vector('unpackHighWords', 3, 0, 1, half);
    a.vector('store', 2, 0, field('low'), half);
    a.vector('store', 3, 0, field('high'), half);
    a.vector('mulAddBytes', 4, 12, 2, half);
    a.vector('mulAddBytes', 5, 12, 3, half);
    a.vector('addWords', 4, 4, 5, half);
    a.vector('mulAddWords', 4, 4, 13, half);
    if (!hasMinima) {
      a.vector('store', 4, 0, field('start'), half);
      return;
    }
    for (const immediate of [0x4e, 0xb1]) {
      a.vector('permute', 5, 0, 4, { ...half, immediate });
      a.vector('addInt', 4, 4, 5, half);
    }
    a.vector('fromInt', 4, 0, 4, half);
    a.vector('mul', 4, 4, 7, half);
    a.vector('storeScalar', 4, 0, { base: rdi, offset: offsets.sums + 4 * i }, half);
  }

  /** Registers that hold the same throughout the tiles. */
  protected get fixed() {
    return this.is512 ? { bytes: 31, lanes: 30, ones: 29 } : { bytes: 15, lanes: 13, ones: 14 };
  }

  protected constants(): void {
    const a = this.a;
    const { bits } = this.code;
    const { lanesPerBlock, blocksPerChunk, rest, width } = this.layout;
    const { bytes, lanes, ones } = this.fixed;
    a.vector('load', bytes, 0, this.bytes(bits === 4 ? 15 : 0x80));
    const numbers = Array.from({ length: width / 4 }, (_, i) => Math.floor(i / lanesPerBlock));
    a.vector('load', lanes, 0, this.ints(...numbers));
    if (!this.is512) {
      a.vector('load', ones, 0, this.words(1));
      return;
    }
    const mask = (register: number, count: number) => {
      a.movImmediate(rax, 2 ** count - 1);
      a.maskFrom(register, rax);
    };
    mask(masks.scales, blocksPerChunk);
    mask(masks.lastScales, rest / this.code.block);
    mask(masks.lastWeights, (rest * bits) / 32);
  }
}
