import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { RunOptions } from '../../bench/harness.js';
import { accuracyRows, count } from '../../bench/verify/accuracy.js';
import { casesOf } from '../../bench/verify/cases.js';
import { CLAIMS, ROW_IDS, type RowId } from '../../bench/verify/rows.js';
import { verify } from '../../bench/verify.js';
import { numberVerifier } from '../../src/verify/number.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-verify-bench-'));
afterAll(() => rmSync(folder, { recursive: true }));

const options = (data: string | null, only: readonly RowId[]): RunOptions => ({
  quick: true,
  wants: (id) => (only as readonly string[]).includes(id),
  data,
  log: () => {},
});
/** Rows that need files and nothing else. */
const ofFiles = ROW_IDS.filter((id) => !['escapes', 'escape-overrun', 'throughput'].includes(id));

describe('the suite of verifiers', () => {
  it('has the rows that are promised, with their bounds', () => {
    const promised = Object.entries(CLAIMS).filter(([, { target }]) => target !== null);
    expect(promised.map(([id, { better, target }]) => [id, better, target])).toEqual([
      ['triples', 'higher', 95],
      ['triples-accepts', 'lower', 1],
      ['hardverify', 'higher', 85],
      ['hardverify-accepts', 'lower', 1],
      ['verifybench', 'higher', 90],
      ['math500', 'higher', 99.8],
      ['gsm8k', 'higher', 100],
      ['speed-mean', 'lower', 3],
      ['speed-p99', 'lower', 50],
      ['speed-peer', 'higher', 10],
      ['false-alarms', 'lower', 0.5],
      ['if-chains', 'higher', 97],
      ['tables', 'higher', 90],
      ['hidden-tests', 'higher', 100],
      ['escapes', 'lower', 0],
      ['escape-overrun', 'lower', 200],
      ['throughput', 'higher', 20],
      ['humaneval', 'higher', 100],
      ['mbpp', 'higher', 100],
    ]);
    expect(verify.ids).toEqual(ROW_IDS);
  });

  it.each([
    [null, /^needs \S+\.jsonl: name the folder that holds it with --data DIR$/],
    [folder, /^\S+\.jsonl is not in /],
  ])('says which file is missing from %s', async (data, reason) => {
    const rows = await verify.run(options(data, ofFiles));
    expect(rows.map(({ id }) => id)).toEqual(ofFiles);
    for (const row of rows) {
      expect(row).toMatchObject({ value: null, met: null });
      expect(row.note).toMatch(reason);
    }
  });
});

describe('accuracy', () => {
  const verifier = numberVerifier();
  const one = (answer: string, reference: string, isRight: boolean) => ({
    answer,
    reference,
    isRight,
    verifier,
  });

  it('counts both kinds of errors; an abstention accepts nothing', () => {
    const counts = count([
      one('4', '4', true),
      one('4', '5', true),
      one('4', '4', false),
      one('4', 'none', true),
      one('4', 'none', false),
    ]);
    expect(counts).toMatchObject({ items: 5, wrong: 2, falseAccepts: 1, falseRejects: 2, abstained: 2 });
    expect(counts.accepted.map(({ answer, isRight }) => [answer, isRight])).toEqual([['4', false]]);
  });

  it('is read off a file, and shows what was accepted', () => {
    const rows = [
      { gold: '1/2', answer: '0.5', expected: true },
      { gold: '1/2', answer: '0.25', expected: false },
      { gold: '3', answer: '3', expected: false },
      { gold: '3', answer: '4', expected: true },
    ];
    writeFileSync(
      path.join(folder, 'hardverify_math.dev.jsonl'),
      rows.map((row) => JSON.stringify(row)).join('\n'),
    );
    const found = accuracyRows(options(folder, ['hardverify', 'hardverify-accepts']));
    expect(found).toMatchObject([
      { id: 'hardverify', value: 50, met: false },
      {
        id: 'hardverify-accepts',
        value: 50,
        met: false,
        note: '1 of 2 wrong answers; accepted: "3" for "3"',
      },
    ]);
  });

  it("gives each of Math-Verify's cases its own options", () => {
    const config = {
      targets: ['latex'],
      floatDigits: 6,
      strict: false,
      allowSetRelation: false,
      boxedFirst: true,
    };
    const row = { gold: '$x$', answer: '$y$', expected: true, config };
    writeFileSync(path.join(folder, 'math_verify_triples.dev.jsonl'), JSON.stringify(row));
    const found = casesOf(folder, 'triples') as { cases: Parameters<typeof count>[0] };
    expect(count(found.cases)).toMatchObject({ items: 1, falseRejects: 0, falseAccepts: 0 });
  });
});
