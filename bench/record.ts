/**
 * The committed results of a suite, bench/results/SUITE.json, and how rows get into it that were measured apart from the rest.
 * A row that is of another commit or machine than the whole report says so itself.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Report, Row } from './harness.js';
import { packageRoot } from './report.js';

/** Where the committed results are. */
export const resultsFolder = path.join(packageRoot, 'bench', 'results');

/** Reads a report as `--json` writes it. */
export function readReport(file: string): Report {
  const report = JSON.parse(readFileSync(file, 'utf8')) as Report;
  if (typeof report.suite !== 'string' || !Array.isArray(report.rows))
    throw new Error(`${file} is no report: it has no suite and rows`);
  return report;
}

/** Writes a report. */
export function writeReport(file: string, report: Report): void {
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
}

/**
 * A report of what is the median of each row in several runs: the whole row of the run in the middle, so that its note and
 * its spread belong to its value; of an even number, the worse one of the two in the middle.
 */
export function medianReport(reports: readonly Report[]): Report {
  const [first] = reports;
  if (!first) throw new Error('no reports');
  const rows = first.rows.map(({ id }) => {
    const candidates = reports.flatMap((report) =>
      report.rows.filter((row) => row.id === id && row.value !== null).map((row) => ({ report, row })),
    );
    candidates.sort((a, b) => a.row.value! - b.row.value!);
    if (first.rows.find((row) => row.id === id)!.better === 'lower') candidates.reverse();
    const middle = candidates[Math.floor((candidates.length - 1) / 2)];
    if (!middle) return first.rows.find((row) => row.id === id)!;
    return ownedRow(middle.row, middle.report, first);
  });
  return { ...first, rows };
}

/** Where a row comes from. */
type Origin = Pick<Report, 'commit' | 'date' | 'machine'>;

const originOf = (row: Row, { commit, date, machine }: Origin): Origin => ({
  commit: row.commit ?? commit,
  ...((row.date ?? date) !== undefined && { date: row.date ?? date }),
  machine: row.machine ?? machine,
});

/** A row of one report as it stands in another: with its origin where that differs. */
function ownedRow(row: Row, from: Origin, into: Origin): Row {
  const origin = originOf(row, from);
  const { commit: _commit, date: _date, machine: _machine, ...rest } = row;
  return {
    ...rest,
    ...(origin.commit !== into.commit && { commit: origin.commit }),
    ...(origin.date !== undefined && origin.date !== into.date && { date: origin.date }),
    ...(JSON.stringify(origin.machine) !== JSON.stringify(into.machine) && { machine: origin.machine }),
  };
}

/** The report said of most of its rows: the most frequent origin is the report's, and the other rows have their own. */
function settled(report: Report): Report {
  const origins = report.rows.map((row) => originOf(row, report));
  const countOf = (origin: Origin) =>
    origins.filter((one) => JSON.stringify(one) === JSON.stringify(origin)).length;
  let most = originOf({} as Row, report);
  for (const origin of origins) if (countOf(origin) > countOf(most)) most = origin;
  const { suite } = report;
  return { suite, ...most, rows: report.rows.map((row) => ownedRow(row, report, most)) };
}

/** What `merged` did. */
export interface Merge {
  report: Report;
  /** Ids of rows that were put in, and of rows that were left as they were for want of a value. */
  taken: readonly string[];
  kept: readonly string[];
}

/**
 * The committed report with the measured rows in their places, in the suite's order. A row that has no value now does not
 * take the place of one that has. The report's commit, day and machine are those of most of its rows.
 */
export function merged(committed: Report | undefined, measured: Report, ids: readonly string[]): Merge {
  const before = new Map(committed?.rows.map((row) => [row.id, row]));
  const fresh = new Map(measured.rows.map((row) => [row.id, row]));
  const isTaken = (id: string) => fresh.has(id) && (fresh.get(id)!.value !== null || !before.has(id));
  const taken = ids.filter(isTaken);
  const kept = ids.filter((id) => fresh.has(id) && !isTaken(id));
  const rest = ids.filter((id) => before.has(id) && !isTaken(id));
  const base = committed && rest.length > 0 ? committed : measured;
  const rows = ids.flatMap((id) => {
    if (isTaken(id)) return [ownedRow(fresh.get(id)!, measured, base)];
    return before.has(id) ? [before.get(id)!] : [];
  });
  return { report: settled({ ...base, rows }), taken, kept };
}

/** Merges measured rows into the suite's committed report. */
export function record(measured: Report, ids: readonly string[], folder: string = resultsFolder): Merge {
  const file = path.join(folder, `${measured.suite}.json`);
  const merge = merged(existsSync(file) ? readReport(file) : undefined, measured, ids);
  writeReport(file, merge.report);
  return merge;
}
