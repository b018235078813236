import { type GgmlType, ggmlTypes, halfAt, scaleAndMinimum, sixBits } from '../../checkpoint/ggml.js';
import type { GgufFile } from '../../checkpoint/gguf.js';
import { allocate } from '../../core/dtype.js';
import { Embedding } from '../../nn/embedding.js';
import type { Linear } from '../../nn/linear.js';
import { modulesOf } from '../../nn/module.js';
import { type PackedData, PackedEmbedding, PackedLinear, PackedWeights } from '../../nn/packed-linear.js';
import type { Transformer } from './transformer.js';
import { fileRow, type Placement } from './weight-names.js';
import type { PlacedParameter } from './weights.js';

/**
 * Types whose blocks can be kept: scale · integer, or scale · integer + minimum. Where the file has float16 factors for
 * each block they stay so: products of one row are as fast as weights are read. Those of larger blocks are products.
 */
const packable = {
  Q4_0: { bits: 4, block: 32, hasMinima: false, factors: 'float16' },
  Q4_1: { bits: 4, block: 32, hasMinima: true, factors: 'float16' },
  Q4_K: { bits: 4, block: 32, hasMinima: true, factors: 'float32' },
  Q8_0: { bits: 8, block: 32, hasMinima: false, factors: 'float16' },
  Q6_K: { bits: 8, block: 16, hasMinima: false, factors: 'float32' },
} as const satisfies Partial<Record<GgmlType, object>>;

export type PackableType = keyof typeof packable;
const isPackable = (type: GgmlType): type is PackableType => Object.hasOwn(packable, type);

/** Where one block of a file goes: number of its first packed block, and of that block's row and place in the row. */
interface Target {
  data: PackedData;
  row: number;
  /** Packed block within the row. */
  column: number;
}

/** Sets the factors of a block, or the bits of factors that are kept as float16. */
function setBlock({ data, row, column }: Target, offset: number, scale: number, minimum: number): void {
  const at = row * (data.inputs / data.block) + column + offset;
  data.scales[at] = scale;
  if (data.minima) data.minima[at] = minimum;
}

/** The bits of a float16. */
const bitsAt = (bytes: Uint8Array, at: number): number => bytes[at]! | (bytes[at + 1]! << 8);

/** 32 integers of 4 bits, low halves of 16 bytes first, as pairs of neighbours. */
function packNibbles(bytes: Uint8Array, from: number, out: Uint8Array, to: number): void {
  for (let i = 0; i < 8; i++) {
    const [a, b] = [bytes[from + 2 * i]!, bytes[from + 2 * i + 1]!];
    out[to + i] = (a & 15) | ((b & 15) << 4);
    out[to + 8 + i] = (a >> 4) | (b & 0xf0);
  }
}

type BlockPacker = (bytes: Uint8Array, at: number, target: Target) => void;

const bytesAt = ({ data, row, column }: Target): number =>
  ((row * data.inputs + column * data.block) * data.bits) / 8;

/** How the blocks of each type are kept: scale · (q − 8) or (q − 128), or scale · q + minimum. */
const packers: Readonly<Record<PackableType, BlockPacker>> = {
  Q4_0(bytes, at, target) {
    packNibbles(bytes, at + 2, target.data.values, bytesAt(target));
    setBlock(target, 0, bitsAt(bytes, at), 0);
  },
  Q4_1(bytes, at, target) {
    packNibbles(bytes, at + 4, target.data.values, bytesAt(target));
    setBlock(target, 0, bitsAt(bytes, at), bitsAt(bytes, at + 2));
  },
  Q4_K(bytes, at, target) {
    const d = halfAt(bytes, at);
    const m = halfAt(bytes, at + 2);
    const to = bytesAt(target);
    for (let j = 0; j < 8; j++) {
      const [s, n] = scaleAndMinimum(bytes, at + 4, j);
      setBlock(target, j, d * s, -m * n);
      const from = at + 16 + 32 * (j >> 1);
      const shift = j % 2 === 0 ? 0 : 4;
      for (let i = 0; i < 16; i++) {
        const low = (bytes[from + 2 * i]! >> shift) & 15;
        const high = (bytes[from + 2 * i + 1]! >> shift) & 15;
        target.data.values[to + 16 * j + i] = low | (high << 4);
      }
    }
  },
  Q8_0(bytes, at, target) {
    const to = bytesAt(target);
    for (let i = 0; i < 32; i++) target.data.values[to + i] = bytes[at + 2 + i]! ^ 0x80;
    setBlock(target, 0, bitsAt(bytes, at), 0);
  },
  Q6_K(bytes, at, target) {
    const d = halfAt(bytes, at + 208);
    const to = bytesAt(target);
    for (let i = 0; i < 16; i++) setBlock(target, i, d * ((bytes[at + 192 + i]! << 24) >> 24), 0);
    for (let i = 0; i < 256; i++) target.data.values[to + i] = sixBits(bytes, at, i) + (128 - 32);
  },
};

