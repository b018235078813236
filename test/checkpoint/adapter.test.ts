import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSafetensorsFile, writeSafetensors } from '../../src/checkpoint/safetensors-files.js';
import { Rng } from '../../src/core/random.js';
import { int32, program } from '../../src/index.js';
import { loadAdapter, saveAdapter } from '../../src/models/lm/adapter.js';
import { loadLanguageModel } from '../../src/models/lm/load.js';
import type { Transformer } from '../../src/models/lm/transformer.js';
import { adaptersOf, applyLora, mergeLora, removeLora } from '../../src/nn/lora.js';
import { parametersOf } from '../../src/nn/module.js';

const golden = fileURLToPath(new URL('../golden/', import.meta.url));
const reference = path.join(golden, 'peft-adapter');
const { tokens, plain, adapted } = JSON.parse(await readFile(path.join(golden, 'lora.json'), 'utf8')) as {
  tokens: number[][];
  plain: number[][];
  adapted: number[][];
};

const base = async () => (await loadLanguageModel(path.join(golden, 'tiny-llama'))).model;

/** Logits after the last token of each row. */
async function lastLogits(model: Transformer): Promise<number[][]> {
  const [rows, length] = [tokens.length, tokens[0]!.length];
  const run = program({ tokens: int32([rows, length]) }, ({ tokens }) => ({ logits: model.forward(tokens) }));
  const { logits } = await run({ tokens: Int32Array.from(tokens.flat()) });
  run.dispose();
  const all = logits.toArray() as number[][][];
  return all.map((row) => row.at(-1)!);
}

const largestDifference = (a: number[][], b: number[][]) =>
  Math.max(...a.flatMap((row, i) => row.map((v, j) => Math.abs(v - b[i]![j]!))));

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-adapter-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A copy of the reference adapter whose config is changed. */
async function withConfig(changes: object): Promise<string> {
  await cp(reference, folder, { recursive: true });
  const file = path.join(folder, 'adapter_config.json');
  const config = JSON.parse(await readFile(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...config, ...changes }));
  return folder;
}

const tensorsOf = async (file: string) => {
  const reader = await openSafetensorsFile(file);
  const found = new Map<string, { shape: readonly number[]; data: number[] }>();
  for (const [name, { shape }] of reader.tensors)
    found.set(name, { shape, data: [...(await reader.readFloat32(name))] });
  await reader.close();
  return found;
};

