import { type ChartLine, lineChart } from '../../train/index.js';
import { pairedDifference } from './paired.js';
import type { Measure, RlCell, RlChart, RlExperiment } from './rl-cells.js';
import type { Point } from './rl-follow.js';

const minus = (text: string) => text.replace('-', '−');

/** A value as it stands in a table. */
function format(value: number, as: Measure['as']): string {
  if (as === 'percent') return minus((100 * value).toFixed(1));
  return minus(Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));
}

const zeros = (values: readonly number[]) => values.map(() => 0);

/** A mean with Student's 95 % interval where there are two values or more. */
export function meanText(values: readonly number[], as: Measure['as']): string {
  if (values.length === 0) return '–';
  if (values.length === 1) return format(values[0]!, as);
  const { mean, low, high } = pairedDifference(values, zeros(values));
  return `${format(mean, as)} [${format(low, as)}, ${format(high, as)}]`;
}

/** A paired difference or, as a geometric mean, a paired ratio; with its interval, and the pairs if some are missing. */
export function contrastText(
  pairs: readonly (readonly [number, number])[],
  { as, by }: Pick<Measure, 'as' | 'by'>,
  seeds: number,
): string {
  const used = by === 'ratio' ? pairs.filter(([a, b]) => a > 0 && b > 0) : pairs;
  if (used.length === 0) return '–';
  const missing = used.length < seeds ? ` (${used.length} of ${seeds} seeds)` : '';
  if (by === 'difference') {
    const text = meanText(
      used.map(([a, b]) => a - b),
      as,
    );
    return `${/^[−\d]/.test(text) && !text.startsWith('−') ? '+' : ''}${text}${missing}`;
  }
  const logs = used.map(([a, b]) => Math.log(a / b));
  const ratio = (log: number) => `${Math.exp(log).toFixed(2)}x`;
  if (logs.length === 1) return ratio(logs[0]!) + missing;
  const { mean, low, high } = pairedDifference(logs, zeros(logs));
  return `${ratio(mean)} [${ratio(low)}, ${ratio(high)}]${missing}`;
}

const pointsOf = (cells: readonly RlCell[], arm: string, seed: number): readonly Point[] | undefined =>
  cells.find((cell) => cell.arm === arm && cell.seed === seed)?.points;

/** Seeds that any of the experiment's arms has been run with. */
const seedsOf = ({ arms }: RlExperiment, cells: readonly RlCell[]): number[] => {
  const names = new Set(arms.map(({ name }) => name));
  const seeds = cells.filter(({ arm }) => names.has(arm)).map(({ seed }) => seed);
  return [...new Set(seeds)].sort((a, b) => a - b);
};

/** The table of an experiment in Markdown: a row a measure, a column an arm and a contrast. */
export function experimentTable(experiment: RlExperiment, cells: readonly RlCell[]): string {
  const { arms, contrasts, measures } = experiment;
  const seeds = seedsOf(experiment, cells);
  const reference = arms[0]!.name;
  const measured = (measure: Measure, arm: string, seed: number): number | undefined => {
    const [own, other] = [pointsOf(cells, arm, seed), pointsOf(cells, reference, seed)];
    return own && other && measure.value(own, other);
  };
  const rows = measures.map((measure) => {
    const means = arms.map(({ name }) => {
      const values = seeds.flatMap((seed) => measured(measure, name, seed) ?? []);
      return meanText(values, measure.as);
    });
    const compared = contrasts.map(([a, b]) => {
      const pairs = seeds.flatMap((seed) => {
        const [x, y] = [measured(measure, a, seed), measured(measure, b, seed)];
        return x === undefined || y === undefined ? [] : [[x, y] as const];
      });
      return contrastText(pairs, measure, seeds.length);
    });
    return [`${measure.name}${measure.as === 'percent' ? ', %' : ''}`, ...means, ...compared];
  });
  const against = contrasts.map(([a, b]) => `${a} against ${b}`);
  const head = [`${seeds.length} seeds`, ...arms.map(({ name }) => name), ...against];
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
}

/** Means over seeds at points that all seeds have; the axis is averaged, too. */
function meanLine(runs: readonly (readonly Point[])[], x: string, metric: string) {
  const count = Math.min(...runs.map((points) => points.length));
  const indices = Array.from({ length: count }, (_, i) => i).filter((i) =>
    runs.every((points) => points[i]![metric] !== undefined && points[i]![x] !== undefined),
  );
  const mean = (i: number, key: string) =>
    runs.reduce((sum, points) => sum + points[i]![key]!, 0) / runs.length;
  return { steps: indices.map((i) => mean(i, x)), values: indices.map((i) => mean(i, metric)) };
}

/** A chart: a line for each arm and metric that has values. */
export function experimentChart(experiment: RlExperiment, chart: RlChart, cells: readonly RlCell[]): string {
  const lines = experiment.arms.flatMap(({ name }): ChartLine[] => {
    const runs = cells.filter(({ arm }) => arm === name).map(({ points }) => points);
    if (runs.length === 0) return [];
    return chart.y.flatMap(({ metric, label }) => {
      const line = meanLine(runs, chart.x, metric);
      if (line.steps.length < 2) return [];
      const own = experiment.arms.length > 1 ? [name] : [];
      return [{ name: [...own, label].filter(Boolean).join(', '), ...line, hasDots: true }];
    });
  });
  const yLabel = chart.y.length === 1 ? chart.y[0]!.metric : 'share';
  return lineChart({ title: chart.title, xLabel: chart.xLabel, yLabel, lines });
}

/** An experiment's section of the report; its figures are files with the names of `figures`. */
export function experimentSection(
  experiment: RlExperiment,
  cells: readonly RlCell[],
  figures: readonly string[] = [],
): string {
  const { title, claim } = experiment;
  const images = figures.map((file, i) => `![${experiment.charts[i]!.title}](${file})`);
  return [`## ${title}`, claim, experimentTable(experiment, cells), ...images].join('\n\n');
}

/** What stands below all tables. */
export const tableNote =
  'Means over seeds with Student’s 95 % intervals; differences and ratios (geometric means) are paired by seed. Seconds are processor time.';
