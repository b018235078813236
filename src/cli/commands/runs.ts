import { existsSync } from 'node:fs';
import path from 'node:path';
import { AnnealError } from '../../core/errors.js';
import { configLines, duration } from '../../recipes/format.js';
import {
  compareRuns,
  drawCurve,
  listRuns,
  type RunRecord,
  type RunSummary,
  readRun,
  seriesOf,
} from '../../train/index.js';
import { table } from '../table.js';
import type { Cli } from '../terminal.js';

interface Flags {
  json?: boolean;
}

const recipeOf = ({ config }: RunSummary) => (config as { recipe?: string } | null)?.recipe;
const settingsOf = ({ config }: RunSummary): unknown =>
  (config as { config?: unknown } | null)?.config ?? config;
const progressText = ({ step, steps }: RunSummary) => (steps === undefined ? `${step}` : `${step}/${steps}`);
const numberText = (value: number | null | undefined) =>
  typeof value === 'number' ? value.toFixed(3) : undefined;
const metricsText = ({ metrics }: RunSummary) =>
  Object.entries(metrics)
    .map(([name, value]) => `${name} ${numberText(value) ?? 'not finite'}`)
    .join(' ');

function mustBeRun(directory: string): void {
  if (existsSync(path.join(directory, 'config.json'))) return;
  const what = existsSync(directory) ? 'no run directory (it has no config.json)' : 'not there';
  throw new AnnealError(`${directory} is ${what}; \`anneal runs list\` shows the runs`);
}

/** The runs that are meant: the directories themselves, or what lies right below them. */
async function summariesOf(places: readonly string[]): Promise<RunSummary[]> {
  const found = places.map(async (place): Promise<RunSummary[]> => {
    if (!existsSync(path.join(place, 'config.json'))) return listRuns(place);
    const { events: _, ...summary } = await readRun(place);
    return [summary];
  });
  return (await Promise.all(found)).flat();
}

/** `anneal runs list [DIR…]`. */
export async function list(this: Cli, { json }: Flags, ...places: string[]): Promise<void> {
  const isEmpty = places.length === 0 && !existsSync('runs');
  const runs = isEmpty ? [] : await summariesOf(places.length > 0 ? places : ['runs']);
  if (json) {
    this.terminal.json(runs);
    return;
  }
  if (runs.length === 0) {
    this.terminal.print('There are no runs here yet; `anneal run moby-dick` makes one.');
    return;
  }
  const rows = runs.map((run) => [
    run.directory,
    recipeOf(run),
    run.status,
    progressText(run),
    numberText(run.loss),
    metricsText(run),
    duration(run.seconds),
  ]);
  const head = ['run', 'recipe', 'status', 'step', 'loss', 'evaluation', 'time'];
  for (const line of table(head, rows)) this.terminal.print(line);
}

/** The training loss, or the loss of the evaluations where training left none, drawn with characters. */
export function lossCurve({ events }: RunRecord, width: number): string | undefined {
  const train = seriesOf(events, 'train', 'loss');
  const { steps, values } = train.steps.length > 1 ? train : seriesOf(events, 'evaluate', 'loss');
  return steps.length > 1
    ? drawCurve(steps, values, { width: Math.max(20, Math.min(width, 72)), height: 10 })
    : undefined;
}

/** `anneal runs show DIR`. */
export async function show(this: Cli, { json }: Flags, directory: string): Promise<void> {
  mustBeRun(directory);
  const run = await readRun(directory);
  const { terminal } = this;
  if (json) {
    const { events, ...summary } = run;
    const curve = ({ steps, values }: { steps: number[]; values: number[] }) => ({ steps, values });
    const curves = {
      train: curve(seriesOf(events, 'train', 'loss')),
      ...Object.fromEntries(
        Object.keys(run.metrics).map((name) => [
          `evaluate.${name}`,
          curve(seriesOf(events, 'evaluate', name)),
        ]),
      ),
    };
    terminal.json({ ...summary, curves });
    return;
  }
  const columns = Math.min(terminal.columns, 110);
  terminal.print(
    `${directory}: ${recipeOf(run) ?? 'a run'}, ${run.status}, step ${progressText(run)}, ${duration(run.seconds)}`,
  );
  terminal.print(configLines(settingsOf(run), columns).join('\n'));
  const curve = lossCurve(run, columns - 12);
  if (curve !== undefined) terminal.print(`\n${curve}`);
  terminal.print('');
  if (run.loss !== undefined) terminal.print(`  training loss ${run.loss.toFixed(4)}`);
  const last = metricsText(run);
  if (last !== '') terminal.print(`  last evaluation: ${last}`);
  if (run.best) terminal.print(`  best evaluation: ${run.best.value.toFixed(4)} at step ${run.best.step}`);
  if (run.checkpoints.length > 0) terminal.print(`  checkpoints of steps ${run.checkpoints.join(', ')}`);
  const report = path.join(directory, 'report.md');
  if (existsSync(report)) terminal.print(`  report: ${report}`);
}

/** `anneal runs compare DIR DIR…`. */
export async function compare(this: Cli, { json }: Flags, ...places: string[]): Promise<void> {
  for (const place of places) if (!existsSync(place)) mustBeRun(place);
  const directories = (await summariesOf(places)).map((run) => run.directory);
  if (directories.length < 2) {
    throw new AnnealError(`comparing needs two runs, and ${places.join(', ')} has ${directories.length}`);
  }
  const { runs, differences, metrics } = await compareRuns(directories);
  // Settings are named as on the command line: config.json has them under `config`.
  const settings = differences.map(({ key, values }) => ({ setting: key.replace(/^config\./, ''), values }));
  if (json) {
    this.terminal.json({ runs, settings, metrics });
    return;
  }
  const row = (label: string, value: (run: RunSummary) => string | undefined) => [label, ...runs.map(value)];
  const rows = [
    ...settings.map(({ setting, values }) => [
      setting,
      ...values.map((v) => (v === undefined ? '' : JSON.stringify(v))),
    ]),
    row('status', (run) => run.status),
    row('step', progressText),
    row('parameters', (run) => run.parameters?.toLocaleString('en')),
    row('training loss', (run) => numberText(run.loss)),
    ...metrics.map(({ name, values }) => [`evaluation: ${name}`, ...values.map(numberText)]),
    row('best evaluation', (run) => numberText(run.best?.value)),
    row('time', (run) => duration(run.seconds)),
  ];
  for (const line of table(['', ...directories], rows)) this.terminal.print(line);
}
