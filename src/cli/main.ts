#!/usr/bin/env node
/**
 * The command line: `anneal run moby-dick`, `anneal chat model.gguf`, `anneal --help`.
 *
 * Exit codes: 0 done, 2 a mistake of the user (one sentence on standard error), 1 a defect (with its stack),
 * 130 after Ctrl-C. With --json, standard output holds JSON and nothing else.
 */
import { main } from './program.js';
import { processTerminal } from './terminal.js';

process.exitCode = await main(process.argv.slice(2), processTerminal());
