import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AnswerRecord, answerMetrics, type ScoredAnswer } from '../../src/evaluate/answers.js';
import {
  evaluate,
  evaluateTask,
  gsm8k,
  loadTask,
  multipleChoice,
  questions,
  type Task,
  tasks,
  textPerplexity,
  type Verify,
  wilson,
} from '../../src/evaluate/index.js';
import { resolveSettings } from '../../src/evaluate/settings.js';
import { loadLanguageModel } from '../../src/models/lm/load.js';
import '../../src/index.js';

const golden = fileURLToPath(new URL('../golden/', import.meta.url));
const reference = JSON.parse(await readFile(path.join(golden, 'evaluate.json'), 'utf8')) as {
  choices: { context: string; choices: string[]; raw: number; perCharacter: number; perByte: number }[];
  greedy: { question: string; chat: boolean; tokens: number[]; text: string }[];
};
const bundle = await loadLanguageModel(path.join(golden, 'tiny-llama'));

let folder = '';
const write = async (name: string, items: readonly unknown[]) => {
  const file = path.join(folder, name);
  await writeFile(file, items.map((item) => `${JSON.stringify(item)}\n`).join(''));
  return file;
};
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-evaluate-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('answers', () => {
  it.each([true, false])('are those that transformers generates greedily (chat: %s)', async (chat) => {
    const items = reference.greedy.filter((one) => one.chat === chat);
    const records: AnswerRecord[] = [];
    const task = questions({ items, reference: 'text', maxTokens: 8 });
    const result = await evaluateTask(bundle, task, { chat, onRecord: (r) => records.push(r as never) });
    expect(records.map(({ answers }) => answers[0]!.text)).toEqual(items.map(({ text }) => text));
    expect(records.map(({ item }) => item)).toEqual(items.map((_, i) => i));
    expect(result.metrics.accuracy).toEqual(wilson(items.length, items.length));
    expect(result.metrics.cutOff).toEqual({ value: 1 });
    expect(result.metrics.answerTokens).toEqual({ value: 8 });
    expect(result).toMatchObject({ task: 'jsonl', kind: 'answer', items: items.length, notes: [] });
  });

  it('are judged by any verifier, which may be slow and may abstain', async () => {
    const items = reference.greedy.filter(({ chat }) => chat);
    const seen: unknown[] = [];
    const verify: Verify = async (answer, wanted, item) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      seen.push(item);
      if (wanted === 'Paris') return { verdict: 'abstain' };
      return { verdict: answer.includes('?') ? 'correct' : 'incorrect', extracted: answer.slice(0, 1) };
    };
    const task = questions({ items, reference: 'question', verify, maxTokens: 8 });
    const records: AnswerRecord[] = [];
    const { metrics } = await evaluateTask(bundle, task, { onRecord: (r) => records.push(r as never) });
    expect(new Set(seen)).toEqual(new Set(items));
    expect(records.map(({ answers }) => answers[0]!.verdict)).toEqual(['correct', 'abstain', 'incorrect']);
    expect(records[0]!.answers[0]!.extracted).toBe('?');
    expect(metrics.accuracy).toEqual(wilson(1, 2));
    expect(metrics.abstained).toEqual({ value: 1 / 3 });
  });

  it('of several samples are seeded, differ, and give pass@k', async () => {
    const items = reference.greedy.slice(0, 2);
    const verify: Verify = (answer) => ({ verdict: answer.length % 2 === 0 ? 'correct' : 'incorrect' });
    const run = async (seed: number) => {
      const records: AnswerRecord[] = [];
      const task = questions({ items, reference: 'text', verify, maxTokens: 4 });
      const options = { samples: 6, k: [1, 3, 6], seed, temperature: 1 };
      const { metrics } = await evaluateTask(bundle, task, {
        ...options,
        onRecord: (r) => records.push(r as never),
      });
      return { metrics, texts: records.map(({ answers }) => answers.map(({ text }) => text)), records };
    };
    const once = await run(1);
    expect((await run(1)).texts).toEqual(once.texts);
    expect((await run(2)).texts).not.toEqual(once.texts);
    expect(new Set(once.texts[0]).size).toBeGreaterThan(3);
    expect(Object.keys(once.metrics).slice(0, 4)).toEqual(['accuracy', 'pass@1', 'pass@3', 'pass@6']);
    const share = once.records.map(
      ({ answers }) => answers.filter((a) => a.verdict === 'correct').length / 6,
    );
    expect(once.metrics['pass@1']!.value).toBeCloseTo((share[0]! + share[1]!) / 2, 12);
    expect(once.metrics['pass@6']!.value).toBe(share.filter((s) => s > 0).length / 2);
  });

  it('to prompts that are too long keep the end of the prompt, and that is reported', async () => {
    const long = 'The cat sat on the mat. '.repeat(20);
    const task = questions({ items: [{ question: long, answer: '' }], maxTokens: 8 });
    const { notes } = await evaluateTask(bundle, task, { chat: false });
    expect(notes).toEqual(["1 prompts were longer than the model's context and lost their beginning"]);
  });

  it('end when the caller wants that', async () => {
    const controller = new AbortController();
    const task = questions({ items: reference.greedy, reference: 'text', maxTokens: 100 });
    const running = evaluateTask(bundle, task, { signal: controller.signal, slots: 1 });
    controller.abort(new Error('enough'));
    await expect(running).rejects.toThrow('enough');
  });
});

