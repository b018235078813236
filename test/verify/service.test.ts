import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AnswerItem, answerVerifier, VerifierPool, verifyAll } from '../../src/verify/index.js';
import { parseRow, rowOptions, rowResult } from '../../src/verify/service/rows.js';
import { scratch } from '../support/command.js';
import { compile } from '../support/compiled.js';

// Threads run compiled files, wherever the tests themselves run from.
let compiled: ReturnType<typeof compile>;
let program: URL;
let folder: string;
beforeAll(() => {
  compiled = compile('src/verify/service/worker.ts');
  program = pathToFileURL(compiled.program);
  folder = scratch();
});
afterAll(() => compiled.remove());

/** A module for threads that does what its source says with each item. */
const scripted = (name: string, source: string): string => {
  const file = path.join(folder, `${name}.mjs`);
  writeFileSync(
    file,
    `import { parentPort } from 'node:worker_threads';\n${source}\nparentPort.postMessage('ready');`,
  );
  return file;
};

/** Threads that hang on the answer "hang", die on "die", and fill their memory on "fill"; others are right. */
const rude = () =>
  scripted(
    'rude',
    `parentPort.on('message', ({ answer }) => {
      parentPort.postMessage('begun');
      if (answer === 'hang') for (;;);
      if (answer === 'die') process.exit();
      if (answer === 'fill') for (const all = []; ; ) all.push(new Array(1e5).fill(all.length));
      parentPort.postMessage({ verdict: 'correct', reason: answer, ms: 1 });
    });`,
  );
const item = (answer: string): AnswerItem => ({ answer, reference: '1' });

describe('verifier threads', () => {
  it('say what the rules say, in the order of the items', async () => {
    const items: AnswerItem[] = Array.from({ length: 200 }, (_, i) => ({
      answer: `\\boxed{${i % 7}/${1 + (i % 3)}}`,
      reference: `${(i % 5) / 2}`,
      ...(i % 2 && { options: { tolerance: 'exact' as const, type: 'math' as const } }),
    }));
    const found = await verifyAll(items, { workers: 8, program });
    const alone = items.map((one) => answerVerifier(one.options).verify(one));
    expect(found.map(({ ms: _, ...rest }) => rest)).toEqual(alone.map(({ ms: _, ...rest }) => rest));
    expect(found.some(({ verdict }) => verdict === 'correct')).toBe(true);
  });

  it('give a verdict for anything', async () => {
    const odd = [
      null,
      {},
      { answer: 5, reference: [] },
      { answer: 'x', reference: '1', options: { type: 'text' } },
    ];
    const found = await verifyAll(odd as unknown as AnswerItem[], { workers: 2, program });
    expect(found.map(({ verdict, reason }) => [verdict, reason])).toEqual([
      ['abstain', 'not-a-text'],
      ['abstain', 'not-a-text'],
      ['abstain', 'not-a-text'],
      ['incorrect', 'different-text'],
    ]);
    const call = { answer: '1', reference: '1', options: { choices: (() => {}) as never } };
    expect(await verifyAll([call], { workers: 1, program })).toMatchObject([{ reason: 'not-transferable' }]);
  });

  it('let a slow item delay no other', async () => {
    const pool = new VerifierPool({ workers: 8, deadlineMs: 1500, program: rude() });
    await pool.verifyAll(Array.from({ length: 8 }, (_, i) => item(`warm ${i}`)));
    const slow = pool.verify(item('hang'));
    const start = performance.now();
    const rest = await pool.verifyAll(Array.from({ length: 300 }, (_, i) => item(String(i))));
    expect(performance.now() - start).toBeLessThan(1500);
    expect(rest.map(({ reason }) => reason)).toEqual(Array.from({ length: 300 }, (_, i) => String(i)));
    expect(pool.load).toEqual({ waiting: 0, running: 1 });
    expect(await slow).toMatchObject({ verdict: 'abstain', reason: 'deadline' });
    await pool.close();
  });

  it('start the clock when the work starts, not when it is asked for', async () => {
    const pool = new VerifierPool({ workers: 1, deadlineMs: 300, program: rude() });
    const found = await pool.verifyAll([item('hang'), item('hang'), item('hang'), item('a')]);
    expect(found.map(({ reason }) => reason)).toEqual(['deadline', 'deadline', 'deadline', 'a']);
    // Each had the whole of its time, though the last waited for those before it.
    for (const { ms } of found.slice(0, 3)) expect(ms).toBeGreaterThanOrEqual(295);
    await pool.close();
  });

  it('are replaced when they die or fill their memory', async () => {
    const pool = new VerifierPool({ workers: 1, memoryMb: 32, deadlineMs: 20_000, program: rude() });
    const found = await pool.verifyAll([item('die'), item('a'), item('fill'), item('b')]);
    expect(found.map(({ verdict, reason }) => [verdict, reason])).toEqual([
      ['abstain', 'verifier-error'],
      ['correct', 'a'],
      ['abstain', 'too-large'],
      ['correct', 'b'],
    ]);
    await pool.close();
  });

  it('give up where they cannot be started', async () => {
    const missing = path.join(folder, 'missing.mjs');
    await expect(verifyAll([item('a'), item('b')], { workers: 2, program: missing })).rejects.toThrow(
      /^verifier threads cannot be started: Cannot find module/,
    );
  });

  it('take back what waits when the signal aborts, and reject it when closed', async () => {
    const pool = new VerifierPool({ workers: 1, deadlineMs: 60_000, program: rude() });
    const stop = new AbortController();
    const running = pool.verify(item('hang')).catch((error: Error) => error.message);
    const waiting = pool.verify(item('a'), { signal: stop.signal });
    const later = pool.verify(item('b')).catch((error: Error) => error.message);
    stop.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    await pool.close();
    expect(await Promise.all([running, later])).toEqual(
      Array(2).fill('the verifier pool was closed before the item was verified'),
    );
    await expect(pool.verify(item('c'))).rejects.toThrow('the verifier pool is closed');
  });

  it.each([0, 1.5, -1, 5000])('refuse %d workers', (workers) => {
    expect(() => new VerifierPool({ workers })).toThrow(
      `workers is ${workers}; pass a whole number from 1 to 1024`,
    );
  });
});

