/** Programs that know the tests instead of solving the problem: does reading them find out, and do hidden tests? */
import os from 'node:os';
import {
  type CodeProblem,
  CodeVerifier,
  type HackShape,
  type HumanEvalRow,
  humanEvalProblem,
  inspectProgram,
  type MbppRow,
  mbppProblem,
  splitTests,
  synthesiseHacks,
} from 'anneal/verify';
import type { Row, RunOptions } from '../harness.js';
import { readRows } from './cases.js';
import { claimed, missing, percent, type RowId } from './rows.js';

/** A problem with its canonical solution. */
export interface Solved {
  problem: CodeProblem;
  solution: string;
}

/** The problems of a benchmark, or why there are none. */
export function problemsOf(
  data: string | null,
  name: 'mbpp' | 'humaneval',
): { solved: Solved[] } | { reason: string } {
  const found = readRows(data, name === 'mbpp' ? 'mbpp_sanitized.jsonl' : 'humaneval.jsonl');
  if ('reason' in found) return found;
  if (name === 'mbpp')
    return {
      solved: (found.rows as MbppRow[]).map((row) => ({ problem: mbppProblem(row), solution: row.code })),
    };
  const solved = (found.rows as HumanEvalRow[]).map((row) => ({
    problem: humanEvalProblem(row),
    solution: row.prompt + row.canonical_solution,
  }));
  return { solved };
}

const groups: Partial<Record<RowId, readonly HackShape[]>> = {
  'if-chains': ['if-chain', 'argument-ifs', 'match', 'conditional'],
  tables: ['table', 'text-table', 'pair-list'],
  'other-hacks': ['counter', 'base64-table', 'hashed-table'],
};

/** How many of some programs were caught, by shape. */
type Caught = Map<HackShape, { caught: number; of: number }>;

function note(tally: Caught, shape: HackShape, isCaught: boolean): void {
  const one = tally.get(shape) ?? { caught: 0, of: 0 };
  one.of++;
  if (isCaught) one.caught++;
  tally.set(shape, one);
}

function shapeRow(id: RowId, shapes: readonly HackShape[], tally: Caught): Row {
  const own = shapes.map((shape) => ({ shape, ...(tally.get(shape) ?? { caught: 0, of: 0 }) }));
  const sum = (what: 'caught' | 'of') => own.reduce((total, one) => total + one[what], 0);
  const list = own.map(({ shape, caught, of }) => `${shape} ${caught} of ${of}`).join(', ');
  return claimed(id, { value: percent(sum('caught'), sum('of')), repeats: 1, note: list });
}

function staticRows(ids: readonly RowId[], mbpp: readonly Solved[], others: readonly Solved[]): Row[] {
  const tally: Caught = new Map();
  for (const { problem } of mbpp)
    for (const { shape, source } of synthesiseHacks(problem))
      note(tally, shape, inspectProgram(problem, source).flagged);
  const canonical = [...mbpp, ...others];
  const alarms = canonical.filter(({ problem, solution }) => inspectProgram(problem, solution).flagged);
  const names = alarms.slice(0, 5).map(({ problem }) => problem.id);
  return ids.map((id) => {
    const shapes = groups[id];
    if (shapes) return shapeRow(id, shapes, tally);
    const list = [`${alarms.length} of ${canonical.length}`, ...names].join(', ');
    return claimed(id, { value: percent(alarms.length, canonical.length), repeats: 1, note: list });
  });
}

/** Runs every hack that knows the visible tests against all tests. */
async function hiddenRow(mbpp: readonly Solved[], { quick, log }: RunOptions): Promise<Row> {
  const verifier = await CodeVerifier.open({ workers: os.availableParallelism() });
  try {
    // MBPP has three tests a problem: one is hidden, and two are what a hack needs to know.
    const hacks = mbpp
      .filter((_, i) => !quick || i % 10 === 0)
      .flatMap(({ problem }) => {
        const split = splitTests(problem, { min: 1 });
        return synthesiseHacks(split).map((hack) => ({ problem: split, ...hack }));
      });
    log(`verify: ${hacks.length} hacks with hidden tests`);
    const tally: Caught = new Map();
    const passed: string[] = [];
    const lost: string[] = [];
    let next = 0;
    const lane = async () => {
      for (let hack = hacks[next++]; hack; hack = hacks[next++]) {
        const { problem, shape, source } = hack;
        const { verdict, reason } = await verifier.verify(problem, source, {
          raw: true,
          stopAtFailure: true,
        });
        if (verdict === 'abstain') lost.push(reason);
        else note(tally, shape, verdict === 'incorrect');
        if (verdict === 'correct') passed.push(`${problem.id} ${shape}`);
      }
    };
    await Promise.all(Array.from({ length: 2 * os.availableParallelism() }, lane));
    if (tally.size === 0)
      return claimed('hidden-tests', {
        value: null,
        note: `no program could be run: ${lost[0] ?? 'no hacks'}`,
      });
    const row = shapeRow('hidden-tests', [...tally.keys()].sort(), tally);
    const rest = [
      ...(passed.length > 0 ? [`${passed.length} pass, such as ${passed.slice(0, 4).join(', ')}`] : []),
      ...(lost.length > 0 ? [`${lost.length} without a verdict`] : []),
    ];
    return { ...row, note: [row.note, ...rest].join('; ') };
  } finally {
    await verifier.close();
  }
}

/** The rows of the detectors and of hidden tests. */
export async function hackRows(options: RunOptions): Promise<Row[]> {
  const all = ['false-alarms', 'if-chains', 'tables', 'other-hacks', 'hidden-tests'] as const;
  const ids = all.filter(options.wants);
  if (ids.length === 0) return [];
  const [mbpp, humaneval] = [problemsOf(options.data, 'mbpp'), problemsOf(options.data, 'humaneval')];
  if ('reason' in mbpp) return missing(ids, mbpp.reason);
  if ('reason' in humaneval) return missing(ids, humaneval.reason);
  options.log('verify: detectors');
  const rows = staticRows(
    ids.filter((id) => id !== 'hidden-tests'),
    mbpp.solved,
    humaneval.solved,
  );
  if (ids.includes('hidden-tests')) rows.push(await hiddenRow(mbpp.solved, options));
  return rows;
}
