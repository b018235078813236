#!/usr/bin/env node
/**
 * The command line: `anneal run moby-dick`, `anneal chat model.gguf`, `anneal --help`.
 *
 * Exit codes: 0 done, 2 a mistake of the user (one sentence on standard error), 1 a defect (with its stack),
 * 130 after Ctrl-C. With --json, standard output holds JSON and nothing else.
 */
import { run } from '@stricli/core';
import { application } from './application.js';
import { exitCodes, processTerminal } from './terminal.js';

const terminal = processTerminal();
// Stricli reports by setting the exit code of the process that it is given; ours is set below.
const seen: { stdout: typeof process.stdout; stderr: typeof process.stderr; exitCode?: number } = {
  stdout: process.stdout,
  stderr: process.stderr,
};

await run(application, process.argv.slice(2), { process: seen as never, terminal } as never);
const code = Number(seen.exitCode ?? 0);
// Negative codes are Stricli's own: -4 and -5 are arguments and commands that it does not know.
process.exitCode = terminal.interrupted
  ? exitCodes.interrupted
  : code === -4 || code === -5
    ? exitCodes.user
    : code < 0
      ? exitCodes.defect
      : code;
