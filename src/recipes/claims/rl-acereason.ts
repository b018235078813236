/** Claims of AceReason-Nemotron (2505.16400): strictly on-policy updates, staged lengths. */
import type { Phase, Range } from '../../rl/index.js';
import { last, type Measure, type RlArm, type RlExperiment } from './rl-cells.js';
import { solving } from './rl-evaluate.js';
import { follow, type Point } from './rl-follow.js';
import { grpoOn } from './rl-grpo.js';
import { lengthOf, mostRepeats } from './rl-task.js';

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

/** Problems whose longest rambling solution fits into the context. */
const rambling: Range = [1, 3];
const full = lengthOf(rambling[1], mostRepeats);

/** (b) Longer and longer responses against the full length from the beginning, at as many generated tokens. */
function stagedArm(name: string, lengths: readonly number[]): RlArm {
  return {
    name,
    async run({ world, seed, directory, signal }) {
      const start = await world.start('rambling', seed, directory, signal);
      if (!start) return undefined;
      const policy = world.policy(start, { lr: world.config.lr / 2 });
      const task = world.letters(rambling);
      const { prompts, samples, problems } = world.config;
      const budget = world.scaled(60) * prompts * samples * lengthOf(2, 2);
      const phases = lengths.map((maxTokens) => grpoOn(world, policy, task, { seed, maxTokens }));
      let spent = 0;
      const stage = () => Math.min(lengths.length - 1, Math.floor((spent / budget) * lengths.length));
      // One kind of step, so that all stages go on in the same sequence of problems.
      const step: Phase = async (context) => {
        const report = await phases[stage()]!(context);
        spent += report.metrics.tokens ?? 0;
        return report;
      };
      try {
        return await follow({
          phases: { learn: step },
          schedule: () => 'learn',
          ...{ seed, signal, counted: 'learn', steps: 10_000, every: world.scaled(8) },
          isOver: ({ tokens }) => tokens >= budget,
          watch: ['length', 'truncated'],
          evaluate: () => solving(world, policy, task, { maxTokens: full, problems: 2 * problems }),
        });
      } finally {
        await policy.dispose();
      }
    },
  };
}

/** Tokens to an accuracy that both arms get to. */
const tokensTo = (accuracy: number): Measure => ({
  name: `generated tokens to an accuracy of ${100 * accuracy} %`,
  value: (points) => reaches(points, accuracy)?.tokens,
  as: 'number',
  by: 'ratio',
});

export const stagedExperiment: RlExperiment = {
  name: 'staged',
  title: 'Staged length of responses',
  claim:
    'From a start that says each step up to three times, room for a third, two thirds and all of the longest response is better than all of it from the beginning, at equal generated tokens. Evaluations always have all of it.',
  arms: [
    stagedArm('direct', [full]),
    stagedArm('staged', [Math.round(full / 3), Math.round((2 * full) / 3), full]),
  ],
  measures: [
    last('accuracy at the end', 'accuracy'),
    last('greedy accuracy at the end', 'accuracy.greedy'),
    {
      ...last('accuracy after half of the tokens', 'accuracy'),
      value: (points) => {
        const half = (points.at(-1)?.tokens ?? 0) / 2;
        return points.findLast(({ tokens = 0 }) => tokens <= half)?.accuracy;
      },
    },
    tokensTo(0.5),
    tokensTo(0.8),
    { ...last('tokens of a response at the end', 'length'), as: 'number', by: 'ratio' },
    { ...last('updates', 'steps.learn'), as: 'number', by: 'ratio' },
    { ...last('generated tokens', 'tokens'), as: 'number', by: 'ratio' },
  ],
  contrasts: [['staged', 'direct']],
  charts: [
    ['accuracy', 'Accuracy'],
    ['length', 'Tokens of a response'],
  ].map(([metric, title]) => ({
    title: `${title} by generated tokens`,
    x: 'tokens',
    xLabel: 'generated tokens',
    y: [{ metric: metric!, label: '' }],
  })),
};
