/**
 * Recipe that measures the claims about reinforcement learning on tasks for two processor cores:
 *
 *     anneal run claims/rl
 *     anneal run claims/rl experiments='["tango"]' seeds=5
 *
 * All arms of a seed begin with the same warm start and get the same problems in the same order. Every run of an arm is a
 * line of cells.jsonl: a stopped run goes on behind it. Tables and charts go to report.md.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { configure } from '../../index.js';
import { countParameters } from '../../nn/index.js';
import { duration } from '../format.js';
import { type RunContext, type RunOutcome, recipe } from '../recipe.js';
import { readCells } from './cells.js';
import type { RlArm, RlCell } from './rl-cells.js';
import { rlExperiments } from './rl-experiments.js';
import { type RlConfig, rlSettings } from './rl-settings.js';
import { experimentChart, experimentSection, tableNote } from './rl-tables.js';
import { World } from './rl-world.js';

const chosen = ({ experiments: names }: RlConfig) => names.map((name) => rlExperiments[name]);

/** Runs to do, an experiment after the other, a seed after the other, then its arms; each arm and seed once. */
export function planOf(config: RlConfig): { arm: RlArm; seed: number }[] {
  const seeds = Array.from({ length: config.seeds }, (_, i) => config.firstSeed + i);
  const all = chosen(config).flatMap(({ arms }) =>
    seeds.flatMap((seed) => arms.map((arm) => ({ arm, seed }))),
  );
  const seen = new Set<string>();
  return all.filter(({ arm, seed }) => {
    const key = `${arm.name}/${seed}`;
    if (seen.has(key)) return false;
    return Boolean(seen.add(key));
  });
}

/** Writes report.md with its figures; @returns its text */
function writeReport(directory: string, config: RlConfig, cells: readonly RlCell[]): string {
  const sections = chosen(config).map((experiment) => {
    const names = new Set(experiment.arms.map(({ name }) => name));
    if (!cells.some(({ arm }) => names.has(arm))) return '';
    const figures = experiment.charts.map((chart, i) => {
      const file = `${experiment.name}-${i + 1}.svg`;
      writeFileSync(path.join(directory, file), experimentChart(experiment, chart, cells));
      return file;
    });
    return experimentSection(experiment, cells, figures);
  });
  const text = [...sections.filter(Boolean), tableNote].join('\n\n');
  writeFileSync(path.join(directory, 'report.md'), `# claims/rl\n\n${text}\n`);
  return text;
}

async function run(context: RunContext<RlConfig, World>): Promise<RunOutcome> {
  const { config, prepared: world, directory, signal, print } = context;
  configure({ threads: config.threads });
  mkdirSync(directory, { recursive: true });
  const file = path.join(directory, 'cells.jsonl');
  const cells = readCells<RlCell>(file);
  // A line that was cut off must not swallow the next one.
  if (existsSync(file) && !readFileSync(file, 'utf8').endsWith('\n')) appendFileSync(file, '\n');
  const plan = planOf(config);
  const isDone = (arm: string, seed: number) => cells.some((cell) => cell.arm === arm && cell.seed === seed);
  const left = plan.filter(({ arm, seed }) => !isDone(arm.name, seed));
  const started = performance.now();
  for (const [i, { arm, seed }] of left.entries()) {
    const begun = performance.now();
    const points = await arm.run({ world, seed, directory, signal });
    if (!points) return { status: 'stopped', step: cells.length, summary: {} };
    const seconds = (performance.now() - begun) / 1000;
    const cell: RlCell = { arm: arm.name, seed, points, seconds };
    cells.push(cell);
    appendFileSync(file, `${JSON.stringify(cell)}\n`);
    writeReport(directory, config, cells);
    const mean = (performance.now() - started) / 1000 / (i + 1);
    print(
      `${plan.length - left.length + i + 1}/${plan.length}  ${arm.name}, seed ${seed}: ${duration(seconds)}  (${duration(mean * (left.length - i - 1))} left)\n`,
    );
  }
  print(`\n${writeReport(directory, config, cells)}\n`);
  return {
    status: 'finished',
    step: cells.length,
    summary: { runs: cells.length, report: path.join(directory, 'report.md') },
  };
}

export const rlClaim = recipe({
  name: 'claims/rl',
  summary:
    'reinforcement learning: Tango, its verifier, one policy fixed, RISE, AceReason, misleading verifiers',
  config: rlSettings,
  prepare: (config) => new World(config),
  derive: (config, world) => [
    { name: 'runs', value: planOf(config).length, unit: '' },
    { name: 'parameters', value: countParameters(world.model(0)), unit: 'parameters' },
  ],
  run,
});
