import type { Cell, Experiment } from './experiment.js';

/** Error rates in percent of one arm in one evaluation. */
export interface ErrorRate {
  /** Over the answers of all seeds. */
  mean: number;
  /** Lowest and highest of the seeds. */
  low: number;
  high: number;
  answers: number;
  seeds: number;
}

/** The error rate of an arm over its seeds; undefined if no training of it has ended. */
export function errorRate(
  cells: readonly Cell[],
  setting: string,
  arm: string,
  evaluation: string,
): ErrorRate | undefined {
  const found = cells.filter((cell) => cell.setting === setting && cell.arm === arm);
  const counts = found.flatMap((cell) => cell.errors[evaluation] ?? []);
  if (counts.length === 0) return undefined;
  const rates = counts.map(({ wrong, answers }) => (100 * wrong) / answers);
  const total = (key: 'wrong' | 'answers') => counts.reduce((n, count) => n + count[key], 0);
  return {
    mean: (100 * total('wrong')) / total('answers'),
    low: Math.min(...rates),
    high: Math.max(...rates),
    answers: total('answers'),
    seeds: counts.length,
  };
}

/** A rate as text: what is below one error in a thousand answers needs its digits. */
const percent = (rate: number): string =>
  rate === 0 ? '0' : rate < 0.1 ? rate.toPrecision(1) : rate < 10 ? rate.toFixed(2) : rate.toFixed(1);

function entry(rate: ErrorRate | undefined, published: number | undefined): string {
  if (!rate) return '–';
  const spread = rate.seeds > 1 ? ` (${percent(rate.low)}–${percent(rate.high)})` : '';
  const paper = published === undefined ? '' : ` [${percent(published)}]`;
  return `${percent(rate.mean)}${spread}${paper}`;
}

/**
 * The tables of an experiment, one a setting, in Markdown: errors in percent over all seeds, the seeds' range in
 * parentheses, the paper's figure in brackets.
 */
export function experimentTables(experiment: Experiment, cells: readonly Cell[]): string {
  const tables = experiment.settings.map(({ name, evaluations }) => {
    const rows = experiment.arms.flatMap((arm) => {
      const own = cells.filter((cell) => cell.setting === name && cell.arm === arm.name);
      if (own.length === 0) return [];
      const entries = evaluations.map((evaluation) =>
        entry(
          errorRate(cells, name, arm.name, evaluation.name),
          experiment.published[arm.name]?.[`${name}/${evaluation.name}`],
        ),
      );
      const seconds = own.reduce((sum, cell) => sum + cell.seconds, 0) / own.length;
      return [`| ${arm.name} | ${entries.join(' | ')} | ${own[0]!.parameters} | ${seconds.toFixed(0)} |`];
    });
    const heads = evaluations.map((evaluation) => `${evaluation.name}, %`);
    return [
      `### ${name}`,
      '',
      `| attention | ${heads.join(' | ')} | parameters | s a run |`,
      `| --- | ${heads.map(() => '---').join(' | ')} | --- | --- |`,
      ...rows,
    ].join('\n');
  });
  return tables.join('\n\n');
}
