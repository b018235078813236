import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { type EventOf, metricNames, phaseOf, type RunEvent, type Series, seriesOf } from './events.js';
import { count, duration, Smoothed } from './progress.js';
import { type RunRecord, readRun } from './runs.js';
import { type Chart, type ChartLine, lineChart } from './svg.js';

/** A running mean over a fortieth of the run, 50 values at most: a longer one would lag behind a steep curve. */
function smooth({ steps, values }: Series): Series {
  const window = Math.min(50, Math.max(2, values.length / 40));
  const mean = new Smoothed(1 - 1 / window);
  return {
    steps,
    values: values.map((value) => {
      if (Number.isFinite(value)) mean.add(value);
      return mean.value;
    }),
    times: [],
  };
}

/** Raw values pale, their average over them. */
function withAverage(name: string, series: Series): ChartLine[] {
  return [
    { name, ...series, isFaint: true },
    { name, ...smooth(series) },
  ];
}

/** Kinds of update of a run, in the order of their first; none in a run that has one kind only. */
function phasesOf(events: readonly RunEvent[]): string[] {
  return [...new Set(events.flatMap((event) => phaseOf(event) ?? []))];
}

/** One quantity of the updates: a line, or a line per kind of update that has it. */
function trainLines(events: readonly RunEvent[], key: string, name: string): ChartLine[] {
  const phases = phasesOf(events);
  if (phases.length === 0) return withAverage(name, seriesOf(events, 'train', key));
  return phases.flatMap((phase) => {
    const series = seriesOf(events, 'train', key, phase);
    return series.values.some(Number.isFinite) ? withAverage(phase, series) : [];
  });
}

const fileName = (name: string): string => name.replace(/[^\w-]+/g, '_');

/** The figures of a run by file name; those without data are left out. */
export function chartsOf(events: readonly RunEvent[]): Map<string, Chart> {
  const charts = new Map<string, Chart>();
  const add = (file: string, title: string, yLabel: string, lines: ChartLine[]) => {
    if (lines.some(({ steps }) => steps.length > 1))
      charts.set(file, { title, xLabel: 'step', yLabel, lines });
  };
  const train = (key: string) => seriesOf(events, 'train', key);
  const evaluated = seriesOf(events, 'evaluate', 'loss');
  const evaluation = { name: 'evaluation', ...evaluated, hasDots: true };
  const lossLines = trainLines(events, 'loss', 'training');
  add('loss.svg', 'Loss', 'loss', evaluated.steps.length > 0 ? [...lossLines, evaluation] : lossLines);
  for (const name of metricNames(events, 'evaluate')) {
    if (name === 'loss') continue;
    const series = seriesOf(events, 'evaluate', name);
    const file = `evaluate-${fileName(name)}.svg`;
    add(file, `Evaluation: ${name}`, name, [{ name, ...series, hasDots: true }]);
  }
  const metrics = metricNames(events, 'train').filter((name) => name !== 'loss');
  for (const name of metrics) {
    // Rates of groups have a figure of their own; times are for the log.
    if (/^(lr|ms)\./.test(name)) continue;
    add(`train-${fileName(name)}.svg`, `Training: ${name}`, name, trainLines(events, name, name));
  }
  const groups = metrics.filter((name) => name.startsWith('lr.'));
  const rates = groups.length > 0 ? groups : ['lr'];
  const rateLines =
    groups.length === 0 && phasesOf(events).length > 0
      ? phasesOf(events).map((phase) => ({ name: phase, ...seriesOf(events, 'train', 'lr', phase) }))
      : rates.map((name) => ({ name: name.replace('lr.', ''), ...train(name) }));
  add('learning-rate.svg', 'Learning rate', 'learning rate', rateLines);
  add('gradient.svg', 'Gradient norm before clipping', 'norm', trainLines(events, 'gradNorm', 'norm'));
  add('throughput.svg', 'Throughput', 'units a second', withAverage('rate', train('rate')));
  return charts;
}

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');
}

const number = (value: number | null | undefined): string =>
  typeof value === 'number' ? String(Number(value.toPrecision(5))) : 'not finite';

