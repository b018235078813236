/** From rows to what a person reads, and the facts that a report carries about its machine and code. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Machine, Report, Row } from './harness.js';

/** The package's root folder, from the TypeScript sources and from the compiled ones alike. */
export const packageRoot = findPackageRoot(path.dirname(fileURLToPath(import.meta.url)));

function findPackageRoot(from: string): string {
  for (let folder = from; ; folder = path.dirname(folder)) {
    const manifest = path.join(folder, 'package.json');
    if (existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).name === 'anneal') return folder;
    if (path.dirname(folder) === folder) throw new Error(`no package 'anneal' above ${from}`);
  }
}

/** Describes this machine. */
export function describeMachine(): Machine {
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    os: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.version,
  };
}

/** The commit that is checked out, marked where the tree differs from it. */
export function currentCommit(): string {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: packageRoot, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    const hash = git('rev-parse', '--short=12', 'HEAD').trim();
    return git('status', '--porcelain', '--untracked-files=no').trim() === '' ? hash : `${hash}+changes`;
  } catch {
    return 'uncommitted';
  }
}

/** A number with three or four significant digits. */
export function formatNumber(value: number): string {
  if (value !== 0 && Math.abs(value) < 1e-2) return value.toExponential(1);
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return String(Number(value.toFixed(digits)));
}

function cells(row: Row): string[] {
  const sign = row.better === 'higher' ? '>=' : '<=';
  return [
    row.id,
    row.what,
    row.value === null ? '-' : `${formatNumber(row.value)} ${row.unit}`.trim(),
    row.target === null ? '' : `${sign} ${formatNumber(row.target)}`,
    row.target === null ? '' : row.met === null ? '?' : row.met ? 'yes' : 'NO',
    row.spread === null ? '' : `${(row.spread * 100).toFixed(0)} %`,
    row.repeats === 0 ? '' : String(row.repeats),
    row.peer ?? '',
  ];
}

/** Rows as a table of aligned columns; notes follow, each under its row's id. */
export function formatTable(rows: readonly Row[]): string {
  const head = ['id', 'what', 'value', 'target', 'met', 'spread', 'n', 'peer'];
  const lines = [head, ...rows.map(cells)];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const render = (line: string[]) =>
    line
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '-'.repeat(width)).join('  ');
  const notes = rows.filter((row) => row.note !== '').map((row) => `${row.id}: ${row.note}`);
  return [
    render(head),
    rule,
    ...rows.map((row) => render(cells(row))),
    ...(notes.length ? ['', ...notes] : []),
  ].join('\n');
}

/** The whole report as text: table, notes, and how many targets were met. */
export function formatReport(report: Report): string {
  const { cpu, cores, memoryGiB, node } = report.machine;
  const claims = report.rows.filter((row) => row.target !== null);
  const count = (met: boolean | null) => claims.filter((row) => row.met === met).length;
  const summary = `${count(true)} of ${claims.length} targets met, ${count(false)} missed, ${count(null)} not measured`;
  const header = `${report.suite}: ${cpu}, ${cores} cores, ${memoryGiB} GiB, Node ${node}, commit ${report.commit}`;
  return `${header}\n\n${formatTable(report.rows)}\n\n${summary}`;
}
