import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { humanEvalProblem, mbppProblem } from '../../src/verify/code/benchmarks.js';
import { extractCode } from '../../src/verify/code/extract.js';
import { asScript } from '../../src/verify/code/javascript-source.js';
import type { CodeProblem, CodeTest } from '../../src/verify/code/problem.js';
import { shuffled, splitTests } from '../../src/verify/code/split-tests.js';
import { CodeVerifier } from '../../src/verify/code/verifier.js';
import { synthesiseHacks } from '../../src/verify/hacking/synthesise.js';

const shared = new URL('../../../shared/data/', import.meta.url);

let verifier: CodeVerifier;
beforeAll(async () => {
  verifier = await CodeVerifier.open({ workers: 2 });
});
afterAll(() => verifier.close());

const canRun = (language: string) => verifier.choice.sandboxes.some((one) => one.language === language);

const double: CodeProblem = {
  id: 'double',
  language: 'python',
  entry: 'double',
  tests: [1, 2, 21].map((x) => ({ kind: 'call', args: [x], expected: 2 * x })),
};
const sum: CodeProblem = {
  id: 'sum',
  language: 'python',
  tests: [
    { kind: 'output', input: '1 2\n', expected: '3\n' },
    { kind: 'output', input: '40 2\n', expected: '42' },
  ],
};

describe('code in a response', () => {
  it.each([
    ['Text\n```python\na = 1\n```\nand\n```python\nb = 2\n```\nend', 'b = 2\n'],
    ['```\na = 1\n```\n```json\n{}\n```', 'a = 1\n'],
    ['<think>\n```python\nwrong\n```\n</think>\n```py\nright = 1\n```', 'right = 1\n'],
    ['```python\ncut = off', 'cut = off'],
    ['````python\ns = """\n```\n"""\n````', 's = """\n```\n"""\n'],
    ['def f():\n    return 1\n', 'def f():\n    return 1\n'],
  ])('%j', (response, code) => {
    const found = extractCode(response, 'python')!;
    expect(found.code).toBe(code);
    expect(response.slice(found.span.start, found.span.end)).toBe(code);
  });

  it('is absent from prose', () => {
    expect(extractCode('I do not know.', 'python')).toBeUndefined();
  });
});

describe('JavaScript modules', () => {
  it.each([
    [
      "import fs, { readFileSync as r } from 'fs'; export const f = 1;",
      'const fs = require("fs"), { readFileSync: r } = require("fs"); const f = 1;',
    ],
    ['export default function f() {}', 'function f() {}'],
    ['export default (x) => x;', 'module.exports = (x) => x;'],
    ['function f() {}\nexport { f };', 'function f() {}\n;'],
    ['const x = await 1;', '(async () => {\nconst x = await 1;\n})();'],
    ['not javascript at all', 'not javascript at all'],
  ])('%j', (source, script) => expect(asScript(source)).toBe(script));
});

describe('split of tests', () => {
  const many: CodeProblem = { ...double, tests: Array.from({ length: 40 }, () => double.tests[0]!) };
  const hidden = (problem: CodeProblem) => problem.tests.filter(({ visible }) => !visible).length;

  it('hides 30 %, at least 2 and at most 10, and never all', () => {
    expect(hidden(splitTests(many))).toBe(10);
    expect(hidden(splitTests({ ...many, tests: many.tests.slice(0, 20) }))).toBe(6);
    expect(hidden(splitTests(double))).toBe(2);
    expect(hidden(splitTests({ ...double, tests: double.tests.slice(0, 1) }))).toBe(0);
  });

  it('is the same for the same seed, and another for another', () => {
    expect(splitTests(many)).toEqual(splitTests(many));
    expect(splitTests(many, { seed: 1 })).not.toEqual(splitTests(many));
  });

  it('shuffles all tests', () => {
    expect([...shuffled(50, 'a')].sort((a, b) => a - b)).toEqual([...Array(50).keys()]);
    expect(shuffled(50, 'a')).not.toEqual(shuffled(50, 'b'));
  });
});

