import { run } from '@stricli/core';
import { application } from './application.js';
import { type Cli, exitCodes, type Terminal } from './terminal.js';

/**
 * Runs one command line.
 * @param argv what follows `anneal`
 * @returns the exit code: 0 done, 2 a mistake of the user, 1 a defect, 130 after Ctrl-C
 */
export async function main(argv: readonly string[], terminal: Terminal): Promise<number> {
  // Stricli writes to, and leaves its exit code in, the process that it is given.
  const seen: { exitCode?: number } = {};
  const streams = {
    stdout: { write: (text: string) => terminal.write(text) },
    stderr: { write: (text: string) => terminal.warn(text.replace(/\n$/, '')) },
  };
  await run<Cli>(application, argv, { process: Object.assign(seen, streams), terminal });
  if (terminal.interrupted) return exitCodes.interrupted;
  const code = seen.exitCode ?? 0;
  // Negative codes are Stricli's own: -4 and -5 are arguments and commands that it does not know.
  if (code === -4 || code === -5) return exitCodes.user;
  return code < 0 ? exitCodes.defect : code;
}
