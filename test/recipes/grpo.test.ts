import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeChat } from '../../src/data/chat.js';
import { Generator } from '../../src/generate/index.js';
import { AnnealError } from '../../src/index.js';
import { loadLanguageModel } from '../../src/models/lm/load.js';
import { grpo } from '../../src/recipes/grpo.js';
import { openProblems, problemOfItem } from '../../src/recipes/grpo-problems.js';
import { openGrader } from '../../src/recipes/grpo-rewards.js';
import { type GrpoConfig, grpoSettings } from '../../src/recipes/grpo-settings.js';
import { launch } from '../../src/recipes/launch.js';
import { sft } from '../../src/recipes/sft.js';
import { loadModel } from '../../src/recipes/sft-model.js';
import type { Sample } from '../../src/rl/index.js';
import { type RunEvent, readEvents } from '../../src/train/index.js';

const tiny = fileURLToPath(new URL('../golden/tiny-llama', import.meta.url));

let folder = '';
let data = '';
/** A tiny model that answers "3 or 4 or 5?" with one of them. */
let unsure = '';
/** The tiny model with room for a generated problem. */
let roomy = '';
const write = async (name: string, lines: readonly unknown[]) => {
  const file = path.join(folder, name);
  await writeFile(file, lines.map((one) => JSON.stringify(one)).join('\n'));
  return file;
};

const questions = Array.from({ length: 15 }, (_, i) => `pick ${'abcdefghijklmno'[i]}`);

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-grpo-'));
  data = await write(
    'pick.jsonl',
    questions.map((question) => ({ question, answer: 'so #### 4' })),
  );
  const answers = questions.flatMap((question) => ['3', '4', '5'].map((answer) => ({ question, answer })));
  const { outcome } = await launch(sft as never, {
    directory: path.join(folder, 'sft'),
    overrides: [
      ...[`model=${tiny}`, `data=${await write('answers.jsonl', answers)}`, 'method=full', 'context=64'],
      ...['batch=8', 'microBatches=1', 'optimizer.lr=3e-3', 'steps=60', 'sample.count=1', 'sample.tokens=4'],
    ],
  });
  unsure = outcome!.summary.model as string;
  roomy = path.join(folder, 'roomy');
  await cp(tiny, roomy, { recursive: true });
  const config = JSON.parse(await readFile(path.join(tiny, 'config.json'), 'utf8'));
  await writeFile(
    path.join(roomy, 'config.json'),
    JSON.stringify({ ...config, max_position_embeddings: 512 }),
  );
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Runs the recipe as the command line does. */
const start = (name: string, overrides: readonly string[], signal?: AbortSignal) =>
  launch(grpo as never, {
    directory: path.join(folder, name),
    overrides: [
      ...[`model=${unsure}`, `data=${data}`, 'promptTokens=64', 'maxTokens=6', 'temperature=1'],
      ...['prompts=4', 'samples=4', 'evaluate.every=100', 'sample.every=100', 'sample.count=1'],
      ...['reward=number', ...overrides],
    ],
    ...(signal && { signal }),
  });

const eventsOf = async (name: string) => (await readEvents(path.join(folder, name))).events;
const trainingOf = async (name: string) =>
  (await eventsOf(name)).flatMap((event: RunEvent) => (event.kind === 'train' ? [event] : []));
const evaluationsOf = async (name: string) =>
  (await eventsOf(name)).flatMap((event: RunEvent) => (event.kind === 'evaluate' ? [event.metrics] : []));

/** What a model says to a question, at temperature 0. */
async function answerOf(model: string, question: string): Promise<string> {
  const bundle = await loadLanguageModel(model);
  const generator = new Generator(bundle.model, { slots: 1, tokenizer: bundle.tokenizer });
  const prompt = encodeChat(bundle.tokenizer, bundle.chatTemplate!, [{ role: 'user', content: question }], {
    addGenerationPrompt: true,
  });
  const [completion] = await generator.generate([
    { prompt, maxTokens: 6, temperature: 0, stopTokens: bundle.endTokens },
  ]);
  await generator.close();
  return completion!.text;
}

