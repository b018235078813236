import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/index.js';
import { loadLanguageModel } from '../../src/models/lm/load.js';
import { smallCourse, withoutOverlap } from '../../src/recipes/acereason-domains.js';
import { codeProblemOf, realCourse } from '../../src/recipes/acereason-pretrained.js';
import { aceReasonSettings } from '../../src/recipes/acereason-settings.js';
import { loadRecipe } from '../../src/recipes/index.js';
import { type LaunchOptions, launch } from '../../src/recipes/launch.js';
import { wordsOf } from '../../src/rl/acereason/overlap.js';
import type { Sample } from '../../src/rl/index.js';
import { type RunEvent, readEvents } from '../../src/train/index.js';
import { stopAt } from './stop-at.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-acereason-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const stage = (name: string, domain: string, rest: object) => ({
  ...{ name, domain, maxTokens: 16, groupSize: 3, lr: 1e-3, batch: 2, length: { steps: 2 } },
  ...rest,
});
const stages = [
  stage('math-1', 'math', {}),
  stage('math-2', 'math', { maxTokens: 24, prompts: { atMost: 2, of: 2 }, rescore: true }),
  stage('code-1', 'code', { temperature: 0.8, length: { epochs: 1 } }),
];
/** A model of a moment: what it learns does not matter here. */
const tiny = [
  `stages=${JSON.stringify(stages)}`,
  'math.count=[1,2]',
  'math.problems=12',
  'programs.length=[1,1]',
  'programs.problems=4',
  'warmStart.steps=10',
  'warmStart.batch=4',
  'warmStart.examples=100',
  'model.layers=1',
  'model.dim=16',
  'model.heads=2',
  'evaluate.every=2',
  'evaluate.problems=4',
  'evaluate.samples=2',
  'slots=8',
];
const start = async (name: string, overrides: readonly string[] = tiny, options: LaunchOptions = {}) =>
  launch(await loadRecipe('acereason'), {
    directory: path.join(folder, name),
    overrides,
    ...options,
  });
const eventsOf = async (name: string) => (await readEvents(path.join(folder, name, 'curriculum'))).events;
const rewardsOf = (events: readonly RunEvent[]) =>
  events.flatMap((event) => (event.kind === 'train' ? [[event.metrics!.stage, event.metrics!.reward]] : []));

describe('the recipe acereason', () => {
  it('runs its stages, measures both domains through all of them, and reports', async () => {
    const { outcome } = await start('whole');
    const events = await eventsOf('whole');
    const steps = rewardsOf(events).map(([index]) => index);
    expect(steps.slice(0, 4)).toEqual([0, 0, 1, 1]);
    expect(new Set(steps.slice(4))).toEqual(new Set([2]));
    expect(outcome).toMatchObject({ status: 'finished', step: steps.length });
    const measured = events.filter((event) => event.kind === 'evaluate');
    for (const { metrics } of measured)
      expect(Object.keys(metrics)).toEqual(expect.arrayContaining(['math.accuracy', 'code.pass@2']));
    expect(measured.map(({ step }) => step).slice(0, 3)).toEqual([0, 2, 4]);
    const report = readFileSync(path.join(folder, 'whole', 'report.md'), 'utf8');
    expect(report).toMatch(/\| math-2 \| 2 \| \d+ \| 24 \| 3 \|/);
    expect(report).toMatch(/\d+ training problems were left out/);
    expect(outcome!.summary.math).toMatch(/ % → /);
  }, 120_000);

  it('that is stopped goes on to the same rewards and figures', async () => {
    const first = await start('stopped', tiny, stopAt(/step 2 {2}evaluation/));
    expect(first.outcome!.status).toBe('stopped');
    const last = await start('stopped');
    expect(last.outcome!.summary).toEqual((await start('whole')).outcome!.summary);
    expect(rewardsOf(await eventsOf('stopped'))).toEqual(rewardsOf(await eventsOf('whole')));
  }, 120_000);

  it('trains on no problem that an evaluated one shares words with', () => {
    const config = aceReasonSettings.parse({ math: { count: [2, 3] } });
    const { domains, small } = smallCourse(config);
    const words = (prompt: Int32Array) => wordsOf(small.tokenizer.decode(prompt)).join(' ');
    const evaluated = new Set(domains.math!.heldOut.map(({ prompt }) => words(prompt)));
    expect(domains.math!.removed).toBeGreaterThan(0);
    expect(domains.math!.pool.prompts).toHaveLength(config.math.problems - domains.math!.removed);
    for (const { prompt } of domains.math!.pool.prompts) expect(evaluated.has(words(prompt))).toBe(false);
    const all = { training: ['a b c'], heldOut: ['A, b: c'] };
    expect(() => withoutOverlap('math', all, (text) => text, 9)).toThrow(
      'every training problem of math shares 9 words',
    );
  });

  it('refuses what does not fit together', async () => {
    await expect(start('none', ['code=python'])).rejects.toThrow('set model.path');
    await expect(start('none', ['model.path=somewhere'])).rejects.toThrow('set code=python');
    const wrong = JSON.stringify([stage('one', 'poetry', {})]);
    await expect(start('none', [`stages=${wrong}`])).rejects.toThrow(AnnealError);
  });
});