describe('an adapter of PEFT', () => {
  it('gives the logits that PEFT computes', async () => {
    const model = await base();
    expect(largestDifference(await lastLogits(model), plain)).toBeLessThan(1e-4);
    const adapters = await loadAdapter(reference, model);
    expect(adapters.size).toBe(8);
    // alpha_pattern: 6 for down_proj, 12 elsewhere, at rank 4.
    expect(adapters.get('layers.1.mlp.down')!.scale).toBe(1.5);
    expect(adapters.get('layers.1.attention.q')!.scale).toBe(3);
    expect(largestDifference(await lastLogits(model), adapted)).toBeLessThan(1e-4);
    expect(largestDifference(plain, adapted)).toBeGreaterThan(1);
    mergeLora(model);
    expect(largestDifference(await lastLogits(model), adapted)).toBeLessThan(1e-4);
  });

  it('is written again with the same tensors and an equivalent config', async () => {
    const model = await base();
    await loadAdapter(reference, model);
    await saveAdapter(folder, model);
    expect((await readdir(folder)).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
    const ours = await tensorsOf(path.join(folder, 'adapter_model.safetensors'));
    const theirs = await tensorsOf(path.join(reference, 'adapter_model.safetensors'));
    expect(new Map([...ours].sort())).toEqual(new Map([...theirs].sort()));
    const config = JSON.parse(await readFile(path.join(folder, 'adapter_config.json'), 'utf8'));
    const wanted = JSON.parse(await readFile(path.join(reference, 'adapter_config.json'), 'utf8'));
    expect(config.target_modules.sort()).toEqual(wanted.target_modules.sort());
    for (const key of ['peft_type', 'task_type', 'r', 'lora_alpha', 'use_rslora', 'bias', 'rank_pattern'])
      expect(config[key]).toEqual(wanted[key]);
    // Theirs names down_proj once, ours each module of it.
    expect(config.alpha_pattern).toEqual({
      'model\\.layers\\.0\\.mlp\\.down_proj': 6,
      'model\\.layers\\.1\\.mlp\\.down_proj': 6,
    });
    const again = await base();
    await loadAdapter(folder, again);
    expect(await lastLogits(again)).toEqual(await lastLogits(model));
  });

  it('replaces the values of an adapter of the same form, and is refused beside another', async () => {
    const model = await base();
    const first = await loadAdapter(reference, model);
    for (const { loraB } of first.values()) loraB.data.fill(0);
    expect(await loadAdapter(reference, model)).toEqual(first);
    expect(largestDifference(await lastLogits(model), adapted)).toBeLessThan(1e-4);
    removeLora(model);
    applyLora(model, { rank: 2 });
    await expect(loadAdapter(reference, model)).rejects.toThrow('has an adapter already');
  });
});

describe('an adapter of ours', () => {
  it('keeps every bit on the way to a file and back, with other ranks and rsLora', async () => {
    const model = await base();
    applyLora(model, { rank: 3, alpha: 7, rsLora: true, targets: [/layers\.0\.attention\.q$/, 'gate'] });
    const rng = new Rng(4);
    for (const { loraB } of adaptersOf(model).values()) loraB.set(rng.normal(loraB.size));
    await saveAdapter(folder, model, { base: 'somewhere/tiny' });
    const config = JSON.parse(await readFile(path.join(folder, 'adapter_config.json'), 'utf8'));
    expect(config.base_model_name_or_path).toBe('somewhere/tiny');
    // q is adapted in one layer of two: PEFT must not take the others for targets.
    expect(config.target_modules.sort()).toEqual(['gate_proj', 'model.layers.0.self_attn.q_proj']);
    expect(config.use_rslora).toBe(true);
    const other = await base();
    await loadAdapter(folder, other);
    const [a, b] = [parametersOf(model), parametersOf(other)];
    expect([...b.keys()]).toEqual([...a.keys()]);
    for (const [name, { data }] of a) expect(b.get(name)!.data).toEqual(data);
    const scales = (m: Transformer) => [...adaptersOf(m).values()].map(({ scale }) => scale);
    expect(scales(other)).toEqual(scales(model));
    expect(scales(model)[0]).toBeCloseTo(7 / Math.sqrt(3), 12);
  });

  it('needs an adapter', async () => {
    await expect(saveAdapter(folder, await base())).rejects.toThrow('the model has no adapter');
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('an adapter that cannot be used', () => {
  const unchanged = async (from: string, message: string | RegExp) => {
    const model = await base();
    await expect(loadAdapter(from, model)).rejects.toThrow(message);
    expect(adaptersOf(model).size).toBe(0);
    expect([...parametersOf(model).values()].every((p) => p.trainable)).toBe(true);
  };

  it.each([
    [{ peft_type: 'IA3' }, '"peft_type" is "IA3"'],
    [{ use_dora: true }, '"use_dora": true (DoRA)'],
    [{ bias: 'lora_only' }, '"bias": "lora_only" (trained biases)'],
    [{ modules_to_save: ['lm_head'] }, '"modules_to_save": ["lm_head"]'],
    [{ init_lora_weights: 'pissa_niter_16' }, 'changed the base'],
    [{ lora_alpha: 0 }, '"lora_alpha" is 0'],
  ])('with %j is refused by name', async (changes, message) => {
    await unchanged(await withConfig(changes), message);
  });

  it('that is absent, truncated or of another model is refused', async () => {
    await unchanged(path.join(folder, 'nowhere'), /adapter_config\.json/);
    await withConfig({});
    const weights = path.join(folder, 'adapter_model.safetensors');
    const bytes = await readFile(weights);
    await writeFile(weights, bytes.subarray(0, bytes.length - 4));
    await unchanged(folder, /truncated|no intact safetensors/);
    await writeFile(path.join(folder, 'adapter_config.json'), '{"peft_type"');
    await unchanged(folder, 'is no JSON');
  });

  it.each([
    [
      'a module that the model lacks',
      'base_model.model.model.layers.7.mlp.up_proj',
      [2, 32],
      [48, 2],
      'adapts "model.layers.7.mlp.up_proj"',
    ],
    [
      'another width',
      'base_model.model.model.layers.0.mlp.up_proj',
      [2, 16],
      [48, 2],
      'but the model maps 32 to 48',
    ],
    [
      'two ranks',
      'base_model.model.model.layers.0.mlp.up_proj',
      [2, 32],
      [48, 3],
      'but the model maps 32 to 48',
    ],
  ])('for %s is refused', async (_, name, a, b, message) => {
    await withConfig({});
    const entry = (shape: number[]) => ({
      type: 'F32' as const,
      shape,
      data: new Float32Array(shape[0]! * shape[1]!),
    });
    await writeSafetensors(
      path.join(folder, 'adapter_model.safetensors'),
      new Map([
        [`${name}.lora_A.weight`, entry(a)],
        [`${name}.lora_B.weight`, entry(b)],
      ]),
    );
    await unchanged(folder, message);
  });

  it('for half an update, or with more than LoRA, is refused', async () => {
    await withConfig({});
    const file = path.join(folder, 'adapter_model.safetensors');
    const name = 'base_model.model.model.layers.0.mlp.up_proj';
    const data = new Float32Array(64);
    await writeSafetensors(file, new Map([[`${name}.lora_A.weight`, { type: 'F32', shape: [2, 32], data }]]));
    await unchanged(folder, `lacks "${name}.lora_B.weight"`);
    await writeSafetensors(
      file,
      new Map([[`${name}.lora_magnitude_vector`, { type: 'F32', shape: [64], data }]]),
    );
    await unchanged(folder, 'which is no part of a LoRA update');
  });
});
