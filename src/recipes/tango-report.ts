import { existsSync } from 'node:fs';
import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { type ChartLine, drawCurve, lineChart, type RunEvent, readEvents } from '../train/index.js';
import type { TangoConfig } from './tango-settings.js';

/** Evaluations of an arm, by what they are drawn over. */
interface Curve {
  /** Steps of the generator, also those in which no group had a signal and nothing was updated. */
  generatorSteps: number[];
  /** Steps of both policies. */
  allSteps: number[];
  /** Seconds of work since the arm began, evaluations left out. */
  seconds: number[];
  metrics: Record<string, number[]>;
}

/** The evaluations of an arm. Time is what its steps took: evaluations and pauses do not count. */
export function curveOf(events: readonly RunEvent[]): Curve {
  const curve: Curve = { generatorSteps: [], allSteps: [], seconds: [], metrics: {} };
  let [ms, steps, own] = [0, 0, 0];
  for (const event of events) {
    if (event.kind === 'train') {
      ms += event.ms;
      steps += 1;
      if (event.phase === 'generator') own += 1;
    }
    if (event.kind !== 'evaluate') continue;
    curve.generatorSteps.push(own);
    curve.allSteps.push(steps);
    curve.seconds.push(ms / 1000);
    for (const [name, value] of Object.entries(event.metrics)) {
      curve.metrics[name] ??= [];
      curve.metrics[name].push(value ?? Number.NaN);
    }
  }
  return curve;
}

/**
 * Where a curve first reaches a value, on another axis, linearly between evaluations; undefined if it never does. With noisy
 * accuracies the first crossing is early for both arms alike.
 */
export function firstReach(
  axis: readonly number[],
  values: readonly number[],
  target: number,
): number | undefined {
  const i = values.findIndex((value) => value >= target);
  if (i <= 0) return i === 0 ? axis[0] : undefined;
  const [low, high] = [values[i - 1]!, values[i]!];
  return axis[i - 1]! + ((target - low) / (high - low)) * (axis[i]! - axis[i - 1]!);
}

const names = { grpo: 'GRPO', tango: 'Tango' } as const;
type Arm = keyof typeof names;

async function readArms(
  directory: string,
): Promise<Partial<Record<Arm, { curve: Curve; events: RunEvent[] }>>> {
  const arms: Partial<Record<Arm, { curve: Curve; events: RunEvent[] }>> = {};
  for (const arm of Object.keys(names) as Arm[]) {
    const folder = path.join(directory, arm);
    if (!existsSync(folder)) continue;
    const { events } = await readEvents(folder);
    arms[arm] = { curve: curveOf(events), events };
  }
  return arms;
}

const percent = (value: number | undefined) => (value === undefined ? '–' : `${(100 * value).toFixed(1)} %`);
const last = (values: readonly number[] | undefined) => values?.at(-1);

/** Lines of an arm's metrics over the steps of both policies. */
const linesOf = (curve: Curve, labels: Readonly<Record<string, string>>): ChartLine[] =>
  Object.entries(labels).flatMap(([metric, name]) => {
    const values = curve.metrics[metric];
    return values ? [{ name, steps: curve.allSteps, values, hasDots: true }] : [];
  });