describe('a chat model that picks one of three answers', () => {
  it('learns which one is rewarded, and is exported', async () => {
    const { outcome } = await start('learns', [
      ...['steps=40', 'optimizer.lr=1e-2', 'evaluate.every=20', 'evaluate.samples=8', 'lora.rank=8'],
    ]);
    expect(outcome).toMatchObject({ status: 'finished', step: 40 });
    const evaluations = await evaluationsOf('learns');
    expect(evaluations.length).toBe(3);
    const [before, after] = [evaluations[0]!, evaluations.at(-1)!];
    // One of three, if it has learnt the form.
    expect(before.accuracy).toBeGreaterThan(0.1);
    expect(before.accuracy).toBeLessThan(0.6);
    expect(after.accuracy).toBeGreaterThan(0.9);
    expect(before['pass@8']).toBeGreaterThanOrEqual(before.accuracy!);
    expect(Object.keys(before)).toEqual(
      expect.arrayContaining(['pass@2', 'pass@8', 'maj@4', 'maj@8', 'answered', 'truncated', 'length']),
    );
    expect(outcome!.summary.after).toMatch(/^\d+\.\d ± \d+\.\d %$/);
    // The merged model, and the run itself, load wherever a model is expected.
    const model = path.join(folder, 'learns', 'model');
    expect(outcome!.summary.model).toBe(model);
    for (const one of [model, path.join(folder, 'learns')]) expect(await answerOf(one, 'pick z')).toBe('4');
  });

  it('leaves a table of samples', async () => {
    const table = await readFile(path.join(folder, 'learns', 'rollouts', 'step-1.jsonl'), 'utf8');
    const rows = table
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(rows.length).toBe(16);
    for (const { question, reference, reward, completion } of rows) {
      expect(questions).toContain(question);
      expect(reference).toBe('so #### 4');
      expect(reward).toBe(/4\D*$/.test(completion) ? 1 : 0);
    }
    expect(new Set(rows.map(({ reward }) => reward))).toEqual(new Set([0, 1]));
  });

  it('goes on bit for bit after a stop', async () => {
    const settings = [
      'steps=8',
      'optimizer.lr=5e-3',
      'lora.rank=4',
      'zeroVariance.kind=resample',
      'save.every=3',
    ];
    const whole = await start('whole', settings);
    const controller = new AbortController();
    const watch = setInterval(async () => {
      const steps = await trainingOf('parts').catch(() => []);
      if (steps.length >= 2) controller.abort();
    }, 5);
    const first = await start('parts', settings, controller.signal);
    clearInterval(watch);
    expect(first.outcome!.status).toBe('stopped');
    expect(first.outcome!.step).toBeLessThan(8);
    const second = await start('parts', settings);
    expect([whole, second].map(({ outcome }) => outcome!.status)).toEqual(['finished', 'finished']);
    const files = [
      path.join('model', 'model.safetensors'),
      ...Array.from({ length: 8 }, (_, i) => path.join('rollouts', `step-${i + 1}.jsonl`)),
    ];
    for (const file of files) {
      const [a, b] = await Promise.all(
        ['whole', 'parts'].map((name) => readFile(path.join(folder, name, file))),
      );
      expect(a!.equals(b!), file).toBe(true);
    }
    expect((await trainingOf('parts')).map(({ metrics }) => metrics!.reward)).toEqual(
      (await trainingOf('whole')).map(({ metrics }) => metrics!.reward),
    );
  });
});