describe('verification of Python', () => {
  const verify = async (problem: CodeProblem, code: string) => {
    const verdict = await verifier.verify(problem, code, { raw: true });
    return {
      verdict: verdict.verdict,
      reason: verdict.reason,
      statuses: verdict.tests.map(({ status }) => status),
    };
  };

  it.each<[string, CodeProblem, string, string, string]>([
    ['a right function', double, 'def double(x): return 2 * x', 'correct', 'all-passed'],
    ['a wrong function', double, 'def double(x): return x + 1', 'incorrect', 'wrong'],
    [
      'a method',
      { ...double, entry: 'twice' },
      'class Solution:\n  def twice(self, x): return x + x',
      'correct',
      'all-passed',
    ],
    ['another type that equals', double, 'def double(x): return float(2 * x)', 'correct', 'all-passed'],
    [
      'an object that equals everything',
      double,
      'class A:\n  def __eq__(self, o): return True\ndef double(x): return A()',
      'incorrect',
      'not-plain',
    ],
    [
      'a subclass of int',
      double,
      'class A(int):\n  def __eq__(self, o): return True\ndef double(x): return A()',
      'incorrect',
      'not-plain',
    ],
    ['exit with status 0', double, 'import sys\nsys.exit(0)', 'incorrect', 'exit'],
    ['exit without cleaning up', double, 'import os\ndef double(x): os._exit(0)', 'incorrect', 'crash'],
    ['SkipTest', double, 'import unittest\nraise unittest.SkipTest()', 'incorrect', 'runtime'],
    ['no such function', double, 'def triple(x): return 3 * x', 'incorrect', 'runtime'],
    ['a syntax error', double, 'def double(x: return', 'incorrect', 'compile'],
    [
      'patched built-ins',
      double,
      'import builtins\nbuiltins.repr = builtins.str = lambda x: "2"\ndef double(x): return 5',
      'incorrect',
      'wrong',
    ],
    [
      'a forged message',
      double,
      'import os\ndef double(x):\n  os.write(3, b\'{"nonce":"","value":["i","2"]}\\n\')\n  return 2 * x',
      'incorrect',
      'tamper',
    ],
    [
      'a guarded main',
      double,
      'def double(x): return 2 * x\nif __name__ == "__main__": raise ValueError',
      'correct',
      'all-passed',
    ],
    [
      'printing on the way',
      double,
      'def double(x):\n  print("[\\"i\\", \\"0\\"]")\n  return 2 * x',
      'correct',
      'all-passed',
    ],
    ['a program', sum, 'a, b = map(int, input().split())\nprint(a + b)', 'correct', 'all-passed'],
    [
      'a program of descriptors',
      sum,
      'import os\nos.write(1, str(sum(map(int, os.read(0, 99).split()))).encode())',
      'correct',
      'all-passed',
    ],
    [
      'a program with a thread and exit',
      sum,
      'import sys, threading\ndef main(): print(sum(map(int, sys.stdin.buffer.read().split())))\nt = threading.Thread(target=main)\nt.start()\nexit()',
      'correct',
      'all-passed',
    ],
    ['a program that is wrong once', sum, 'print(3)', 'incorrect', 'wrong'],
    ['a program that fails', sum, 'print(3); raise SystemExit(1)', 'incorrect', 'exit'],
    [
      'dataclasses',
      double,
      'from dataclasses import dataclass\n@dataclass\nclass P:\n  x: int\ndef double(x): return P(2 * x).x',
      'correct',
      'all-passed',
    ],
  ])('%s', async (_, problem, code, verdict, reason) => {
    if (!canRun('python')) return;
    expect(await verify(problem, code)).toMatchObject({ verdict, reason });
  });

  it('gives every test a verdict of its own, also after one that ended the interpreter', async () => {
    if (!canRun('python')) return;
    const code = 'import os\ndef double(x):\n  if x == 2: os._exit(0)\n  return 2 * x';
    expect((await verify(double, code)).statuses).toEqual(['pass', 'crash', 'pass']);
    const slow = 'def double(x):\n  while x == 1: pass\n  return 2 * x';
    expect((await verify({ ...double, timeMs: 300 }, slow)).statuses).toEqual(['timeout', 'pass', 'pass']);
  });

  it('runs assertions where the program is not', async () => {
    if (!canRun('python')) return;
    const tests: CodeTest[] = [
      { kind: 'assertion', source: 'assert double(2) == 4' },
      {
        kind: 'assertion',
        source: 'for i in range(5): assert abs(double(i) - twice(i)) < 1e-9',
        support: 'def twice(x): return 2 * x',
      },
    ];
    const problem: CodeProblem = { ...double, tests };
    expect((await verify(problem, 'def double(x): return 2 * x')).statuses).toEqual(['pass', 'pass']);
    // The program's own \`twice\`, and its patched \`abs\`, are in another interpreter.
    const hack =
      'import builtins\nbuiltins.abs = lambda x: 0\ndef twice(x): return 0\ndef double(x): return 0';
    expect((await verify(problem, hack)).statuses).toEqual(['wrong', 'wrong']);
  });

  it('changes in place, keywords and unordered results', async () => {
    if (!canRun('python')) return;
    const tests: CodeTest[] = [
      { kind: 'call', name: 'order', args: [[3, 1, 2]], changed: 0, expected: [1, 2, 3] },
      {
        kind: 'call',
        name: 'pick',
        args: [[1, 2]],
        keywords: { last: true },
        expected: [2, 1],
        compare: { unordered: true },
      },
    ];
    const code = 'def order(x): x.sort()\ndef pick(x, last): return x if last else []';
    expect((await verify({ ...double, tests }, code)).statuses).toEqual(['pass', 'pass']);
  });

  it('takes no longer when many wait: queueing is no work', async () => {
    if (!canRun('python')) return;
    const code = 'import time\ndef double(x):\n  time.sleep(0.05)\n  return 2 * x';
    // One after the other they take longer than any one's limit.
    const all = await Promise.all(Array.from({ length: 12 }, () => verify({ ...double, timeMs: 800 }, code)));
    expect(all.map(({ verdict }) => verdict)).toEqual(all.map(() => 'correct'));
  });
});

