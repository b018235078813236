/**
 * Runs a benchmark suite, prints its table, and writes it as JSON on request.
 *
 *     npm run bench -- engine --json results.json
 */
import { existsSync, mkdirSync, realpathSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Report, Suite } from './harness.js';
import { currentCommit, describeMachine, formatReport, packageRoot } from './report.js';
import { type SuiteEntry, suites } from './suites.js';

/** Where the command writes. Injected so that tests can read it. */
export interface Streams {
  out(text: string): void;
  err(text: string): void;
}

interface Command {
  suite: string;
  json: string | undefined;
  quick: boolean;
  only: string[] | undefined;
  data: string | null;
}

/** A mistake in the command line; its message is all that the user needs. */
class UsageError extends Error {}

const standardStreams: Streams = {
  out: (text) => process.stdout.write(`${text}\n`),
  err: (text) => process.stderr.write(`${text}\n`),
};

function helpText(known: Record<string, SuiteEntry>): string {
  const list = Object.entries(known).map(([name, { about }]) => `  ${name.padEnd(12)}${about}`);
  return [
    'Usage: npm run bench -- SUITE [--json FILE] [--quick] [--only ID,...] [--data DIR]',
    '',
    'Suites:',
    ...list,
    '',
    'Options:',
    '  --json FILE   also write the report to FILE',
    '  --quick       fewer repeats: a look, not a result',
    '  --only IDS    only these rows (ids, separated by commas)',
    '  --data DIR    texts and models that some rows need (default: ../shared, where that exists)',
    '  --help        this text',
    '',
    'Peers are installed by `npm run bench:peers`; rows whose peer is missing have no value.',
  ].join('\n');
}

function parseCommand(argv: readonly string[], known: Record<string, SuiteEntry>): Command | 'help' {
  let parsed: ReturnType<typeof parse>;
  const parse = () =>
    parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        json: { type: 'string' },
        quick: { type: 'boolean' },
        only: { type: 'string' },
        data: { type: 'string' },
        help: { type: 'boolean' },
      },
    });
  try {
    parsed = parse();
  } catch (error) {
    // Node appends advice about arguments that start with a dash; the first sentence says what is wrong.
    throw new UsageError(`${(error as Error).message.split(/\.\s|\n/)[0]!.replace(/\.$/, '')}; see --help.`);
  }
  const { values, positionals } = parsed;
  if (values.help) return 'help';
  const available = `The suites are: ${Object.keys(known).join(', ')}.`;
  if (positionals.length === 0) throw new UsageError(`Which suite? ${available}`);
  if (positionals.length > 1) throw new UsageError(`One suite at a time, not ${positionals.join(' and ')}.`);
  const suite = positionals[0]!;
  if (!Object.hasOwn(known, suite)) throw new UsageError(`There is no suite '${suite}'. ${available}`);
  const only = values.only?.split(',').map((id) => id.trim());
  return { suite, json: values.json, quick: values.quick ?? false, only, data: dataFolder(values.data) };
}

/** The folder that was named, or the one beside the repository. */
function dataFolder(named: string | undefined): string | null {
  const folder = named ?? path.join(packageRoot, '..', 'shared');
  if (existsSync(folder)) return folder;
  if (named !== undefined)
    throw new UsageError(`There is no folder '${named}'; --data names one that exists.`);
  return null;
}

async function runSuite(command: Command, suite: Suite, streams: Streams): Promise<Report> {
  const unknown = command.only?.find((id) => !suite.ids.includes(id));
  if (unknown !== undefined) {
    throw new UsageError(
      `Suite ${command.suite} has no row '${unknown}'. Its rows are: ${suite.ids.join(', ')}.`,
    );
  }
  const wants = (id: string) => command.only === undefined || command.only.includes(id);
  const rows = await suite.run({ quick: command.quick, wants, data: command.data, log: streams.err });
  const wanted = rows.filter((row) => wants(row.id));
  return { suite: command.suite, machine: describeMachine(), commit: currentCommit(), rows: wanted };
}

/** Runs one command line; returns its exit code: 0 measured, 1 failed, 2 wrong usage. */
export async function main(
  argv: readonly string[],
  streams: Streams = standardStreams,
  known: Record<string, SuiteEntry> = suites,
): Promise<number> {
  try {
    const command = parseCommand(argv, known);
    if (command === 'help') {
      streams.out(helpText(known));
      return 0;
    }
    const report = await runSuite(command, await known[command.suite]!.load(), streams);
    streams.out(formatReport(report));
    if (command.json !== undefined) {
      mkdirSync(path.dirname(path.resolve(command.json)), { recursive: true });
      writeFileSync(command.json, `${JSON.stringify(report, null, 2)}\n`);
    }
    return 0;
  } catch (error) {
    streams.err(error instanceof UsageError ? error.message : String((error as Error).stack ?? error));
    return error instanceof UsageError ? 2 : 1;
  }
}

const startedAsProgram =
  process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url);
if (startedAsProgram) process.exitCode = await main(process.argv.slice(2));