describe('real problems', () => {
  // A copy of the small Llama with room for a prompt that shows tests.
  const model = path.join(folder, 'llama');
  cpSync(fileURLToPath(new URL('../golden/tiny-llama', import.meta.url)), model, { recursive: true });
  const shape = path.join(model, 'config.json');
  const fields = JSON.parse(readFileSync(shape, 'utf8'));
  writeFileSync(shape, JSON.stringify({ ...fields, max_position_embeddings: 512 }));
  const call = (args: readonly number[], expected: number) => ({ kind: 'call', args, expected });
  const sums = Array.from({ length: 4 }, (_, i) => ({
    id: `sum-${i}`,
    language: 'python',
    entry: 'add',
    prompt: `Write add(a, b), which gives a + b + ${i}.`,
    tests: [call([1, 2], 3 + i), call([2, 2], 4 + i), call([5, 0], 5 + i), call([0, 7], 7 + i)],
  }));
  const write = (name: string, rows: readonly object[]) => {
    const file = path.join(folder, name);
    writeFileSync(file, rows.map((row) => JSON.stringify(row)).join('\n'));
    return file;
  };
  const config = (change: object = {}) =>
    aceReasonSettings.parse({
      code: 'python',
      model: { path: model, rank: 2 },
      stages: [stage('code', 'code', { maxTokens: 8, length: { steps: 1 } })],
      programs: { data: write('sums.jsonl', sums), workers: 1 },
      evaluate: { problems: 1, samples: 1, every: 1 },
      slots: 8,
      ...change,
    });

  it('reads rows of HumanEval, MBPP and its own', () => {
    const mbpp = { task_id: 2, prompt: 'Add.', code: 'def add(a, b):\n  return a + b', test_imports: [] };
    expect(codeProblemOf({ ...mbpp, test_list: ['assert add(1, 2) == 3'] }, 'row')).toMatchObject({
      id: 'MBPP/2',
      entry: 'add',
    });
    expect(codeProblemOf(sums[0]!, 'row')).toMatchObject({ id: 'sum-0' });
    expect(() => codeProblemOf({ a: 1 }, 'row 7')).toThrow('row 7 names neither "python"');
  });

  it('shows some tests, hides others, and pays for programs that pass all of them', async () => {
    const course = await realCourse(config());
    try {
      await course.open();
      const { pool, heldOut, answer } = course.domains.code!;
      expect([pool.prompts.length, heldOut.length]).toEqual([3, 1]);
      const text = course.bundle.tokenizer.decode(pool.prompts[0]!.prompt);
      expect(text).toContain('It has to pass tests as these:');
      expect(text.match(/add\(\d, \d\) gives/g)).toHaveLength(2);
      const { example } = pool.prompts[0]!;
      const number = Number(/a \+ b \+ (\d)/.exec(text)![1]);
      const sample = (program: string) =>
        ({ example, text: `\`\`\`python\n${program}\n\`\`\``, group: 0 }) as Sample;
      const samples = [
        sample(`def add(a, b):\n    return a + b + ${number}`),
        sample('def add(a, b):\n    return 0'),
        { ...sample(''), text: 'I would add them.' },
      ];
      const context = { step: 0, signal: new AbortController().signal };
      expect(await pool.reward(samples, context)).toEqual([1, 0, 0]);
      expect(await answer(samples[0]!)).toMatchObject({ isCorrect: true });
      expect(course.report()).toMatch(/^\d programs in this session: 0 flagged/);
    } finally {
      await course.close();
    }
  }, 120_000);

  it('are learnt by an adapter, and the model is written with it', async () => {
    const math = write(
      'math.jsonl',
      Array.from({ length: 4 }, (_, i) => ({ question: `What is ${i} + 1?`, answer: `so #### ${i + 1}` })),
    );
    const lists = [stage('math', 'math', { maxTokens: 6, length: { steps: 1 } })];
    const { outcome } = await start('real', [
      'code=python',
      `model.path=${model}`,
      'model.rank=2',
      `stages=${JSON.stringify(lists)}`,
      `math.data=${math}`,
      'evaluate.problems=1',
      'evaluate.samples=1',
      'slots=4',
    ]);
    expect(outcome).toMatchObject({ status: 'finished', step: 1 });
    const written = await loadLanguageModel(String(outcome!.summary.model));
    expect(written.tokenizer.encode('What').length).toBeGreaterThan(0);
  }, 120_000);

  it('that are missing or too few are named', async () => {
    const lists = { stages: [stage('math', 'math', {})] };
    await expect(realCourse(config(lists))).rejects.toThrow('set math.data');
    await expect(realCourse(config({ evaluate: { problems: 9 } }))).rejects.toThrow(
      '4 problems of code are too few to keep 9',
    );
  });
});
