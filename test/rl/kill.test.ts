import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readEvents } from '../../src/train/index.js';
import { compile } from '../support/compiled.js';
import type { KillPoint } from './tiny-run.js';

const compiled = compile('test/rl/child.ts');
const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-reinforce-'));
afterAll(() => {
  compiled.remove();
  rmSync(folder, { recursive: true, force: true });
});

const steps = 10;
// Steps 0, 1, 4, 7 are of the critic, the others of the speaker; checkpoints are written every 2 steps.
const run = (directory: string, kill?: KillPoint) => {
  const settings = JSON.stringify({ directory, steps, kill });
  const { signal, stdout, stderr } = spawnSync(process.execPath, [compiled.program, settings], {
    encoding: 'utf8',
  });
  return { signal, stdout, stderr };
};

/** What a run logged, without times. */
async function logOf(directory: string) {
  const { events, badLines } = await readEvents(directory);
  expect(badLines).toBe(0);
  return events.flatMap((event): object[] => {
    if (event.kind === 'evaluate')
      return [{ step: event.step, metrics: event.metrics, updates: event.updates }];
    if (event.kind !== 'train') return [];
    const { step, phase, loss, gradNorm, updates, metrics = {} } = event;
    const numbers = Object.fromEntries(Object.entries(metrics).filter(([name]) => !name.startsWith('ms.')));
    return [{ step, phase, loss, gradNorm, updates, numbers }];
  });
}

/** Every file of a folder by its name. */
const filesOf = (directory: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(directory, { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.\w+$/.test(name) && !name.endsWith('state.json'))
      .map((name) => [name, readFileSync(path.join(directory, name), 'base64')]),
  );

describe('a run of two policies that is killed with kill -9', () => {
  const [whole, killed] = ['whole', 'killed'].map((name) => path.join(folder, name)) as [string, string];
  const points: KillPoint[] = [
    // Before anything was saved; then in rewards and after updates of both phases, in an evaluation, and half-way
    // through the writing of a checkpoint.
    { step: 1, at: 'reward' },
    { step: 3, at: 'reward' },
    { step: 4, at: 'update' },
    { step: 6, at: 'evaluate' },
    { step: 6, at: 'save' },
    { step: 7, at: 'reward' },
    { step: 9, at: 'update' },
  ];

  it('in each phase goes on to the same log, tables and policies, bit for bit', async () => {
    const first = run(whole);
    expect(first).toMatchObject({ signal: null, stderr: '' });
    for (const point of points) {
      const { signal, stderr } = run(killed, point);
      expect({ point, signal, stderr }).toEqual({ point, signal: 'SIGKILL', stderr: '' });
    }
    expect(existsSync(path.join(killed, 'checkpoints', '.step-6.tmp'))).toBe(false);
    const last = run(killed);
    expect(last).toMatchObject({ signal: null, stderr: '' });
    const { resumedFrom, step, updates } = JSON.parse(last.stdout);
    // Six steps of two updates for the speaker; a step of the critic makes one at most.
    expect({ resumedFrom, step, speaker: updates.speaker }).toEqual({
      resumedFrom: 8,
      step: 10,
      speaker: 12,
    });
    expect(await logOf(killed)).toEqual(await logOf(whole));
    expect((await logOf(whole)).length).toBe(10 + 6);
    for (const name of ['checkpoints/step-10', 'rollouts']) {
      const [a, b] = [filesOf(path.join(killed, name)), filesOf(path.join(whole, name))];
      expect(Object.keys(b).length).toBeGreaterThan(6);
      expect(Object.keys(a).sort()).toEqual(Object.keys(b).sort());
      for (const file of Object.keys(b)) expect(a[file] === b[file], file).toBe(true);
    }
  }, 120_000);

  it('by Ctrl-C instead saves after the step under way, and goes on to the same policies', async () => {
    const stopped = path.join(folder, 'stopped');
    const child = spawn(process.execPath, [compiled.program, JSON.stringify({ directory: stopped, steps })]);
    let out = '';
    child.stdout.on('data', (text) => {
      out += text;
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    const isUnderWay = () =>
      existsSync(path.join(stopped, 'rollouts', 'step-2.jsonl')) || child.exitCode !== null;
    while (!isUnderWay()) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGINT');
    expect(await ended).toBe(0);
    const { reason, step } = JSON.parse(out);
    expect(reason).toBe('interrupted');
    expect(step).toBeLessThan(steps);
    expect(existsSync(path.join(stopped, 'checkpoints', `step-${step}`, 'speaker', 'policy.json'))).toBe(
      true,
    );
    const last = run(stopped);
    expect(JSON.parse(last.stdout)).toMatchObject({ reason: 'finished', resumedFrom: step });
    const at = (directory: string) => filesOf(path.join(directory, 'checkpoints', `step-${steps}`));
    expect(at(stopped)).toEqual(at(whole));
  }, 60_000);
});
