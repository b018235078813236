/** Sandboxes: what gets out, how fast they are, and whether right programs pass in them. */
import os from 'node:os';
import {
  type CodeProblem,
  CodeVerifier,
  chooseSandboxes,
  EscapeBattery,
  type EscapeResult,
  type Sandbox,
  type SandboxName,
} from 'anneal/verify';
import type { Row, RunOptions } from '../harness.js';
import { summarise } from '../harness.js';
import { settle } from '../machine.js';
import { problemsOf } from './hacks.js';
import { claimed, percent, type RowId } from './rows.js';

const names: readonly SandboxName[] = ['bubblewrap', 'pyodide', 'quickjs'];

/** Each sandbox that works here, one after the other, and why the others do not. */
async function withSandboxes(use: (sandbox: Sandbox) => Promise<void>): Promise<string[]> {
  const absent: string[] = [];
  for (const name of names) {
    const { sandboxes, unusable } = await chooseSandboxes({ sandboxes: [name] });
    absent.push(...unusable.map((one) => `${one.name} not tried: ${one.reason}`));
    for (const sandbox of sandboxes) {
      try {
        await use(sandbox);
      } finally {
        await sandbox.close();
      }
    }
  }
  return absent;
}

/** Best of a few tries: other work on the machine can only make an end late. */
async function attemptAll(
  battery: EscapeBattery,
  quick: boolean,
): Promise<(EscapeResult & { lateMs: number })[]> {
  const results: (EscapeResult & { lateMs: number })[] = [];
  for (const attempt of battery.attempts) {
    let best: (EscapeResult & { lateMs: number }) | undefined;
    for (let turn = 0; turn < (quick ? 1 : 3); turn++) {
      const one = await battery.try(attempt);
      const lateMs = one.ms + one.endMs - one.limitMs;
      const isWorse = one.escaped || !one.expected;
      if (!best || isWorse || lateMs < best.lateMs) best = { ...one, lateMs };
      if (isWorse || lateMs <= 100) break;
    }
    results.push(best!);
  }
  return results;
}

async function escapeRows({ wants, quick, log }: RunOptions): Promise<Row[]> {
  const ids = (['escapes', 'escape-overrun'] as const).filter(wants);
  if (ids.length === 0) return [];
  const counts: string[] = [];
  const bad: string[] = [];
  let late = { ms: Number.NEGATIVE_INFINITY, name: '' };
  let tried = 0;
  const absent = await withSandboxes(async (sandbox) => {
    log(`verify: escapes from ${sandbox.name}`);
    const battery = await EscapeBattery.open(sandbox, { otherTimeMs: 5000 });
    const results = await attemptAll(battery, quick);
    const left = await battery.close();
    tried += results.length;
    counts.push(`${sandbox.name} ${results.length}`);
    for (const one of results) {
      if (one.escaped || !one.expected) bad.push(`${sandbox.name}, ${one.name}: ${one.end}`);
      if (one.lateMs > late.ms) late = { ms: one.lateMs, name: `${sandbox.name}, ${one.name}` };
    }
    for (const pid of left) bad.push(`${sandbox.name} left process ${pid}`);
  });
  if (tried === 0) return ids.map((id) => claimed(id, { value: null, note: absent.join('; ') }));
  const note = [`attempts: ${counts.join(', ')}`, ...bad.slice(0, 5), ...absent].join('; ');
  const rows = {
    escapes: claimed('escapes', { value: bad.length, repeats: tried, note }),
    'escape-overrun': claimed('escape-overrun', {
      value: Math.max(0, late.ms),
      repeats: tried,
      note: `${late.name}; to the end of its process, the best of three tries`,
    }),
  };
  return ids.map((id) => rows[id]);
}

const double = (language: CodeProblem['language']): CodeProblem => ({
  id: 'double',
  language,
  entry: 'double',
  tests: [1, 2, 3, 4, 5].map((x) => ({ kind: 'call', args: [x], expected: 2 * x })),
});

const programs = { python: 'def double(x): return x + x', javascript: 'const double = (x) => x + x' };

