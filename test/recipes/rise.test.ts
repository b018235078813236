import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/index.js';
import { loadRecipe } from '../../src/recipes/index.js';
import { type LaunchOptions, launch } from '../../src/recipes/launch.js';
import { runCurve } from '../../src/recipes/rl-curves.js';
import { type RunEvent, readEvents } from '../../src/train/index.js';
import { stopAt } from './stop-at.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-rise-recipe-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A model of a moment: what it learns does not matter here. */
const tiny = [
  'updates=3',
  'prompts=4',
  'samples=4',
  'ratings=4',
  'baselines=["matched"]',
  'task.count=[1,2]',
  'warmStart.count=[1,1]',
  'warmStart.steps=20',
  'warmStart.batch=4',
  'warmStart.examples=200',
  'model.layers=1',
  'model.dim=16',
  'model.heads=2',
  'evaluate.every=3',
  'evaluate.problems=6',
  'evaluate.votes=[2,3]',
];
const start = async (name: string, overrides: readonly string[] = [], options: LaunchOptions = {}) =>
  launch(await loadRecipe('rise'), {
    directory: path.join(folder, name),
    overrides: [...tiny, ...overrides],
    ...options,
  });
const trainEvents = async (...parts: string[]) =>
  (await readEvents(path.join(folder, ...parts))).events.flatMap((event: RunEvent) =>
    event.kind === 'train' ? [event.metrics!] : [],
  );

describe('the recipe rise', () => {
  it('runs both arms from one start, votes, and reports', async () => {
    const { outcome } = await start('whole');
    expect(outcome).toMatchObject({ status: 'finished', step: 6 });
    const [matched, rise] = [await trainEvents('whole', 'matched'), await trainEvents('whole', 'rise')];
    // 4 problems of 4 and 2 solutions with 4 ratings each; the baseline has two problems more instead.
    expect(matched.map(({ trajectories }) => trajectories)).toEqual([24, 24, 24]);
    expect(rise.map(({ trajectories }) => trajectories)).toEqual([24, 24, 24]);
    expect(matched[0]!.verifyAccuracy).toBeUndefined();
    expect(rise[0]!.verifyAccuracy).toBeGreaterThanOrEqual(0);
    // Both begin at the same weights: the first evaluation is the same to the last digit.
    const curves = await Promise.all(
      ['matched', 'rise'].map(async (arm) =>
        runCurve((await readEvents(path.join(folder, 'whole', arm))).events),
      ),
    );
    expect(curves[0]!.steps).toEqual([0, 3]);
    for (const values of Object.keys(curves[0]!.metrics))
      expect(curves[0]!.metrics[values]![0]).toBe(curves[1]!.metrics[values]![0]);
    const tokens = rise.reduce((total, metrics) => total + metrics.tokens!, 0);
    expect(curves[1]!.tokens).toEqual([0, tokens]);
    const results = JSON.parse(readFileSync(path.join(folder, 'whole', 'results.json'), 'utf8'));
    expect(results.map(({ arm }: { arm: string }) => arm)).toEqual(['matched', 'rise']);
    // The vote of the curves' k is that of the last evaluation: the same weights, problems and seeds.
    expect(results[1].votes[2].weighted).toBe(curves[1]!.metrics.weighted!.at(-1));
    const report = readFileSync(path.join(folder, 'whole', 'report.md'), 'utf8');
    expect(report).toContain('| | Zero-RL | RISE |'.replace('| | ', '|  | '));
    expect(report).toMatch(/\| vote of 3 weighted by own ratings \| [\d.]+ % \| [\d.]+ % \|/);
    for (const file of ['accuracy.svg', 'verifyAccuracy.svg'])
      expect(existsSync(path.join(folder, 'whole', file))).toBe(true);
  }, 120_000);

  // Within the warm start; within an arm; after the last step of an arm, while it votes.
  it.each([
    ['in the warm start', /step 10\/20/],
    ['in an arm', /3\. RISE/],
    ['while it votes', /step 3 {2}evaluation/],
  ])(
    'that is stopped %s goes on to the same figures',
    async (name, pattern) => {
      const first = await start(name, [], stopAt(pattern));
      expect(first.outcome!.status).toBe('stopped');
      const last = await start(name);
      expect(last.outcome!.summary).toEqual((await start('whole')).outcome!.summary);
      expect(await trainEvents(name, 'rise').then((all) => all.map(({ reward }) => reward))).toEqual(
        await trainEvents('whole', 'rise').then((all) => all.map(({ reward }) => reward)),
      );
    },
    120_000,
  );

  it('has last letters, no baseline, and balanced ratings', async () => {
    const { outcome, derived } = await start('letters', [
      'task.kind=last-letter',
      'baselines=[]',
      'selection=balanced',
      'updates=1',
    ]);
    expect(outcome).toMatchObject({ status: 'finished', step: 1 });
    expect(Object.keys(outcome!.summary).every((name) => name.startsWith('rise.'))).toBe(true);
    expect(derived.find(({ name }) => name === 'ratingsPerUpdate')!.value).toBe(8);
    expect(existsSync(path.join(folder, 'letters', 'matched'))).toBe(false);
  }, 120_000);

  it('refuses what is impossible', async () => {
    await expect(start('none', ['ratio=0'])).rejects.toThrow(AnnealError);
    await expect(start('none', ['evaluate.votes=[1]'])).rejects.toThrow('evaluate.votes');
  });
});
