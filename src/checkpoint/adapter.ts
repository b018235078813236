import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { formatShape } from '../core/shape.js';
import type { Variable } from '../core/variable.js';
import { adaptersOf, attachLora, type LoraLinear, type LoraUpdate, projectionPaths } from '../nn/lora.js';
import type { Module } from '../nn/module.js';
import { writeFileAtomically } from './atomic.js';
import { fileError } from './file-source.js';
import { openSafetensorsFile, writeSafetensors } from './safetensors-files.js';
import type { TensorEntry } from './tensor-entry.js';

/*
 * Adapters in the layout of Hugging Face's PEFT: a folder of adapter_config.json and adapter_model.safetensors. The
 * tensors are called base_model.model.<module>.lora_A.weight [rank, inputs] and …lora_B.weight
 * [outputs, rank], with the module names of transformers: both matrices lie transposed here.
 */

const configFile = 'adapter_config.json';
const weightsFile = 'adapter_model.safetensors';
const prefix = 'base_model.model.';

/** What a projection of ours is called in files: `layers.0.attention.q` → `model.layers.0.self_attn.q_proj`. */
export type ModuleNaming = (path: string) => string | undefined;

/** How an adapter is written. */
export interface SaveAdapterOptions {
  /** Name or path of the base model, for PEFT to find it. */
  base?: string;
}

function transposed({ data, shape }: Variable): Float32Array {
  const [rows, columns] = shape as [number, number];
  const result = allocate('float32', rows * columns) as Float32Array;
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) result[c * rows + r] = data[r * columns + c]!;
  return result;
}

function entryOf(variable: Variable): TensorEntry {
  return { type: 'F32', shape: [...variable.shape].reverse(), data: () => transposed(variable) };
}

const lastPart = (name: string) => name.slice(name.lastIndexOf('.') + 1);

/** Names that select exactly these modules: PEFT takes a name for every module that ends with it. */
function targetModules(model: Module, adapted: ReadonlyMap<string, string>, nameOf: ModuleNaming): string[] {
  const partial = new Set<string>();
  for (const one of projectionPaths(model).keys()) {
    const name = nameOf(one);
    if (name !== undefined && !adapted.has(one)) partial.add(lastPart(name));
  }
  const targets = [...adapted.values()].map((name) => (partial.has(lastPart(name)) ? name : lastPart(name)));
  return [...new Set(targets)];
}

function configOf(
  model: Module,
  names: ReadonlyMap<string, string>,
  nameOf: ModuleNaming,
  base: string | undefined,
) {
  const adapters = [...adaptersOf(model)];
  const { rank, alpha, rsLora } = adapters[0]![1].update;
  if (adapters.some(([, { update }]) => update.rsLora !== rsLora))
    throw new AnnealError('saveAdapter: rsLora differs between projections; the format has one flag for all');
  const patterns = (key: 'rank' | 'alpha', usual: number) =>
    Object.fromEntries(
      adapters
        .filter(([, { update }]) => update[key] !== usual)
        .map(([at, { update }]) => [names.get(at)!.replaceAll('.', '\\.'), update[key]]),
    );
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base ?? null,
    r: rank,
    lora_alpha: alpha,
    rank_pattern: patterns('rank', rank),
    alpha_pattern: patterns('alpha', alpha),
    target_modules: targetModules(model, names, nameOf),
    use_rslora: rsLora,
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    modules_to_save: null,
    inference_mode: true,
  };
}

/**
 * Writes the adapter of a model as PEFT reads it. Each file is replaced as a whole.
 * @throws AnnealError if the model has no adapter, or adapts a projection that other libraries have no name for
 */
