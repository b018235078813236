import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { main } from '../../bench/cli.js';
import { type Machine, makeRow, type Report, type Suite } from '../../bench/harness.js';
import { medianReport, merged, readReport, writeReport } from '../../bench/record.js';
import { currentCommit } from '../../bench/report.js';

const machine: Machine = { cpu: 'A', cores: 2, memoryGiB: 8, os: 'Linux', node: 'v20' };
const ids = ['first', 'second', 'third'];
const row = (id: string, value: number | null, better: 'lower' | 'higher' = 'lower') =>
  makeRow({ id, what: id, unit: 'ms', better, value, note: value === null ? 'no peer' : `${value}` });
const report = (rows: Report['rows'], rest: Partial<Report> = {}): Report => ({
  suite: 'fake',
  machine,
  commit: 'old',
  date: '2026-01-01',
  rows,
  ...rest,
});

describe('merged', () => {
  const committed = report([row('first', 1), row('second', 2), row('third', 3)]);

  it('puts a row in its place, with its origin, and leaves the others', () => {
    const measured = report([row('second', 5)], { commit: 'new', date: '2026-02-02' });
    const { report: got, taken, kept } = merged(committed, measured, ids);
    expect(got).toEqual({
      ...committed,
      rows: [row('first', 1), { ...row('second', 5), commit: 'new', date: '2026-02-02' }, row('third', 3)],
    });
    expect([taken, kept]).toEqual([['second'], []]);
    // And another one later: the first keeps what it says of itself.
    const other = { ...machine, cpu: 'B' };
    const again = merged(got, report([row('first', 7)], { commit: 'newer', machine: other }), ids).report;
    expect(again.rows).toEqual([
      { ...row('first', 7), commit: 'newer', machine: other },
      { ...row('second', 5), commit: 'new', date: '2026-02-02' },
      row('third', 3),
    ]);
  });

  it('says nothing of its own where the origin is that of the report', () => {
    expect(merged(committed, report([row('third', 4)]), ids).report.rows[2]).toEqual(row('third', 4));
  });

  it('does not let a missing peer wipe out a value, but takes the row where there was none', () => {
    const measured = report([row('first', null), row('second', 6)], { commit: 'new' });
    const { report: got, taken, kept } = merged(report([row('first', 1)]), measured, ids);
    expect([taken, kept]).toEqual([['second'], ['first']]);
    expect(got.rows).toEqual([row('first', 1), { ...row('second', 6), commit: 'new' }]);
    expect(merged(undefined, measured, ids).report).toEqual(measured);
  });

  it('has the origin of most of its rows', () => {
    const measured = report([row('first', 7), row('third', 8)], { commit: 'new', date: '2026-02-02' });
    expect(merged(committed, measured, ids).report).toEqual({
      ...measured,
      rows: [row('first', 7), { ...row('second', 2), commit: 'old', date: '2026-01-01' }, row('third', 8)],
    });
  });

  it('is the new report where every row is new', () => {
    const measured = report(
      ids.map((id) => row(id, 9)),
      { commit: 'new' },
    );
    expect(merged(committed, measured, ids).report).toEqual(measured);
  });
});

describe('medianReport', () => {
  it('takes the whole row of the run in the middle, and the worse one of two', () => {
    const values = { first: [3, 1, 2], second: [10, 30, 20] };
    const runs = [0, 1, 2].map((i) =>
      report([row('first', values.first[i]!), row('second', values.second[i]!, 'higher')], {
        commit: `c${i}`,
      }),
    );
    const got = medianReport(runs);
    expect(got.rows).toEqual([
      { ...row('first', 2), commit: 'c2' },
      { ...row('second', 20, 'higher'), commit: 'c2' },
    ]);
    expect(medianReport(runs.slice(0, 2)).rows.map(({ value }) => value)).toEqual([3, 10]);
  });

  it('passes over runs in which a row has no value', () => {
    const runs = [report([row('first', null)]), report([row('first', 4)])];
    expect(medianReport(runs).rows).toEqual([row('first', 4)]);
  });
});

describe('npm run bench -- SUITE --update', () => {
  const suite: Suite = { ids, run: async () => ids.map((id) => row(id, 8)) };
  const known = { fake: { about: '', load: async () => suite } };
  const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-record-'));
  const file = path.join(folder, 'fake.json');
  const run = async (...argv: string[]) => {
    const err: string[] = [];
    const code = await main(argv, { out: () => {}, err: (text) => err.push(text) }, known, folder);
    return { code, err: err.join('\n') };
  };

  it('merges what was measured with --only', async () => {
    writeReport(file, report([row('first', 1), row('second', 2)]));
    expect(await run('fake', '--only', 'second', '--update')).toEqual({ code: 0, err: 'recorded: second' });
    const got = readReport(file);
    expect(got).toMatchObject({ commit: 'old', date: '2026-01-01', machine });
    expect(got.rows.map(({ id, value, commit }) => [id, value, commit])).toEqual([
      ['first', 1, undefined],
      ['second', 8, currentCommit()],
    ]);
  });

  it('merges the median of earlier reports', async () => {
    const files = [4, 6, 5].map((value, i) => {
      const name = path.join(folder, `run${i}.json`);
      writeReport(name, report([row('first', value)], { commit: 'new' }));
      return name;
    });
    expect((await run('fake', '--from', files.join(','), '--update')).code).toBe(0);
    const got = readReport(file);
    expect([got.commit, got.rows[0]]).toEqual(['new', row('first', 5)]);
    expect(got.rows[1]).toMatchObject({ id: 'second', value: 8, commit: currentCommit() });
  });

  it('refuses what it cannot record, and writes nothing', async () => {
    const before = readFileSync(file, 'utf8');
    const other = path.join(folder, 'other.json');
    writeReport(other, report([row('fourth', 1)]));
    const text = path.join(folder, 'text.json');
    writeFileSync(text, '{}');
    const refusals: [string[], string][] = [
      [['--only', 'fourth'], "Suite fake has no row 'fourth'. Its rows are: first, second, third."],
      [['--from', other], "Suite fake has no row 'fourth'. Its rows are: first, second, third."],
      [['--from', text], `--from: ${text} is no report: it has no suite and rows.`],
      [['--quick'], '--quick is a look, not a result: leave it out to --update.'],
    ];
    for (const [flags, message] of refusals)
      expect(await run('fake', '--update', ...flags)).toEqual({ code: 2, err: message });
    writeReport(other, report([row('first', 1)], { suite: 'lm' }));
    expect((await run('fake', '--update', '--from', other)).err).toBe(
      '--from: a report is of suite lm, not of fake.',
    );
    expect((await run('fake', '--update', '--from', path.join(folder, 'none.json'))).code).toBe(2);
    expect(readFileSync(file, 'utf8')).toBe(before);
    expect(existsSync(path.join(folder, 'lm.json'))).toBe(false);
  });
});
