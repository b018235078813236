import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/core/errors.js';
import {
  type BenchItem,
  type BenchRecord,
  type BenchVerifier,
  benchItem,
  benchReport,
  benchScores,
  comparisonTable,
  loadVerifyBench,
  publishedRows,
  publishedSizes,
  readVerifyBench,
  reportNotes,
  runVerifyBench,
  scoresTable,
} from '../../src/verify/bench/index.js';
import { JudgeError } from '../../src/verify/judge/index.js';
import type { Outcome } from '../../src/verify/verdict.js';
import { HubServer } from '../data/hub-server.js';

/** A row as the standard file has it; the hard file swaps the two answer fields. */
const row = (over: Record<string, unknown> = {}) => ({
  question_id: 'q1',
  completion_id: 'c1',
  question: 'How much is 2 + 2?',
  answer: 'Add: \\boxed{4}',
  completion: 'It is 4.',
  completion_model: 'm',
  gold_correct: true,
  answer_type: 'A - Numeric Values',
  answer_subtype: 'A1 - Integer',
  source: 'math_reasoning/MATH',
  annotator: ['x', 'y'],
  ...over,
});

describe('an item', () => {
  it('is read from a row of the standard file', () => {
    expect(benchItem(row(), 'f, item 1')).toEqual({
      id: 'q1_c1',
      question: 'How much is 2 + 2?',
      reference: 'Add: \\boxed{4}',
      answer: 'It is 4.',
      expected: true,
      type: 'A - Numeric Values',
      subtype: 'A1 - Integer',
      domain: 'math_reasoning',
      model: 'm',
    });
  });

  it.each<[Record<string, unknown>, string, string | undefined]>([
    // Swapped, as in the file of hard items.
    [{ answer_type: 'B5 - Matrix', answer_subtype: 'B - Expressions' }, 'B - Expressions', 'B5 - Matrix'],
    // The typo, in both orders.
    [
      { answer_type: 'C - Multi-choice', answer_subtype: 'C2 - Multiple Coice' },
      'C - Multi-choice',
      'C2 - Multiple Choice',
    ],
    [
      { answer_type: 'C2 - Multiple Coice', answer_subtype: 'C - Multi-choice' },
      'C - Multi-choice',
      'C2 - Multiple Choice',
    ],
    [{ answer_type: 'D - String', answer_subtype: undefined }, 'D - String', undefined],
    [{ answer_type: undefined, answer_subtype: 'D2- Semantic ' }, 'D - String', 'D2 - Semantic'],
  ])('has type and subtype of %j', (over, type, subtype) => {
    const item = benchItem(row(over), 'here');
    expect([item.type, item.subtype]).toEqual([type, subtype]);
  });

  it('takes the names of re-publishers', () => {
    const item = benchItem(
      row({ id: 'x-1', source: 'elsewhere@1', data_source: 'logic_reasoning/a', answer: 4 }),
      'here',
    );
    expect([item.id, item.domain, item.reference]).toEqual(['x-1', 'logic_reasoning', '4']);
    expect(benchItem(row({ source: 'elsewhere' }), 'here').domain).toBeUndefined();
  });

  it.each<[Record<string, unknown>, string]>([
    [{ gold_correct: 'yes' }, '"gold_correct" is "yes" instead of true or false'],
    [{ gold_correct: undefined }, '"gold_correct" is missing instead of true or false'],
    [{ completion: undefined }, '"completion" is missing'],
    [{ question: ['a'] }, '"question" is no text'],
    [
      { answer_type: 'Easy', answer_subtype: 'E1 - x' },
      'answer_type and answer_subtype are ["Easy","E1 - x"], and neither begins with A to D',
    ],
  ])('is refused: %j', (over, why) => {
    const message = `f, item 3: ${why}; this is no item of VerifyBench`;
    expect(() => benchItem(row(over), 'f, item 3')).toThrow(new AnnealError(message));
  });
});

