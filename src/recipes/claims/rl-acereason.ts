/** Claims of AceReason-Nemotron (2505.16400): strictly on-policy updates, staged lengths. */
import type { Phase, Range } from '../../rl/index.js';
import { last, type Measure, type RlArm, type RlExperiment } from './rl-cells.js';
import { solving } from './rl-evaluate.js';
import { follow, type Point } from './rl-follow.js';
import { grpoOn } from './rl-grpo.js';
import { longest } from './rl-world.js';

const words: Range = [2, 3];

/** (a) Several updates from one rollout. */
function updatesArm(count: number): RlArm {
  return {
    name: `${count} update${count > 1 ? 's' : ''} a rollout`,
    async run({ world, seed, directory, signal }) {
      const start = await world.start('letters', seed, directory, signal);
      if (!start) return undefined;
      const policy = world.policy(start);
      const task = world.letters(words);
      const maxTokens = world.lengths.solution;
      try {
        return await follow({
          phases: { learn: grpoOn(world, policy, task, { seed, maxTokens, updatesPerRollout: count }) },
          schedule: () => 'learn',
          ...{ seed, signal, counted: 'learn', steps: world.scaled(100), every: world.scaled(5) },
          watch: ['entropy'],
          evaluate: () => solving(world, policy, task, { problems: 2 * world.config.problems }),
        });
      } finally {
        await policy.dispose();
      }
    },
  };
}

const updateArms = [1, 2, 4].map(updatesArm);
const [one, two, four] = updateArms.map(({ name }) => name) as [string, string, string];

/** The first point at which so many answers are right. */
const reaches = (points: readonly Point[], accuracy: number): Point | undefined =>
  points.find((point) => (point.accuracy ?? 0) >= accuracy);

/**
 * Who learns faster has less entropy at the same step: this compares it where arms can do as much. It is the mean since
 * the point before.
 */
const entropyAt = (accuracy: number): Measure => ({
  name: `entropy where accuracy reaches ${100 * accuracy} %`,
  value: (points) => reaches(points, accuracy)?.entropy,
  as: 'number',
  by: 'ratio',
});

const rolloutsTo = (accuracy: number): Measure => ({
  name: `rollouts to an accuracy of ${100 * accuracy} %`,
  value: (points) => reaches(points, accuracy)?.['steps.learn'],
  as: 'number',
  by: 'ratio',
});

export const updatesExperiment: RlExperiment = {
  name: 'updates',
  title: 'Updates from one rollout',
  claim: 'One update a rollout keeps the entropy of tokens; four make it collapse.',
  arms: updateArms,
  measures: [
    last('accuracy at the end', 'accuracy'),
    last('greedy accuracy at the end', 'accuracy.greedy'),
    {
      name: 'entropy at the beginning, nats a token',
      value: (points) => points.find(({ entropy }) => entropy !== undefined)?.entropy,
      as: 'number',
      by: 'ratio',
    },
    { ...last('entropy at the end, nats a token', 'entropy'), as: 'number', by: 'ratio' },
    ...[0.5, 0.8, 0.95].map(entropyAt),
    rolloutsTo(0.95),
    {
      ...last('lowest greedy accuracy after it was 90 %', 'accuracy.greedy'),
      value: (points) => {
        const values = points.map((point) => point['accuracy.greedy'] ?? 0);
        const reached = values.findIndex((value) => value >= 0.9);
        return reached < 0 ? undefined : Math.min(...values.slice(reached));
      },
    },
  ],
  contrasts: [
    [two, one],
    [four, one],
  ],
  charts: ['entropy', 'accuracy'].map((metric) => ({
    title: metric,
    x: 'steps.learn',
    xLabel: 'rollouts',
    y: [{ metric, label: '' }],
  })),
};

/** Tokens of a solution of so many words. */
const lengthOf = (count: number) => 7 * count + 6;

/** (b) Longer and longer responses against the full length from the beginning, at as many generated tokens. */
function stagedArm(name: string, lengths: readonly number[]): RlArm {
  return {
    name,
    async run({ world, seed, directory, signal }) {
      const start = await world.start('letters', seed, directory, signal);
      if (!start) return undefined;
      const policy = world.policy(start);
      const task = world.letters([2, longest]);
      const { prompts, samples } = world.config;
      const full = lengthOf(longest);
      const budget = world.scaled(60) * prompts * samples * lengthOf(3);
      const phases = Object.fromEntries(
        lengths.map((words, i) => {
          const maxTokens = Math.min(full, lengthOf(words));
          return [`stage ${i + 1}`, grpoOn(world, policy, task, { seed, maxTokens })];
        }),
      );
      let spent = 0;
      const stage = () => Math.min(lengths.length - 1, Math.floor((spent / budget) * lengths.length));
      const order = Object.keys(phases);
      // One kind of step, so that all stages go on in the same sequence of problems.
      const step: Phase = async (context) => {
        const report = await phases[order[stage()]!]!(context);
        spent += report.metrics.tokens ?? 0;
        return report;
      };
      try {
        return await follow({
          phases: { learn: step },
          schedule: () => 'learn',
          ...{ seed, signal, counted: 'learn', steps: 10_000, every: world.scaled(8) },
          isOver: ({ tokens }) => tokens >= budget,
          evaluate: () => solving(world, policy, task),
        });
      } finally {
        await policy.dispose();
      }
    },
  };
}

export const stagedExperiment: RlExperiment = {
  name: 'staged',
  title: 'Staged length of responses',
  claim:
    'Room for 2, then 3, then 4 words is better than for 4 from the beginning, at equal generated tokens.',
  arms: [stagedArm('direct', [longest]), stagedArm('staged', [2, 3, longest])],
  measures: [
    last('accuracy at the end', 'accuracy'),
    last('greedy accuracy at the end', 'accuracy.greedy'),
    { ...last('updates', 'steps.learn'), as: 'number', by: 'ratio' },
    { ...last('generated tokens', 'tokens'), as: 'number', by: 'ratio' },
  ],
  contrasts: [['staged', 'direct']],
  charts: [
    {
      title: 'Accuracy by generated tokens',
      x: 'tokens',
      xLabel: 'generated tokens',
      y: [{ metric: 'accuracy', label: '' }],
    },
  ],
};