describe('rows', () => {
  it('are read with the names of other verifiers', () => {
    const config = { floatDigits: 3, strict: false, allowSetRelation: false, percent: 'scale' };
    expect(rowOptions(config)).toEqual({
      tolerance: { digits: 3 },
      strictSymbols: false,
      setFromRelation: false,
      percent: 'scale',
    });
    expect(rowOptions({ floatDigits: 6 })).toEqual({});
    expect(parseRow({ reference: 3, answer: true, type: 'text' }, 'row 4')).toEqual({
      kind: 'answer',
      id: 'row 4',
      item: { id: 'row 4', answer: 'true', reference: '3', options: { type: 'text' } },
    });
    const tests = [{ kind: 'call', args: [1], expected: 2 }];
    const code = { id: 9, type: 'code', gold: { language: 'python', entry: 'f', tests }, answer: 'x' };
    expect(parseRow(code, 'row 1')).toMatchObject({
      kind: 'code',
      id: 9,
      problem: { id: '9', tests },
      response: 'x',
    });
  });

  it.each<[unknown, string]>([
    [[], 'row 1 is no JSON object; a row is {"gold", "answer", …}'],
    [{ gold: '1' }, 'row 1 has no text in "answer"; give every row one'],
    [{ answer: '1' }, 'row 1 has no text in "gold" or "reference"; give every row one'],
    [
      { gold: '1', answer: '1', type: 'sum' },
      'row 1 has the type "sum"; known are auto, math, choice, state, text, code',
    ],
    [{ type: 'code', gold: 'x', answer: '1' }, 'row 1: its gold is no problem; a problem is'],
    [
      { type: 'code', gold: { language: 'python', tests: [{}] }, answer: '' },
      'has a test 1 whose kind is not "call"',
    ],
    [
      { type: 'code', gold: { language: 'python', tests: [{ kind: 'call' }] }, answer: '' },
      'a test 1 without args',
    ],
  ])('%j is none', (row, message) => expect(() => parseRow(row, 'row 1')).toThrow(message));

  it('are answered in one form', () => {
    expect(rowResult(7, { verdict: 'abstain', reason: 'r', ms: 1.23456 })).toEqual({
      id: 7,
      verdict: 'abstain',
      reason: 'r',
      extracted: null,
      ms: 1.235,
    });
  });
});