describe('the data', () => {
  const hub = new HubServer();
  let hubUrl: string;
  const folder = () => mkdtempSync(path.join(os.tmpdir(), 'anneal-bench-'));
  const lines = (...rows: unknown[]) => rows.map((one) => `${JSON.stringify(one)}\n`).join('');
  beforeAll(async () => {
    hubUrl = await hub.start();
    const content = (text: string) => ({ content: new TextEncoder().encode(text), lfs: true });
    hub.commits.push({
      sha: 'a'.repeat(40),
      files: {
        'README.md': content('x'),
        'data/verify_bench.jsonl': content(lines(row(), row({ completion_id: 'c2', gold_correct: false }))),
        'verify_bench_hard.jsonl': content(lines(row())),
      },
    });
    hub.refs.main = 'a'.repeat(40);
  });
  afterAll(() => hub.stop());

  it.each([
    ['standard', 2],
    ['hard', 1],
  ] as const)('comes from the Hub once: %s', async (set, count) => {
    const options = { repository: 'owner/name', hubUrl, cacheDir: folder(), set };
    const data = await loadVerifyBench(undefined, options);
    expect([data.items.length, data.set]).toEqual([count, set]);
    const before = hub.downloads.length;
    expect((await loadVerifyBench(undefined, { ...options, offline: true })).items).toEqual(data.items);
    expect(hub.downloads.length).toBe(before);
  });

  it('comes from a folder or a file', async () => {
    const at = folder();
    mkdirSync(path.join(at, 'data'));
    writeFileSync(path.join(at, 'data', 'verify_bench.jsonl'), lines(row()));
    writeFileSync(path.join(at, 'mine.jsonl'), lines(row(), row()));
    expect(await loadVerifyBench(at, { set: 'standard' })).toMatchObject({ set: 'standard' });
    await expect(loadVerifyBench(at)).rejects.toThrow(
      `the folder ${at} has no verify_bench_hard.jsonl; pass the file, or nothing to download it`,
    );
    const mine = path.join(at, 'mine.jsonl');
    expect((await loadVerifyBench(mine)).set).toBeUndefined();
    expect((await loadVerifyBench(mine, { set: 'hard' })).set).toBe('hard');
    await expect(loadVerifyBench(path.join(at, 'gone.jsonl'))).rejects.toThrow('cannot read');
    writeFileSync(mine, lines(row(), { question: 'x' }));
    await expect(readVerifyBench(mine)).rejects.toThrow(`${mine}, item 2: "gold_correct" is missing`);
  });

  const samples = fileURLToPath(new URL('../../../shared/data/', import.meta.url));
  const hasSamples = existsSync(samples);
  if (!hasSamples) console.log(`skipped: ${samples} is not there, so real items of VerifyBench are not read`);

  it.skipIf(!hasSamples)('holds the real items of the hard sample', async () => {
    const { items, set } = await loadVerifyBench(path.join(samples, 'verifybench_hard.dev.jsonl'));
    const count = (test: (item: BenchItem) => boolean) => items.filter(test).length;
    // Counted in the file by a script in another language.
    expect([items.length, set, count(({ expected }) => expected)]).toEqual([161, 'hard', 37]);
    expect(['A', 'B', 'C', 'D'].map((letter) => count(({ type }) => type.startsWith(letter)))).toEqual([
      58, 21, 58, 24,
    ]);
    expect(count(({ subtype }) => subtype === 'C4 - Finite state selection')).toBe(22);
    expect(new Set(items.map(({ domain }) => domain))).toEqual(
      new Set(['math_reasoning', 'logic_reasoning', 'general_reasoning']),
    );
    expect(new Set(items.map(({ id }) => id)).size).toBe(161);
  });

  it.skipIf(!hasSamples)('holds the examples of the project page', async () => {
    const { items } = await loadVerifyBench(path.join(samples, 'verifybench_web_examples_8.jsonl'));
    expect(items.map(({ expected }) => expected).filter(Boolean)).toHaveLength(4);
    expect(items.map(({ subtype }) => subtype)).toEqual(new Array(8).fill(undefined));
  });
});

/** Items with labels, and what a verifier says to each: c, i, a. */
const golden: [type: string, subtype: string, right: boolean, word: 'c' | 'i' | 'a'][] = [
  ['A - Numeric Values', 'A1 - Integer', true, 'c'],
  ['A - Numeric Values', 'A1 - Integer', true, 'c'],
  ['A - Numeric Values', 'A1 - Integer', false, 'i'],
  ['A - Numeric Values', 'A3 - Float', true, 'i'],
  ['A - Numeric Values', 'A3 - Float', false, 'c'],
  ['B - Expressions', 'B5 - Matrix', true, 'a'],
  ['B - Expressions', 'B5 - Matrix', false, 'a'],
  ['C - Multi-choice', 'C1 - Single Choice', false, 'i'],
  ['C - Multi-choice', 'C1 - Single Choice', false, 'i'],
  ['C - Multi-choice', 'C1 - Single Choice', true, 'c'],
];
const items: BenchItem[] = golden.map(([type, subtype, expected], i) => ({
  id: `i${i}`,
  question: '',
  reference: '',
  answer: String(i),
  expected,
  type,
  subtype,
  domain: 'math_reasoning',
}));
const words = { c: 'correct', i: 'incorrect', a: 'abstain' } as const;
const told: BenchVerifier = {
  name: 'told',
  verify: ({ answer }) => {
    const verdict: Outcome = words[golden[Number(answer)]![3]];
    return { verdict, reason: `said-${verdict}`, extracted: answer, ms: Number(answer) + 1 };
  },
};