describe('metrics of answers', () => {
  const record = (...verdicts: ScoredAnswer['verdict'][]): AnswerRecord => ({
    task: 't',
    item: 0,
    reference: '',
    answers: verdicts.map((verdict) => ({ verdict, text: '', tokens: 3, finishReason: 'stop' })),
  });

  it('leave out what the verifier could not judge', () => {
    const records = [
      record('correct', 'incorrect', 'abstain'),
      record('abstain', 'abstain', 'abstain'),
      record('incorrect', 'incorrect', 'incorrect'),
    ];
    const metrics = answerMetrics(records, 3, { k: [1, 2, 3] });
    expect(metrics.accuracy!.value).toBe(0.25);
    expect(metrics['pass@1']!.value).toBe(0.25);
    // Two judged, one correct: pass@2 = 1. Three judged, none correct: 0.
    expect(metrics['pass@2']!.value).toBe(0.5);
    // Only one item has three judged samples.
    expect(metrics['pass@3']!.value).toBe(0);
    expect(metrics.abstained!.value).toBe(4 / 9);
  });

  it('know nothing where all abstain', () => {
    expect(answerMetrics([record('abstain')], 1, {}).accuracy).toEqual(wilson(0, 0));
    expect(answerMetrics([record('abstain', 'abstain')], 2, {}).accuracy!.value).toBeNaN();
  });
});

describe('multiple choice', () => {
  it('has the accuracies of lm-evaluation-harness', async () => {
    // Spaces are in the recorded choices; an answer that each way of counting gets right in other items.
    const items = reference.choices
      .filter(({ context }) => context !== '' && !/\s$/.test(context))
      .map(({ context, choices, ...picks }, i) => ({
        question: context,
        choices: choices.map((one) => one.trimStart()),
        answer: i === 0 ? picks.raw : 0,
        picks,
      }));
    const records: Record<string, unknown>[] = [];
    const { metrics } = await evaluateTask(bundle, multipleChoice({ items }), {
      onRecord: (r) => records.push(r),
    });
    // The delimiter is no part of a choice's length.
    expect(records.map(({ picks }) => (picks as { raw: number }).raw)).toEqual(
      items.map(({ picks }) => picks.raw),
    );
    const hits = (key: 'raw' | 'perByte') =>
      records.filter((r, i) => (r.picks as Record<string, number>)[key] === items[i]!.answer).length;
    expect(metrics.accuracy).toEqual(wilson(hits('raw'), items.length));
    expect(metrics.accuracyPerByte).toEqual(wilson(hits('perByte'), items.length));
    expect(hits('raw')).toBeGreaterThan(0);
    expect(hits('raw')).toBeLessThan(items.length);
  });

  it.each([
    [2, 2],
    ['B', 1],
    ['green', 1],
    ['2', 2],
  ])('takes the answer %j as choice %i', (answer, index) => {
    const item = { question: 'q', choices: ['red', 'green', 'blue'], answer };
    const task = multipleChoice({ items: [item] });
    expect(task.score.kind === 'choice' && task.score.answer(item)).toBe(index);
  });

  it('reads labels as ARC has them, numbers among them', () => {
    const item = { question: 'q', choices: { text: ['red', 'green'], label: ['1', '2'] }, answer: '1' };
    const { score } = multipleChoice({ items: [item] });
    expect(score.kind === 'choice' && score.answer(item)).toBe(0);
  });

  it('refuses items that do not fit, and says why', async () => {
    const run = (item: object) => evaluateTask(bundle, multipleChoice({ items: [item as never] }));
    await expect(run({ question: 'q', choices: ['a', 'b'], answer: 'E' })).rejects.toThrow(
      'the field "answer" of an item is "E", which is none of its 2 choices (A, B)',
    );
    await expect(run({ question: 'q', choices: 'ab', answer: 0 })).rejects.toThrow(
      'it must be a list of texts',
    );
    await expect(run({ q: 'q', choices: ['a', 'b'], answer: 0 })).rejects.toThrow(
      'the field "question" of an item is missing; its fields are q, choices, answer',
    );
  });
});

