/** How long a user waits from `anneal run` to the first training step. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readEvents } from 'anneal/train';
import { type Row, type RunOptions, summarise } from '../harness.js';
import { settle, withFolder } from '../machine.js';
import { ANNEAL } from './client.js';
import { claimed, unmeasured } from './rows.js';

const RECIPE = 'moby-dick';
const LIMIT_MS = 120_000;

/** Seconds from the start of the process to the end of the first step, by the run's own log. */
async function secondsToFirstStep(): Promise<number> {
  return withFolder(async (folder) => {
    const run = path.join(folder, 'run');
    const start = Date.now();
    const child = spawn(process.execPath, [ANNEAL, 'run', RECIPE, '--dir', run], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const closed = once(child, 'close');
    let complaint = 'no message';
    child.stderr.on('data', (data: Buffer) => {
      complaint = data.toString().trim() || complaint;
    });
    try {
      while (Date.now() - start < LIMIT_MS) {
        const first = await firstStepTime(run);
        if (first !== undefined) return (first - start) / 1000;
        if (child.exitCode !== null) throw new Error(`anneal run ended: ${complaint}`);
        await sleep(100);
      }
      throw new Error(`no training step in ${LIMIT_MS / 1000} s`);
    } finally {
      child.kill('SIGKILL');
      await closed;
    }
  });
}

/** When the first step of a run ended, in milliseconds since 1970; undefined before that. */
async function firstStepTime(directory: string): Promise<number | undefined> {
  try {
    return (await readEvents(directory)).events.find((event) => event.kind === 'train')?.time;
  } catch {
    // There is no log yet.
    return undefined;
  }
}

/** The row, if it was asked for. */
export async function firstStepRows({ quick, wants }: RunOptions): Promise<Row[]> {
  if (!wants('first-step')) return [];
  const seconds: number[] = [];
  try {
    for (let i = 0; i < (quick ? 1 : 5); i++) {
      await settle();
      seconds.push(await secondsToFirstStep());
    }
  } catch (error) {
    return unmeasured(['first-step'], (error as Error).message);
  }
  const { median: value, spread } = summarise(seconds);
  const note = `recipe ${RECIPE}: the text read, the model compiled and evaluated once`;
  return [claimed('first-step', { value, spread, repeats: seconds.length, note })];
}