/** Final figures of both arms, and how much sooner one reaches where the other ends. */
function comparison(arms: Awaited<ReturnType<typeof readArms>>): {
  rows: string[];
  summary: Record<string, string>;
} {
  const rows = ['| | GRPO | Tango |', '| --- | --- | --- |'];
  const summary: Record<string, string> = {};
  const { grpo, tango } = arms;
  const row = (what: string, value: (curve: Curve) => string) =>
    rows.push(`| ${what} | ${grpo ? value(grpo.curve) : '–'} | ${tango ? value(tango.curve) : '–'} |`);
  for (const [metric, name] of [
    ['accuracy', 'greedy accuracy'],
    ['sampled', 'accuracy at temperature 1'],
  ] as const)
    row(
      `${name}, start → end`,
      ({ metrics }) => `${percent(metrics[metric]?.[0])} → ${percent(last(metrics[metric]))}`,
    );
  row('steps of the generator', ({ generatorSteps }) => `${last(generatorSteps)}`);
  row('steps of both', ({ allSteps }) => `${last(allSteps)}`);
  row('seconds', ({ seconds }) => last(seconds)?.toFixed(0) ?? '–');
  if (tango) {
    summary.tango = percent(last(tango.curve.metrics.accuracy));
    for (const [metric, name] of [
      ['stepF1', "verifier's F1 on steps"],
      ['outcomeF1', "verifier's F1 on answers"],
    ] as const) {
      const values = tango.curve.metrics[metric];
      rows.push(`| ${name}, start → end | | ${values?.[0]?.toFixed(2)} → ${last(values)?.toFixed(2)} |`);
    }
  }
  if (grpo && tango) {
    summary.grpo = percent(last(grpo.curve.metrics.accuracy));
    const target = last(grpo.curve.metrics.accuracy)!;
    const ratio = (axis: (curve: Curve) => number[]) => {
      const reach = ({ curve }: { curve: Curve }) => firstReach(axis(curve), curve.metrics.accuracy!, target);
      const [own, other] = [reach(tango), reach(grpo)];
      return own === undefined || !other ? 'not reached' : `${(own / other).toFixed(2)}x`;
    };
    const reached = ratio((curve) => curve.generatorSteps);
    summary.stepsToGrpo = reached;
    rows.push(`| to GRPO's last accuracy (${percent(target)}): steps of the generator | 1x | ${reached} |`);
    rows.push(`| steps of both | 1x | ${ratio((curve) => curve.allSteps)} |`);
    rows.push(`| seconds | 1x | ${ratio((curve) => curve.seconds)} |`);
  }
  return { rows, summary };
}

/** Writes report.md with its figures into the run directory. */
export async function writeComparison(
  directory: string,
  config: TangoConfig,
): Promise<{ text: string; summary: Record<string, string> }> {
  const arms = await readArms(directory);
  const accuracy = (Object.keys(names) as Arm[]).flatMap((arm): ChartLine[] => {
    const curve = arms[arm]?.curve;
    return curve
      ? [{ name: names[arm], steps: curve.generatorSteps, values: curve.metrics.accuracy!, hasDots: true }]
      : [];
  });
  const figures: Record<string, string> = {
    'accuracy.svg': lineChart({
      title: 'Greedy accuracy on held-out problems',
      xLabel: 'steps of the generator',
      yLabel: 'accuracy',
      lines: accuracy,
    }),
  };
  const { tango } = arms;
  if (tango) {
    figures['verifier.svg'] = lineChart({
      title: 'Verifier on fresh solutions',
      xLabel: 'steps of both policies',
      yLabel: 'F1 and balanced accuracy',
      lines: linesOf(tango.curve, {
        stepF1: 'F1, steps',
        outcomeF1: 'F1, answers',
        stepBalancedAccuracy: 'balanced accuracy, steps',
        outcomeBalancedAccuracy: 'balanced accuracy, answers',
      }),
    });
  }
  for (const [name, svg] of Object.entries(figures))
    await writeFileAtomically(path.join(directory, name), svg);
  const { rows, summary } = comparison(arms);
  const images = Object.keys(figures).map((name) => `![${name.replace('.svg', '')}](${name})`);
  const settings = `Problems of ${config.task.words.join(' to ')} words; step rewards weigh ${config.alpha.start} at first and ${config.alpha.end} at last (${config.alpha.kind}).`;
  const markdown = ['# RL Tango beside GRPO', '', settings, '', ...rows, '', ...images, ''].join('\n');
  await writeFileAtomically(path.join(directory, 'report.md'), markdown);
  const curves = accuracy.map(
    ({ name, steps, values }) => `accuracy, ${name}\n${drawCurve(steps, values)}\n`,
  );
  return { text: [...rows, '', ...curves, ''].join('\n'), summary };
}