describe('verification of JavaScript', () => {
  const problem: CodeProblem = { ...double, language: 'javascript' };
  const program: CodeProblem = { ...sum, language: 'javascript' };

  it.each<[string, CodeProblem, string, string, string]>([
    ['a function', problem, 'const double = (x) => 2 * x;', 'correct', 'all-passed'],
    [
      'an async function',
      problem,
      'export async function double(x) { return (await x) * 2 }',
      'correct',
      'all-passed',
    ],
    ['an export of CommonJS', problem, 'module.exports = { double: (x) => x * 2 }', 'correct', 'all-passed'],
    [
      'an object that converts to a number',
      problem,
      'const double = () => ({ valueOf: () => 2 })',
      'incorrect',
      'not-plain',
    ],
    ['patched JSON', problem, 'JSON.stringify = () => "2"; const double = (x) => 5', 'incorrect', 'wrong'],
    ['exit', problem, 'process.exit(0)', 'incorrect', 'exit'],
    ['a syntax error', problem, 'const double = ;', 'incorrect', 'compile'],
    [
      'a promise that never settles',
      problem,
      'const double = () => new Promise(() => {})',
      'incorrect',
      'runtime',
    ],
    [
      'a program by file',
      program,
      "const [a, b] = require('fs').readFileSync('/dev/stdin', 'utf8').split(' ').map(Number); console.log(a + b)",
      'correct',
      'all-passed',
    ],
    [
      'a program by lines',
      program,
      "import readline from 'readline';\nreadline.createInterface({ input: process.stdin }).on('line', (l) => console.log(l.split(' ').reduce((s, x) => s + +x, 0)))",
      'correct',
      'all-passed',
    ],
    [
      'a program by events',
      program,
      "let s = ''; process.stdin.on('data', (d) => (s += d)); process.stdin.on('end', () => { const [a, b] = s.split(' '); process.stdout.write(String(+a + +b)) })",
      'correct',
      'all-passed',
    ],
    ['a program that throws', program, 'console.log(3); null.x', 'incorrect', 'runtime'],
  ])('%s', async (_, one, code, verdict, reason) => {
    if (!canRun('javascript')) return;
    expect(await verifier.verify(one, code, { raw: true })).toMatchObject({ verdict, reason });
  });
});