function results(run: RunRecord): string {
  const rows: string[][] = [
    ['status', run.status],
    ['steps', run.steps === undefined ? String(run.step) : `${run.step} of ${run.steps}`],
    ['time of the updates', duration(run.seconds)],
  ];
  if (run.parameters !== undefined) rows.push(['parameters', count(run.parameters)]);
  const phases = phasesOf(run.events);
  if (run.loss !== undefined && phases.length === 0)
    rows.push(['training loss, mean of the last steps', number(run.loss)]);
  for (const phase of phases) {
    const { values } = seriesOf(run.events, 'train', 'reward', phase);
    const last = values.slice(-Math.max(10, Math.round(values.length / 20)));
    const mean = last.reduce((a, b) => a + b, 0) / last.length;
    if (last.length > 0) rows.push([`${phase}: reward, mean of its last ${last.length} steps`, number(mean)]);
  }
  for (const [name, value] of Object.entries(run.metrics))
    rows.push([`last evaluation: ${name}`, number(value)]);
  if (run.best) rows.push(['best evaluation', `${number(run.best.value)} at step ${run.best.step}`]);
  if (run.checkpoints.length > 0)
    rows.push(['checkpoints', run.checkpoints.map((s) => `step-${s}`).join(', ')]);
  return table(['', ''], rows);
}

function evaluations(run: RunRecord): string {
  const names = metricNames(run.events, 'evaluate');
  const all = run.events.filter((e): e is EventOf<'evaluate'> => e.kind === 'evaluate');
  // A long run has its curve; the table shows every n-th evaluation, and the last.
  const every = Math.ceil(all.length / 20);
  const shown = all.filter((_, i) => i % every === 0 || i === all.length - 1);
  const rows = shown.map(({ step, metrics, isBest }) => [
    String(step),
    ...names.map((name) => (name in metrics ? number(metrics[name]) : '')),
    isBest ? 'best so far' : '',
  ]);
  return table(['step', ...names, ''], rows);
}

/** Samples are text of any kind: a fence longer than any inside keeps them whole. */
function fenced(text: string, language = ''): string {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = '`'.repeat(longest + 1);
  return `${fence}${language}\n${text}\n${fence}`;
}

function samples(run: RunRecord): string[] {
  const all = run.events.filter((e): e is EventOf<'sample'> => e.kind === 'sample');
  const shown = all.length <= 3 ? all : [all[0]!, all[Math.floor(all.length / 2)]!, all.at(-1)!];
  return shown.map(({ step, value }) => {
    const text =
      typeof value === 'string' ? fenced(value) : fenced(JSON.stringify(value, undefined, 2), 'json');
    return `Step ${step}:\n\n${text}`;
  });
}

/** The Markdown of a report; figures are referred to as figures/<file>. */
export function reportText(run: RunRecord, figures: readonly string[]): string {
  const sections = [`# ${run.name}`, results(run)];
  if (figures.length > 0) {
    sections.push('## Curves', ...figures.map((file) => `![${file.replace('.svg', '')}](figures/${file})`));
  }
  if (run.events.some((e) => e.kind === 'evaluate')) sections.push('## Evaluations', evaluations(run));
  const shown = samples(run);
  if (shown.length > 0) sections.push('## Samples', ...shown);
  const notes = run.events.filter((e): e is EventOf<'note'> => e.kind === 'note');
  if (notes.length > 0) sections.push('## Notes', notes.map((e) => `- step ${e.step}: ${e.text}`).join('\n'));
  sections.push('## Config', fenced(JSON.stringify(run.config, undefined, 2), 'json'));
  return `${sections.join('\n\n')}\n`;
}

/**
 * Writes report.md of a run, with its figures as SVG files in figures/ beside it.
 * @returns the path of the report.
 * @throws AnnealError if the directory holds no run, or the files cannot be written.
 */
export async function writeReport(directory: string): Promise<string> {
  const run = await readRun(directory);
  const charts = chartsOf(run.events);
  for (const [file, chart] of charts)
    await writeFileAtomically(path.join(directory, 'figures', file), lineChart(chart));
  const file = path.join(directory, 'report.md');
  await writeFileAtomically(file, reportText(run, [...charts.keys()]));
  return file;
}
