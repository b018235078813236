import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { drawCurve, lineChart, type RunEvent } from '../train/index.js';
import type { DomainName, Domains } from './acereason-domains.js';
import type { AceReasonConfig } from './acereason-settings.js';
import { eventsOf, lineOf, percent, type RunCurve, runCurve } from './rl-curves.js';

type TrainEvent = Extract<RunEvent, { kind: 'train' }>;

const labels = { math: 'mathematics', code: 'code' } as const satisfies Record<DomainName, string>;

const mean = (values: readonly number[]): number =>
  values.length === 0 ? Number.NaN : values.reduce((sum, value) => sum + value, 0) / values.length;

/** A metric over the first and the last steps of a stage, a quarter of them each. */
function ends(steps: readonly TrainEvent[], metric: string): [number, number] {
  const values = steps.flatMap(({ metrics }) => metrics?.[metric] ?? []);
  const n = Math.max(1, Math.floor(values.length / 4));
  return [mean(values.slice(0, n)), mean(values.slice(-n))];
}

/** A metric of the last evaluation of at most `step` updates. */
function at({ steps, metrics }: RunCurve, metric: string, step: number): number | undefined {
  const index = steps.findLastIndex((one) => one <= step);
  return index < 0 ? undefined : metrics[metric]?.[index];
}

/** One row a stage: what it had, what its rewards and entropy did, and what both domains could do after it. */
function stageRows(
  config: AceReasonConfig,
  names: readonly DomainName[],
  events: readonly RunEvent[],
  curve: RunCurve,
): string[] {
  const train = events.filter((event): event is TrainEvent => event.kind === 'train');
  const heads = names.map((name) => `${labels[name]} after`);
  const columns = ['stage', 'updates', 'prompts', 'tokens', 'group', 'reward', 'entropy', ...heads];
  const start = names.map((name) => percent(at(curve, `${name}.accuracy`, 0)));
  const rows = [
    `| ${columns.join(' | ')} |`,
    `| ${columns.map(() => '---').join(' | ')} |`,
    `| start | | | | | | | ${start.join(' | ')} |`,
  ];
  for (const [index, stage] of config.stages.entries()) {
    const steps = train.filter(({ metrics }) => metrics?.stage === index);
    const [first, last] = [steps[0], steps.at(-1)];
    if (!first || !last) continue;
    const [low, high] = ends(steps, 'reward');
    const [before, after] = ends(steps, 'entropy');
    const group = [first.metrics!.groupSize!, last.metrics!.groupSize!];
    rows.push(
      `| ${[
        stage.name,
        steps.length,
        first.metrics!.pool!,
        stage.maxTokens,
        group[0] === group[1] ? group[0] : group.join(' → '),
        `${low.toFixed(2)} → ${high.toFixed(2)}`,
        `${before.toFixed(2)} → ${after.toFixed(2)}`,
        ...names.map((name) => percent(at(curve, `${name}.accuracy`, last.step))),
      ].join(' | ')} |`,
    );
  }
  return rows;
}

/** Entropy of each update, for its curve; a domain a line. */
function entropyLines(config: AceReasonConfig, names: readonly DomainName[], events: readonly RunEvent[]) {
  return names.map((name) => {
    const own = events.filter(
      (event): event is TrainEvent =>
        event.kind === 'train' &&
        event.metrics?.entropy !== undefined &&
        config.stages[event.metrics.stage!]!.domain === name,
    );
    return {
      name: labels[name],
      steps: own.map(({ step }) => step),
      values: own.map(({ metrics }) => metrics!.entropy!),
    };
  });
}

/** Writes report.md with its figures into the run directory. */
export async function writeStageReport(
  directory: string,
  config: AceReasonConfig,
  domains: Domains,
): Promise<{ text: string; summary: Record<string, string> }> {
  const events = await eventsOf(path.join(directory, 'curriculum'));
  const curve = runCurve(events);
  const names = Object.keys(domains) as DomainName[];
  const rows = stageRows(config, names, events, curve);
  const charts = {
    accuracy: names.flatMap((name) => lineOf(curve, `${name}.accuracy`, labels[name])),
    entropy: entropyLines(config, names, events),
  };
  const titles = {
    accuracy: 'Accuracy on held-out problems',
    entropy: 'Entropy of the policy, nats a token',
  };
  const images: string[] = [];
  for (const [file, lines] of Object.entries(charts)) {
    const title = titles[file as keyof typeof titles];
    const svg = lineChart({ title, xLabel: 'updates', yLabel: file, lines });
    await writeFileAtomically(path.join(directory, `${file}.svg`), svg);
    images.push(`![${title}](${file}.svg)`);
  }
  const { problems, samples, temperature } = config.evaluate;
  const summary: Record<string, string> = {};
  const notes = [
    `Held out: ${problems} problems a domain, ${samples} answers each at temperature ${temperature}, of up to as many tokens as the longest stage allows. Accuracy after a stage is that of the last evaluation in it; reward and entropy are means over its first and its last quarter.`,
  ];
  for (const name of names) {
    const values = (metric: string) => curve.metrics[`${name}.${metric}`];
    const [from, to] = [values('accuracy')?.[0], values('accuracy')?.at(-1)];
    const [passFrom, passTo] = [values(`pass@${samples}`)?.[0], values(`pass@${samples}`)?.at(-1)];
    summary[name] = `${percent(from)} → ${percent(to)}`;
    notes.push(
      `${labels[name]}: ${percent(from)} → ${percent(to)}, pass@${samples} ${percent(passFrom)} → ${percent(passTo)}. ${domains[name]!.removed} training problems were left out because an evaluated one shares ${config.ngrams[name]} words in a row with them, or is the same.`,
    );
  }
  const markdown = [
    '# Staged reinforcement learning',
    '',
    ...rows,
    '',
    ...notes.flatMap((one) => [one, '']),
    ...images,
  ];
  await writeFileAtomically(path.join(directory, 'report.md'), `${markdown.join('\n')}\n`);
  const drawn = charts.accuracy.map(
    ({ name, steps, values }) => `accuracy, ${name}\n${drawCurve(steps, values)}\n`,
  );
  return { text: [...rows, '', ...notes, '', ...drawn, ''].join('\n'), summary };
}
