import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openSafetensorsFile, writeSafetensors } from '../../src/checkpoint/safetensors-files.js';
import type { TensorEntry } from '../../src/checkpoint/tensor-entry.js';
import { AnnealError } from '../../src/core/errors.js';
import { CharacterTokenizer } from '../../src/data/character-tokenizer.js';
import { int32, program, Rng } from '../../src/index.js';
import { type LanguageModelConfig, resolveConfig } from '../../src/models/lm/config.js';
import {
  configFromHuggingFace,
  configToHuggingFace,
  type JsonObject,
} from '../../src/models/lm/hugging-face.js';
import { loadLanguageModel } from '../../src/models/lm/load.js';
import { saveLanguageModel } from '../../src/models/lm/save.js';
import { Transformer } from '../../src/models/lm/transformer.js';
import { weightEntries } from '../../src/models/lm/weights.js';
import { applyLora } from '../../src/nn/lora.js';
import { parametersOf } from '../../src/nn/module.js';

const folder = await mkdtemp(path.join(tmpdir(), 'anneal-models-'));
const tokenizer = new CharacterTokenizer([...'abcdefghij']);

/** Saved by transformers; recorded by test/golden/record_checkpoints.py. */
const golden = JSON.parse(readFileSync(new URL('../golden/checkpoints.json', import.meta.url), 'utf8')) as {
  name: string;
  config: JsonObject;
  weights: string;
  tokens: number[];
  logits: number[];
}[];

async function directoryOf(name: string, files: Record<string, string | Uint8Array>): Promise<string> {
  const home = path.join(folder, name);
  await mkdir(home, { recursive: true });
  for (const [file, content] of Object.entries(files)) await writeFile(path.join(home, file), content);
  return home;
}

const savedBy = (model: (typeof golden)[number]) =>
  directoryOf(model.name, {
    'config.json': JSON.stringify(model.config),
    'model.safetensors': Buffer.from(model.weights, 'base64'),
    'tokenizer.json': JSON.stringify(tokenizer.toJSON()),
  });

async function logitsOf(model: Transformer, tokens: readonly number[], rows = 1): Promise<number[]> {
  const run = program({ tokens: int32([rows, null]) }, (x) => ({ y: model.forward(x.tokens) }));
  const { y } = await run({ tokens: Int32Array.from(tokens) });
  run.dispose();
  return [...y.data];
}

function expectClose(got: readonly number[], want: readonly number[], tolerance = 2e-5): void {
  expect(got.length).toBe(want.length);
  const worst = want.reduce((max, v, i) => Math.max(max, Math.abs(got[i]! - v)), 0);
  expect(worst).toBeLessThan(tolerance * Math.max(1, ...want.map(Math.abs)));
}

describe('directories that transformers saved', () => {
  it.each(golden)('$name: the same logits', async (model) => {
    const { model: loaded } = await loadLanguageModel(await savedBy(model));
    expectClose(await logitsOf(loaded, model.tokens, 2), model.logits);
  });

  it.each(golden)('$name: saved again, the same tensors and config', async (model) => {
    const bundle = await loadLanguageModel(await savedBy(model));
    const home = path.join(folder, `${model.name} again`);
    await saveLanguageModel(home, bundle);
    const [before, after] = await Promise.all(
      [path.join(folder, model.name), home].map((dir) =>
        openSafetensorsFile(path.join(dir, 'model.safetensors')),
      ),
    );
    expect([...after!.tensors.keys()].sort()).toEqual([...before!.tensors.keys()].sort());
    for (const name of before!.tensors.keys()) {
      expect(after!.tensors.get(name)!.shape).toEqual(before!.tensors.get(name)!.shape);
      expect(await after!.readFloat32(name)).toEqual(await before!.readFloat32(name));
    }
    await Promise.all([before!.close(), after!.close()]);
    const config = JSON.parse(await readFile(path.join(home, 'config.json'), 'utf8')) as JsonObject;
    expect(config.architectures).toEqual(model.config.architectures);
    expect(configFromHuggingFace(config)).toEqual(configFromHuggingFace(model.config));
  });
});