export async function writeAdapter(
  folder: string,
  model: Module,
  nameOf: ModuleNaming,
  options: SaveAdapterOptions = {},
): Promise<void> {
  const adapters = adaptersOf(model);
  if (adapters.size === 0)
    throw new AnnealError('saveAdapter: the model has no adapter; call applyLora first');
  const names = new Map<string, string>();
  const tensors = new Map<string, TensorEntry>();
  for (const [at, { loraA, loraB }] of adapters) {
    const name = nameOf(at);
    if (name === undefined)
      throw new AnnealError(`saveAdapter: the format has no name for ${at}; merge instead`);
    names.set(at, name);
    tensors.set(`${prefix}${name}.lora_A.weight`, entryOf(loraA));
    tensors.set(`${prefix}${name}.lora_B.weight`, entryOf(loraB));
  }
  const config = configOf(model, names, nameOf, options.base);
  await writeSafetensors(path.join(folder, weightsFile), tensors, { format: 'pt' });
  await writeFileAtomically(path.join(folder, configFile), `${JSON.stringify(config, null, 2)}\n`);
}

type Config = Readonly<Record<string, unknown>>;

/** Features that change what an adapter computes, with the values that mean they are off. */
const unsupported: [field: string, off: readonly unknown[], what: string][] = [
  ['use_dora', [false], 'DoRA'],
  ['bias', ['none'], 'trained biases'],
  ['lora_bias', [false], 'biases of the update'],
  ['use_qalora', [false], 'QALoRA'],
  ['use_bdlora', [false], 'block-diagonal LoRA'],
  ['modules_to_save', [], 'modules that are trained as a whole'],
  ['trainable_token_indices', [], 'trained tokens'],
  ['layer_replication', [], 'repeated layers'],
  ['alora_invocation_tokens', [], 'activated LoRA'],
  ['target_parameters', [], 'adapted parameters outside linear layers'],
];

/** Initial values that also changed the base: such an adapter does not fit the original weights. */
const changesBase = /^(pissa|olora|corda|loftq|lora_ga)/;

const isEmpty = (value: unknown) =>
  value === undefined || value === null || (Array.isArray(value) && value.length === 0);

async function readConfig(folder: string): Promise<Config> {
  const file = path.join(folder, configFile);
  let config: Config;
  try {
    config = JSON.parse(await readFile(file, 'utf8')) as Config;
  } catch (error) {
    if (error instanceof SyntaxError) throw new AnnealError(`${file} is no JSON: ${error.message}`);
    throw fileError('read', file, error);
  }
  const fail = (why: string) => new AnnealError(`${file}: ${why}`);
  if (config.peft_type !== 'LORA')
    throw fail(`"peft_type" is ${JSON.stringify(config.peft_type)}; only LORA adapters can be loaded`);
  for (const [field, off, what] of unsupported) {
    const value = config[field];
    if (!isEmpty(value) && !off.includes(value))
      throw fail(`"${field}": ${JSON.stringify(value)} (${what}) is not supported`);
  }
  if (changesBase.test(String(config.init_lora_weights)))
    throw fail(
      `"init_lora_weights": ${JSON.stringify(config.init_lora_weights)} changed the base's weights; convert the adapter with PEFT first`,
    );
  if (!(typeof config.lora_alpha === 'number' && config.lora_alpha > 0))
    throw fail(`"lora_alpha" is ${JSON.stringify(config.lora_alpha)}; it must be a positive number`);
  return config;
}

/** alpha of a module: of the first pattern that matches the end of its name, as PEFT looks it up. */
function alphaOf(config: Config, name: string): number {
  for (const [pattern, alpha] of Object.entries((config.alpha_pattern ?? {}) as Record<string, number>)) {
    if (new RegExp(`^(.*\\.)?(${pattern})$`).test(name)) return alpha;
  }
  return config.lora_alpha as number;
}

/** One module of an adapter file: its matrices as they lie there. */
interface StoredUpdate {
  a: { shape: readonly number[]; data: Float32Array };
  b: { shape: readonly number[]; data: Float32Array };
}