describe('a run', () => {
  it('records every item in order, whatever ends first', async () => {
    const seen: BenchRecord[] = [];
    const progress: number[] = [];
    const slow: BenchVerifier = {
      name: 'slow',
      verify: async (item) => {
        await new Promise((resolve) => setTimeout(resolve, 20 - 2 * Number(item.answer)));
        return { ...(await told.verify(item)), votes: [1] } as Awaited<ReturnType<typeof told.verify>>;
      },
    };
    const records = await runVerifyBench(slow, items, {
      concurrency: 10,
      onRecord: (record) => seen.push(record),
      onProgress: ({ done }) => progress.push(done),
    });
    expect(seen).toEqual(records);
    expect(records.map(({ id }) => id)).toEqual(items.map(({ id }) => id));
    expect(progress).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(records[3]).toEqual({
      id: 'i3',
      type: 'A - Numeric Values',
      subtype: 'A3 - Float',
      domain: 'math_reasoning',
      expected: 'correct',
      verdict: 'incorrect',
      reason: 'said-incorrect',
      agrees: false,
      extracted: '3',
      ms: 4,
      details: { votes: [1] },
    });
  });

  it('sets items on which a judge fails apart', async () => {
    const flaky: BenchVerifier = {
      name: 'flaky',
      verify: (item) => {
        if (item.id === 'i1' || item.id === 'i5')
          throw new JudgeError('unreachable', 'gone', { item: item.id });
        return told.verify(item);
      },
    };
    const records = await runVerifyBench(flaky, items);
    expect(records[1]).toMatchObject({ id: 'i1', verdict: 'failed', reason: 'i1: gone', agrees: false });
    const report = benchReport(records, { verifier: 'flaky', set: 'hard' });
    expect(report.failed).toEqual([
      { id: 'i1', reason: 'i1: gone' },
      { id: 'i5', reason: 'i5: gone' },
    ]);
    expect(report.all.items).toBe(8);
    expect(report.types['B - Expressions']!.items).toBe(1);
    expect(reportNotes(report, items).at(-1)).toBe(
      '2 items have no verdict because the verifier failed; they are in no score',
    );
  });

  it('ends when the judge fails again and again, and by its signal', async () => {
    let asked = 0;
    const dead: BenchVerifier = {
      name: 'dead',
      verify: async ({ id }) => {
        asked++;
        throw new JudgeError('unreachable', 'gone', { item: id });
      },
    };
    await expect(runVerifyBench(dead, items, { concurrency: 1, maxFailures: 3 })).rejects.toThrow('i2: gone');
    expect(asked).toBe(3);
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(runVerifyBench(told, items, { signal })).rejects.toThrow('enough');
    const broken: BenchVerifier = { name: 'broken', verify: () => Promise.reject(new TypeError('defect')) };
    await expect(runVerifyBench(broken, items)).rejects.toBeInstanceOf(TypeError);
  });
});