describe('a run', () => {
  it.each([
    ['rloo', ['advantage=rloo', 'aggregation=sequence-mean-token-sum', 'overlong.kind=mask']],
    ['dr-grpo', ['advantage=dr-grpo', 'overlong.kind=penalty', 'overlong.buffer=3']],
    ['reinforce', ['advantage=reinforce++', 'kl.coefficient=0.1', 'kl.place=reward', 'kl.estimator=k1']],
    ['kl', ['kl.coefficient=0.1', 'zeroVariance.kind=keep', 'updatesPerRollout=2', 'entropy=0.01']],
    ['full', ['method=full', 'kl.coefficient=0.1', 'optimizer.lr=1e-3', 'zeroVariance.kind=keep']],
  ])('by %s learns something and ends with a model', async (name, settings) => {
    const { outcome } = await start(name, ['steps=3', 'optimizer.lr=5e-3', 'lora.rank=4', ...settings]);
    expect(outcome!.status).toBe('finished');
    const steps = await trainingOf(name);
    expect(steps.every(({ gradNorm }) => Number.isFinite(gradNorm) && gradNorm! > 0)).toBe(true);
    if (settings.includes('zeroVariance.kind=keep')) {
      // The reference is the model as it was: no distance before the first update, some after it.
      const kl = steps.map(({ metrics }) => metrics!.kl!);
      if (name === 'full') expect(kl[0]).toBeLessThan(1e-6);
      expect(kl.at(-1)).toBeGreaterThan(1e-5);
    }
    expect((await loadLanguageModel(outcome!.summary.model as string)).chatTemplate).toBeDefined();
  });

  it('exports an adapter, or the best weights', async () => {
    const settings = ['steps=3', 'export=adapter', 'evaluate.select=best', 'evaluate.every=1'];
    const { outcome } = await start('adapter', settings);
    const config = JSON.parse(
      await readFile(path.join(outcome!.summary.model as string, 'adapter_config.json'), 'utf8'),
    );
    expect(config).toMatchObject({ base_model_name_or_path: unsure, r: 16 });
    expect((await loadLanguageModel(outcome!.summary.model as string)).endTokens).toEqual([2]);
  });

  it('takes generated problems where there are no data', async () => {
    const { outcome, derived } = await launch(grpo as never, {
      directory: path.join(folder, 'generated'),
      overrides: [
        ...[`model=${roomy}`, 'steps=1', 'prompts=2', 'samples=2', 'maxTokens=4', 'promptTokens=320'],
        ...['evaluate.problems=2', 'sample.count=1'],
      ],
    });
    expect(outcome).toMatchObject({ status: 'finished', step: 1 });
    expect(derived.find(({ name }) => name === 'heldOutProblems')!.value).toBe(2);
    const table = await readFile(path.join(folder, 'generated', 'rollouts', 'step-1.jsonl'), 'utf8');
    for (const line of table.trim().split('\n')) expect(JSON.parse(line).reference).toMatch(/^\d+$/);
  });

  it.each([
    [['reward=choice', 'data='], 'data'],
    [['evaluate.samples=2', 'evaluate.temperature=0'], 'evaluate.samples=2 at evaluate.temperature=0'],
    [['overlong.kind=penalty'], 'overlong.buffer=16 is longer than answers, maxTokens=6'],
    [['miniBatches=5'], 'miniBatches=5 of prompts=4'],
    [['promptTokens=200'], "promptTokens=200 and maxTokens=6 are 206 tokens, the model's context 128"],
    [['promptTokens=8'], 'every held-out prompt has more than promptTokens=8 tokens'],
    [['limit=4'], '4 problems are too few to hold some out'],
    [['shots=20'], 'shots=20 needs as many problems'],
    [['fields.answer=colour'], 'the field "colour" of an item is missing'],
    [['data=/nowhere.jsonl'], '/nowhere.jsonl'],
    [['reward=code'], 'names neither "python" nor "javascript" as its language'],
    [['samples=1'], 'samples'],
    [['temperature=0'], 'temperature'],
  ])('with %j is refused', async (overrides, message) => {
    const running = start(`refused-${message.length}`, overrides);
    await expect(running).rejects.toThrow(AnnealError);
    await expect(running).rejects.toThrow(message);
    expect(existsSync(path.join(folder, `refused-${message.length}`))).toBe(false);
  });

  it('of generated problems is refused rewards that they cannot have', async () => {
    const running = launch(grpo as never, {
      directory: path.join(folder, 'refused'),
      overrides: [`model=${roomy}`, 'reward=code'],
    });
    await expect(running).rejects.toThrow(
      'reward=code needs data; generated problems have numbers as answers',
    );
  });
});

