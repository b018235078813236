/**
 * The engine suite: train steps against PyTorch, jax-js and tfjs, the share of the machine's peak, memory,
 * and what a call, a compilation and an import cost.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { CallReport } from './engine/calls.js';
import { GPT6 } from './engine/gpt.js';
import { coldCompiles, type RaceResult, type RaceSpec, race, type Side } from './engine/race.js';
import {
  lossRow,
  MODELS,
  type Model,
  memoryRow,
  msId,
  peakRows,
  peakShareRow,
  SPEED_TARGETS,
  speedId,
  speedRow,
  stepTimeRow,
} from './engine/rows.js';
import { importTimes, thirdPartyImports } from './engine/startup.js';
import { makeRow, type Row, type RunOptions, type Suite, summarise } from './harness.js';
import { measurePeak } from './peak.js';

const ids: readonly string[] = [
  ...SPEED_TARGETS.map(({ model, peer }) => speedId(model, peer)),
  'gpt6-peak-share',
  'gpt6-memory',
  'gpt6-compile',
  'call-sync',
  'call-async',
  'import',
  'core-imports',
  ...(['gpt6', 'gpt4'] as const).flatMap((model) => [
    ...MODELS[model].sides.map((side) => msId(model, side)),
    `${model}-loss-difference`,
  ]),
  'fma-peak',
  'fma-peak-1',
];

/** Who has to run for the rows that were asked for. */
function sidesFor(model: Model, wants: RunOptions['wants']): Side[] {
  const { sides } = MODELS[model];
  if (wants(`${model}-loss-difference`)) return [...sides];
  const needed = new Set<Side>(sides.filter((side) => wants(msId(model, side))));
  for (const claim of SPEED_TARGETS) {
    if (claim.model === model && wants(speedId(model, claim.peer))) needed.add('ours').add(claim.peer);
  }
  if (model === 'gpt6' && wants('gpt6-peak-share')) needed.add('ours');
  if (model === 'gpt6' && wants('gpt6-memory')) needed.add('ours').add('eager');
  return sides.filter((side) => needed.has(side));
}

async function raceRows(model: Model, options: RunOptions): Promise<Row[]> {
  const sides = sidesFor(model, options.wants);
  const peakWanted = model === 'gpt6' && ['fma-peak', 'fma-peak-1', 'gpt6-peak-share'].some(options.wants);
  const peakRepeats = options.quick ? 5 : 15;
  const before = peakWanted ? measurePeak(peakRepeats) : null;
  const spec: RaceSpec = { ...MODELS[model], sides, rounds: options.quick ? 3 : MODELS[model].rounds };
  const outcome: RaceResult = sides.length
    ? await race(spec, options.log)
    : { results: new Map(), missing: new Map() };
  const rows: Row[] = [];
  for (const { model: of, peer, target } of SPEED_TARGETS) {
    if (of === model && sides.includes('ours') && sides.includes(peer)) {
      rows.push(speedRow(model, peer, target, outcome));
    }
  }
  rows.push(...sides.map((side) => stepTimeRow(model, side, outcome)));
  if (sides.length > 1) rows.push(lossRow(model, outcome));
  if (model === 'gpt6' && sides.includes('ours') && sides.includes('eager')) rows.push(memoryRow(outcome));
  if (before) {
    const peak = peakRows(before, measurePeak(peakRepeats));
    rows.push(...peak.rows);
    if (sides.includes('ours')) rows.push(peakShareRow(outcome, peak.gflops));
  }
  return rows;
}

async function compileRow({ quick }: RunOptions): Promise<Row> {
  const common = {
    id: 'gpt6-compile',
    what: `${MODELS.gpt6.label}: trace, differentiate and compile`,
    unit: 'ms',
    better: 'lower',
    target: 250,
  } as const;
  const times = await coldCompiles(GPT6, quick ? 1 : 5);
  if (typeof times === 'string') return makeRow({ ...common, value: null, note: times });
  const { median: value, spread } = summarise(times);
  return makeRow({ ...common, value, spread, repeats: times.length, note: 'each in a fresh process' });
}

function callRows({ quick }: RunOptions): Row[] {
  const program = fileURLToPath(new URL('./engine/calls.js', import.meta.url));
  const output = execFileSync(process.execPath, [program, quick ? '10' : '40'], { encoding: 'utf8' });
  const report = JSON.parse(output) as CallReport;
  const row = (way: 'sync' | 'async', where: string, target: number) => {
    const id = `call-${way}`;
    const what = `call with 100 small inputs and outputs, ${where}, above the runtime's own time`;
    const common = { id, what, unit: 'µs', better: 'lower', target } as const;
    if ('unavailable' in report) return makeRow({ ...common, value: null, note: report.unavailable });
    const { median: total, spread, values } = report[way];
    const bare = report.bare.median;
    const note = `${total.toFixed(1)} µs a call, ${bare.toFixed(1)} µs of them in the runtime`;
    return makeRow({ ...common, value: total - bare, spread, repeats: values.length, note });
  };
  return [row('sync', 'synchronous', 30), row('async', 'off the main thread', 100)];
}

function importRows({ quick }: RunOptions): Row[] {
  const { median: value, spread, values } = summarise(importTimes(quick ? 5 : 20));
  const outside = thirdPartyImports();
  return [
    makeRow({
      id: 'import',
      what: "import 'anneal' in a fresh process",
      value,
      unit: 'ms',
      better: 'lower',
      target: 50,
      spread,
      repeats: values.length,
    }),
    makeRow({
      id: 'core-imports',
      what: 'third-party modules that the core imports',
      value: outside.length,
      unit: '',
      better: 'lower',
      target: 0,
      repeats: 1,
      note: outside.join(', '),
    }),
  ];
}

async function run(options: RunOptions): Promise<Row[]> {
  const rows = [...(await raceRows('gpt6', options)), ...(await raceRows('gpt4', options))];
  if (options.wants('gpt6-compile')) rows.push(await compileRow(options));
  if (options.wants('call-sync') || options.wants('call-async')) rows.push(...callRows(options));
  if (options.wants('import') || options.wants('core-imports')) rows.push(...importRows(options));
  return rows.sort((a, b) => ids.indexOf(a.id) - ids.indexOf(b.id));
}

/** The engine suite. */
export const engine: Suite = { ids, run };