describe('scores', () => {
  it('count as a person counts', async () => {
    const { all } = benchReport(await runVerifyBench(told, items), { verifier: 'told' });
    const { accuracy, accuracyAbstainIsNo, accuracyDecided, coverage, precision, recall, f1, ...rest } = all;
    const { falseAcceptRate, falseRejectRate, ...counts } = rest;
    expect(counts).toEqual({
      items: 10,
      truePositive: 3,
      falsePositive: 1,
      trueNegative: 3,
      falseNegative: 1,
      abstainedPositive: 1,
      abstainedNegative: 1,
    });
    expect(accuracy.value).toBe(6 / 10);
    expect(accuracyAbstainIsNo.value).toBe(7 / 10);
    expect(accuracyDecided.value).toBe(6 / 8);
    expect(coverage.value).toBe(8 / 10);
    expect(precision.value).toBe(3 / 4);
    expect(recall.value).toBe(3 / 5);
    // 2 · 3 / (4 accepted + 5 right).
    expect(f1.value).toBeCloseTo(6 / 9, 12);
    expect(f1.low).toBeLessThan(f1.value);
    expect(f1.high).toBeGreaterThan(f1.value);
    expect(falseAcceptRate.value).toBe(1 / 5);
    expect(falseRejectRate.value).toBe(1 / 5);
    // Wilson's interval of 6 of 10: (0.6 + z²/20 ± z √(0.024 + z²/400)) / (1 + z²/10), z = 1.959964.
    expect(accuracy.low).toBeCloseTo(0.312674, 5);
    expect(accuracy.high).toBeCloseTo(0.83182, 5);
  });

  it('of nothing are unknown', () => {
    const none = benchScores([]);
    expect([none.items, none.accuracy.value, none.f1.value]).toEqual([0, Number.NaN, Number.NaN]);
    expect([none.accuracy.low, none.accuracy.high]).toEqual([0, 1]);
  });

  it('make tables', async () => {
    const report = benchReport(await runVerifyBench(told, items), { verifier: 'told', set: 'hard' });
    const table = scoresTable(report);
    const short = table.rows.map(([name, count, accuracy, ...rest]) => [
      name,
      count,
      accuracy!.split(' ')[0],
      ...rest,
    ]);
    expect(short).toEqual([
      ['all', '10', '60.00', '80.00', '75.00', '60.00', '66.67', '1', '1'],
      ['A - Numeric Values', '5', '60.00', '100.00', '66.67', '66.67', '66.67', '1', '1'],
      ['B - Expressions', '2', '0.00', '0.00', '–', '0.00', '0.00', '0', '0'],
      ['C - Multi-choice', '3', '100.00', '100.00', '100.00', '100.00', '100.00', '0', '0'],
      ['A1 - Integer', '3', '100.00', '100.00', '100.00', '100.00', '100.00', '0', '0'],
      ['A3 - Float', '2', '0.00', '100.00', '0.00', '0.00', '0.00', '1', '1'],
      ['B5 - Matrix', '2', '0.00', '0.00', '–', '0.00', '0.00', '0', '0'],
      ['C1 - Single Choice', '3', '100.00', '100.00', '100.00', '100.00', '100.00', '0', '0'],
      ['math_reasoning', '10', '60.00', '80.00', '75.00', '60.00', '66.67', '1', '1'],
    ]);
    expect(report.constant).toEqual({ no: 0.5, yes: 0.5 });
    expect(report.reasons).toEqual({
      'correct: said-correct': 4,
      'incorrect: said-incorrect': 4,
      'abstain: said-abstain': 2,
    });
    expect(report.times).toEqual({ mean: 5.5, median: 5, p99: 10, max: 10 });
    expect(reportNotes(report, items)).toEqual([
      '10 items, 2 abstentions; always no scores 50.00, always yes 50.00',
      'accuracy counts an abstention as wrong, as the paper does; read as "no" it is 70.00, over decided items 75.00',
      'published rows are of all 1000 items of which 291 are right; these are 10 with 5',
    ]);
  });

  it('stand beside the published ones', async () => {
    const records = await runVerifyBench(told, items);
    const hard = comparisonTable(benchReport(records, { verifier: 'told', set: 'hard' }))!;
    const at = hard.rows.findIndex(([name]) => name === 'told (this run)');
    expect(hard.rows[at]).toEqual(['told (this run)', '60.00', '0.00', '100.00', '', '60.00', '80.00']);
    expect(hard.rows[at - 1]![0]).toBe('Yi-1.5-9B');
    expect(hard.rows[at + 1]![0]).toBe('phi-4');
    expect(hard.rows[0]).toEqual(['gpt-4o-2024-11-20', '71.43', '65.91', '75.35', '71.30', '72.60', '']);
    expect(hard.rows).toHaveLength(19);
    const standard = comparisonTable(benchReport(records, { verifier: 'told', set: 'standard' }))!;
    expect(standard.rows[0]![0]).toBe('Qwen3-32B');
    const without = benchReport(records, { verifier: 'told', set: 'standard', usesReference: false });
    expect(comparisonTable(without)!.rows[0]).toEqual(['Qwen3-235B-A22B', '', '', '', '', '80.15', '']);
    expect(comparisonTable(benchReport(records, { verifier: 'told' }))).toBeUndefined();
    expect(comparisonTable({ ...without, set: 'hard' })).toBeUndefined();
  });

  it('that are published add up to their overall figure', () => {
    // Items by type: 500 each in the standard set; 252, 88, 430 and 230 in the hard one.
    const weights = { standard: [500, 500, 500, 500], hard: [252, 88, 430, 230] } as const;
    let checked = 0;
    for (const { standard, hard } of publishedRows)
      for (const [set, scores] of [
        ['standard', standard],
        ['hard', hard],
      ] as const) {
        if (scores?.numeric === undefined) continue;
        const parts = [scores.numeric, scores.expressions!, scores.choice!, scores.text!];
        const sum = parts.reduce((total, part, i) => total + part * weights[set][i]!, 0);
        expect(Math.abs(sum / publishedSizes[set].items - scores.all)).toBeLessThan(0.16);
        checked++;
      }
    expect(checked).toBe(12);
  });
});
