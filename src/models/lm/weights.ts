import { entryOf, type TensorEntry } from '../../checkpoint/tensor-entry.js';
import type { TensorReader } from '../../checkpoint/tensor-file.js';
import { allocate } from '../../core/dtype.js';
import { AnnealError } from '../../core/errors.js';
import { formatShape, sameShape } from '../../core/shape.js';
import type { Variable } from '../../core/variable.js';
import { LoraLinear } from '../../nn/lora.js';
import { modulesOf, parametersOf } from '../../nn/module.js';
import { OutputMajorLinear } from '../../nn/output-major.js';
import { PackedEmbedding, PackedLinear, type PackedWeights, unpackData } from '../../nn/packed-linear.js';
import type { ResolvedConfig } from './config.js';
import type { Transformer } from './transformer.js';
import { fileRow, type Naming, type Placement, placementOf } from './weight-names.js';

/** Rows and columns that fit into the cache together: a plain transposition would miss it on every element. */
const tile = 32;

/** [rows, columns] → [columns, rows], row `rowOf(r)` of the source taken as row r. */
export function transposeInto(
  source: Float32Array,
  target: Float32Array,
  rows: number,
  columns: number,
  rowOf: (r: number) => number = (r) => r,
): void {
  for (let r0 = 0; r0 < rows; r0 += tile) {
    const r1 = Math.min(r0 + tile, rows);
    const starts = Array.from({ length: r1 - r0 }, (_, r) => rowOf(r0 + r) * columns);
    for (let c0 = 0; c0 < columns; c0 += tile) {
      const c1 = Math.min(c0 + tile, columns);
      for (let c = c0; c < c1; c++) {
        for (let r = r0; r < r1; r++) target[c * rows + r] = source[starts[r - r0]! + c]!;
      }
    }
  }
}

/** Names at most a few of many. */
function listed(names: readonly string[]): string {
  const shown = names.slice(0, 3).map((name) => `"${name}"`);
  return shown.join(', ') + (names.length > 3 ? ` and ${names.length - 3} more` : '');
}

/** Parameters of a model with the places of a file that hold them. */
export interface PlacedParameter {
  name: string;
  variable: Variable;
  placement: Placement;
}

/** Tensors that files carry besides the parameters: tables that are computed, and copies of a tied head. */
const isSuperfluous = (name: string, config: ResolvedConfig) =>
  /rotary_emb\.inv_freq$|^rope_freqs\.weight$/.test(name) ||
  (config.tied && (name === 'lm_head.weight' || name === 'output.weight'));

/**
 * Matches the parameters of a model with the tensors of a file.
 * @throws AnnealError that names the tensors that are missing, extra, or of another shape; nothing is loaded then.
 */
export function placeParameters(
  model: Transformer,
  reader: TensorReader,
  naming: Naming,
  isInterleaved = false,
): PlacedParameter[] {
  const placed: PlacedParameter[] = [];
  const missing: string[] = [];
  const used = new Set<string>();
  for (const [name, variable] of parametersOf(model)) {
    const placement = placementOf(name, naming, model.config, isInterleaved) ?? {
      source: name,
      transposed: false,
    };
    used.add(placement.source);
    const found = reader.tensors.get(placement.source);
    if (!found) {
      missing.push(placement.source);
      continue;
    }
    const expected = placement.transposed ? [...variable.shape].reverse() : variable.shape;
    if (!sameShape(found.shape, expected)) {
      throw new AnnealError(
        `${reader.name}: tensor "${placement.source}" is ${formatShape(found.shape)}, but the model's config makes it ${formatShape(expected)}`,
      );
    }
    placed.push({ name, variable, placement });
  }
  if (missing.length > 0) throw new AnnealError(`${reader.name} lacks ${listed(missing)}`);
  const extra = [...reader.tensors.keys()].filter((n) => !used.has(n) && !isSuperfluous(n, model.config));
  if (extra.length > 0) {
    throw new AnnealError(
      `${reader.name} has tensors that the model's config has no place for: ${listed(extra)}`,
    );
  }
  return placed;
}

/** Reads one parameter in float32. */
export async function loadParameter(
  reader: TensorReader,
  { variable, placement }: PlacedParameter,
): Promise<void> {
  const values = await reader.readFloat32(placement.source);
  const target = variable.data as Float32Array;
  const rows = placement.transposed ? variable.shape.at(-1)! : variable.shape[0]!;
  const rowOf = (r: number) => fileRow(r, rows, placement.interleavedHeads);
  if (placement.transposed) transposeInto(values, target, rows, variable.shape[0]!, rowOf);
  else if (placement.interleavedHeads === undefined) target.set(values);
  else for (let r = 0; r < rows; r++) target[r] = values[rowOf(r)]!;
}

/** Rows of a packed matrix in float32. */
function unpackedRows(weight: PackedWeights, [start, count]: readonly [number, number]): Float32Array {
  const { inputs } = weight;
  return unpackData(weight).subarray(start * inputs, (start + count) * inputs);
}

/** Matrices that are not stored as [inputs, outputs] in a variable: what a file gets for them. */
function specialEntry(module: object): { owned: readonly Variable[]; entry: TensorEntry } | undefined {
  if (module instanceof OutputMajorLinear) {
    const { weight, rows, inputs } = module;
    const [start, count] = rows;
    const data = () => (weight.data as Float32Array).subarray(start * inputs, (start + count) * inputs);
    return { owned: [weight], entry: { type: 'F32', shape: [count, inputs], data } };
  }
  if (!(module instanceof PackedLinear || module instanceof PackedEmbedding)) return undefined;
  const { weight } = module;
  const rows = module instanceof PackedLinear ? module.rows : ([0, weight.outputs] as const);
  const owned = [weight.values, weight.scales, ...(weight.minima ? [weight.minima] : [])];
  const data = () => unpackedRows(weight, rows);
  return { owned, entry: { type: 'F32', shape: [rows[1], weight.inputs], data } };
}

/** [inputs, outputs] → [outputs, inputs], made when it is written and dropped right after. */
function transposedEntry({ shape, size, data }: Variable): TensorEntry {
  const [inputs, outputs] = shape as [number, number];
  const turned = () => {
    const target = allocate('float32', size) as Float32Array;
    transposeInto(data as Float32Array, target, inputs, outputs);
    return target;
  };
  return { type: 'F32', shape: [outputs, inputs], data: turned };
}

/**
 * The tensors of a model under Hugging Face's names, packed ones in float32.
 * @throws AnnealError if the model has an adapter that is not merged.
 */
export function weightEntries(model: Transformer): Map<string, TensorEntry> {
  const place = (name: string): Placement =>
    placementOf(name, 'huggingFace', model.config) ?? { source: name, transposed: false };
  const entries = new Map<string, TensorEntry>();
  const owned = new Set<Variable>();
  for (const [path, module] of modulesOf(model)) {
    if (module instanceof LoraLinear)
      throw new AnnealError(`${path} has an adapter; merge it first, or save the adapter alone`);
    const special = specialEntry(module);
    if (!special) continue;
    entries.set(place(`${path}.weight`).source, special.entry);
    for (const variable of special.owned) owned.add(variable);
  }
  for (const [name, variable] of parametersOf(model)) {
    if (owned.has(variable)) continue;
    const { source, transposed } = place(name);
    entries.set(source, transposed ? transposedEntry(variable) : entryOf(variable));
  }
  return entries;
}
