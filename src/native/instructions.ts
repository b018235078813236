/** Numbers of the general-purpose registers. */
export const gp = {
  rax: 0,
  rcx: 1,
  rdx: 2,
  rbx: 3,
  rsp: 4,
  rbp: 5,
  rsi: 6,
  rdi: 7,
  r8: 8,
  r9: 9,
  r10: 10,
  r11: 11,
  r12: 12,
  r13: 13,
  r14: 14,
  r15: 15,
} as const;

/** Vector extensions that kernels are emitted for. */
export type InstructionSet = 'avx2' | 'avx512';

/** How the encoding of an instruction is made up. */
export interface Instruction {
  /** Opcode map: 1 is 0F, 2 is 0F38, 3 is 0F3A. */
  map: 1 | 2 | 3;
  /** Mandatory prefix: 0 none, 1 is 66, 2 is F3, 3 is F2. */
  prefix: 0 | 1 | 2 | 3;
  opcode: number;
  /** The W bit of EVEX; VEX forms of the instructions below ignore it or have 0. */
  wide?: 1;
  /** Memory operands are one float whatever the vector length: the unit of EVEX's short displacement. */
  scalar?: true;
  /** Memory operands are half as long as the vector. */
  half?: true;
}

/**
 * The vector instructions in use, on packed floats unless said otherwise (Intel SDM, volume 2). One table
 * serves both encodings: VEX and EVEX agree in map, prefix and opcode.
 */
export const instructions = {
  load: { map: 1, prefix: 0, opcode: 0x10 },
  store: { map: 1, prefix: 0, opcode: 0x11 },
  sqrt: { map: 1, prefix: 0, opcode: 0x51 },
  and: { map: 1, prefix: 0, opcode: 0x54 },
  xor: { map: 1, prefix: 0, opcode: 0x57 },
  add: { map: 1, prefix: 0, opcode: 0x58 },
  mul: { map: 1, prefix: 0, opcode: 0x59 },
  sub: { map: 1, prefix: 0, opcode: 0x5c },
  min: { map: 1, prefix: 0, opcode: 0x5d },
  div: { map: 1, prefix: 0, opcode: 0x5e },
  max: { map: 1, prefix: 0, opcode: 0x5f },
  /** Broadcasts one float. */
  broadcast: { map: 2, prefix: 1, opcode: 0x18, scalar: true },
  /** first·third ± second, and ±: a·b + c, with the accumulator last (231) or a factor in place (213). */
  fma213: { map: 2, prefix: 1, opcode: 0xa8 },
  fma231: { map: 2, prefix: 1, opcode: 0xb8 },
  fnma213: { map: 2, prefix: 1, opcode: 0xac },
  fnma231: { map: 2, prefix: 1, opcode: 0xbc },
  /** Float to integer lanes, rounded to nearest. */
  toInt: { map: 1, prefix: 1, opcode: 0x5b },
  addInt: { map: 1, prefix: 1, opcode: 0xfe },
  /** AVX2: rounds to an integral float. AVX-512: the same opcode with a scale in the immediate. */
  round: { map: 3, prefix: 1, opcode: 0x08 },
  /** AVX-512: first · 2^second. */
  scale: { map: 2, prefix: 1, opcode: 0x2c },
  /** AVX2: loads and stores of the lanes whose sign bit is set in the second operand. */
  maskLoad: { map: 2, prefix: 1, opcode: 0x2c },
  maskStore: { map: 2, prefix: 1, opcode: 0x2e },
  /** AVX2: picks by the sign of a fourth register, in the immediate. */
  blend: { map: 3, prefix: 1, opcode: 0x4a },
  /** Exchanges floats inside each 128-bit part. */
  permute: { map: 3, prefix: 1, opcode: 0x04 },
  /** AVX2: exchanges 128-bit parts. */
  permute128: { map: 3, prefix: 1, opcode: 0x06 },
  /** AVX-512: picks 128-bit parts of two registers. */
  shuffle128: { map: 3, prefix: 1, opcode: 0x23 },
  unpackLow: { map: 1, prefix: 0, opcode: 0x14 },
  unpackHigh: { map: 1, prefix: 0, opcode: 0x15 },
  /** Of pairs of floats, as doubles. */
  unpackLowPair: { map: 1, prefix: 1, opcode: 0x14, wide: 1 },
  unpackHighPair: { map: 1, prefix: 1, opcode: 0x15, wide: 1 },
  /** Adds the lowest floats. */
  addScalar: { map: 1, prefix: 2, opcode: 0x58, scalar: true },
  /** Stores the lowest float. */
  storeScalar: { map: 1, prefix: 2, opcode: 0x11, scalar: true },
  /** Loads the lowest float, and (VEX) the lowest two; the others become 0. */
  loadScalar: { map: 1, prefix: 2, opcode: 0x10, scalar: true },
  loadPair: { map: 1, prefix: 3, opcode: 0x10 },
  /** Picks 32-bit lanes of the third operand by the numbers in the second. */
  permuteLanes: { map: 2, prefix: 1, opcode: 0x16 },
  /** Moves the upper 128 bits of 256 in the first operand to the third. */
  extractHigh: { map: 3, prefix: 1, opcode: 0x39 },
  /** float16 to floats. */
  fromHalf: { map: 2, prefix: 1, opcode: 0x13, half: true },
  /** VEX: a 16-bit word to all. */
  broadcastWord: { map: 2, prefix: 1, opcode: 0x79 },
  fromInt: { map: 1, prefix: 0, opcode: 0x5b },
  maxInt: { map: 2, prefix: 1, opcode: 0x3d },
  /** second = third >> immediate, on 32-bit lanes; the first operand has to be 2, which is part of the opcode. */
  shiftIntsRight: { map: 1, prefix: 1, opcode: 0x72 },
  /** To integers of half the size with saturation, in each 128-bit part. */
  packInts: { map: 1, prefix: 1, opcode: 0x6b },
  packWords: { map: 1, prefix: 1, opcode: 0x63 },
  shuffleBytes: { map: 2, prefix: 1, opcode: 0x00 },
  unpackLowWords: { map: 1, prefix: 1, opcode: 0x61 },
  unpackHighWords: { map: 1, prefix: 1, opcode: 0x69 },
  addWords: { map: 1, prefix: 1, opcode: 0xfd },
  /** Sums of two neighbouring products: unsigned with signed bytes (saturated), and words. */
  mulAddBytes: { map: 2, prefix: 1, opcode: 0x04 },
  mulAddWords: { map: 1, prefix: 1, opcode: 0xf5 },
  /** VNNI: first + sums of four neighbouring products of unsigned (second) with signed bytes (third). */
  dotBytes: { map: 2, prefix: 1, opcode: 0x50 },
  /** VEX: |bytes|, and bytes of the second times the sign of the third. */
  absBytes: { map: 2, prefix: 1, opcode: 0x1c },
  signBytes: { map: 2, prefix: 1, opcode: 0x08 },
} as const satisfies Record<string, Instruction>;

export type InstructionName = keyof typeof instructions;

/** Condition codes of jumps. */
export const conditions = {
  below: 2,
  notBelow: 3,
  equal: 4,
  notEqual: 5,
  notAbove: 6,
  above: 7,
  less: 12,
  notLess: 13,
  notGreater: 14,
  greater: 15,
} as const;
export type Condition = keyof typeof conditions;

/** The mask register that AVX-512 kernels keep for tails, and the vector register that AVX2 kernels do. */
export const tailMask = 1;
export const avx2Mask = 15;
