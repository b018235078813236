import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/index.js';
import { trainInProcesses } from '../../src/recipes/claims/processes.js';
import { anneal, ended, printed, scratch, start } from '../support/command.js';

const folder = scratch();
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A child that answers every job with its own process id, or does as told for some. */
function childProgram(name: string, special: string): string {
  const file = path.join(folder, `${name}.mjs`);
  const text = `
    process.on('message', async (job) => {
      if (typeof job !== 'number') return;
      ${special}
      process.send({ cell: { job, pid: process.pid } });
    });
    process.on('disconnect', () => process.exit());
  `;
  writeFileSync(file, text);
  return file;
}

interface Cell {
  job: number;
  pid: number;
}

/** Runs eight jobs in two children; says what came back, and how it ended. */
async function runJobs(program: string, controller = new AbortController(), stopAfter = Number.NaN) {
  const cells: Cell[] = [];
  const error = await trainInProcesses<Cell>({
    recipe: 'none',
    config: {},
    jobs: new Map(Array.from({ length: 8 }, (_, i) => [i, `job ${i}`])),
    workers: 2,
    signal: controller.signal,
    onCell(_, cell) {
      cells.push(cell);
      if (cells.length === stopAfter) controller.abort();
    },
    program,
  }).catch((error: unknown) => error);
  return { cells, error };
}

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** Child processes of a command, where the system lists them (Linux). */
function childrenOf({ pid }: { readonly pid?: number | undefined }): number[] {
  const list = `/proc/${pid}/task/${pid}/children`;
  return existsSync(list) ? (readFileSync(list, 'utf8').match(/\d+/g) ?? []).map(Number) : [];
}

describe('trainings in processes', () => {
  it('does every job once, in as many processes as wanted, and leaves none', async () => {
    const { cells, error } = await runJobs(childProgram('good', ''));
    expect(error).toBe(undefined);
    expect(cells.map(({ job }) => job).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const pids = new Set(cells.map(({ pid }) => pid));
    expect(pids.size).toBe(2);
    expect([...pids].some(isAlive)).toBe(false);
  });

  it('says of a process that dies what it trained and how it died, and ends the others', async () => {
    const special = `if (job === 3) { await new Promise((resolve) => setTimeout(resolve, 1000)); console.error('no more memory'); process.exitCode = 7; process.disconnect(); return; }
      if (job > 3) await new Promise((resolve) => setTimeout(resolve, 60_000));`;
    const { cells, error } = await runJobs(childProgram('dies', special));
    expect(error).toBeInstanceOf(AnnealError);
    expect((error as Error).message).toMatch(
      /^the process that trained job 3 ended with code \d+ \(no more memory\); the same command/,
    );
    expect(cells.map(({ job }) => job).sort()).toEqual([0, 1, 2]);
    expect(cells.some(({ pid }) => isAlive(pid))).toBe(false);
  });

  it('passes on the mistakes of users in their words, and defects with their stack', async () => {
    const failing = (isUser: boolean) =>
      childProgram(
        `fails-${isUser}`,
        `process.send({ error: { message: 'lr is 0', isUser: ${isUser} } }); return;`,
      );
    const mistake = await runJobs(failing(true));
    expect(mistake.error).toBeInstanceOf(AnnealError);
    expect((mistake.error as Error).message).toMatch(/^job \d: lr is 0$/);
    const defect = await runJobs(failing(false));
    expect(defect.error).toBeInstanceOf(Error);
    expect(defect.error).not.toBeInstanceOf(AnnealError);
    expect((defect.error as Error).message).toMatch(/^job \d: lr is 0$/);
  });

  it('names the program that cannot be started', async () => {
    const { error } = await runJobs(path.join(folder, 'missing.mjs'));
    expect((error as Error).message).toMatch(
      /^the process that trained job \d ended with code 1 \(.*missing\.mjs/s,
    );
  });

  it('ends with the signal, and keeps what was done', async () => {
    const slow = 'if (job > 1) await new Promise((resolve) => setTimeout(resolve, 60_000));';
    const { cells, error } = await runJobs(childProgram('slow', slow), new AbortController(), 2);
    expect(error).toBe(undefined);
    expect(cells.map(({ job }) => job).sort()).toEqual([0, 1]);
    expect(cells.some(({ pid }) => isAlive(pid))).toBe(false);
    const aborted = new AbortController();
    aborted.abort();
    expect((await runJobs(childProgram('good', ''), aborted)).cells).toEqual([]);
  });
});

describe('claims/cups in processes', () => {
  const small = ['seeds=2', 'answers=100', 'dim=16', 'arms=["PaTH","RoPE"]'];
  const cellsIn = (directory: string): string[] =>
    readFileSync(path.join(directory, 'cells.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.replace(/,"seconds".*/, ''))
      .sort();

  it('finds the same cells as one process, in any order', async () => {
    const run = async (workers: number) => {
      const directory = path.join(folder, `workers-${workers}`);
      const args = ['run', 'claims/cups', 'steps=20', ...small, `workers=${workers}`, '--dir', directory];
      expect(await anneal(args, folder)).toMatchObject({ code: 0, err: '' });
      return directory;
    };
    const [one, three] = [await run(1), await run(3)];
    expect(cellsIn(three)).toEqual(cellsIn(one));
    expect(cellsIn(one)).toHaveLength(4);
    const report = (directory: string) =>
      readFileSync(path.join(directory, 'report.md'), 'utf8').replaceAll(/\d+ \|$/gm, '');
    expect(report(three)).toBe(report(one));
  });

  it('says of a training that diverges which it is', async () => {
    const args = ['run', 'claims/cups', 'steps=20', ...small, 'lr=1e30', 'workers=2', '--dir', 'diverges'];
    const { code, err } = await anneal(args, folder);
    expect(code).toBe(2);
    expect(err).toMatch(/^length 32, (PaTH|RoPE), seed \d: the gradient of step \d+ is not finite .*\n$/);
  });

  it('stops at Ctrl-C, goes on later, and ends its processes when it is killed', async () => {
    const directory = path.join(folder, 'stopped');
    const args = ['run', 'claims/cups', 'steps=200', ...small, 'workers=2', '--dir', directory];
    const first = start(args, folder);
    await printed(first, /1\/4/);
    const pids = childrenOf(first);
    // A terminal sends SIGINT to all processes of the command.
    for (const pid of [...pids, first.pid!]) if (isAlive(pid)) process.kill(pid, 'SIGINT');
    await ended(first);
    expect(first.output()).toMatchObject({ code: 130, err: '' });
    expect(pids.some(isAlive)).toBe(false);
    const before = cellsIn(directory);
    expect(before.length).toBeLessThan(4);

    const killed = start(args, folder);
    await printed(killed, /in .*stopped/);
    // Give the processes the time to come into being and to begin with their work.
    await wait(1500);
    const orphans = childrenOf(killed);
    killed.kill('SIGKILL');
    await ended(killed);
    for (let i = 0; i < 200 && orphans.some(isAlive); i++) await wait(50);
    expect(orphans.some(isAlive)).toBe(false);

    expect(await anneal(args, folder)).toMatchObject({ code: 0 });
    expect(cellsIn(directory)).toHaveLength(4);
    expect(cellsIn(directory)).toEqual(expect.arrayContaining(before));
  });
});
