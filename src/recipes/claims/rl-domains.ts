/** A claim of AceReason-Nemotron (2505.16400): mathematics first, then code, in one model. */
import type { Phase } from '../../rl/index.js';
import { first, last, type Measure, type RlArm, type RlExperiment } from './rl-cells.js';
import { solving } from './rl-evaluate.js';
import { follow, type Point } from './rl-follow.js';
import { grpoOn } from './rl-grpo.js';
import { type Domain, domains } from './rl-world.js';

/** A rate at which what was learnt first is not forgotten: a tenth of the recipe's. */
const gentle = 0.1;

/** One domain after the other. */
function domainsArm(name: string, stages: readonly Domain[]): RlArm {
  return {
    name,
    async run({ world, seed, directory, signal }) {
      const start = await world.start('domains', seed, directory, signal);
      if (!start) return undefined;
      const policy = world.policy(start, { lr: gentle * world.config.lr });
      const each = world.scaled(100);
      const steps = stages.length * each;
      let done = 0;
      const learn: Phase = (context) => {
        const stage = stages[Math.min(stages.length - 1, Math.floor(done++ / each))]!;
        const { task, maxTokens } = domains[stage];
        const phase = grpoOn(world, policy, task, { seed, maxTokens });
        return phase({ ...context, phaseStep: context.phaseStep % each });
      };
      const evaluate = async () => {
        const metrics: Record<string, number> = {};
        for (const [domain, { task, maxTokens }] of Object.entries(domains)) {
          const options = { maxTokens, name: domain, problems: 4 * world.config.problems };
          Object.assign(metrics, await solving(world, policy, task, options));
        }
        return metrics;
      };
      try {
        return await follow({
          phases: { learn },
          schedule: () => 'learn',
          ...{ seed, signal, counted: 'learn', steps, every: world.scaled(25), evaluate },
          watch: ['entropy'],
        });
      } finally {
        await policy.dispose();
      }
    },
  };
}

const arms = [
  domainsArm('mathematics, then outputs', ['math', 'output']),
  domainsArm('mathematics, then synthesis', ['math', 'synthesis']),
];
const names = {
  math: 'mathematics',
  output: 'outputs of programs',
  synthesis: 'synthesis of programs',
} as const satisfies Record<Domain, string>;

/** A metric at the start, where the domain changes, and at the end; both stages have as many updates. */
const along = (points: readonly Point[], metric: string): (number | undefined)[] => {
  const end = points.at(-1)?.['steps.learn'] ?? 0;
  const border = points.find((point) => point['steps.learn']! >= end / 2);
  return [points[0], border, points.at(-1)].map((point) => point?.[metric]);
};

/** From one of these moments to another. */
const change = (name: string, metric: string, from: number, to: number): Measure => ({
  ...last(name, metric),
  value: (points) => {
    const values = along(points, metric);
    const [before, after] = [values[from], values[to]];
    return before === undefined || after === undefined ? undefined : after - before;
  },
});

export const domainsExperiment: RlExperiment = {
  name: 'domains',
  title: 'Mathematics, then code, in one model',
  claim:
    'RL on mathematics helps code; RL on code after it costs mathematics 2 points or less. Outputs of programs share their arithmetic with mathematics, synthesis does not.',
  arms,
  measures: (['math', 'output', 'synthesis'] as const).flatMap((metric) => [
    first(`${names[metric]}, start`, metric),
    { ...last(`${names[metric]}, after mathematics`, metric), value: (points) => along(points, metric)[1] },
    last(`${names[metric]}, end`, metric),
    change(`${names[metric]}, change by mathematics`, metric, 0, 1),
    change(`${names[metric]}, change by code`, metric, 1, 2),
  ]),
  contrasts: [],
  charts: (['math', 'output', 'synthesis'] as const).map((metric) => ({
    title: `Accuracy, ${names[metric]}`,
    x: 'steps.learn',
    xLabel: 'updates',
    y: [{ metric, label: '' }],
  })),
};
