/**
 * Runs a benchmark suite, prints its table, and writes it as JSON on request.
 *
 *     npm run bench -- engine --json results.json
 *     npm run bench -- optim --only muon-ms --update    # put into bench/results/optim.json
 */
import { existsSync, mkdirSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Report, Suite } from './harness.js';
import { medianReport, readReport, record, resultsFolder, writeReport } from './record.js';
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
  update: boolean;
  /** Reports to take rows from, in place of a measurement. */
  from: string[] | undefined;
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
    'Usage: npm run bench -- SUITE [--json FILE] [--quick] [--only ID,...] [--update] [--from FILE,...] [--data DIR]',
    '',
    'Suites:',
    ...list,
    '',
    'Options:',
    '  --json FILE   also write the report to FILE',
    '  --quick       fewer repeats: a look, not a result',
    '  --only IDS    only these rows (ids, separated by commas)',
    '  --update      put the rows into bench/results/SUITE.json; the others stay, and results.md is made by bench:results',
    '  --from FILES  take the rows from these reports instead of measuring; of several, the median of each',
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
        update: { type: 'boolean' },
        from: { type: 'string' },
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
  const list = (text: string | undefined) => text?.split(',').map((one) => one.trim());
  const { json, quick = false, update = false } = values;
  if (quick && update) throw new UsageError('--quick is a look, not a result: leave it out to --update.');
  const [only, from] = [list(values.only), list(values.from)];
  return { suite, json, quick, only, from, update, data: dataFolder(values.data) };
}

/** The folder that was named, or the one beside the repository. */
function dataFolder(named: string | undefined): string | null {
  const folder = named ?? path.join(packageRoot, '..', 'shared');
  if (existsSync(folder)) return folder;
  if (named !== undefined)
    throw new UsageError(`There is no folder '${named}'; --data names one that exists.`);
  return null;
}

/** The report of earlier runs that `--from` names. */
function reportOf(files: readonly string[], suite: string): Report {
  const reports = files.map((file) => {
    try {
      return readReport(file);
    } catch (error) {
      throw new UsageError(`--from: ${(error as Error).message}.`);
    }
  });
  const other = reports.find((report) => report.suite !== suite);
  if (other) throw new UsageError(`--from: a report is of suite ${other.suite}, not of ${suite}.`);
  return medianReport(reports);
}

async function runSuite(command: Command, suite: Suite, streams: Streams): Promise<Report> {
  const earlier = command.from && reportOf(command.from, command.suite);
  const named = [...(command.only ?? []), ...(earlier?.rows.map(({ id }) => id) ?? [])];
  const unknown = named.find((id) => !suite.ids.includes(id));
  if (unknown !== undefined) {
    throw new UsageError(
      `Suite ${command.suite} has no row '${unknown}'. Its rows are: ${suite.ids.join(', ')}.`,
    );
  }
  if (earlier)
    return { ...earlier, rows: earlier.rows.filter(({ id }) => command.only?.includes(id) ?? true) };
  const wants = (id: string) => command.only === undefined || command.only.includes(id);
  const rows = await suite.run({ quick: command.quick, wants, data: command.data, log: streams.err });
  const wanted = rows.filter((row) => wants(row.id));
  const date = new Date().toISOString().slice(0, 10);
  return { suite: command.suite, machine: describeMachine(), commit: currentCommit(), date, rows: wanted };
}

/** Runs one command line; returns its exit code: 0 measured, 1 failed, 2 wrong usage. */
export async function main(
  argv: readonly string[],
  streams: Streams = standardStreams,
  known: Record<string, SuiteEntry> = suites,
  folder: string = resultsFolder,
): Promise<number> {
  try {
    const command = parseCommand(argv, known);
    if (command === 'help') {
      streams.out(helpText(known));
      return 0;
    }
    const suite = await known[command.suite]!.load();
    const report = await runSuite(command, suite, streams);
    streams.out(formatReport(report));
    if (command.json !== undefined) {
      mkdirSync(path.dirname(path.resolve(command.json)), { recursive: true });
      writeReport(command.json, report);
    }
    if (command.update) {
      const { taken, kept } = record(report, suite.ids, folder);
      streams.err(`recorded: ${taken.join(', ') || 'nothing'}`);
      if (kept.length > 0) streams.err(`left as they were, for want of a value: ${kept.join(', ')}`);
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
