/** RISE (Liu et al. 2025, 2505.13445) beside RL of solutions alone. */
import { evaluateRise, type Range, risePhase } from '../../rl/index.js';
import { first, last, type Measure, type RlArm, type RlExperiment } from './rl-cells.js';
import { heldOut } from './rl-evaluate.js';
import { follow } from './rl-follow.js';

const words: Range = [2, 3];
const [steps, every] = [60, 10];

/** Half as many solutions are rated as there are problems; the baseline solves more problems with as many trajectories. */
function riseArm({ name, matched }: { name: string; matched: boolean }): RlArm {
  return {
    name,
    async run({ world, seed, directory, signal }) {
      const start = await world.start('letters', seed, directory, signal);
      if (!start) return undefined;
      const { prompts, samples, problems: count } = world.config;
      const { solution, verification } = world.lengths;
      const task = world.letters(words);
      const policy = world.policy(start);
      const player = { policy, prompts, samples, maxTokens: solution, flat: 'drop' as const };
      const problems = Array.from({ length: count }, (_, i) => task.problem(heldOut, i));
      const phase = risePhase({
        ...{ player, task, matched, seed: 100 + seed },
        ...{ ratio: 0.5, ratingTokens: verification, selection: 'spread' },
      });
      try {
        return await follow({
          phases: { learn: phase },
          schedule: () => 'learn',
          ...{ seed, signal, counted: 'learn' },
          steps: world.scaled(steps),
          every: world.scaled(every),
          watch: ['trajectories'],
          evaluate: () =>
            evaluateRise({ player, task, problems, k: 4, ratingTokens: verification, seed: heldOut }),
        });
      } finally {
        await policy.dispose();
      }
    },
  };
}

const zero = riseArm({ name: 'Zero-RL', matched: true });
const rise = riseArm({ name: 'RISE', matched: false });

const metrics = [
  ['verification accuracy', 'verifyAccuracy'],
  ['verification, balanced accuracy', 'verifyBalancedAccuracy'],
  ['reasoning accuracy', 'accuracy'],
] as const;

export const riseExperiment: RlExperiment = {
  name: 'rise',
  title: 'RISE beside Zero-RL at equal trajectories',
  claim: 'Verification of its own solutions is better by 20 points or more, reasoning not worse than by 1.',
  arms: [zero, rise],
  measures: [
    ...metrics.flatMap(([name, metric]): Measure[] => [
      first(`${name}, start`, metric),
      last(`${name}, end`, metric),
    ]),
    last('maj@4', 'majority'),
    last('vote weighted by ratings', 'weighted'),
    { ...last('tokens', 'tokens'), as: 'number', by: 'ratio' },
    { ...last('trajectories a step', 'trajectories'), as: 'number', by: 'ratio' },
  ],
  contrasts: [['RISE', 'Zero-RL']],
  charts: metrics.map(([label, metric]) => ({
    title: label,
    x: 'steps.learn',
    xLabel: 'updates',
    y: [{ metric, label: '' }],
  })),
};