describe('config.json', () => {
  const llama: JsonObject = {
    architectures: ['LlamaForCausalLM'],
    hidden_act: 'silu',
    hidden_size: 2048,
    intermediate_size: 8192,
    max_position_embeddings: 131072,
    num_attention_heads: 32,
    num_hidden_layers: 16,
    num_key_value_heads: 8,
    rms_norm_eps: 1e-5,
    rope_theta: 500000,
    rope_scaling: {
      ...{ factor: 32, high_freq_factor: 4, low_freq_factor: 1, rope_type: 'llama3' },
      original_max_position_embeddings: 8192,
    },
    tie_word_embeddings: true,
    vocab_size: 128256,
  };

  it('in the old spelling of rotary scaling and in the new', () => {
    const { rope_theta, rope_scaling, ...rest } = llama;
    const old = configFromHuggingFace(llama);
    const renewed = { ...rest, rope_parameters: { ...(rope_scaling as object), rope_theta } };
    expect(configFromHuggingFace(renewed)).toEqual(old);
    expect(old).toMatchObject({
      ...{ dim: 2048, headDim: 64, kvHeads: 8, ropeBase: 500000, tied: true, qkvBias: false },
      ropeScaling: {
        type: 'llama3',
        factor: 32,
        lowFrequencyFactor: 1,
        highFrequencyFactor: 4,
        originalContext: 8192,
      },
    });
    const oldest = { ...rest, rope_theta, rope_scaling: { type: 'linear', factor: 2 } };
    expect(configFromHuggingFace(oldest).ropeScaling).toEqual({ type: 'linear', factor: 2 });
    const plain = { ...rest, rope_parameters: { rope_type: 'default', rope_theta } };
    expect(configFromHuggingFace(plain).ropeScaling).toBeUndefined();
    const yarn = { rope_type: 'yarn', factor: 4, beta_fast: 16 };
    expect(configFromHuggingFace({ ...rest, rope_scaling: yarn }).ropeScaling).toEqual({
      ...{ type: 'yarn', factor: 4, betaFast: 16, originalContext: 131072 },
    });
  });

  const refused: [string, JsonObject, RegExp][] = [
    [
      'another architecture',
      { architectures: ['MixtralForCausalLM'] },
      /architecture MixtralForCausalLM is not supported, only Llama/,
    ],
    ['no architecture', { architectures: undefined }, /model_type undefined is not supported/],
    ['another activation', { hidden_act: 'gelu' }, /"hidden_act": "gelu"/],
    ['quantised weights', { quantization_config: { bits: 4 } }, /"quantization_config".*quantised/],
    ['biases', { attention_bias: true }, /"attention_bias": true/],
    ['biases of the MLP', { mlp_bias: true }, /"mlp_bias": true/],
    ['sliding windows', { use_sliding_window: true }, /sliding-window/],
    [
      'layers of another kind',
      { layer_types: ['full_attention', 'sliding_attention'] },
      /"layer_types" has "sliding_attention"/,
    ],
    [
      'another scaling',
      { rope_scaling: { rope_type: 'longrope', factor: 2 } },
      /type "longrope" is not supported/,
    ],
    ['a scaling without its factor', { rope_scaling: { rope_type: 'linear' } }, /"factor" is missing/],
    ['partial rotation', { partial_rotary_factor: 0.5 }, /"partial_rotary_factor": 0.5/],
    ['a missing size', { hidden_size: undefined }, /"hidden_size" is missing; it must be a number/],
    ['a size that is a text', { vocab_size: '10' }, /"vocab_size" is "10"/],
  ];
  it.each(refused)('refuses %s', (_name, change, message) => {
    expect(() => configFromHuggingFace({ ...llama, ...change })).toThrow(message);
    expect(() => configFromHuggingFace({ ...llama, ...change })).toThrow(AnnealError);
  });

  it('gives back any config of ours', () => {
    const scaling = fc.constantFrom<LanguageModelConfig['ropeScaling']>(
      undefined,
      { type: 'linear', factor: 2 },
      { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 32 },
      { type: 'yarn', factor: 4, originalContext: 16, betaFast: 20, betaSlow: 2, attentionFactor: 1.1 },
    );
    const configs = fc
      .record({
        vocabulary: fc.integer({ min: 2, max: 99 }),
        heads: fc.constantFrom(2, 4),
        headDim: fc.constantFrom(4, 6),
        layers: fc.integer({ min: 1, max: 3 }),
        qkvBias: fc.boolean(),
        qkNorm: fc.boolean(),
        tied: fc.boolean(),
        mlp: fc.constantFrom<'swiglu' | 'gelu' | 'relu2'>('swiglu', 'gelu', 'relu2'),
        norm: fc.constantFrom<'rms' | 'layer'>('rms', 'layer'),
        positions: fc.constantFrom<'rope' | 'none' | 'learned'>('rope', 'none', 'learned'),
        ropeScaling: scaling,
      })
      .map(({ ropeScaling, ...c }) =>
        resolveConfig({ ...c, dim: 24, hidden: 10, context: 64, ...(ropeScaling && { ropeScaling }) }),
      );
    fc.assert(
      fc.property(configs, (config) => {
        const json = JSON.parse(JSON.stringify(configToHuggingFace(config, [3]))) as JsonObject;
        expect(resolveConfig(configFromHuggingFace(json))).toEqual(config);
      }),
    );
  });
});

