import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { loadLanguageModel } from '../../src/models/index.js';
import { loadRecipe } from '../../src/recipes/index.js';
import { type LaunchOptions, launch } from '../../src/recipes/launch.js';
import { readRun } from '../../src/train/index.js';

let folder: string;
const file = (name: string) => path.join(folder, name);
const songs = [
  'row, row, row your boat, ',
  'gently down the stream. ',
  'merrily, merrily, ',
  'life is but a dream. ',
];

beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-lm-'));
  writeFileSync(file('song.txt'), songs.join('').repeat(30));
  const lines = Array.from({ length: 24 }, (_, i) => JSON.stringify({ text: songs[i % 4]!.repeat(2) }));
  lines.splice(5, 0, '{"text": "torn');
  writeFileSync(file('songs.jsonl'), lines.join('\n'));
});

const small = [
  'steps=6',
  'batch=4',
  'microBatches=1',
  'model.layers=1',
  'model.dim=32',
  'model.context=16',
  'optimizer.lr=0.01',
  'schedule.warmup=0',
  'evaluate.every=3',
  'sample.every=6',
  'sample.tokens=4',
  'save.every=6',
];

async function run(name: string, overrides: readonly string[], options: LaunchOptions = {}) {
  const directory = file(name);
  const launched = await launch(await loadRecipe('lm'), {
    overrides: [...small, ...overrides],
    directory,
    ...options,
  });
  const derived = Object.fromEntries(launched.derived.map(({ name: key, value }) => [key, value]));
  return { ...launched, derived, record: existsSync(directory) ? await readRun(directory) : undefined };
}

