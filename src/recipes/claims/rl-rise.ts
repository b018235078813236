/** RISE (Liu et al. 2025, 2505.13445) beside RL of solutions alone. */
import { evaluateRatings, evaluateRise, type Range, risePhase } from '../../rl/index.js';
import { first, last, type Measure, type RlArm, type RlExperiment } from './rl-cells.js';
import { balancedSolutions, heldOut, solving } from './rl-evaluate.js';
import { follow } from './rl-follow.js';

const words: Range = [2, 3];
const [steps, every] = [200, 20];
/** Solutions that are rated, as a share of the problems: between the paper's 0.125 and what few problems need. */
const share = 0.25;
/** Held-out problems, as a multiple of what other experiments have: differences of one point are to be seen. */
const thorough = 4;

interface Arm {
  name: string;
  /** Of `risePhase`. */
  options: Pick<Parameters<typeof risePhase>[0], 'ratio' | 'matched' | 'selection'>;
}

function riseArm({ name, options }: Arm): RlArm {
  return {
    name,
    async run({ world, seed, directory, signal }) {
      const start = await world.start('letters', seed, directory, signal);
      if (!start) return undefined;
      const { prompts, samples, problems: count, lr } = world.config;
      const { solution, verification } = world.lengths;
      const task = world.letters(words);
      // At the full rate both tasks swing from one evaluation to the next.
      const policy = world.policy(start, { lr: lr / 2 });
      const player = { policy, prompts, samples, maxTokens: solution, flat: 'drop' as const };
      const problems = Array.from({ length: thorough * count }, (_, i) => task.problem(heldOut, i));
      const solutions = balancedSolutions(task, 2 * thorough * count);
      const rating = { player, task, ratingTokens: verification, seed: heldOut };
      const phase = risePhase({ player, task, seed: 100 + seed, ratingTokens: verification, ...options });
      const evaluate = async () => {
        const { verifyAccuracy, verifyF1 } = await evaluateRatings({ ...rating, solutions });
        return {
          ...(await evaluateRise({ ...rating, problems, k: 4 })),
          'accuracy.greedy': (await solving(world, policy, task))['accuracy.greedy']!,
          'verifyAccuracy.fixed': verifyAccuracy!,
          'verifyF1.fixed': verifyF1!,
        };
      };
      try {
        return await follow({
          phases: { learn: phase },
          schedule: () => 'learn',
          ...{ seed, signal, counted: 'learn', evaluate },
          steps: world.scaled(steps),
          every: world.scaled(every),
          watch: ['trajectories'],
        });
      } finally {
        await policy.dispose();
      }
    },
  };
}

const arms = [
  riseArm({ name: 'Zero-RL', options: { ratio: 0 } }),
  riseArm({ name: 'Zero-RL, as many trajectories', options: { ratio: share, matched: true } }),
  riseArm({ name: 'RISE', options: { ratio: share, selection: 'spread' } }),
  riseArm({ name: 'RISE, balanced', options: { ratio: share, selection: 'balanced' } }),
];
const [zero, matched, rise, balanced] = arms.map(({ name }) => name) as [string, string, string, string];

const metrics = [
  ['verification accuracy, own solutions', 'verifyAccuracy'],
  ['the same, balanced accuracy', 'verifyBalancedAccuracy'],
  ['verification accuracy, a fixed set of which half is right', 'verifyAccuracy.fixed'],
  ['reasoning accuracy', 'accuracy'],
] as const;

/** The best of the evaluations: verification can rise and be unlearnt again. */
const highest = (name: string, metric: string): Measure => ({
  ...last(name, metric),
  value: (points) => Math.max(...points.map((point) => point[metric] ?? 0)),
});

export const riseExperiment: RlExperiment = {
  name: 'rise',
  title: 'RISE beside Zero-RL',
  claim:
    'Verification of its own solutions is better by 20 points or more, reasoning not worse than by 1. Zero-RL has as many problems an update, as in the paper, or as many trajectories.',
  arms,
  measures: [
    ...metrics.flatMap(([name, metric]): Measure[] => [
      first(`${name}, start`, metric),
      last(`${name}, end`, metric),
    ]),
    highest('verification accuracy, the fixed set, best', 'verifyAccuracy.fixed'),
    last('greedy reasoning accuracy, end', 'accuracy.greedy'),
    last('maj@4', 'majority'),
    last('vote weighted by ratings', 'weighted'),
    { ...last('tokens', 'tokens'), as: 'number', by: 'ratio' },
    { ...last('trajectories a step', 'trajectories'), as: 'number', by: 'ratio' },
  ],
  contrasts: [
    [rise, zero],
    [rise, matched],
    [balanced, zero],
    [balanced, matched],
  ],
  charts: metrics.map(([label, metric]) => ({
    title: label,
    x: 'steps.learn',
    xLabel: 'updates',
    y: [{ metric, label: '' }],
  })),
};
