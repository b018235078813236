import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/index.js';
import { mostSteps, reinforce } from '../../src/rl/index.js';
import { readEvents } from '../../src/train/index.js';
import { compile } from '../support/compiled.js';
import { curriculumRun, type KillAt, tinyStages } from './curriculum-run.js';

const compiled = compile('test/rl/curriculum-child.ts');
const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-curriculum-'));
afterAll(() => {
  compiled.remove();
  rmSync(folder, { recursive: true, force: true });
});

const run = (name: string, kill?: KillAt) => {
  const settings = JSON.stringify({ directory: path.join(folder, name), kill });
  const { signal, stdout, stderr } = spawnSync(process.execPath, [compiled.program, settings], {
    encoding: 'utf8',
  });
  return { signal, stdout, stderr };
};

const eventsOf = async (name: string) => (await readEvents(path.join(folder, name))).events;

/** Steps of a run as logged, without times. */
async function stepsOf(name: string) {
  return (await eventsOf(name)).flatMap((event) => {
    if (event.kind !== 'train') return [];
    const { step, loss, lr, gradNorm, updates, metrics = {} } = event;
    const numbers = Object.entries(metrics).filter(([key]) => !key.startsWith('ms.'));
    return [{ step, loss, lr, gradNorm, updates, metrics: Object.fromEntries(numbers) }];
  });
}

/** Tables, and the policy with all its state, after some step. */
function filesOf(name: string, step: number): Record<string, string> {
  const found: Record<string, string> = {};
  for (const part of ['rollouts', path.join('checkpoints', `step-${step}`)]) {
    const place = path.join(folder, name, part);
    for (const file of readdirSync(place).sort())
      if (file !== 'state.json')
        found[path.join(part, file)] = readFileSync(path.join(place, file), 'base64');
  }
  return found;
}

/** What a checkpoint says of curriculum and entropy. */
const stateOf = (name: string, step: number) =>
  JSON.parse(readFileSync(path.join(folder, name, 'checkpoints', `step-${step}`, 'state.json'), 'utf8'))
    .extra;