describe('saveLanguageModel', () => {
  const base: LanguageModelConfig = { vocabulary: 12, dim: 16, layers: 1, heads: 2, hidden: 24, context: 32 };
  const kinds: [string, Partial<LanguageModelConfig>][] = [
    ['a Llama', {}],
    ['grouped heads, biases, an untied head', { kvHeads: 1, qkvBias: true, tied: false }],
    ['a GPT of our own', { mlp: 'relu2', norm: 'layer', positions: 'learned' }],
  ];
  it.each(kinds)('%s comes back bit for bit', async (name, change) => {
    const model = new Transformer({ ...base, ...change }, { rng: new Rng(5) });
    const home = path.join(folder, name);
    await saveLanguageModel(home, { model, tokenizer, endTokens: [4], chatTemplate: '{{ messages }}' });
    expect((await readdir(home)).sort()).toEqual([
      ...[
        'config.json',
        'generation_config.json',
        'model.safetensors',
        'tokenizer.json',
        'tokenizer_config.json',
      ],
    ]);
    const back = await loadLanguageModel(home);
    expect(back).toMatchObject({ endTokens: [4], chatTemplate: '{{ messages }}', name });
    expect(back.model.config).toEqual(model.config);
    expect([...back.tokenizer.encode('abc')]).toEqual([...tokenizer.encode('abc')]);
    const loaded = parametersOf(back.model);
    for (const [key, variable] of parametersOf(model))
      expect(loaded.get(key)!.data, key).toEqual(variable.data);
  });

  it('refuses a model whose adapter is not merged', () => {
    const model = new Transformer(base);
    applyLora(model, { rank: 2 });
    expect(() => weightEntries(model)).toThrow(/has an adapter; merge it first/);
  });

  it('reads a model in shards, and a template in a file of its own', async () => {
    const model = new Transformer(base, { rng: new Rng(6) });
    const home = path.join(folder, 'sharded');
    await saveLanguageModel(home, { model, tokenizer, endTokens: [] });
    const entries = [...weightEntries(model)];
    const map: Record<string, string> = {};
    for (const [i, half] of [entries.slice(0, 4), entries.slice(4)].entries()) {
      const file = `model-0000${i + 1}-of-00002.safetensors`;
      await writeSafetensors(path.join(home, file), new Map(half));
      for (const [name] of half) map[name] = file;
    }
    await writeFile(path.join(home, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
    await import('node:fs/promises').then((fs) => fs.rm(path.join(home, 'model.safetensors')));
    await writeFile(path.join(home, 'chat_template.jinja'), 'from a file');
    const back = await loadLanguageModel(home);
    expect(back.chatTemplate).toBe('from a file');
    expectClose(await logitsOf(back.model, [1, 2, 3]), await logitsOf(model, [1, 2, 3]), 1e-7);
  });

  describe('a file that does not fit', async () => {
    const model = new Transformer(base);
    const home = path.join(folder, 'broken');
    await saveLanguageModel(home, { model, tokenizer, endTokens: [] });
    const weights = path.join(home, 'model.safetensors');
    const rewrite = async (change: (entries: Map<string, TensorEntry>) => void) => {
      const entries = weightEntries(model);
      change(entries);
      await writeSafetensors(weights, entries);
    };
    const one: TensorEntry = { type: 'F32', shape: [1], data: Float32Array.of(1) };

    it('lacks tensors, which are named', async () => {
      await rewrite((entries) => entries.delete('model.layers.0.mlp.up_proj.weight'));
      await expect(loadLanguageModel(home)).rejects.toThrow('lacks "model.layers.0.mlp.up_proj.weight"');
    });

    it('has extra ones, but tables that are computed do not count', async () => {
      await rewrite((entries) => entries.set('model.layers.0.self_attn.rotary_emb.inv_freq', one));
      await loadLanguageModel(home);
      await rewrite((entries) => entries.set('model.layers.1.mlp.up_proj.weight', one));
      await expect(loadLanguageModel(home)).rejects.toThrow(
        /no place for: "model.layers.1.mlp.up_proj.weight"/,
      );
    });

    it('has one of another shape', async () => {
      await rewrite((entries) => entries.set('model.norm.weight', one));
      await expect(loadLanguageModel(home)).rejects.toThrow(
        '"model.norm.weight" is [1], but the model\'s config makes it [16]',
      );
    });

    it('is truncated, wherever', async () => {
      await rewrite(() => undefined);
      const whole = await readFile(weights);
      for (let length = 0; length < whole.length; length += 97) {
        await writeFile(weights, whole.subarray(0, length));
        await expect(loadLanguageModel(home), `${length} bytes`).rejects.toThrow(AnnealError);
      }
      await writeFile(weights, whole);
      await loadLanguageModel(home);
    });

    it('has a tokenizer of more tokens than the model', async () => {
      const other = new CharacterTokenizer([...'abcdefghijklmnopqrstuvw']);
      await writeFile(path.join(home, 'tokenizer.json'), JSON.stringify(other.toJSON()));
      await expect(loadLanguageModel(home)).rejects.toThrow(/the tokenizer has 23 tokens, the model only 12/);
    });

    it('has a config that is cut off', async () => {
      await writeFile(path.join(home, 'config.json'), '{"architectures": ["Llama');
      await expect(loadLanguageModel(home)).rejects.toThrow(/config.json is no JSON; it may be truncated/);
    });
  });

  it('says what a path is not', async () => {
    await expect(loadLanguageModel(path.join(folder, 'nowhere'))).rejects.toThrow(/it does not exist/);
    await expect(loadLanguageModel(await directoryOf('empty', {}))).rejects.toThrow(/has no config.json/);
    const file = path.join(await directoryOf('file', { 'a.bin': 'x' }), 'a.bin');
    await expect(loadLanguageModel(file)).rejects.toThrow(/neither a model directory nor a .gguf file/);
    await expect(loadLanguageModel(path.join(folder, 'a Llama'), { weights: 'packed' })).rejects.toThrow(
      /'packed' keeps the blocks of a .gguf file/,
    );
  });
});
