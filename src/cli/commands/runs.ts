import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { AnnealError } from '../../core/errors.js';
import { duration } from '../../recipes/format.js';
import { differences } from '../../recipes/overrides.js';
import {
  type EventOf,
  eventsFile,
  metricNames,
  type RunEvent,
  readEvents,
  seriesOf,
} from '../../train/events.js';
import { readConfig } from '../../train/run-directory.js';
import { table } from '../table.js';
import type { Cli } from '../terminal.js';

interface Flags {
  json?: boolean;
}

/** A run in numbers. */
interface RunSummary {
  directory: string;
  recipe: string | undefined;
  /** `unfinished`: it runs, or was killed. */
  status: string;
  step: number;
  steps: number | undefined;
  parameters: number | undefined;
  /** Mean of the last training losses. */
  loss: number | undefined;
  /** Last and lowest (or, by its name, highest) value of each evaluation. */
  evaluations: Record<string, { last: number; lowest: number; highest: number }>;
  /** Seconds of training over all sessions. */
  seconds: number;
}

interface Run {
  summary: RunSummary;
  config: unknown;
  events: RunEvent[];
}

const isRun = (directory: string) => existsSync(path.join(directory, eventsFile));

/** The run directories that are meant: the arguments themselves, or what lies right below them. */
function findRuns(places: readonly string[]): string[] {
  return places.flatMap((place) => {
    if (isRun(place)) return [place];
    if (!existsSync(place))
      throw new AnnealError(`there is no directory ${place}; \`anneal run\` makes runs/…`);
    return readdirSync(place, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && isRun(path.join(place, entry.name)))
      .map((entry) => path.join(place, entry.name))
      .sort();
  });
}

const ofKind = <K extends RunEvent['kind']>(events: readonly RunEvent[], kind: K): EventOf<K>[] =>
  events.filter((event): event is EventOf<K> => event.kind === kind);

function secondsOf(events: readonly RunEvent[]): number {
  const end = ofKind(events, 'end').at(-1);
  if (end) return end.seconds;
  return ofKind(events, 'train').reduce((sum, event) => sum + event.ms / 1000, 0);
}

async function readRun(directory: string): Promise<Run> {
  if (!isRun(directory)) throw new AnnealError(`${directory} is no run directory (it has no ${eventsFile})`);
  const { events } = await readEvents(directory);
  const stored = (await readConfig(directory)) as { recipe?: string; config?: unknown };
  const last = events.at(-1);
  const start = ofKind(events, 'start').at(-1);
  const losses = seriesOf(events, 'train', 'loss').values.slice(-20);
  const evaluations: RunSummary['evaluations'] = {};
  for (const name of metricNames(events, 'evaluate')) {
    const { values } = seriesOf(events, 'evaluate', name);
    const finite = values.filter(Number.isFinite);
    if (finite.length === 0) continue;
    evaluations[name] = { last: finite.at(-1)!, lowest: Math.min(...finite), highest: Math.max(...finite) };
  }
  const summary: RunSummary = {
    directory,
    recipe: stored.recipe,
    status: last?.kind === 'end' ? last.reason : 'unfinished',
    step: Math.max(0, ...events.map((event) => event.step)),
    steps: start?.steps,
    parameters: start?.parameters,
    loss: losses.length > 0 ? losses.reduce((a, b) => a + b) / losses.length : undefined,
    evaluations,
    seconds: secondsOf(events),
  };
  return { summary, config: stored.config ?? stored, events };
}

const evaluationText = ({ evaluations }: RunSummary): string =>
  Object.entries(evaluations)
    .map(([name, { last }]) => `${name} ${last.toFixed(3)}`)
    .join(' ');

const progressText = ({ step, steps }: RunSummary) => (steps === undefined ? `${step}` : `${step}/${steps}`);