/** Rows of a file's tensor, [outputs, inputs], to be packed: row `rowOf(r)` of it as row r. */
export interface PackingPart {
  bytes: Uint8Array;
  outputs: number;
  rowOf?(row: number): number;
}

/** Packs tensors of one type and width, one below the other. */
export function packTensors(parts: readonly PackingPart[], type: PackableType, inputs: number): PackedData {
  const { bits, block, hasMinima, factors } = packable[type];
  const { elements, bytes: blockBytes } = ggmlTypes[type];
  const outputs = parts.reduce((sum, part) => sum + part.outputs, 0);
  const count = (outputs * inputs) / block;
  const data = {
    bits,
    block,
    outputs,
    inputs,
    values: allocate('uint8', (outputs * inputs * bits) / 8) as Uint8Array,
    scales: allocate(factors, count) as Float32Array | Uint16Array,
    minima: hasMinima ? (allocate(factors, count) as Float32Array | Uint16Array) : undefined,
  };
  const rowBytes = (inputs / elements) * blockBytes;
  const pack = packers[type];
  let first = 0;
  for (const part of parts) {
    for (let r = 0; r < part.outputs; r++) {
      const start = (part.rowOf?.(r) ?? r) * rowBytes;
      for (let b = 0; b < inputs / elements; b++)
        pack(part.bytes, start + b * blockBytes, { data, row: first + r, column: (b * elements) / block });
    }
    first += part.outputs;
  }
  return data;
}

/** A projection or table to be packed: its module, where that lies, and its tensor in the file. */
interface Candidate {
  path: string;
  owner: Linear | Embedding;
  placement: Placement;
  type: PackableType;
}

/** Projections of the same input become rows of one matrix: one product instead of two or three. */
const groupOf = (path: string): string =>
  path.replace(/\.(q|k|v)$/, '.qkv').replace(/\.(gate|up)$/, '.gateUp');

/**
 * Replaces projections and the embedding of a model by packed ones wherever the file holds blocks that can be kept.
 * Returns the parameters that are left to be read in float32.
 */
export async function packParameters(
  model: Transformer,
  file: GgufFile,
  parameters: readonly PlacedParameter[],
): Promise<PlacedParameter[]> {
  const modules = modulesOf(model);
  const rest: PlacedParameter[] = [];
  const groups = new Map<string, Candidate[]>();
  for (const parameter of parameters) {
    const { name, placement } = parameter;
    const { type } = file.tensors.get(placement.source)!;
    const path = name.replace(/\.weight$/, '');
    const isMatrix = placement.transposed || name === 'embedding.weight';
    if (!isMatrix || !isPackable(type)) {
      rest.push(parameter);
      continue;
    }
    // Blocks of different kinds cannot share a matrix.
    const key = `${groupOf(path)} ${type}`;
    const candidate = { path, owner: modules.get(path) as Candidate['owner'], placement, type };
    groups.set(key, [...(groups.get(key) ?? []), candidate]);
  }
  for (const group of groups.values()) await packGroup(modules, file, group);
  return rest;
}

async function packGroup(
  modules: ReadonlyMap<string, object>,
  file: GgufFile,
  group: readonly Candidate[],
): Promise<void> {
  const parts: PackingPart[] = [];
  for (const { placement } of group) {
    const outputs = file.tensors.get(placement.source)!.shape[0]!;
    const rowOf = (row: number) => fileRow(row, outputs, placement.interleavedHeads);
    parts.push({ bytes: await file.readBytes(placement.source), outputs, rowOf });
  }
  const [{ type, placement }] = group as [Candidate];
  const inputs = file.tensors.get(placement.source)!.shape[1]!;
  const weight = new PackedWeights(packTensors(parts, type, inputs));
  let start = 0;
  for (const [i, { path, owner }] of group.entries()) {
    const count = parts[i]!.outputs;
    const module =
      owner instanceof Embedding
        ? new PackedEmbedding(weight)
        : new PackedLinear(weight, owner.bias, [start, count]);
    replace(modules, path, module);
    start += count;
  }
}

function replace(modules: ReadonlyMap<string, object>, path: string, module: object): void {
  const dot = path.lastIndexOf('.');
  const parent = modules.get(dot < 0 ? '' : path.slice(0, dot)) as Record<string, object>;
  parent[path.slice(dot + 1)] = module;
}