describe('texts', () => {
  it('are averaged over tokens and bytes', async () => {
    const items = [
      { name: 'long', text: 'The dog ran to the park, and the cat followed. '.repeat(12) },
      { name: 'short', text: 'Na\u00efve \u{1f600}?' },
    ];
    const records: { nats: number; tokens: number; bitsPerByte: number; bytes: number }[] = [];
    const task = textPerplexity({ items, context: 64, stride: 16 });
    const { metrics } = await evaluateTask(bundle, task, { onRecord: (r) => records.push(r as never) });
    const [a, b] = records as [(typeof records)[0], (typeof records)[0]];
    expect(b.bytes).toBe(12);
    expect(metrics.tokens).toEqual({ value: a.tokens + b.tokens });
    const nats = (a.nats * a.tokens + b.nats * b.tokens) / (a.tokens + b.tokens);
    expect(metrics.nats!.value).toBeCloseTo(nats, 12);
    expect(metrics.perplexity!.value).toBeCloseTo(Math.exp(nats), 9);
    const bits = (a.bitsPerByte * a.bytes + b.bitsPerByte * b.bytes) / (a.bytes + b.bytes);
    expect(metrics.bitsPerByte!.value).toBeCloseTo(bits, 12);
  });
});

describe('gsm8k', () => {
  const items = [
    { question: 'One and one?', answer: 'It is 1+1.\n#### 2' },
    { question: 'Two and two?', answer: 'It is 2+2.\n#### 4' },
  ];

  it('asks as lm-evaluation-harness does, and never shows the problem itself', () => {
    const task = gsm8k({ items, examples: items });
    expect(task.prompt(items[1]!, { chat: false })).toBe(
      'Question: One and one?\nAnswer: It is 1+1.\n#### 2\n\nQuestion: Two and two?\nAnswer:',
    );
    expect(gsm8k({ items }).prompt(items[0]!, { chat: false })).toBe('Question: One and one?\nAnswer:');
  });

  it('shows examples to chat models as turns', () => {
    const prompt = gsm8k({ items, examples: [items[0]!] }).prompt(items[1]!, { chat: true });
    expect((prompt as { role: string; content: string }[]).map(({ role }) => role)).toEqual([
      'system',
      'user',
      'assistant',
      'user',
    ]);
    expect(prompt.at(-1)).toEqual({ role: 'user', content: 'Two and two?' });
  });

  it('is loaded from files, with examples from another', async () => {
    const file = await write('gsm8k.jsonl', items);
    const shotsFile = await write('shots.jsonl', [{ question: 'Zero?', answer: '#### 0' }]);
    const task = await loadTask({ task: 'gsm8k', settings: { file, shots: '1', shotsFile } });
    expect(task.items).toEqual(items);
    expect(task.prompt(items[0], { chat: false })).toMatch(
      /^Question: Zero\?\nAnswer: #### 0\n\nQuestion: One/,
    );
    await expect(loadTask({ task: 'gsm8k', settings: { file, shots: 2, shotsFile } })).rejects.toThrow(
      'has 1 problems, not 2',
    );
    await expect(loadTask({ task: 'gsm8k', settings: { file, shots: 2 } })).rejects.toThrow(
      'needs shotsFile',
    );
  });
});

