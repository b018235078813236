import { mkdtempSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { main } from '../../bench/cli.js';
import { makeRow, type RunOptions, type Suite } from '../../bench/harness.js';

/** A suite with two rows that remembers how it was asked to run. */
function fakeSuite() {
  const seen: RunOptions[] = [];
  const row = (id: string) => makeRow({ id, what: id, unit: 'ms', better: 'lower', value: 3, target: 5 });
  const suite: Suite = {
    ids: ['first', 'second'],
    run: async (options) => {
      seen.push(options);
      return suite.ids.map(row);
    },
  };
  return { seen, known: { fake: { about: 'two rows', load: async () => suite } } };
}

async function run(argv: string[], known = fakeSuite().known, folder?: string) {
  const out: string[] = [];
  const err: string[] = [];
  const streams = { out: (text: string) => out.push(text), err: (text: string) => err.push(text) };
  const code = await main(argv, streams, known, folder);
  return { code, out: out.join('\n'), err: err.join('\n') };
}

describe('npm run bench', () => {
  it('names the suites when it does not know the one asked for', async () => {
    const { code, out, err } = await run(['nonsense']);
    expect(code).toBe(2);
    expect(err).toBe("There is no suite 'nonsense'. The suites are: fake.");
    expect(out).toBe('');
  });

  it.each([
    [[], 'Which suite? The suites are: fake.'],
    [['fake', 'more'], 'One suite at a time, not fake and more.'],
    [['toString'], "There is no suite 'toString'. The suites are: fake."],
    [['fake', '--only', 'third'], "Suite fake has no row 'third'. Its rows are: first, second."],
  ])('refuses %j in one sentence', async (argv, message) => {
    const { code, err } = await run(argv);
    expect([code, err]).toEqual([2, message]);
  });

  it.each([[['fake', '--fast']], [['fake', '--json']], [['fake', '--quick=yes']]])(
    'refuses the bad flag in %j',
    async (argv) => {
      const { code, err } = await run(argv);
      expect(code).toBe(2);
      expect(err).toMatch(/option/i);
      expect(err).not.toContain('\n');
    },
  );

  it('prints help, with the suites', async () => {
    const { code, out } = await run(['--help']);
    expect(code).toBe(0);
    expect(out).toMatch(/^Usage: npm run bench -- SUITE/);
    expect(out).toContain('two rows');
  });

  it('prints the table and writes the same rows as JSON', async () => {
    const file = path.join(mkdtempSync(path.join(os.tmpdir(), 'anneal-cli-')), 'new', 'report.json');
    const { code, out } = await run(['fake', '--json', file]);
    const report = JSON.parse(readFileSync(file, 'utf8'));
    expect(code).toBe(0);
    expect(out).toContain('2 of 2 targets met');
    expect(Object.keys(report)).toEqual(['suite', 'machine', 'commit', 'date', 'rows']);
    expect(report.date).toMatch(/^\d{4}-\d\d-\d\d$/);
    expect(report.rows.map((row: { id: string; met: boolean }) => [row.id, row.met])).toEqual([
      ['first', true],
      ['second', true],
    ]);
  });

  it('passes --quick and --only on, and drops rows nobody asked for', async () => {
    const { seen, known } = fakeSuite();
    const { out } = await run(['fake', '--quick', '--only', 'second'], known);
    expect(seen[0]?.quick).toBe(true);
    expect([seen[0]?.wants('first'), seen[0]?.wants('second')]).toEqual([false, true]);
    expect(out).not.toContain('first');
  });

  it('passes the folder of --data on, and refuses one that does not exist', async () => {
    const { seen, known } = fakeSuite();
    expect((await run(['fake', '--data', os.tmpdir()], known)).code).toBe(0);
    expect(seen[0]?.data).toBe(os.tmpdir());
    const { code, err } = await run(['fake', '--data', '/nowhere/at/all'], known);
    expect([code, err]).toEqual([2, "There is no folder '/nowhere/at/all'; --data names one that exists."]);
    expect(seen).toHaveLength(1);
  });

  it('reports a failing suite with exit code 1', async () => {
    const failing: Suite = { ids: [], run: () => Promise.reject(new Error('the machine is on fire')) };
    const { code, err } = await run(['broken'], {
      broken: { about: '', load: async () => failing },
    } as never);
    expect(code).toBe(1);
    expect(err).toContain('the machine is on fire');
  });
});
