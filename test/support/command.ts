import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { main } from '../../src/cli/program.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The program as it is installed. */
export const program = path.join(root, 'dist/cli/main.js');

/** What a command printed, and how it ended. */
export interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** An empty folder of the test's own. */
export const scratch = (): string => mkdtempSync(path.join(os.tmpdir(), 'anneal-cli-'));

/**
 * Starts `anneal` in a folder; `output` grows with what it prints to both streams.
 * @param input all that it can read; null leaves its standard input open
 */
export function start(
  args: readonly string[],
  cwd: string,
  input: string | null = '',
): ChildProcess & { output(): Ended } {
  if (!existsSync(program)) throw new Error('dist/ is missing: run npm run build');
  const child = spawn(process.execPath, [program, ...args], { cwd, stdio: ['pipe', 'pipe', 'pipe'] });
  const seen = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    seen.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    seen.err += text;
  });
  // A command that does not read its input may end before it is written.
  child.stdin.on('error', () => {});
  if (input !== null) child.stdin.end(input);
  return Object.assign(child, { output: () => ({ code: child.exitCode, ...seen }) });
}

/** Resolves once a running command has printed something; rejects if it ends before. */
export const printed = (child: ReturnType<typeof start>, text: RegExp): Promise<void> =>
  new Promise((resolve, reject) => {
    const look = () => {
      if (text.test(child.output().out)) resolve();
    };
    child.stdout!.on('data', look);
    child.on('close', () =>
      reject(new Error(`ended before it printed ${text}: ${JSON.stringify(child.output())}`)),
    );
    look();
  });

/** Resolves when a command has ended. */
export const ended = (child: ChildProcess) => new Promise((resolve) => child.on('close', resolve));

/** Runs `anneal` to its end. */
export async function anneal(args: readonly string[], cwd: string, input = ''): Promise<Ended> {
  const child = start(args, cwd, input);
  await ended(child);
  return child.output();
}

/** The same without a process of its own, from the sources: for the many commands that only print. */
export async function inProcess(args: readonly string[], cwd: string): Promise<Ended> {
  const seen = { out: '', err: '' };
  const write = (text: string) => {
    seen.out += text;
  };
  const never = new AbortController().signal;
  const before = process.cwd();
  process.chdir(cwd);
  try {
    const code = await main(args, {
      write,
      print: (line) => write(`${line}\n`),
      stream: { write, isTTY: false, columns: 100 },
      warn: (line) => {
        seen.err += `${line}\n`;
      },
      json: (value) => write(`${JSON.stringify(value)}\n`),
      interactive: false,
      columns: 100,
      closed: false,
      onClosed: never,
      interrupted: false,
      interrupts: () => never,
      interrupt: () => {},
    });
    return { code, ...seen };
  } finally {
    process.chdir(before);
  }
}