async function readUpdates(file: string): Promise<Map<string, StoredUpdate>> {
  const reader = await openSafetensorsFile(file);
  try {
    const updates = new Map<string, StoredUpdate>();
    const names = new Set<string>();
    for (const key of reader.tensors.keys()) {
      // Adapters that were saved with their name in it say lora_A.default.weight.
      const name = /^base_model\.model\.(.+)\.lora_[AB](?:\.default)?\.weight$/.exec(key)?.[1];
      if (name === undefined)
        throw new AnnealError(`${file} has the tensor "${key}", which is no part of a LoRA update`);
      names.add(name);
    }
    const read = async (name: string, which: 'A' | 'B') => {
      const key = [`${prefix}${name}.lora_${which}.weight`, `${prefix}${name}.lora_${which}.default.weight`];
      const found = key.find((one) => reader.tensors.has(one));
      if (found === undefined) throw new AnnealError(`${file} lacks "${key[0]}"`);
      return { shape: reader.tensors.get(found)!.shape, data: await reader.readFloat32(found) };
    };
    for (const name of names) updates.set(name, { a: await read(name, 'A'), b: await read(name, 'B') });
    return updates;
  } finally {
    await reader.close();
  }
}

const fillTransposed = (variable: Variable, data: Float32Array) => {
  const [rows, columns] = variable.shape as [number, number];
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) variable.data[r * columns + c] = data[c * rows + r]!;
};

/**
 * Reads an adapter that PEFT (or `writeAdapter`) wrote and applies it. If the model has an adapter of exactly this form
 * already, its values are replaced. Nothing has changed where this throws.
 *
 * @returns the adapted projections by path
 * @throws AnnealError if a file is missing or damaged, the adapter is no plain LoRA, or does not fit the model
 */
export async function readAdapter(
  folder: string,
  model: Module,
  nameOf: ModuleNaming,
): Promise<Map<string, LoraLinear>> {
  const config = await readConfig(folder);
  const file = path.join(folder, weightsFile);
  const stored = await readUpdates(file);
  if (stored.size === 0) throw new AnnealError(`${file} has no tensors`);
  const projections = projectionPaths(model);
  const paths = new Map([...projections.keys()].map((at) => [nameOf(at), at]));
  const updates = new Map<string, LoraUpdate>();
  const values = new Map<string, StoredUpdate>();
  for (const [name, one] of stored) {
    const at = paths.get(name);
    const base = at === undefined ? undefined : projections.get(at);
    if (at === undefined || !base)
      throw new AnnealError(`${file} adapts "${name}", which the model does not have`);
    const rank = one.a.shape[0]!;
    const fits =
      one.a.shape.join() === `${rank},${base.inputs}` && one.b.shape.join() === `${base.outputs},${rank}`;
    if (!fits) {
      throw new AnnealError(
        `${file}: "${name}" has A ${formatShape(one.a.shape)} and B ${formatShape(one.b.shape)}, but the model maps ${base.inputs} to ${base.outputs}`,
      );
    }
    updates.set(at, { rank, alpha: alphaOf(config, name), rsLora: config.use_rslora === true });
    values.set(at, one);
  }
  const adapters = matching(model, updates) ?? attachLora(model, updates);
  for (const [at, { a, b }] of values) {
    fillTransposed(adapters.get(at)!.loraA, a.data);
    fillTransposed(adapters.get(at)!.loraB, b.data);
  }
  return adapters;
}

/** The model's adapter, if it has one with exactly these updates. */
function matching(
  model: Module,
  updates: ReadonlyMap<string, LoraUpdate>,
): Map<string, LoraLinear> | undefined {
  const adapters = adaptersOf(model);
  if (adapters.size !== updates.size) return undefined;
  for (const [at, { update }] of adapters) {
    const wanted = updates.get(at);
    const isSame =
      wanted?.rank === update.rank && wanted.alpha === update.alpha && wanted.rsLora === update.rsLora;
    if (!isSame) return undefined;
  }
  return adapters;
}
