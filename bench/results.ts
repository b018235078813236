/**
 * Writes docs/results.md, and the tables of the README and of pages with markers, from the reports in bench/results/, so that no number
 * in them is typed by hand.
 *
 *     npm run bench -- engine --update
 *     npm run bench -- lm --only sampling --update
 *     npm run bench:results
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Report, Row } from './harness.js';
import { readReport, resultsFolder } from './record.js';
import { packageRoot } from './report.js';

const number = (value: number | null): string =>
  value === null ? '–' : Number(value.toPrecision(3)).toLocaleString('en', { maximumSignificantDigits: 3 });

/** Of a row that was measured apart from the others: when. */
function originOf({ commit, date, machine }: Row): string {
  if (commit === undefined && date === undefined && machine === undefined) return '';
  const where = machine === undefined ? '' : `on ${JSON.stringify(machine)}`;
  return ['measured apart:', commit && `commit ${commit}`, date, where].filter(Boolean).join(' ');
}

function table({ suite, machine, commit, rows }: Report): string {
  const lines = rows.map((row) => {
    const bound = row.target === null ? '–' : `${row.better === 'higher' ? '≥' : '≤'} ${number(row.target)}`;
    const met = row.met === null ? '–' : row.met ? 'yes' : 'no';
    return `| ${row.what} | ${number(row.value)} ${row.unit} | ${bound} | ${met} | ${[row.note, originOf(row)].filter(Boolean).join('; ')} |`;
  });
  return [
    `## ${suite}`,
    '',
    `Machine: ${typeof machine === 'string' ? machine : JSON.stringify(machine)}. Commit ${commit}.`,
    '',
    '| what | measured | target | met | note |',
    '| --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
}

/** The rows that promise something, without notes. */
function shortTable({ rows }: Report): string {
  const promised = rows.filter((row) => row.target !== null && !row.id.includes('difference'));
  const lines = promised.map(
    (row) =>
      `| ${row.what} | ${number(row.value)} ${row.value === null ? '' : row.unit} | ${row.better === 'higher' ? '≥' : '≤'} ${number(row.target)} ${row.met === false ? '(missed)' : ''} |`,
  );
  return ['| what | measured | target |', '| --- | --- | --- |', ...lines].join('\n');
}

const reports = readdirSync(resultsFolder)
  .filter((name) => name.endsWith('.json'))
  .sort()
  .map((name) => readReport(path.join(resultsFolder, name)));
const page = `# Results\n\nGenerated from the last full runs by \`npm run bench:results\`; a missing peer leaves its row empty.\n\n${reports.map(table).join('\n\n')}\n`;
writeFileSync(path.join(packageRoot, 'docs', 'results.md'), page);

/** The README and the pages of docs/ get the short table of a suite where they have its markers. */
const docs = path.join(packageRoot, 'docs');
const pages = readdirSync(docs)
  .filter((name) => name.endsWith('.md') && name !== 'results.md')
  .map((name) => path.join(docs, name));
for (const file of [path.join(packageRoot, 'README.md'), ...pages]) {
  const before = readFileSync(file, 'utf8');
  let text = before;
  for (const report of reports) {
    // The first table, that of the engine, has markers without a name.
    const name = report.suite === 'engine' ? 'results' : `results ${report.suite}`;
    const between = new RegExp(`<!-- ${name} -->[\\s\\S]*?<!-- /${name} -->`);
    text = text.replace(between, () => `<!-- ${name} -->\n${shortTable(report)}\n<!-- /${name} -->`);
  }
  if (text !== before) writeFileSync(file, text);
}
