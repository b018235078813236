/** A claim of AceReason-Nemotron (2505.16400): mathematics first, then code, in one model. */
import type { Phase } from '../../rl/index.js';
import { first, last, type RlArm, type RlExperiment } from './rl-cells.js';
import { solving } from './rl-evaluate.js';
import { follow } from './rl-follow.js';
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

const domainArms = [
  domainsArm('mathematics', ['math']),
  domainsArm('outputs', ['output']),
  domainsArm('mathematics, then outputs', ['math', 'output']),
  domainsArm('mathematics, then synthesis', ['math', 'synthesis']),
];
const [math, outputs, thenOutputs, thenSynthesis] = domainArms.map(({ name }) => name) as [
  ...[string, string, string, string],
];
const domainNames = {
  math: 'mathematics',
  output: 'outputs of programs',
  synthesis: 'synthesis of programs',
} as const satisfies Record<Domain, string>;

export const domainsExperiment: RlExperiment = {
  name: 'domains',
  title: 'Mathematics, then code, in one model',
  claim: 'RL on mathematics helps code; RL on code after it costs mathematics 2 points or less.',
  arms: domainArms,
  measures: (['math', 'output', 'synthesis'] as const).flatMap((metric) => [
    first(`${domainNames[metric]}, start`, metric),
    last(`${domainNames[metric]}, end`, metric),
    last(`${domainNames[metric]}, end, greedy`, `${metric}.greedy`),
    {
      ...last(`${domainNames[metric]}, change`, metric),
      value: (points) => {
        const [start, end] = [points[0]?.[metric], points.at(-1)?.[metric]];
        return start === undefined || end === undefined ? undefined : end - start;
      },
    },
  ]),
  contrasts: [
    [thenOutputs, math],
    [thenSynthesis, math],
    [thenOutputs, outputs],
  ],
  charts: (['math', 'output', 'synthesis'] as const).map((metric) => ({
    title: `Accuracy, ${domainNames[metric]}`,
    x: 'steps.learn',
    xLabel: 'updates',
    y: [{ metric, label: '' }],
  })),
};
