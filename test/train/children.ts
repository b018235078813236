import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { compile } from '../support/compiled.js';

/** How a process ended. */
export interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** Compiles child.ts and makes a temporary folder for runs. */
export function prepareChildren() {
  const compiled = compile('test/train/child.ts');
  const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-children-'));
  /** Starts a training; `shell` runs it behind a command of bash, e.g. `ulimit -f 1`. */
  const start = (settings: object, shell?: string) => {
    const argv = [compiled.program, JSON.stringify(settings)];
    const child = shell
      ? spawn('bash', ['-c', `${shell}; exec "$@"`, 'bash', process.execPath, ...argv])
      : spawn(process.execPath, argv);
    let [out, err] = ['', ''];
    child.stdout.on('data', (text) => {
      out += text;
    });
    child.stderr.on('data', (text) => {
      err += text;
    });
    const ended = new Promise<Ended>((resolve) => child.on('close', (code) => resolve({ code, out, err })));
    return { child, ended };
  };
  const remove = () => {
    compiled.remove();
    rmSync(folder, { recursive: true, force: true });
  };
  return { folder, start, remove };
}

/** Number of lines of a run's log. */
export function lines(directory: string): number {
  try {
    return readFileSync(path.join(directory, 'events.jsonl'), 'utf8').split('\n').length;
  } catch {
    return 0;
  }
}

/** Waits for something to become true, ten seconds at most. */
export async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 2000 && !condition(); i++) await sleep(5);
}