describe('a task by name', () => {
  it('is checked before anything runs', async () => {
    const good = { task: 'perplexity', settings: { file: await write('a.txt', ['some text']) } };
    await expect(evaluate(bundle, [good, { task: 'nothing' }])).rejects.toThrow(
      'there is no task "nothing"; there are gsm8k, jsonl, choice, perplexity',
    );
    await expect(loadTask({ task: 'toString' })).rejects.toThrow('there is no task "toString"');
    await expect(loadTask({ task: 'jsonl' })).rejects.toThrow('jsonl needs file=…');
    await expect(loadTask({ task: 'jsonl', settings: { file: 'x', promt: 'q' } })).rejects.toThrow(
      'jsonl has no option "promt"; it has file, prompt',
    );
    await expect(loadTask({ task: 'jsonl', settings: { file: 'x', match: 'toString' } })).rejects.toThrow(
      'match is "toString"; it must be one of exact, contains, number',
    );
    await expect(evaluate(bundle, [])).rejects.toThrow('name a task');
  });

  it('converts settings that are texts, and refuses others', () => {
    const kind = tasks.gsm8k!;
    expect(resolveSettings('gsm8k', kind, { file: 'f', maxTokens: '64' })).toMatchObject({
      maxTokens: 64,
      shots: 0,
    });
    expect(() => resolveSettings('gsm8k', kind, { file: 'f', maxTokens: 'many' })).toThrow(
      'gsm8k: maxTokens is "many"; it must be a number',
    );
    expect(() => resolveSettings('gsm8k', kind, { file: 3 })).toThrow('file is 3; it must be text');
  });

  it('reads items line by line and never skips one', async () => {
    const file = path.join(folder, 'bad.jsonl');
    await writeFile(file, '{"question": "a", "answer": "b"}\n\n{"question": \n');
    await expect(loadTask({ task: 'jsonl', settings: { file } })).rejects.toThrow('bad.jsonl, line 3:');
    await writeFile(file, '[1]\n');
    await expect(loadTask({ task: 'jsonl', settings: { file } })).rejects.toThrow(
      'line 1: it is no JSON object',
    );
    await writeFile(file, '\n');
    await expect(loadTask({ task: 'jsonl', settings: { file } })).rejects.toThrow('has no items');
    await expect(loadTask({ task: 'jsonl', settings: { file: `${file}.gone` } })).rejects.toThrow(
      'cannot read',
    );
  });

  it('fills fields into texts', async () => {
    const file = await write('fields.jsonl', [{ a: 'x', b: 3, sol: 'y' }]);
    const task = await loadTask({
      task: 'jsonl',
      settings: { file, prompt: '{{a}} and {{ b }}?', reference: 'sol', system: 'Be brief.' },
    });
    expect(task.prompt(task.items[0], { chat: false })).toBe('x and 3?');
    expect(task.prompt(task.items[0], { chat: true })).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'x and 3?' },
    ]);
  });
});

describe('evaluate', () => {
  it('runs several tasks and returns JSON', async () => {
    const file = await write('b.txt', ['The cat sat on the mat.']);
    const progress: string[] = [];
    const task: Task = questions({ items: reference.greedy, reference: 'text', maxTokens: 2 }) as Task;
    const result = await evaluate(bundle, [{ task: 'perplexity', settings: { file } }, task], {
      limit: 2,
      onProgress: ({ task, done, total }) => progress.push(`${task} ${done}/${total}`),
    });
    expect(result.model).toBe('tiny-llama');
    expect(result.tasks.map(({ task, items }) => [task, items])).toEqual([
      ['perplexity', 1],
      ['jsonl', 2],
    ]);
    expect(JSON.parse(JSON.stringify(result))).toEqual(result);
    expect(progress).toEqual(['perplexity 1/1', 'jsonl 1/2', 'jsonl 2/2']);
  });

  it('refuses impossible options', async () => {
    const task = questions({ items: reference.greedy, reference: 'text' });
    const run = (options: object) => evaluateTask(bundle, task, options);
    await expect(run({ limit: 0 })).rejects.toThrow('limit is 0');
    await expect(run({ samples: 1.5 })).rejects.toThrow('samples is 1.5');
    await expect(run({ samples: 4, k: [5] })).rejects.toThrow(
      'pass@5 needs 5 samples or more of each item, not 4',
    );
    await expect(run({ samples: 4, temperature: 0 })).rejects.toThrow('at temperature 0 are all the same');
    await expect(evaluateTask(bundle, questions({ items: [] }))).rejects.toThrow('jsonl: there are no items');
    const { chatTemplate: _, ...plain } = bundle;
    await expect(evaluateTask(plain, task, { chat: true })).rejects.toThrow('the model has no chat template');
  });
});
