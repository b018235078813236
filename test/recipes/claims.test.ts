import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { cups, flipFlop } from '../../src/data/synthetic.js';
import { AnnealError } from '../../src/index.js';
import { type Cell, type Experiment, runCell, sequencesOf } from '../../src/recipes/claims/experiment.js';
import { cupsClaim, flipFlopClaim } from '../../src/recipes/claims/synthetic.js';
import { errorRate, experimentTables } from '../../src/recipes/claims/table.js';
import { launch } from '../../src/recipes/launch.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-claims-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const shape = {
  vocabulary: 1,
  dim: 16,
  layers: 1,
  heads: 2,
  hidden: 32,
  context: 1,
  mlp: 'gelu',
  tied: false,
} as const;
const cell = (arm: string, seed: number, wrong: number): Cell => ({
  setting: 's',
  arm,
  seed,
  errors: { e: { wrong, answers: 1000 } },
  loss: 0,
  parameters: 10,
  seconds: 2,
});

describe('tables', () => {
  const experiment: Experiment = {
    settings: [{ name: 's', task: cups(), length: 4, evaluations: [{ name: 'e', task: cups(), length: 4 }] }],
    arms: [
      { name: 'A', model: {} },
      { name: 'B', model: {} },
    ],
    published: { A: { 's/e': 6.9 } },
  };

  it('add up the answers of all seeds and show their range, and the published figure', () => {
    const cells = [cell('A', 0, 10), cell('A', 1, 30), cell('B', 0, 0)];
    expect(errorRate(cells, 's', 'A', 'e')).toEqual({ mean: 2, low: 1, high: 3, answers: 2000, seeds: 2 });
    expect(errorRate(cells, 's', 'C', 'e')).toBe(undefined);
    const text = experimentTables(experiment, cells);
    expect(text).toContain('| A | 2.00 (1.00–3.00) [6.90] | 10 | 2 |');
    expect(text).toContain('| B | 0 | 10 | 2 |');
  });
});

describe('a cell', () => {
  const setting = {
    name: 's',
    task: flipFlop(0.5),
    length: 12,
    evaluations: [{ name: 'e', task: flipFlop(0.5), length: 12 }],
  };
  const budget = { steps: 12, tokens: 48, lr: 1e-3, embedding: 0.02, answers: 200 };
  const run = (seed: number, signal = new AbortController().signal) =>
    runCell(setting, { name: 'PaTH', model: { attention: 'path' } }, seed, shape, budget, signal);

  it('depends on its seed alone, and an untrained model guesses', async () => {
    const [a, b, c] = [await run(1), await run(1), await run(2)];
    expect({ ...a, seconds: 0 }).toEqual({ ...b, seconds: 0 });
    expect(a!.loss).not.toBe(c!.loss);
    const { wrong, answers } = a!.errors.e!;
    expect(answers).toBeGreaterThanOrEqual(200);
    expect(wrong / answers).toBeGreaterThan(0.2);
  });

  it('starts from the embeddings that the budget asks for', async () => {
    const signal = new AbortController().signal;
    const arm = { name: 'RoPE', model: {} };
    const [narrow, wide] = [0.02, 1].map((embedding) =>
      runCell(setting, arm, 1, shape, { ...budget, embedding }, signal),
    );
    expect((await narrow)!.loss).not.toBe((await wide)!.loss);
  });

  it('trains on as many tokens a step whatever the length', () => {
    const sequences = [128, 512, 513, 4096].map((length) =>
      sequencesOf({ tokens: 2048 }, { ...setting, length }),
    );
    expect(sequences).toEqual([16, 4, 3, 1]);
  });

  it('ends with the signal', async () => {
    expect(await run(1, AbortSignal.abort())).toBe(undefined);
  });
});

describe('claims/cups', () => {
  const overrides = ['steps=20', 'seeds=2', 'answers=100', 'dim=16', 'arms=["PaTH","RoPE"]', 'workers=1'];

  it('writes its table, and goes on behind what it has', async () => {
    const directory = path.join(folder, 'cups');
    const first = await launch(cupsClaim as never, { overrides, directory });
    expect(first.outcome).toMatchObject({ status: 'finished', step: 4 });
    const cells = readFileSync(path.join(directory, 'cells.jsonl'), 'utf8');
    expect(cells.trim().split('\n')).toHaveLength(4);
    expect(readFileSync(path.join(directory, 'report.md'), 'utf8')).toContain('| RoPE |');
    await launch(cupsClaim as never, { overrides, directory });
    expect(readFileSync(path.join(directory, 'cells.jsonl'), 'utf8')).toBe(cells);
  });

  it('names arms and settings that do not exist', async () => {
    const run = (recipe: unknown, more: string[]) =>
      launch(recipe as never, { overrides: more, directory: path.join(folder, 'none') });
    await expect(run(cupsClaim, ['arms=["RWKV"]'])).rejects.toThrow(AnnealError);
    await expect(run(cupsClaim, ['arms=["RWKV"]'])).rejects.toThrow('there is no arm "RWKV"; there are RoPE');
    await expect(run(flipFlopClaim, ['settings=["length 7"]'])).rejects.toThrow('length 128, length 512');
  });
});
