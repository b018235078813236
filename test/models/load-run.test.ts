import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadLanguageModel } from '../../src/models/lm/load.js';
import { saveLanguageModel } from '../../src/models/lm/save.js';
import { adaptersOf } from '../../src/nn/lora.js';
import { parametersOf } from '../../src/nn/module.js';

const golden = fileURLToPath(new URL('../golden/', import.meta.url));
const tiny = path.join(golden, 'tiny-llama');

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-load-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A run directory whose checkpoint of step n has n as the first element of the last gain. */
async function makeRun(steps: readonly number[], best: unknown): Promise<void> {
  const bundle = await loadLanguageModel(tiny);
  for (const step of steps) {
    const at = path.join(folder, 'checkpoints', `step-${step}`);
    parametersOf(bundle.model).get('norm.weight')!.data[0] = step;
    await saveLanguageModel(at, bundle);
    await writeFile(path.join(at, 'state.json'), JSON.stringify({ format: 1, step, best }));
  }
}

const loadedStep = async () =>
  parametersOf((await loadLanguageModel(folder)).model).get('norm.weight')!.data[0];

describe('the model of a run directory', () => {
  it('is the checkpoint of the best evaluation', async () => {
    await makeRun([2, 4, 10], { step: 4, value: 1 });
    expect(await loadedStep()).toBe(4);
  });

  it('is the last one, by number, where there was no evaluation or its checkpoint is gone', async () => {
    await makeRun([2, 4, 10], null);
    expect(await loadedStep()).toBe(10);
    await writeFile(
      path.join(folder, 'checkpoints', 'step-10', 'state.json'),
      JSON.stringify({ best: { step: 3, value: 1 } }),
    );
    expect(await loadedStep()).toBe(10);
    await rm(path.join(folder, 'checkpoints', 'step-10', 'state.json'));
    expect(await loadedStep()).toBe(10);
  });

  it('does not exist before the first checkpoint', async () => {
    await mkdir(path.join(folder, 'checkpoints'));
    await expect(loadLanguageModel(folder)).rejects.toThrow('has no checkpoint yet');
  });
});

describe('an adapter folder', () => {
  const withBase = async (base: unknown) => {
    await cp(path.join(golden, 'peft-adapter'), folder, { recursive: true });
    const file = path.join(folder, 'adapter_config.json');
    const config = JSON.parse(await readFile(file, 'utf8'));
    await writeFile(file, JSON.stringify({ ...config, base_model_name_or_path: base }));
  };

  it('loads as its base with the update merged, and keeps its own end tokens and template', async () => {
    await withBase(tiny);
    await writeFile(path.join(folder, 'generation_config.json'), '{"eos_token_id": [7, 9]}');
    await writeFile(path.join(folder, 'tokenizer_config.json'), '{"chat_template": "own"}');
    const loaded = await loadLanguageModel(folder);
    expect(adaptersOf(loaded.model).size).toBe(0);
    expect(loaded).toMatchObject({ endTokens: [7, 9], chatTemplate: 'own', name: path.basename(folder) });
    const plain = await loadLanguageModel(tiny);
    const q = (model: object) => parametersOf(model).get('layers.0.attention.q.weight')!.data;
    const k = (model: object) => parametersOf(model).get('layers.0.attention.k.weight')!.data;
    expect(q(loaded.model)).not.toEqual(q(plain.model));
    expect(k(loaded.model)).toEqual(k(plain.model));
  });

  it.each([[null], ['somewhere/else']])('of %j is refused, for there is no such base', async (base) => {
    await withBase(base);
    await expect(loadLanguageModel(folder)).rejects.toThrow('correct base_model_name_or_path');
  });
});
