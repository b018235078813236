import { writeFileAtomically } from '../../checkpoint/atomic.js';
import { AnnealError } from '../../core/errors.js';
import { answerVerifier } from '../../verify/answer.js';
import {
  type BenchItem,
  type BenchRecord,
  type BenchReport,
  type BenchSet,
  type BenchTable,
  benchReport,
  comparisonTable,
  loadVerifyBench,
  reportNotes,
  runVerifyBench,
  scoresTable,
} from '../../verify/bench/index.js';
import { table } from '../table.js';
import type { Cli, Terminal } from '../terminal.js';
import { chooseVerifier, type JudgeFlags } from './verify-judge.js';

interface Flags extends JudgeFlags {
  set?: BenchSet;
  limit?: number;
  records?: string;
  offline?: boolean;
  revision?: string;
  json?: boolean;
}

function show(terminal: Terminal, report: BenchReport, items: readonly BenchItem[]): void {
  const print = ({ head, rows }: BenchTable) => {
    for (const line of table(head, rows)) terminal.print(line);
    terminal.print('');
  };
  terminal.print(`${report.verifier} on VerifyBench${report.set === 'hard' ? '-Hard' : ''}, in per cent`);
  print(scoresTable(report));
  const comparison = comparisonTable(report);
  if (comparison) print(comparison);
  for (const note of reportNotes(report, items)) terminal.print(note);
  const { mean, median, p99, max } = report.times;
  const ms = [mean, median, p99, max].map((one) => one.toFixed(2));
  terminal.print(`ms an item: mean ${ms[0]}, median ${ms[1]}, p99 ${ms[2]}, max ${ms[3]}`);
}

/** Shows how far the run is; nothing where standard error is no terminal. */
const onProgress = ({ done, total, failed }: { done: number; total: number; failed: number }) => {
  if (process.stderr.isTTY !== true) return;
  const lost = failed > 0 ? `, ${failed} failed` : '';
  process.stderr.write(`\r\x1b[2K${done}/${total}${lost}${done === total ? '\r\x1b[2K' : ''}`);
};

/** `anneal verify bench [DATA]`. */
export async function verifyBench(this: Cli, flags: Flags, where?: string): Promise<void> {
  const { terminal } = this;
  const data = await loadVerifyBench(where, {
    ...(flags.set && { set: flags.set }),
    ...(flags.offline && { offline: true }),
    ...(flags.revision !== undefined && { revision: flags.revision }),
  });
  const items = data.items.slice(0, flags.limit);
  const { verifier, usesReference, close } = await chooseVerifier(answerVerifier(), flags);
  const signal = terminal.interrupts();
  const stop = () => void close();
  signal.addEventListener('abort', stop, { once: true });
  const done: BenchRecord[] = [];
  try {
    const records = await runVerifyBench(verifier, items, {
      // More than run at once, so that the judge never waits for the rules.
      concurrency: 2 * flags.concurrency,
      signal,
      onRecord: (record) => done.push(record),
      onProgress,
    });
    const report = benchReport(records, {
      verifier: verifier.name,
      usesReference,
      ...(data.set && { set: data.set }),
    });
    if (flags.json)
      terminal.json({ file: data.file, ...report, comparison: comparisonTable(report) ?? null });
    else show(terminal, report, items);
    const [first] = report.failed;
    if (first)
      throw new AnnealError(
        `${report.failed.length} of ${items.length} items have no verdict (${first.reason}); run again, with --cache nothing is asked twice`,
      );
  } catch (error) {
    // Ctrl-C: the exit code says it all.
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener('abort', stop);
    if (flags.records !== undefined)
      await writeFileAtomically(flags.records, done.map((record) => `${JSON.stringify(record)}\n`).join(''));
    await close();
  }
}
