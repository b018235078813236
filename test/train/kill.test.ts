import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { Rng } from '../../src/index.js';
import { checkpointSteps, readEvents, type Series, seriesOf } from '../../src/train/index.js';
import { lines, prepareChildren, until } from './children.js';
import type { Mode } from './tiny.js';

const { folder, start, remove } = prepareChildren();
afterAll(remove);

const lossesOf = async (directory: string): Promise<Series> => {
  const { events, badLines } = await readEvents(directory);
  expect(badLines).toBe(0);
  return seriesOf(events, 'train', 'loss');
};

const fileOf = (directory: string, steps: number, name: string) =>
  readFileSync(path.join(directory, 'checkpoints', `step-${steps}`, name));

async function killAndCompare(mode: Mode, steps: number, kills: number): Promise<void> {
  const [whole, killed] = ['whole', 'killed'].map((name) => path.join(folder, `${mode}-${name}`)) as [
    string,
    string,
  ];
  const first = await start({ directory: whole, mode, steps }).ended;
  expect(first).toMatchObject({ code: 0, err: '' });
  const rng = new Rng(11).split(mode);
  let cutWrites = 0;
  // Most of the time of this run goes into checkpoints, so most kills fall into the writing of one; by chance none may.
  const wantsCut = () => kills >= 5 && cutWrites === 0;
  for (let i = 0; i < kills || (wantsCut() && i < 3 * kills); i++) {
    const before = lines(killed);
    const { child, ended } = start({ directory: killed, mode, steps });
    await until(() => lines(killed) > before + (i === 0 ? 20 : 1) || child.exitCode !== null);
    await sleep(60 * rng.next());
    child.kill('SIGKILL');
    await ended;
    // Each kill must hit a run that has something to lose.
    expect((await checkpointSteps(killed)).length).toBeGreaterThan(0);
    cutWrites += readdirSync(path.join(killed, 'checkpoints')).filter((name) => name.startsWith('.')).length;
  }
  if (kills >= 5) expect(cutWrites).toBeGreaterThan(0);
  const last = await start({ directory: killed, mode, steps }).ended;
  expect(last).toMatchObject({ code: 0, err: '' });
  expect(JSON.parse(last.out).resumedFrom).toBeGreaterThan(0);
  expect(await lossesOf(killed)).toMatchObject({ ...(await lossesOf(whole)), times: expect.anything() });
  const evaluations = async (directory: string) =>
    seriesOf((await readEvents(directory)).events, 'evaluate', 'loss').values;
  expect(await evaluations(killed)).toEqual(await evaluations(whole));
  for (const name of ['model.safetensors', 'optimizer.safetensors']) {
    expect(fileOf(killed, steps, name).equals(fileOf(whole, steps, name)), name).toBe(true);
  }
}

describe('a run that is killed with kill -9 at random moments', () => {
  it.each([
    ['plain', 2],
    ['average', 1],
    ['groups', 1],
    ['split', 1],
    ['all', 5],
  ] as const)('%s: goes on to the same losses and files, bit for bit', async (mode, kills) => {
    await killAndCompare(mode, 90, kills);
  });
});