describe('items of data', () => {
  const read = (item: Record<string, unknown>, settings: Partial<GrpoConfig> = {}) =>
    problemOfItem(item as never, { fields: {}, reward: 'math', ...settings });

  it('become problems', () => {
    expect(read({ question: '1 + 1?', answer: '#### 2' })).toEqual({
      question: '1 + 1?',
      reference: '#### 2',
      solution: '#### 2',
    });
    expect(read({ problem: 'x?', solution: '3', answer: 4 })).toMatchObject({
      question: 'x?',
      reference: '4',
    });
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: '2 + 2?' },
    ];
    expect(read({ prompt: messages, gold: '4' })).toMatchObject({ question: '2 + 2?', messages });
    const fields = { prompt: '{{a}} and {{b}}?', answer: 'c' };
    expect(read({ a: 'one', b: 'two', c: 'three' }, { fields })).toMatchObject({
      question: 'one and two?',
      reference: 'three',
    });
    const code = { language: 'javascript', entry: 'f', tests: [{ kind: 'call', args: [1], expected: 2 }] };
    expect(read({ prompt: 'add one', problem: code }, { reward: 'code' })).toMatchObject({
      question: 'add one',
      problem: { entry: 'f' },
    });
  });

  it.each([
    [{ text: 'x', answer: '1' }, 'it has no prompt, question or problem, but text, answer'],
    [{ question: 'x' }, 'it has no reference'],
    [{ prompt: [{ role: 'assistant', content: 'x' }], answer: '1' }, 'not a text of the user'],
  ])('such as %j are named', (item, message) => {
    expect(() => read(item)).toThrow(message);
  });

  it('are scored by the verifier that is asked for', async () => {
    const { reward, answer, close } = await openGrader({ reward: 'math' }, []);
    const example = { question: '', reference: '12', solution: '12' };
    const sample = (text: string) => ({ text, example, group: 0 }) as unknown as Sample<typeof example>;
    const texts = ['7 + 5 = 12', '12', '7 + 5 = 13', 'none'];
    expect(await reward(texts.map(sample) as never, {} as never)).toEqual([1, 1, 0, 0]);
    const [a, b] = await Promise.all([answer(sample('= 12') as never), answer(sample('It is 12.') as never)]);
    expect(a.key).toBe(b.key);
    expect(b.isCorrect).toBe(true);
    await close();
  });

  it('that ask for programs are run in a sandbox', async () => {
    const tests = [1, 2, 3, 4].map((n) => ({ kind: 'call', args: [n], expected: n + 1 }));
    const example = read(
      { prompt: 'add one', problem: { language: 'javascript', entry: 'f', tests } },
      { reward: 'code' },
    );
    const { reward, close } = await openGrader({ reward: 'code' }, [example]);
    const programs = ['n + 1', '2'].map((body) => `\`\`\`js\nfunction f(n) { return ${body}; }\n\`\`\``);
    const samples = programs.map((text) => ({ text, example }));
    expect(await reward(samples as never, {} as never)).toEqual([1, 0]);
    await close();
  });
});

describe('problems to train on', () => {
  const config = (settings: Record<string, unknown>) => grpoSettings.parse({ model: roomy, ...settings });
  const open = async (settings: Record<string, unknown>) => {
    const resolved = config(settings);
    return openProblems(resolved, await loadModel(resolved));
  };
  const asked = (prompts: readonly { example: { question: string } }[]) =>
    prompts.map(({ example }) => example.question);

  it('are generated without end, none of them held out', async () => {
    const source = await open({
      ...{ problems: { numbers: [2, 4] }, promptTokens: 320, shots: 0, prompts: 50 },
      evaluate: { problems: 300 },
    });
    const heldOut = new Set(asked(source.heldOut));
    const trained = Array.from({ length: 10 }, (_, step) => asked(source.prompts(step, 0)));
    expect(trained.flat().filter((question) => heldOut.has(question))).toEqual([]);
    expect(new Set(trained.flat()).size).toBeGreaterThan(400);
    expect(asked(source.prompts(3, 0))).toEqual(trained[3]);
  });

  it('come once an epoch, in another order each time, and resampling goes on where it was', async () => {
    const source = await open({
      ...{ data, prompts: 4, promptTokens: 64, zeroVariance: { kind: 'resample', rounds: 2 } },
      evaluate: { problems: 3 },
    });
    expect([source.size, source.heldOut.length]).toEqual([12, 3]);
    const epoch = (step: number) => [0, 1, 2].flatMap((round) => asked(source.prompts(step, round)));
    const training = questions.filter((question) => !asked(source.heldOut).includes(question));
    for (const step of [0, 1, 2]) expect([...epoch(step)].sort()).toEqual(training);
    expect(epoch(0)).not.toEqual(epoch(1));
  });

  it('have solved examples and the message of the system before them', async () => {
    const resolved = config({
      data,
      shots: 1,
      system: 'Pick.',
      promptTokens: 128,
      evaluate: { problems: 2 },
    });
    const bundle = await loadModel(resolved);
    const source = await openProblems(resolved, bundle);
    const [{ prompt, example }] = source.prompts(0, 0) as [(typeof source.heldOut)[0]];
    const text = bundle.tokenizer.decode(prompt, { special: true });
    const shown =
      /^<\|im_start\|>system\nPick\.<\|im_end\|>\n<\|im_start\|>user\n(pick .)<\|im_end\|>\n/.exec(text);
    expect(shown).not.toBeNull();
    expect(text.slice(shown![0].length)).toBe(
      `<|im_start|>assistant\nso #### 4<|im_end|>\n<|im_start|>user\n${example.question}<|im_end|>\n<|im_start|>assistant\n`,
    );
    expect(shown![1]).not.toBe(example.question);
  });
});