describe('lm', () => {
  it.each([
    ['random', 'char', 'adamw'],
    ['windows', 'byte', 'muon'],
    ['packed', 'char', 'muon'],
    ['packed', 'bpe', 'adamw'],
  ])('trains on %s rows of %s tokens by %s', async (rows, kind, optimizer) => {
    const data = rows === 'packed' ? 'songs.jsonl' : 'song.txt';
    const quiet = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const { outcome, record } = await run(`${rows}-${kind}`, [
      `data=${file(data)}`,
      `rows=${rows}`,
      `tokenizer.kind=${kind}`,
      'tokenizer.vocabulary=280',
      `optimizer.name=${optimizer}`,
    ]);
    quiet.mockRestore();
    expect(outcome).toMatchObject({ status: 'finished', step: 6 });
    const losses = record!.events.flatMap((event) =>
      event.kind === 'evaluate' ? [event.metrics.loss!] : [],
    );
    expect(losses).toHaveLength(3);
    expect(losses[2]).toBeLessThan(losses[0]! - 0.05);
    // Every evaluation reads the same text.
    expect(losses[2]).toBeLessThan(losses[1]!);
  });

  it('counts its tokens: documents are closed, a single text is not', async () => {
    const whole = await run('none', [`data=${file('song.txt')}`, 'validation=0.25'], { dryRun: true });
    const characters = songs.join('').length * 30;
    expect(whole.derived.trainingTokens).toBe(Math.floor(characters * 0.75));
    const written: string[] = [];
    const spy = vi
      .spyOn(process.stderr, 'write')
      .mockImplementation((text) => written.push(String(text)) > 0);
    const parts = await run('none', [`data=${file('songs.jsonl')}`, 'validation=0.5'], { dryRun: true });
    spy.mockRestore();
    const texts = Array.from({ length: 24 }, (_, i) => songs[i % 4]!.repeat(2));
    const half = Math.floor(texts.join('').length / 2);
    expect(parts.derived.trainingTokens).toBe(half + 12);
    expect(written).toEqual([expect.stringMatching(/^left out line 6 of .*songs\.jsonl: no JSON/)]);
    expect(existsSync(file('none'))).toBe(false);
  });

  it.each([
    ['path', { keyConvolution: 3, positions: 'none' }, []],
    ['path-fox', { keyConvolution: 2, positions: 'none' }, ['model.keyConvolution=2', 'optimizer.name=muon']],
    ['stick-breaking', { keyConvolution: 1, positions: 'none' }, []],
    ['fox', { keyConvolution: 3, positions: 'rope' }, ['model.keyConvolution=3', 'model.positions=rope']],
  ])('trains %s attention, and its checkpoint is that model again', async (attention, expected, settings) => {
    const overrides = [`data=${file('song.txt')}`, `model.attention=${attention}`, ...settings];
    const { outcome, record } = await run(`attention-${attention}`, overrides);
    expect(outcome).toMatchObject({ status: 'finished', step: 6 });
    const losses = record!.events.flatMap((event) =>
      event.kind === 'evaluate' ? [event.metrics.loss!] : [],
    );
    expect(losses.at(-1)).toBeLessThan(losses[0]! - 0.05);
    const { model } = await loadLanguageModel(record!.directory);
    expect(model.config).toMatchObject({ attention, ...expected });
  });

  it('has rotary positions and no convolution unless told otherwise, and names the kinds of attention', async () => {
    const plain = await run('plain', [`data=${file('song.txt')}`]);
    const { model } = await loadLanguageModel(plain.record!.directory);
    expect(model.config).toMatchObject({ attention: 'softmax', keyConvolution: 1, positions: 'rope' });
    const unknown = run('none', [`data=${file('song.txt')}`, 'model.attention=linear'], { dryRun: true });
    await expect(unknown).rejects.toThrow('stick-breaking');
  });

  it('takes a tokenizer from a file', async () => {
    const { record } = await run('bpe', [
      `data=${file('song.txt')}`,
      'tokenizer.kind=bpe',
      'tokenizer.vocabulary=270',
    ]);
    const made = path.join(record!.directory, 'checkpoints', 'step-6', 'tokenizer.json');
    const { derived } = await run(
      'none',
      [`data=${file('song.txt')}`, 'tokenizer.kind=file', `tokenizer.file=${made}`],
      { dryRun: true },
    );
    expect(derived.vocabulary).toBe(270);
    const missing = run('none', [`data=${file('song.txt')}`, 'tokenizer.kind=file'], { dryRun: true });
    await expect(missing).rejects.toThrow('tokenizer.kind=file needs tokenizer.file, a tokenizer.json');
  });

  it('stops when its signal says so, and goes on from there', async () => {
    const overrides = [`data=${file('song.txt')}`, 'steps=40'];
    const controller = new AbortController();
    const stream = {
      isTTY: false,
      columns: 80,
      write: (text: string) => {
        if (text.startsWith('step 10/')) controller.abort();
      },
    };
    const first = await run('stopped', overrides, { signal: controller.signal, stream });
    expect(first.outcome).toMatchObject({ status: 'stopped', step: 10 });
    const second = await run('stopped', overrides);
    expect(second.outcome).toMatchObject({ status: 'finished', step: 40 });
    expect(second.record!.events.filter((event) => event.kind === 'train')).toHaveLength(40);
  });

  it('keeps and evaluates averaged weights', async () => {
    const overrides = [`data=${file('song.txt')}`, 'average=0.9'];
    const { record } = await run('average', overrides);
    const state = JSON.parse(
      readFileSync(path.join(record!.directory, 'checkpoints', 'step-6', 'state.json'), 'utf8'),
    );
    expect(state.weights).toBe('average');
  });
});

describe('moby-dick', () => {
  it('is a model of a million parameters on the whole novel', async () => {
    const { derived, config } = await launch(await loadRecipe('moby-dick'), {
      dryRun: true,
      overrides: ['steps=10'],
    });
    const value = (name: string) => derived.find((one) => one.name === name)!.value;
    expect(value('vocabulary')).toBe(2048);
    // 2048·128 of the table, 4 layers of 4·128² + 3·128·352 and two gains, one more gain.
    expect(value('parameters')).toBe(2048 * 128 + 4 * (4 * 128 ** 2 + 3 * 128 * 352 + 256) + 128);
    // Nine tenths of 1.21 million characters, 3.2 to a token.
    expect(value('trainingTokens')).toBeGreaterThan(340_000);
    expect(value('trainingTokens')).toBeLessThan(345_000);
    expect(config).toMatchObject({ steps: 10, optimizer: { name: 'muon' } });
  });
});