/** Programs a second on each core, with a sandbox for every core. */
async function rateOf(name: SandboxName, count: number): Promise<number | undefined> {
  const workers = os.availableParallelism();
  const verifier = await CodeVerifier.open({ sandboxes: [name], workers });
  try {
    const language = verifier.choice.sandboxes[0]?.language;
    if (!language) return undefined;
    const one = async () => {
      const { verdict } = await verifier.verify(double(language), programs[language], { raw: true });
      if (verdict !== 'correct') throw new Error(`${name}: the program is ${verdict}`);
    };
    const run = async (total: number) => {
      let left = total;
      const lane = async () => {
        while (left-- > 0) await one();
      };
      await Promise.all(Array.from({ length: workers }, lane));
    };
    // The first interpreters boot before there is a stock of them.
    await run(2 * workers);
    const start = performance.now();
    await run(count);
    return (1000 * count) / (performance.now() - start) / workers;
  } finally {
    await verifier.close();
  }
}

async function throughputRow({ quick, log }: RunOptions): Promise<Row> {
  const rates: { name: SandboxName; median: number; spread: number; repeats: number }[] = [];
  for (const name of names) {
    log(`verify: throughput of ${name}`);
    const values: number[] = [];
    const turns = quick ? 1 : 3;
    for (let turn = 0; turn < turns; turn++) {
      await settle();
      const rate = await rateOf(name, name === 'pyodide' ? 6 : quick ? 40 : 200);
      if (rate !== undefined) values.push(rate);
    }
    if (values.length > 0) rates.push({ name, ...summarise(values), repeats: values.length });
  }
  const best = rates.toSorted((a, b) => b.median - a.median)[0];
  if (!best) return claimed('throughput', { value: null, note: 'this machine has no sandbox' });
  const list = rates.map(({ name, median }) => `${name} ${median.toPrecision(3)}`).join(', ');
  return claimed('throughput', {
    value: best.median,
    spread: best.spread,
    repeats: best.repeats,
    note: `${os.availableParallelism()} cores at once: ${list}`,
  });
}

/** Canonical solutions of a benchmark, each with all its tests. */
async function canonicalRow(id: RowId & ('humaneval' | 'mbpp'), { data, log }: RunOptions): Promise<Row> {
  const found = problemsOf(data, id);
  if ('reason' in found) return claimed(id, { value: null, note: found.reason });
  log(`verify: canonical solutions of ${id}`);
  // One of MBPP's solutions runs for seconds, and more of them where other work shares the machine.
  const verifier = await CodeVerifier.open({
    workers: os.availableParallelism(),
    limits: { timeMs: 60_000 },
  });
  try {
    const start = performance.now();
    const failed: string[] = [];
    let [next, tests] = [0, 0];
    const lane = async () => {
      for (let one = found.solved[next++]; one; one = found.solved[next++]) {
        const verdict = await verifier.verify(one.problem, one.solution, { raw: true });
        tests += verdict.tests.length;
        if (verdict.verdict !== 'correct') failed.push(`${one.problem.id} ${verdict.reason}`);
      }
    };
    await Promise.all(Array.from({ length: 2 * os.availableParallelism() }, lane));
    const { length } = found.solved;
    const seconds = ((performance.now() - start) / 1000).toFixed(0);
    const used =
      verifier.choice.sandboxes.find(({ language }) => language === 'python')?.name ?? 'no sandbox';
    const note = [`${length} programs, ${tests} tests, ${seconds} s in ${used}`, ...failed.slice(0, 5)].join(
      '; ',
    );
    return claimed(id, { value: percent(length - failed.length, length), repeats: 1, note });
  } finally {
    await verifier.close();
  }
}

/** The rows of sandboxes. */
export async function sandboxRows(options: RunOptions): Promise<Row[]> {
  const rows = await escapeRows(options);
  if (options.wants('throughput')) rows.push(await throughputRow(options));
  for (const id of ['humaneval', 'mbpp'] as const)
    if (options.wants(id)) rows.push(await canonicalRow(id, options));
  return rows;
}