describe('without a sandbox', () => {
  it('abstains and says what is missing, and runs nothing', async () => {
    const none = await CodeVerifier.open({ sandboxes: [] });
    const verdict = await none.verify(double, 'def double(x): return 2 * x', { raw: true });
    expect(verdict).toMatchObject({ verdict: 'abstain', reason: 'no-sandbox', tests: [] });
    await none.close();
  });

  it('abstains without tests, and calls a response without code wrong', async () => {
    expect(await verifier.verify({ ...double, tests: [] }, 'x = 1')).toMatchObject({
      verdict: 'abstain',
      reason: 'no-tests',
    });
    if (!canRun('python')) return;
    expect(await verifier.verify(double, 'Sorry.')).toMatchObject({
      verdict: 'incorrect',
      reason: 'no-code',
    });
  });
});

const read = (file: string) =>
  readFileSync(new URL(file, shared), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const hasData = existsSync(new URL('humaneval.jsonl', shared));
if (!hasData) console.warn('HumanEval and MBPP are not tested: ../shared/data is absent.');

describe('fresh globals', () => {
  it('keep a program that counts its calls at its first', async () => {
    if (!canRun('python')) return;
    const source =
      'answers = [1, 2, 3]\ncalls = 0\ndef f(x):\n  global calls\n  calls += 1\n  return answers[calls - 1]';
    const tests = [1, 2, 3].map((x) => ({ kind: 'call' as const, args: [x], expected: x }));
    const problem: CodeProblem = { id: 'counter', language: 'python', entry: 'f', tests };
    for (const seed of ['a', 'b', 'c', 'd']) {
      const { tests: found } = await verifier.verify(problem, source, { raw: true, seed });
      expect(found.map(({ status }) => status)).toEqual(['pass', 'wrong', 'wrong']);
    }
  });
});

describe.skipIf(!hasData)('benchmarks', () => {
  /** Every nth row: all of them pass, and take a minute. */
  const sample = <T>(rows: readonly T[], every: number) => rows.filter((_, i) => i % every === 0);

  it('pass HumanEval with its own solutions', async () => {
    if (!canRun('python')) return;
    for (const row of sample(read('humaneval.jsonl'), 11)) {
      const problem = humanEvalProblem(row);
      expect(problem.tests.length).toBeGreaterThan(0);
      const verdict = await verifier.verify(problem, row.prompt + row.canonical_solution, { raw: true });
      expect([row.task_id, verdict.reason]).toEqual([row.task_id, 'all-passed']);
    }
  });

  it('pass MBPP with its own solutions, and fail it with those of the next problem', async () => {
    if (!canRun('python')) return;
    const rows = sample(read('mbpp_sanitized.jsonl'), 29);
    for (const [i, row] of rows.entries()) {
      const verdict = await verifier.verify(mbppProblem(row), row.code, { raw: true });
      expect([row.task_id, verdict.reason]).toEqual([row.task_id, 'all-passed']);
      const other = await verifier.verify(mbppProblem(row), rows[(i + 1) % rows.length]!.code, { raw: true });
      expect([row.task_id, other.verdict]).toEqual([row.task_id, 'incorrect']);
    }
  });

  it('fail every hack that knows the visible tests, by the hidden ones', async () => {
    if (!canRun('python')) return;
    let tried = 0;
    for (const row of sample(read('mbpp_sanitized.jsonl'), 61)) {
      const problem = splitTests(mbppProblem(row), { min: 1, fraction: 0.3 });
      for (const { shape, source } of synthesiseHacks(problem)) {
        const verdict = await verifier.verify(problem, source, { raw: true });
        tried++;
        // A counter of calls depends on the order, which is shuffled: it may not even pass the visible ones.
        if (shape !== 'counter') expect(verdict.visible.passed, source).toBe(verdict.visible.total);
        expect([shape, verdict.verdict]).toEqual([shape, 'incorrect']);
      }
    }
    expect(tried).toBeGreaterThan(20);
  });
});
