import type { InstructionSet } from './instructions.js';

/** What is compiled into a product with packed weights; the other sizes are parameters. */
export interface PackedCode {
  bits: 4 | 8;
  /** Weights that share a scale. */
  block: 16 | 32;
  /** Length of a row: a multiple of 32. */
  inputs: number;
  /** There is a minimum for each block (4 bits in blocks of 32 only). */
  hasMinima: boolean;
  /** Scales and minima are float16. */
  isHalf: boolean;
}

/** Parameters, in 8-byte words. */
export const packedParameter = {
  rows: 0,
  outputs: 1,
  rowBlock: 2,
  outputBlock: 3,
  outputBlocks: 4,
} as const;

/** Variables on the stack, in 8-byte words; the quantised rows lie above them. */
export const local = {
  caller: 0,
  values: 1,
  scales: 2,
  minima: 3,
  endOutput: 4,
  rows: 5,
  result: 6,
  output: 7,
  y: 8,
} as const;
export const localBytes = 128;

/** Outputs of a tile. */
export const tileOutputs = 4;
/** How far before their use weights are asked for, at least: what follows a row is elsewhere than the hardware expects. */
export const prefetched = 4096;
/** Activations that share a scale. */
export const group = 32;
/** Mask registers: scales of a whole chunk and of the last one, weights of the last one. */
export const masks = { scales: 1, lastScales: 2, lastWeights: 3 } as const;

/** How a row of weights is cut into vectors ("chunks"), and what is kept of the activations for each. */
export function packedLayout(code: PackedCode, set: InstructionSet) {
  const width = set === 'avx512' ? 64 : 32;
  const { bits, block, inputs, hasMinima, isHalf } = code;
  const perChunk = (8 * width) / bits;
  const lanesPerBlock = (block * bits) / 32;
  const fields: string[] = ['low'];
  if (bits === 4) fields.push('high');
  // AVX2 multiplies signed bytes by signs and magnitudes, and needs no correction for the zero point of 128.
  const hasStart = !hasMinima && (bits === 4 || set === 'avx512');
  if (hasStart) fields.push('start');
  fields.push('scale');
  if (hasMinima) fields.push('sums');
  return {
    width,
    hasStart,
    perChunk,
    lanesPerBlock,
    blocks: inputs / block,
    /** Weight blocks, and groups of activations, of a chunk. */
    blocksPerChunk: width / 4 / lanesPerBlock,
    groupsPerChunk: perChunk / group,
    chunks: Math.floor(inputs / perChunk),
    /** Weights in the last chunk, which is not whole; 0 if there is none. */
    rest: inputs % perChunk,
    offsets: Object.fromEntries(fields.map((name, i) => [name, i * width])) as Record<Field, number>,
    chunkBytes: fields.length * width,
    rowBytes: Math.ceil(inputs / perChunk) * fields.length * width,
    weightRowBytes: (inputs * bits) / 8,
    scaleBytes: isHalf ? 2 : 4,
  };
}
export type Field = 'low' | 'high' | 'start' | 'scale' | 'sums';
