import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { drawCurve, lineChart } from '../train/index.js';
import type { RiseConfig } from './rise-settings.js';
import { eventsOf, lineOf, percent, type RunCurve, runCurve } from './rl-curves.js';

/** RISE, or RL on solutions alone with as many trajectories or as many problems. */
export type RiseArm = 'matched' | 'plain' | 'rise';

/** What the last policy of an arm measures, by number of voters. */
export interface ArmResult {
  arm: RiseArm;
  votes: Record<number, Readonly<Record<string, number>>>;
}

const names = { matched: 'Zero-RL', plain: 'Zero-RL, fewer', rise: 'RISE' } as const;

/** What an arm did and what came of it. */
interface Arm extends ArmResult {
  name: string;
  curve: RunCurve;
}

const ends = (values: readonly number[] | undefined): string =>
  `${percent(values?.[0])} → ${percent(values?.at(-1))}`;

/** Rows of the report's table: a label, then a cell of each arm. */
function rowsOf(arms: readonly Arm[], votes: readonly number[]): string[] {
  const row = (label: string, cell: (arm: Arm) => string) => `| ${[label, ...arms.map(cell)].join(' | ')} |`;
  const metric = (label: string, name: string) => row(label, ({ curve }) => ends(curve.metrics[name]));
  const rows = [
    row('', ({ name }) => name),
    `| ${['', ...arms].map(() => '---').join(' | ')} |`,
    metric('accuracy of solutions, start → end', 'accuracy'),
    metric('accuracy of ratings', 'verifyAccuracy'),
    metric('balanced accuracy of ratings', 'verifyBalancedAccuracy'),
  ];
  for (const k of votes) {
    rows.push(row(`majority of ${k}`, (arm) => percent(arm.votes[k]?.majority)));
    rows.push(row(`vote of ${k} weighted by own ratings`, (arm) => percent(arm.votes[k]?.weighted)));
  }
  rows.push(row('tokens sampled', ({ curve }) => (curve.tokens.at(-1) ?? 0).toLocaleString('en')));
  rows.push(row('seconds', ({ curve }) => (curve.seconds.at(-1) ?? 0).toFixed(0)));
  return rows;
}

/** The figures that a reader wants first. */
function summaryOf(arms: readonly Arm[], votes: readonly number[]): Record<string, string> {
  const summary: Record<string, string> = {};
  const k = Math.max(...votes);
  for (const { arm, curve, votes: own } of arms) {
    summary[`${arm}.accuracy`] = percent(curve.metrics.accuracy?.at(-1));
    summary[`${arm}.verifyAccuracy`] = percent(curve.metrics.verifyAccuracy?.at(-1));
    summary[`${arm}.weighted`] = percent(own[k]?.weighted);
    summary[`${arm}.majority`] = percent(own[k]?.majority);
  }
  return summary;
}

/** Writes report.md with its figures and results.json into the run directory. */
export async function writeRiseReport(
  directory: string,
  config: RiseConfig,
  results: readonly ArmResult[],
): Promise<{ text: string; summary: Record<string, string> }> {
  const arms: Arm[] = [];
  for (const result of results) {
    const curve = runCurve(await eventsOf(path.join(directory, result.arm)));
    arms.push({ ...result, name: names[result.arm], curve });
  }
  const { task, ratio, evaluate } = config;
  const charts = {
    accuracy: 'Accuracy of solutions',
    verifyAccuracy: 'Accuracy of ratings of own solutions',
  };
  const images: string[] = [];
  for (const [metric, title] of Object.entries(charts)) {
    const lines = arms.flatMap(({ curve, name }) => lineOf(curve, metric, name));
    const svg = lineChart({ title, xLabel: 'updates', yLabel: 'share', lines });
    await writeFileAtomically(path.join(directory, `${metric}.svg`), svg);
    images.push(`![${title}](${metric}.svg)`);
  }
  const rows = rowsOf(arms, evaluate.votes);
  const settings = `${task.kind}, ${task.count.join(' to ')} steps; ${percent(ratio)} as many solutions are rated as there are problems. A rating is right if it states exactly what the rule gives. Held out: ${evaluate.problems} problems at temperature 1.`;
  const markdown = ['# RISE beside RL on solutions alone', '', settings, '', ...rows, '', ...images, ''];
  await writeFileAtomically(path.join(directory, 'report.md'), markdown.join('\n'));
  await writeFileAtomically(
    path.join(directory, 'results.json'),
    `${JSON.stringify(results, undefined, 2)}\n`,
  );
  const drawn = arms.flatMap(({ name, curve }) =>
    Object.entries(charts).map(
      ([metric, title]) => `${title}, ${name}\n${drawCurve(curve.steps, curve.metrics[metric] ?? [])}\n`,
    ),
  );
  return { text: [...rows, '', ...drawn, ''].join('\n'), summary: summaryOf(arms, evaluate.votes) };
}