/** `anneal runs list [DIR…]`. */
export async function list(this: Cli, { json }: Flags, ...places: string[]): Promise<void> {
  const isDefault = places.length === 0;
  if (isDefault && !existsSync('runs')) {
    if (json) this.terminal.json([]);
    else this.terminal.print('There are no runs here yet; `anneal run moby-dick` makes one.');
    return;
  }
  const found = findRuns(isDefault ? ['runs'] : places);
  const summaries = (await Promise.all(found.map(readRun))).map((run) => run.summary);
  if (json) {
    this.terminal.json(summaries);
    return;
  }
  const head = ['run', 'recipe', 'status', 'step', 'loss', 'evaluation', 'time'];
  const rows = summaries.map((s) => [
    s.directory,
    s.recipe,
    s.status,
    progressText(s),
    s.loss === undefined ? undefined : Number(s.loss.toFixed(3)),
    evaluationText(s),
    duration(s.seconds),
  ]);
  for (const line of table(head, rows)) this.terminal.print(line);
}

/** `anneal runs show DIR`. */
export async function show(this: Cli, { json }: Flags, directory: string): Promise<void> {
  const { summary, config, events } = await readRun(directory);
  if (json) {
    const curves = {
      train: seriesOf(events, 'train', 'loss'),
      evaluate: Object.fromEntries(
        Object.keys(summary.evaluations).map((name) => [name, seriesOf(events, 'evaluate', name)]),
      ),
    };
    this.terminal.json({ ...summary, config, curves });
    return;
  }
  const { terminal } = this;
  const { configLines } = await import('../../recipes/format.js');
  terminal.print(
    `${directory}: ${summary.recipe ?? 'a run'}, ${summary.status} at step ${progressText(summary)}`,
  );
  terminal.print(configLines(config, Math.min(terminal.columns, 110)).join('\n'));
  for (const [name, { last, lowest, highest }] of Object.entries(summary.evaluations)) {
    terminal.print(`  ${name}: ${last.toFixed(4)} (from ${lowest.toFixed(4)} to ${highest.toFixed(4)})`);
  }
  for (const { step, text } of ofKind(events, 'note')) terminal.print(`  step ${step}: ${text}`);
}

/** `anneal runs compare DIR DIR…`. */
export async function compare(this: Cli, { json }: Flags, ...places: string[]): Promise<void> {
  const found = findRuns(places);
  if (found.length < 2)
    throw new AnnealError(`comparing needs two runs, not ${found.length}: ${found.join(', ')}`);
  const runs = await Promise.all(found.map(readRun));
  const paths = [
    ...new Set(
      runs.slice(1).flatMap((run) => differences(runs[0]!.config, run.config).map(({ path: key }) => key)),
    ),
  ];
  const { flattened } = await import('../../recipes/overrides.js');
  const leaves = runs.map((run) => flattened(run.config));
  const settings = paths.map((key) => ({ setting: key, values: leaves.map((leaf) => leaf.get(key)) }));
  if (json) {
    this.terminal.json({ runs: runs.map((run) => run.summary), settings });
    return;
  }
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.summary.evaluations)))];
  const row = (label: string, value: (run: Run) => string | undefined) => [label, ...runs.map(value)];
  const rows = [
    ...settings.map(({ setting, values }) => [
      setting,
      ...values.map((v) => (v === undefined ? '' : JSON.stringify(v))),
    ]),
    row('status', ({ summary }) => summary.status),
    row('step', ({ summary }) => progressText(summary)),
    row('parameters', ({ summary }) => summary.parameters?.toLocaleString('en')),
    row('training loss', ({ summary }) => summary.loss?.toFixed(4)),
    ...metrics.map((name) =>
      row(`${name}, last`, ({ summary }) => summary.evaluations[name]?.last.toFixed(4)),
    ),
    ...metrics.map((name) =>
      row(`${name}, lowest`, ({ summary }) => summary.evaluations[name]?.lowest.toFixed(4)),
    ),
    row('time', ({ summary }) => duration(summary.seconds)),
  ];
  for (const line of table(['', ...found], rows)) this.terminal.print(line);
}
