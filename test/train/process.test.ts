import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { checkpointSteps, readEvents, seriesOf } from '../../src/train/index.js';
import { lines, prepareChildren, until } from './children.js';

const { folder, start, remove } = prepareChildren();
afterAll(remove);

const lossesOf = async (directory: string) =>
  seriesOf((await readEvents(directory)).events, 'train', 'loss').values;

describe('a run directory', () => {
  it('has one writer: a second process is refused in one sentence that names the first', async () => {
    const directory = path.join(folder, 'shared');
    const settings = { directory, mode: 'plain', steps: 400, delay: 5 };
    const first = start(settings);
    await until(() => lines(directory) > 2);
    const second = await start(settings).ended;
    expect(second).toEqual({
      code: 2,
      out: '',
      err: `${directory} is being written by process ${first.child.pid}; wait for it, stop it, or choose another directory\n`,
    });
    first.child.kill('SIGKILL');
    await first.ended;
    // A dead process's lock is there, and in nobody's way; of many that come at once, one gets it.
    expect(readdirSync(directory)).toContain('lock');
    const third = await Promise.all([1, 2, 3].map(() => start({ ...settings, delay: 1 }).ended));
    expect(third.map(({ code }) => code).sort()).toEqual([0, 2, 2]);
    expect(readdirSync(directory).filter((name) => name.startsWith('lock'))).toEqual([]);
  });

  // Only Linux tells when a process started.
  it.skipIf(process.platform !== 'linux')(
    'of a process whose number was given to another is free',
    async () => {
      const directory = path.join(folder, 'reused');
      mkdirSync(directory);
      const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
      const host = `${execFileSync('hostname', { encoding: 'utf8' }).trim()} ${boot}`;
      const settings = { directory, mode: 'plain', steps: 2 };
      // This very process lives, but started at another time than the lock says.
      writeFileSync(path.join(directory, 'lock'), JSON.stringify({ pid: process.pid, started: '1', host }));
      expect((await start(settings).ended).code).toBe(0);
    },
  );
});

describe('Ctrl-C', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)(
    '%s ends after the step, saves, and the run goes on exactly',
    async (name) => {
      const directory = path.join(folder, name);
      const settings = { directory, mode: 'all', steps: 60, delay: 4 };
      const { child, ended } = start(settings);
      await until(() => lines(directory) > 25);
      child.kill(name);
      const { code, out, err } = await ended;
      expect(code).toBe(0);
      expect(err).toContain(`${name}: ending after this step; once more ends at once`);
      const { step, reason } = JSON.parse(out);
      expect(reason).toBe('interrupted');
      expect(step).toBeLessThan(60);
      expect((await checkpointSteps(directory)).at(-1)).toBe(step);
      const notes = (await readEvents(directory)).events.filter((e) => e.kind === 'note');
      expect(notes.at(-1)!.text).toBe(
        `stopped after step ${step} of 60; run the same command again to go on`,
      );
      const second = await start(settings).ended;
      expect(JSON.parse(second.out)).toMatchObject({ step: 60, reason: 'finished', resumedFrom: step });
      const whole = path.join(folder, `${name}-whole`);
      await start({ ...settings, directory: whole, delay: 0 }).ended;
      expect(await lossesOf(directory)).toEqual(await lossesOf(whole));
    },
  );

  it('twice ends at once', async () => {
    const directory = path.join(folder, 'twice');
    const { child, ended } = start({ directory, mode: 'plain', steps: 1000, delay: 3000 });
    // Each batch takes three seconds: after the first step the run waits for the second one.
    await until(() => lines(directory) > 3);
    child.kill('SIGINT');
    await sleep(100);
    const before = performance.now();
    child.kill('SIGINT');
    expect((await ended).code).toBe(130);
    expect(performance.now() - before).toBeLessThan(1500);
  });
});

describe('a full disk', () => {
  it('stops the run with one clear error, and it goes on from the last good checkpoint', async () => {
    const directory = path.join(folder, 'small');
    mkdirSync(directory);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=192k', 'tmpfs', directory], { stdio: 'pipe' });
    } catch {
      console.log('skipped: mounting a small disk needs root');
      return;
    }
    try {
      const settings = { directory, mode: 'all', steps: 1500 };
      const first = await start(settings).ended;
      expect(first.code).toBe(2);
      expect(first.err).toMatch(
        /^cannot (write|append to) .*: the disk is full; free some space and try again.*\n$/,
      );
      const steps = await checkpointSteps(directory);
      expect(steps.length).toBeGreaterThan(0);
      expect(readdirSync(path.join(directory, 'checkpoints')).filter((name) => name.startsWith('.'))).toEqual(
        [],
      );
      execFileSync('mount', ['-o', 'remount,size=16m', directory]);
      const second = await start(settings).ended;
      expect(second).toMatchObject({ code: 0, err: '' });
      expect(JSON.parse(second.out)).toMatchObject({ step: 1500, resumedFrom: steps.at(-1) });
      expect((await lossesOf(directory)).length).toBe(1500);
    } finally {
      execFileSync('umount', [directory]);
    }
  });

  it('that takes no checkpoint leaves no half of one', async () => {
    const directory = path.join(folder, 'limited');
    const settings = { directory, mode: 'plain', steps: 6 };
    // One block of 1,024 bytes: enough for the config and some events, not for a model.
    const { code, err } = await start(settings, 'ulimit -f 1').ended;
    expect(code).toBe(2);
    expect(err).toMatch(/^cannot write .*step-3.*: .*; there is no earlier checkpoint\n$/);
    expect(readdirSync(path.join(directory, 'checkpoints'))).toEqual([]);
    expect((await start(settings).ended).code).toBe(0);
  });
});
