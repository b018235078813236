import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { renderChat } from '../../src/data/chat.js';
import type { LanguageBatch } from '../../src/data/index.js';
import { TokenBatches } from '../../src/data/token-batches.js';
import { evaluateTask, questions } from '../../src/evaluate/index.js';
import { AnnealError, float32, grad, int32, program, Variable } from '../../src/index.js';
import { defaultChatTemplate } from '../../src/models/lm/chat-template.js';
import { loadLanguageModel } from '../../src/models/lm/load.js';
import { languageModelLoss, weightedCrossEntropy } from '../../src/models/lm/loss.js';
import type { Transformer } from '../../src/models/lm/transformer.js';
import { launch } from '../../src/recipes/launch.js';
import { sft } from '../../src/recipes/sft.js';
import {
  conversationOf,
  countAnswerTokens,
  encodeAll,
  readConversations,
  splitConversations,
  validationBatches,
} from '../../src/recipes/sft-data.js';
import { type RunEvent, readEvents } from '../../src/train/index.js';

const tiny = fileURLToPath(new URL('../golden/tiny-llama', import.meta.url));
const bundle = await loadLanguageModel(tiny);
const template = bundle.chatTemplate!;

/** A toy instruction set: nothing of it can be guessed from the rest. */
const toy = [
  ['colour of the sky', 'blue'],
  ['colour of grass', 'green'],
  ['one plus two', '3'],
  ['opposite of hot', 'cold'],
  ['say cat', 'The cat sat on the mat.'],
  ['capital of Italy', 'Rome'],
  ['count', '1 2 3 4 5 6'],
  ['na\u00efve?', '\u{1f600} yes'],
].map(([question, answer]) => ({ question: question!, answer: answer! }));

let folder = '';
let data = '';
const write = async (name: string, lines: readonly unknown[]) => {
  const file = path.join(folder, name);
  await writeFile(file, lines.map((one) => (typeof one === 'string' ? one : JSON.stringify(one))).join('\n'));
  return file;
};
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-sft-'));
  data = await write('toy.jsonl', toy);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Runs the recipe as the command line does. */
const start = (name: string, overrides: readonly string[], signal?: AbortSignal) =>
  launch(sft as never, {
    directory: path.join(folder, name),
    overrides: [
      `model=${tiny}`,
      `data=${data}`,
      `validationData=${data}`,
      'context=64',
      'batch=4',
      'microBatches=1',
      'schedule.kind=constant',
      'sample.count=1',
      'sample.tokens=8',
      'evaluate.every=50',
      'save.every=50',
      ...overrides,
    ],
    ...(signal && { signal }),
  });

const accuracyOf = async (model: string) => {
  const loaded = await loadLanguageModel(model);
  const records: unknown[] = [];
  const task = questions({ items: toy, maxTokens: 40 });
  const result = await evaluateTask(loaded, task, { onRecord: (r) => records.push(r) });
  return { accuracy: result.metrics.accuracy!.value, cutOff: result.metrics.cutOff!.value, loaded, records };
};

const lossesOf = async (directory: string) =>
  (await readEvents(directory)).events.flatMap((event: RunEvent) =>
    event.kind === 'train' ? [event.loss] : [],
  );

