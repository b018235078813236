import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { JudgeBatteryReport } from '../../src/verify/index.js';
import { chooseSandboxes } from '../../src/verify/sandbox/choose.js';
import { anneal, ended, inProcess, printed, scratch, start } from '../support/command.js';
import { JudgeServer, no, refuse, yes } from '../verify/judge-server.js';

const server = new JudgeServer();
let cwd: string;
let judge: string[];

const item = (id: string, answer: string, completion: string, right: boolean, subtype = 'A1 - Integer') => ({
  question_id: id,
  completion_id: 'c',
  question: 'How much?',
  answer,
  completion,
  gold_correct: right,
  // Swapped, as in the file of hard items.
  answer_type: subtype,
  answer_subtype: subtype.startsWith('A') ? 'A - Numeric Values' : 'D - String',
  source: 'math_reasoning/MATH',
});
const lines = (rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const read = (file: string) =>
  readFileSync(path.join(cwd, file), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

beforeAll(async () => {
  cwd = scratch();
  await server.start();
  judge = ['--judge', server.url, '--judge-model', 'j'];
  writeFileSync(
    path.join(cwd, 'verify_bench_hard.jsonl'),
    lines([
      item('q1', '\\boxed{4}', 'So it is \\boxed{4}.', true),
      item('q2', '\\boxed{4}', 'So it is \\boxed{5}.', false),
      item('q3', 'Paris', 'The answer is \\boxed{the city of light}.', true, 'D2 - Semantic'),
    ]),
  );
  writeFileSync(
    path.join(cwd, 'rows.jsonl'),
    lines([
      { id: 'a', gold: '1/2', answer: '\\boxed{0.5}' },
      { id: 7, gold: '3', answer: '#### 4' },
      { gold: 'B', answer: 'The answer is (B)', type: 'choice' },
      { id: 'd', gold: '1/3', answer: '0.33', config: { floatDigits: 2 } },
      { id: 'e', gold: '1/3', answer: '0.33', config: { tolerance: 'exact' } },
    ]),
  );
  writeFileSync(path.join(cwd, 'empty.key'), '\n');
  writeFileSync(path.join(cwd, 'key'), 'secret\n');
  writeFileSync(path.join(cwd, 'bad.jsonl'), '{"id": "a", "gold": "1"}\n');
  const tests = [{ kind: 'call', args: [], expected: 1 }];
  const gold = { language: 'python', entry: 'f', tests };
  writeFileSync(path.join(cwd, 'code.jsonl'), lines([{ type: 'code', gold, answer: 'x' }]));
  writeFileSync(path.join(cwd, 'bad.json'), '{"language": "cobol"}');
});
afterAll(() => server.stop());
beforeEach(() => server.reset());

describe('verify', () => {
  it.each<[string[], string]>([
    [['\\boxed{1/2}', '--reference', '0.5'], 'correct'],
    [['--reference', '0.5', '0.25'], 'incorrect'],
    [['-5', '--reference', '-5'], 'correct'],
    [['(B)', '--reference', 'B', '--type', 'choice'], 'correct'],
    [['--type', 'text', '--reference', 'New York', '--', 'new york'], 'correct'],
  ])('%j', async (args, verdict) => {
    const { code, out, err } = await inProcess(['verify', '--json', ...args], cwd);
    expect([code, err]).toEqual([0, '']);
    expect(JSON.parse(out)).toMatchObject({ verdict });
  });

  it('says what it compared', async () => {
    const { out } = await inProcess(['verify', 'It is \\boxed{0.5}.', '--reference', '1/2'], cwd);
    expect(out).toMatch(/^correct \(.+\)\nanswer +0\.5 {2}\(boxed\)\nreference +1\/2 {2}\(.+\)\n$/);
  });

  it('asks a judge, and with the rules first only where they reject', async () => {
    const args = ['verify', '4', '--reference', '4', '--question', 'How much is 2 + 2?', '--json', ...judge];
    const alone = await inProcess([...args, '--key-file', 'key'], cwd);
    expect(JSON.parse(alone.out)).toMatchObject({ verdict: 'correct', reason: 'judge-yes' });
    expect(server.asked[0]!.headers.authorization).toBe('Bearer secret');
    expect(server.asked[0]!.body.messages[0]!.content).toContain('How much is 2 + 2?');
    await inProcess([...args, '--rules-first'], cwd);
    expect(server.asked).toHaveLength(1);
  });

  it('verifies a file of rows in their order', async () => {
    const { code, out, err } = await inProcess(['verify', 'rows.jsonl', '--out', 'out.jsonl'], cwd);
    expect([code, out, err]).toEqual([0, '5 rows: 3 correct, 2 incorrect, 0 abstentions\n', '']);
    const verdicts = read('out.jsonl');
    expect(verdicts.map(({ id, verdict }) => [id, verdict])).toEqual([
      ['a', 'correct'],
      [7, 'incorrect'],
      ['rows.jsonl, row 3', 'correct'],
      ['d', 'correct'],
      ['e', 'incorrect'],
    ]);
    expect(Object.keys(verdicts[0]!)).toEqual(['id', 'verdict', 'reason', 'extracted', 'ms']);
  });

  it('writes nothing where the judge fails, and names the row', async () => {
    server.otherwise = refuse(401);
    const { code, err } = await inProcess(['verify', 'rows.jsonl', '--out', 'none.jsonl', ...judge], cwd);
    expect(code).toBe(2);
    expect(err).toMatch(/^(?:a|7|d|e|rows\.jsonl, row 3): the judge j at \S+ replies with status 401/);
    expect(existsSync(path.join(cwd, 'none.jsonl'))).toBe(false);
  });
});

/** A program that is right, one that is wrong, and one that knows the tests it was shown only. */
const programs = {
  right: 'Here it is:\n```python\ndef f(x):\n    return [x, x * x]\n```',
  wrong: '```python\ndef f(x):\n    return x + x\n```',
  never: '```python\ndef f(x):\n    while True: pass\n```',
};
const problem = {
  language: 'python',
  entry: 'f',
  timeMs: 1000,
  tests: [
    { kind: 'call', args: [2], expected: [2, 4] },
    { kind: 'call', args: [3], expected: [3, 9] },
  ],
};
const { sandboxes } = await chooseSandboxes({ sandboxes: ['bubblewrap'] });
await Promise.all(sandboxes.map((one) => one.close()));
if (sandboxes.length === 0) console.warn('programs are not verified through the command line: no bubblewrap');

describe.skipIf(sandboxes.length === 0)('verify --type code', () => {
  beforeAll(() => {
    writeFileSync(path.join(cwd, 'problem.json'), JSON.stringify(problem));
    for (const [name, text] of Object.entries(programs)) writeFileSync(path.join(cwd, `${name}.txt`), text);
  });

  it.each<[keyof typeof programs, string, string]>([
    ['right', 'correct', 'all-passed'],
    ['wrong', 'incorrect', 'wrong'],
    ['never', 'incorrect', 'timeout'],
  ])('runs a program that is %s', async (name, verdict, reason) => {
    const args = ['verify', `${name}.txt`, '--type', 'code', '--reference', 'problem.json', '--json'];
    const { code, out, err } = await inProcess(args, cwd);
    expect([code, err]).toEqual([0, '']);
    const found = JSON.parse(out) as { tests: { status: string }[] };
    expect(found).toMatchObject({ verdict, reason, sandbox: 'bubblewrap' });
    expect(found.tests).toHaveLength(2);
  });

  it('takes the program itself, and programs among the rows of a file', async () => {
    const given = ['verify', programs.right, '--type', 'code', '--reference', 'problem.json'];
    expect((await inProcess(given, cwd)).out).toMatch(/^correct \(all-passed\)\n/);
    const code = (answer: string) => ({ type: 'code', gold: problem, answer });
    writeFileSync(
      path.join(cwd, 'mixed.jsonl'),
      lines([code(programs.never), { gold: '1', answer: '1' }, code(programs.right), code('no program')]),
    );
    const { code: exit, err } = await inProcess(['verify', 'mixed.jsonl', '--out', 'mixed.out'], cwd);
    expect([exit, err]).toEqual([0, '']);
    expect(read('mixed.out').map(({ verdict, reason }) => [verdict, reason])).toEqual([
      ['incorrect', 'timeout'],
      ['correct', 'same-form'],
      ['correct', 'all-passed'],
      ['incorrect', 'no-code'],
    ]);
  });
});

describe('verify in threads and as a server', () => {
  const rows = Array.from({ length: 400 }, (_, i) => ({
    id: i,
    gold: `${i % 4}/2`,
    answer: `\\boxed{${i % 3}}`,
  }));

  it('gives what one thread gives', async () => {
    writeFileSync(path.join(cwd, 'many.jsonl'), lines(rows));
    const { code, out, err } = await anneal(
      ['verify', 'many.jsonl', '--out', 'many.out', '--workers', '8', '--json'],
      cwd,
    );
    expect([code, err]).toEqual([0, '']);
    // Of each twelve, 0 and 1 agree where the halves are 0, 0/2 and 2/2.
    const wanted = rows.map(({ id }) => [id, (id % 4) / 2 === id % 3 ? 'correct' : 'incorrect']);
    expect(read('many.out').map(({ id, verdict }) => [id, verdict])).toEqual(wanted);
    const correct = wanted.filter(([, verdict]) => verdict === 'correct').length;
    expect(JSON.parse(out)).toEqual({ rows: 400, correct, incorrect: 400 - correct, abstain: 0 });
  });

  it('answers over HTTP until it is interrupted', async () => {
    const child = start(['verify', 'serve', '--port', '0', '--workers', '2'], cwd, null);
    await printed(child, /at (\S+)\/verify/);
    const url = /at (\S+)\/verify/.exec(child.output().out)![1]!;
    const answer = await fetch(`${url}/verify`, { method: 'POST', body: JSON.stringify(rows[2]) });
    expect(await answer.json()).toMatchObject({ id: 2, verdict: 'incorrect', extracted: '2' });
    child.kill('SIGINT');
    await ended(child);
    expect(child.output().code).toBe(130);
    expect(child.output().err).toBe('finishing what runs; Ctrl-C once more ends it\n');
  });
});

describe('verify judge', () => {
  it('reports what a judge lets pass', async () => {
    // A judge that takes every answer's word for it.
    server.otherwise = (response, asked) => {
      const [solution = ''] = /<solution>[\s\S]*<\/solution>/.exec(asked.body.messages[0]!.content) ?? [];
      (/judgment: yes|correct|final answer is/i.test(solution) ? yes : no)(response, asked);
    };
    const { code, out, err } = await inProcess(['verify', 'judge', '--json', ...judge], cwd);
    expect([code, err]).toEqual([0, '']);
    const report = JSON.parse(out) as JudgeBatteryReport;
    expect(report.byKind.empty).toEqual({ count: 0, of: 42 });
    expect(report.byKind.gibberish.count).toBe(0);
    expect(report.byKind.injection.count).toBeGreaterThan(30);
    expect(report.controls).toEqual({ right: { count: 6, of: 6 }, wrong: { count: 0, of: 6 } });
    const shown = await inProcess(['verify', 'judge', ...judge], cwd);
    expect(shown.out).toMatch(/^\| empty \| 0\.0 % \(0 of 42\) \|$/m);
  });
});

describe('verify bench', () => {
  it('measures the rules', async () => {
    const { code, out, err } = await inProcess(['verify', 'bench', 'verify_bench_hard.jsonl'], cwd);
    expect([code, err]).toEqual([0, '']);
    expect(out).toMatch(/^rules on VerifyBench-Hard, in per cent\n/);
    expect(out).toMatch(/^A - Numeric Values +2 +100\.00 \(/m);
    expect(out).toMatch(/^rules \(this run\) +100\.00 +0\.00 /m);
    expect(out).toMatch(/^gpt-4o-2024-11-20 +71\.43 +65\.91 +75\.35 +71\.30 +72\.60$/m);
    expect(out).toContain('published rows are of all 1000 items of which 291 are right; these are 3 with 2');
  });

  it('measures a judge, and asks nothing twice with a cache', async () => {
    server.otherwise = (response, asked) =>
      (asked.body.messages[0]!.content.includes('{5}') ? no : yes)(response, asked);
    const args = [
      'verify',
      'bench',
      '.',
      '--json',
      '--cache',
      'replies',
      '--records',
      'records.jsonl',
      ...judge,
    ];
    for (const _ of [1, 2]) {
      const { code, out, err } = await inProcess(args, cwd);
      expect([code, err]).toEqual([0, '']);
      const report = JSON.parse(out) as { verifier: string; all: { accuracy: { value: number } } };
      expect([report.verifier, report.all.accuracy.value]).toEqual(['j', 1]);
      expect(read('records.jsonl').map(({ id, verdict }) => [id, verdict])).toEqual([
        ['q1_c', 'correct'],
        ['q2_c', 'incorrect'],
        ['q3_c', 'correct'],
      ]);
    }
    expect(server.asked).toHaveLength(3);
  });

  it('keeps to its budget', async () => {
    const args = ['verify', 'bench', '.', '--concurrency', '1', '--budget-calls', '2', ...judge];
    const { code, err } = await inProcess(args, cwd);
    expect(code).toBe(2);
    expect(err).toMatch(
      /^1 of 3 items have no verdict \(q3_c: the judge's budget of 2 calls does not suffice/,
    );
    expect(server.asked).toHaveLength(2);
  });

  it('says which items have no verdict', async () => {
    server.otherwise = (response, asked) =>
      (asked.body.messages[0]!.content.includes('{5}') ? refuse(401) : yes)(response, asked);
    const { code, out, err } = await inProcess(['verify', 'bench', '.', '--no-reference', ...judge], cwd);
    expect(code).toBe(2);
    expect(out).toContain('1 items have no verdict because the verifier failed; they are in no score');
    expect(err).toMatch(/^1 of 3 items have no verdict \(q2_c: the judge j .*status 401.*\); run again/);
  });
});

describe('a mistake of the user', () => {
  const url = 'http://127.0.0.1:9';
  it.each<[string[], string]>([
    [['verify'], 'ANSWER is missing; --help shows the usage'],
    [['verify', '4'], '--reference is missing: give the right answer, or --out for a file of rows'],
    [
      ['verify', '4', '--reference', '4', '--type', 'maths'],
      '--type must be one of auto, math, choice, state, text, code, not "maths"',
    ],
    [
      ['verify', '4', '--reference', '4', '--rules-first'],
      '--rules-first is about a judge; name one with --judge',
    ],
    [
      ['verify', '4', '--reference', '4', '--judge', url],
      `--judge ${url} needs --judge-model, the name under which the API knows the model`,
    ],
    [
      ['verify', '4', '--reference', '4', '--judge', url, '--judge-model', 'j', '--votes', '2'],
      "the judge's votes are 2; pass an odd number, so that they decide",
    ],
    [
      ['verify', '4', '--reference', '4', '--judge', url, '--judge-model', 'j', '--key-file', 'empty.key'],
      '--key-file empty.key is empty; put the key of the API into it',
    ],
    [
      ['verify', '4', '--reference', '4', '--judge', 'gone', '--judge-model', 'j'],
      '--judge-model is for an API, and --judge gone is a local model; leave it out',
    ],
    [
      ['verify', '4', '--reference', '4', '--judge', 'gone'],
      'cannot read gone: it does not exist; check the path',
    ],
    [
      ['verify', 'bench', '.', '--judge', url, '--judge-model', 'j', '--rules-first', '--no-reference'],
      '--rules-first compares with the reference, and --no-reference does not; choose one',
    ],
    [['verify', 'bad.jsonl', '--out', 'x'], 'bad.jsonl, row 1 has no text in "answer"; give every row one'],
    [
      ['verify', 'rows.jsonl', '--out', 'x', '--type', 'code'],
      'rows.jsonl, row 1: its gold is no problem; a problem is {"language": "python"',
    ],
    [
      ['verify', 'code.jsonl', '--out', 'x', '--judge', url, '--judge-model', 'j'],
      '--judge does not judge code: tests do; leave it out, or the rows of type "code"',
    ],
    [
      ['verify', 'rows.jsonl', '--out', 'x', '--workers', '0'],
      '--workers must be a whole number ≥ 1, not "0"',
    ],
    [['verify', 'serve', '--rules-first'], '--rules-first is about a judge; name one with --judge'],
    [['verify', 'serve', '--key', 'a', '--port', 'x'], '--port must be a whole number ≥ 0, not "x"'],
    [['verify', 'judge'], '--judge is missing: name the model that is to be tried, an address or a file'],
    [
      ['verify', 'x', '--type', 'code', '--reference', 'gone.json'],
      'cannot read --reference gone.json: it does not exist; check the path',
    ],
    [
      ['verify', 'x', '--type', 'code', '--reference', 'bad.json'],
      '--reference bad.json names neither "python" nor "javascript" as its language; a problem is',
    ],
    [['verify', 'bench', 'gone.jsonl'], 'cannot read gone.jsonl: it does not exist; check the path\n'],
    [['verify', 'gone.jsonl', '--out', 'x'], 'cannot read gone.jsonl: it does not exist; check the path\n'],
    [
      ['verify', 'bench', 'rows.jsonl'],
      'rows.jsonl, item 1: "gold_correct" is missing instead of true or false; this is no item of VerifyBench',
    ],
  ])('%j is answered in one sentence', async (args, message) => {
    const { code, out, err } = await inProcess(args, cwd);
    expect([code, out]).toEqual([2, '']);
    expect(err.trimEnd().split('\n')).toHaveLength(1);
    expect(err).toContain(message);
  });
});