describe('a curriculum as a phase', () => {
  it('gives each step its stage, scores where a filter asks, and ends the run where it is over', async () => {
    const { signal, stdout, stderr } = run('whole');
    expect({ signal, stderr }).toEqual({ signal: null, stderr: '' });
    const { step: last, reason } = JSON.parse(stdout);
    expect(reason).toBe('finished');
    const steps = await stepsOf('whole');
    expect(steps).toHaveLength(last);
    // Five prompts in batches of two are two steps an epoch.
    expect(mostSteps(tinyStages, { math: 5, code: 5 })).toBe(2 + 2 + 4);
    const stages = steps.map(({ metrics }) => metrics.stage);
    expect(stages.slice(0, 5)).toEqual([0, 0, 1, 1, 2]);
    expect(steps.map(({ lr }) => lr).slice(0, 5)).toEqual([0.02, 0.02, 0.01, 0.01, 0.02].map(Math.fround));
    // The filter of the second stage is scored at its border, all of the pool; epochs only what is left.
    expect(steps.map(({ metrics }) => metrics.scored ?? 0).slice(0, 6)).toEqual([0, 0, 5, 0, 0, 0]);
    expect(steps[2]!.metrics.scoringTokens).toBeGreaterThan(5 * 4);
    expect(steps.slice(0, 4).map(({ metrics }) => metrics.maxTokens)).toEqual([5, 5, 7, 7]);
    expect(steps[4]!.metrics).toMatchObject({ epoch: 0, groupSize: 4, temperature: 0.8, pool: 5 });
    const notes = (await eventsOf('whole')).flatMap((event) => (event.kind === 'note' ? [event.text] : []));
    expect(notes[0]).toBe(
      'stage math-1: 5 of 5 prompts of math, up to 5 tokens, groups of 4, temperature 1, lr 0.02',
    );
    expect(notes.filter((text) => text.startsWith('stage')).length).toBeGreaterThanOrEqual(3);
    // Each row of a table says which prompt of the pool it is of; its passes are the prompt's score.
    const rows = readFileSync(path.join(folder, 'whole', 'rollouts', 'step-2.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const known = stateOf('whole', 2).curriculum.scores.math as [number, number, number][];
    for (const item of new Set(rows.map((row) => row.item))) {
      const own = rows.filter((row) => row.item === item);
      expect(own).toHaveLength(4);
      expect(known).toContainEqual([item, own.filter(({ reward }) => reward > 0).length, 4]);
    }
  });

  it('goes on bit for bit after a kill inside stages, at their borders and while it scores', async () => {
    const points: KillAt[] = [
      { step: 1, at: 'update' },
      // The first step of the second stage: killed while it scores, then after its update.
      { step: 2, at: 'score' },
      { step: 2, at: 'update' },
      { step: 4, at: 'reward' },
    ];
    for (const point of points) {
      const { signal, stderr } = run('killed', point);
      expect({ point, signal, stderr }).toEqual({ point, signal: 'SIGKILL', stderr: '' });
    }
    const { stdout, stderr } = run('killed');
    expect(stderr).toBe('');
    const { step: last, resumedFrom } = JSON.parse(stdout);
    expect(resumedFrom).toBe(4);
    expect(await stepsOf('killed')).toEqual(await stepsOf('whole'));
    for (const step of [3, last]) {
      expect(filesOf('killed', step)).toEqual(filesOf('whole', step));
      expect(stateOf('killed', step)).toEqual(stateOf('whole', step));
    }
    // Once more: it is over, and stays so.
    const again = JSON.parse(run('killed').stdout);
    expect(again).toMatchObject({ step: last, reason: 'finished', resumedFrom: last });
  }, 120_000);

  it('takes a step back whose scoring was ended, and scores the same again', async () => {
    const directory = path.join(folder, 'aborted');
    const abort = new AbortController();
    const first = curriculumRun();
    const phase = first.options.phases.curriculum!;
    const result = await reinforce({
      ...first.options,
      phases: {
        curriculum: (context) => {
          if (context.step === 2) setTimeout(() => abort.abort(), 0);
          return phase(context);
        },
      },
      ...{ directory, signal: abort.signal, report: false },
    });
    expect(result.reason).toBe('aborted');
    expect(result.step).toBeLessThan(4);
    const second = curriculumRun();
    await reinforce({ ...second.options, directory, report: false });
    expect(await stepsOf('aborted')).toEqual(await stepsOf('whole'));
    await Promise.all([first.policy.dispose(), second.policy.dispose()]);
  });

  it('says once that the entropy of a domain has left its bounds', async () => {
    const limits = { baseline: 1, low: 0.9999, high: 1.0001, decay: 0 };
    const { options, policy, state } = curriculumRun(undefined, { entropy: limits });
    const notes: string[] = [];
    const states: string[] = [];
    await reinforce({
      ...options,
      onEvent: (event) => {
        if (event.kind === 'note') notes.push(event.text);
        if (event.kind !== 'train') return;
        const { stage, entropyRatio: ratio } = event.metrics!;
        const status = ratio! < limits.low ? 'collapsed' : ratio! > limits.high ? 'exploded' : 'ok';
        // The first two stages are of mathematics.
        states.push(`${stage! < 2 ? 'math' : 'code'} has ${status}`);
      },
    });
    const news = states.filter((one, i) => !one.endsWith('ok') && one !== states[i - 1]);
    expect(news.length).toBeGreaterThan(0);
    const said = notes.flatMap((text) => /^the entropy of (\w+ has \w+):/.exec(text)?.[1] ?? []);
    expect(said).toEqual(news);
    expect(() => state.entropy!.restore({ math: { watch: null, said: 'ok' } })).toThrow(AnnealError);
    expect(() => state.entropy!.restore(null)).toThrow('the entropy of "math" has no state');
    await policy.dispose();
  });
});