describe('a toy instruction set', () => {
  it('is learnt exactly by a full fine-tuning', async () => {
    const { outcome } = await start('full', ['method=full', 'optimizer.lr=3e-3', 'steps=150']);
    expect(outcome).toMatchObject({ status: 'finished', step: 150 });
    expect(outcome!.summary.loss).toBeLessThan(0.05);
    const { accuracy, cutOff } = await accuracyOf(outcome!.summary.model as string);
    expect({ accuracy, cutOff }).toEqual({ accuracy: 1, cutOff: 0 });
    // The run itself can be loaded, too.
    expect((await accuracyOf(path.join(folder, 'full'))).accuracy).toBe(1);
  });

  it('is learnt exactly by an adapter, merged or not, and the base stays as it is', async () => {
    const settings = ['lora.rank=8', 'lora.alpha=16', 'optimizer.lr=1e-2', 'steps=250', 'evaluate.every=100'];
    const { outcome } = await start('merged', settings);
    const merged = path.join(folder, 'merged', 'model');
    expect(outcome!.summary.model).toBe(merged);
    expect(existsSync(path.join(merged, 'adapter_config.json'))).toBe(false);
    expect(await accuracyOf(merged)).toMatchObject({ accuracy: 1, cutOff: 0 });

    // The checkpoint of the run is an adapter, which loads on its base.
    const events = await readEvents(path.join(folder, 'merged'));
    expect(events.events.some((event: RunEvent) => event.kind === 'save')).toBe(true);
    const { accuracy, loaded } = await accuracyOf(path.join(folder, 'merged'));
    expect(accuracy).toBe(1);
    const whole = (await loadLanguageModel(merged)).model;
    const tokens = Int32Array.from(bundle.tokenizer.encode(toy[0]!.question));
    const logits = async (model: Transformer) => {
      const run = program({ tokens: int32([1, tokens.length]) }, ({ tokens }) => ({
        y: model.forward(tokens),
      }));
      return (await run({ tokens })).y.data;
    };
    const [a, b] = [await logits(whole), await logits(loaded.model)];
    expect(a).toEqual(b);
    expect(await logits(bundle.model)).not.toEqual(a);
  });

  it('can be exported as an adapter', async () => {
    const { outcome } = await start('adapter', ['export=adapter', 'steps=2', 'lora.targets=["q","mlp.up"]']);
    const written = outcome!.summary.model as string;
    const config = JSON.parse(await readFile(path.join(written, 'adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ base_model_name_or_path: tiny, r: 16, lora_alpha: 32 });
    expect(config.target_modules.sort()).toEqual(['q_proj', 'up_proj']);
    expect((await loadLanguageModel(written)).endTokens).toEqual(bundle.endTokens);
  });
});

describe('a run', () => {
  it('that is stopped goes on to the same losses, bit for bit', async () => {
    const settings = [
      'steps=60',
      'lora.rank=4',
      'optimizer.lr=3e-3',
      'schedule.kind=cosine',
      'evaluate.every=7',
    ];
    const whole = await start('whole', settings);
    expect(whole.outcome!.status).toBe('finished');
    const controller = new AbortController();
    // Stops it somewhere in the middle: as soon as ten steps are in the log.
    const directory = path.join(folder, 'parts');
    const watch = setInterval(async () => {
      const losses = await lossesOf(directory).catch(() => []);
      if (losses.length >= 10) controller.abort();
    }, 5);
    const first = await start('parts', settings, controller.signal);
    clearInterval(watch);
    const second = await start('parts', settings);
    expect(second.outcome).toMatchObject({ status: 'finished', step: 60 });
    expect(first.outcome!.status).toBe('stopped');
    expect(first.outcome!.step).toBeLessThan(60);
    expect(await lossesOf(directory)).toEqual(await lossesOf(path.join(folder, 'whole')));
    const weights = (name: string) => readFile(path.join(folder, name, 'model', 'model.safetensors'));
    expect((await weights('parts')).equals(await weights('whole'))).toBe(true);
  });

  it('says what it will do before it starts', async () => {
    const planned = await launch(sft as never, {
      directory: path.join(folder, 'planned'),
      overrides: [`model=${tiny}`, `data=${data}`, 'context=64', 'lora.rank=4', 'validation=0.25'],
      dryRun: true,
    });
    const derived = Object.fromEntries(planned.derived.map(({ name, value }) => [name, value]));
    // Rank 4 of q, k, v, o, gate, up, down at width 32, key and value width 16, hidden 48; two layers.
    const perLayer = 4 * (64 + 48 + 48 + 64 + 80 + 80 + 80);
    expect(derived).toMatchObject({
      trainedParameters: 2 * perLayer,
      trainingConversations: 6,
      validationConversations: 2,
      tokensPerStep: 512,
    });
    expect(derived.parameters).toBe(bundle.model.config.vocabulary * 32 + 2 * 7744 + 32);
    expect(existsSync(path.join(folder, 'planned'))).toBe(false);
  });

  it.each([
    [['weights=packed', 'method=full'], 'weights=packed cannot be trained'],
    [['weights=packed'], 'cannot be merged into packed weights; set export=adapter'],
    [['template=/nowhere.jinja'], 'template /nowhere.jinja cannot be read (ENOENT)'],
    [['context=4'], 'no answer of the training data begins within context=4 tokens'],
    [['data=/nowhere.jsonl'], '/nowhere.jsonl'],
    [['lora.targets=["qq"]'], 'no projection matches the target "qq"'],
  ])('with %j is refused', async (overrides, message) => {
    const running = start(`refused-${message.length}`, overrides);
    await expect(running).rejects.toThrow(AnnealError);
    await expect(running).rejects.toThrow(message);
  });
});

const conversations = toy.map((item) => conversationOf(item));
const encode = (context: number) =>
  encodeAll(conversations, bundle.tokenizer, template, context, '<|im_end|>').dataset;

describe('the loss', () => {
  const dataset = encode(64);
  /** All conversations in one batch. */
  const batchOf = (mode: 'packed' | 'padded') => {
    const { rowsPerEpoch } = new TokenBatches(dataset, { batch: 1, context: 64, mode });
    return new TokenBatches(dataset, { batch: rowsPerEpoch, context: 64, mode }).next();
  };

  it('is of answers and their end token only', () => {
    const text = Array.from({ length: dataset.documents }, (_, d) => {
      const learnt = [...dataset.tokens.subarray(dataset.starts[d], dataset.end(d))].filter(
        (_, i) => dataset.mask![dataset.starts[d]! + i] === 1,
      );
      return bundle.tokenizer.decode(learnt, { special: true });
    });
    expect(text).toEqual(toy.map(({ answer }) => `${answer}<|im_end|>`));
  });

  it('has a gradient of exactly zero at every target that is no answer', async () => {
    const batch = batchOf('packed');
    const [rows, length] = batch.tokens.shape as [number, number];
    const { vocabulary } = bundle.model.config;
    const logits = new Variable(
      Float32Array.from({ length: rows * length * vocabulary }, (_, i) => Math.sin(i)),
      'float32',
      [rows, length, vocabulary],
    );
    const run = program(
      { targets: int32([rows, length]), weights: float32([rows, length]) },
      ({ targets, weights }) => ({ g: grad(weightedCrossEntropy(logits, targets, weights), [logits])[0]! }),
    );
    const { g } = await run({ targets: batch.targets, weights: batch.weights });
    let masked = 0;
    for (let i = 0; i < rows * length; i++) {
      const row = g.data.subarray(i * vocabulary, (i + 1) * vocabulary);
      if (batch.weights.data[i] === 0) {
        masked++;
        expect(row.every((v) => v === 0)).toBe(true);
      } else expect(row.some((v) => Math.abs(v) > 1e-6)).toBe(true);
    }
    expect(masked).toBeGreaterThan(50);
    expect(masked).toBe(rows * length - countAnswerTokens(dataset));
  });

  it('does not depend on what the prompts’ targets are', async () => {
    const batch = batchOf('padded');
    const changed = batch.targets.data.map((token, i) =>
      batch.weights.data[i] === 0 ? (token + 1) % 300 : token,
    );
    const loss = program(
      { tokens: int32([8, 64]), targets: int32([8, 64]), weights: float32([8, 64]) },
      (inputs) => ({ loss: languageModelLoss(bundle.model, inputs) }),
    );
    const feeds = { tokens: batch.tokens, targets: batch.targets, weights: batch.weights };
    const value = async (targets: typeof batch.targets.data) =>
      (await loss({ ...feeds, targets: Int32Array.from(targets) })).loss.item();
    expect(await value(changed)).toBe(await value(batch.targets.data));
  });

  const meanLoss = async (batches: readonly LanguageBatch[]) => {
    const [rows, length] = batches[0]!.tokens.shape as [number, number];
    const shape = [rows, length];
    const isPacked = 'documents' in batches[0]!;
    const inputs = { tokens: int32(shape), targets: int32(shape), weights: float32(shape) };
    const packed = isPacked ? { documents: int32(shape), positions: int32(shape) } : {};
    const run = program({ ...inputs, ...packed }, (inputs) => ({
      loss: languageModelLoss(bundle.model, inputs),
    }));
    let sum = 0;
    for (const batch of batches) sum += (await run(batch as never)).loss.item();
    return sum / batches.length;
  };

  it('of packed rows equals that of one conversation a row, to 1e-5', async () => {
    const whole = await meanLoss([batchOf('padded')]);
    expect(whole).toBeGreaterThan(1);
    expect(batchOf('packed').tokens.shape[0]).toBeLessThan(8);
    expect(Math.abs((await meanLoss([batchOf('packed')])) - whole)).toBeLessThan(1e-5 * whole);
  });

  it('of validation is the mean over tokens, however they are cut into batches', async () => {
    const whole = await meanLoss([batchOf('padded')]);
    for (const [batch, packing] of [
      [3, false],
      [1, false],
      [2, true],
      [3, true],
    ] as const) {
      const batches = validationBatches(dataset, { batch, context: 64, packing });
      expect(batches.length).toBeGreaterThan(1);
      expect(Math.abs((await meanLoss(batches)) - whole)).toBeLessThan(2e-5 * whole);
    }
    expect(validationBatches(dataset, { batch: 1, context: 64, packing: false, limit: 2 })).toHaveLength(2);
  });
});

describe('conversations', () => {
  it('are read from messages, prompts or questions, and by a mapping', () => {
    const messages = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
    ];
    expect(conversationOf({ messages })).toEqual({ messages });
    expect(conversationOf({ messages, tools: [{ name: 't' }] })).toEqual({
      messages,
      tools: [{ name: 't' }],
    });
    expect(conversationOf({ prompt: 'a', completion: 'b' })).toEqual({ messages });
    expect(conversationOf({ question: 'a', answer: 'b' })).toEqual({ messages });
    expect(conversationOf({ question: 'a', answer: 'b' }, { system: 's' }).messages[0]).toEqual({
      role: 'system',
      content: 's',
    });
    const fields = { prompt: '{{instruction}}: {{input}}', completion: 'output' };
    expect(conversationOf({ instruction: 'add', input: 3, output: '4' }, fields).messages).toEqual([
      { role: 'user', content: 'add: 3' },
      { role: 'assistant', content: '4' },
    ]);
  });

  it('without an answer are refused', () => {
    expect(() => conversationOf({ text: 'a' })).toThrow('but text; set fields.prompt');
    expect(() => conversationOf({ messages: [{ role: 'user', content: 'a' }] })).toThrow('nothing to learn');
    expect(() => conversationOf({ messages: 'a' })).toThrow('no list of');
  });

  it('leave out lines that cannot be used, and name them', async () => {
    const file = await write('bad.jsonl', [toy[0], '{"question": ', '', { text: 1 }, '[]', '7', toy[1]]);
    const { conversations, notes } = await readConversations(file);
    expect(conversations).toHaveLength(2);
    expect(notes).toHaveLength(1);
    expect(notes[0]).toMatch(
      /^4 items of the data are left out \(line 2 of .*bad\.jsonl: no JSON .*; record 2: it has neither .*; line 5 of .*: no JSON object; …\)$/,
    );
    await expect(readConversations(await write('worse.jsonl', ['{', '{']))).rejects.toThrow(
      'holds no conversations that can be used (line 1 of',
    );
    await expect(readConversations(await write('empty.jsonl', ['']))).rejects.toThrow(
      'holds no conversations',
    );
    const more = await write('more.jsonl', toy);
    expect((await readConversations([data, more], {}, 9)).conversations).toHaveLength(9);
    expect((await readConversations(`${folder}/{toy,more}.jsonl`)).conversations).toHaveLength(16);
  });

  it('are split the same way for the same seed, and never into nothing', () => {
    const { training, validation } = splitConversations(conversations, 0.25, 1);
    expect([training.length, validation.length]).toEqual([6, 2]);
    expect(new Set([...training, ...validation]).size).toBe(8);
    expect(splitConversations(conversations, 0.25, 1)).toEqual({ training, validation });
    expect(splitConversations(conversations, 0.001, 1).validation).toHaveLength(1);
    expect(splitConversations(conversations, 0.999, 1).training).toHaveLength(1);
    expect(() => splitConversations(conversations.slice(0, 1), 0.5, 1)).toThrow('too few');
  });

  it('are cut off at the context, and counted', () => {
    const { dataset, cut } = encodeAll(conversations, bundle.tokenizer, template, 30, '<|im_end|>');
    const lengths = Array.from({ length: dataset.documents }, (_, d) => dataset.end(d) - dataset.starts[d]!);
    expect(Math.max(...lengths)).toBe(31);
    expect(cut).toBeGreaterThan(0);
    expect(cut).toBe(lengths.filter((one) => one === 31).length);
  });
});

describe('a model without a template', () => {
  it('gets ChatML, ended by its own tokens', () => {
    const made = defaultChatTemplate(bundle.tokenizer);
    expect(made.endToken).toBe(2);
    const messages = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
    ];
    expect(renderChat(made.template, messages, { addGenerationPrompt: true })).toBe(
      renderChat(template, messages, { addGenerationPrompt: true }),
    );
  });

  it('needs a token that can end an answer', () => {
    const { specialTokens: _, ...rest } = bundle.tokenizer as unknown as Record<string, unknown>;
    const plain = (endOfText: number | undefined) =>
      ({ ...rest, endOfText, decode: () => '<end>', specialTokens: undefined }) as never;
    expect(() => defaultChatTemplate(plain(undefined))).toThrow('no special token that can end an answer');
    expect(defaultChatTemplate(plain(5))).toMatchObject({ endToken: 5 });
    expect(defaultChatTemplate(plain(5)).template).toContain('<end>');
  });
});
