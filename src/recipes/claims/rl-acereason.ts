/** Claims of AceReason-Nemotron (2505.16400): strictly on-policy updates, staged lengths, mathematics before code. */
import {
  type GrpoOptions,
  grpoPhase,
  type Phase,
  type Policy,
  parseSolution,
  perSample,
  type Range,
  type StepTask,
  shortPrompts,
} from '../../rl/index.js';
import { first, last, type RlArm, type RlExperiment } from './rl-cells.js';
import { solving } from './rl-evaluate.js';
import { follow } from './rl-follow.js';
import { codeTask, longest, mathTask, type World } from './rl-world.js';

/** GRPO on a generated task, rewarded for the answer alone; step n has the same problems in every arm. */
function grpoOn<P>(
  world: World,
  policy: Policy,
  task: StepTask<P>,
  options: { seed: number; maxTokens: number } & Pick<GrpoOptions<P>, 'updatesPerRollout'>,
): Phase {
  const { tokenizer } = world;
  const { seed, ...rest } = options;
  const { prompts, samples } = world.config;
  // Phases are told the step within their own kind, so that arms of one seed draw the same problems.
  return (context) =>
    grpoPhase<P>({
      ...{ policy, samples, zeroVariance: 'drop', ...rest },
      sampling: { stopTokens: [tokenizer.endOfText!] },
      prompts: () =>
        Array.from({ length: prompts }, (_, i) => {
          const example = task.problem(100 + seed, context.phaseStep * (1 << 16) + i);
          return { prompt: tokenizer.encode(shortPrompts.generator(task.question(example))), example };
        }),
      reward: perSample(({ text, example }) => {
        const { answer } = parseSolution(text);
        return answer !== undefined && task.isCorrect(example, answer) ? 1 : 0;
      }),
    })(context).then(({ metrics, ...report }) => {
      // Tokens of the step, for budgets.
      const tokens = (metrics.length ?? 0) * prompts * samples;
      return { ...report, metrics: { ...metrics, tokens } };
    });
}

const words: Range = [2, 3];

/** (a) several updates from one rollout. */
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
          ...{ seed, signal, counted: 'learn', steps: world.scaled(60), every: world.scaled(6) },
          watch: ['entropy'],
          evaluate: () => solving(world, policy, task),
        });
      } finally {
        await policy.dispose();
      }
    },
  };
}

const updateArms = [1, 2, 4].map(updatesArm);
const [one, two, four] = updateArms.map(({ name }) => name) as [string, string, string];

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

/** (b) longer and longer responses against the full length from the beginning, at as many generated tokens. */
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

/** (c) one model, one domain after the other. */
function domainsArm(name: string, stages: readonly ('math' | 'code')[]): RlArm {
  return {
    name,
    async run({ world, seed, directory, signal }) {
      const start = await world.start('math-code', seed, directory, signal);
      if (!start) return undefined;
      const policy = world.policy(start);
      const { math, code } = world.domainTokens;
      const each = world.scaled(60);
      const phases = {
        math: grpoOn(world, policy, mathTask, { seed, maxTokens: math }),
        code: grpoOn(world, policy, codeTask, { seed, maxTokens: code }),
      };
      const steps = stages.length * each;
      let done = 0;
      const learn: Phase = (context) => {
        const stage = stages[Math.min(stages.length - 1, Math.floor(done++ / each))]!;
        return phases[stage]({ ...context, phaseStep: context.phaseStep % each });
      };
      try {
        return await follow({
          phases: { learn },
          schedule: () => 'learn',
          ...{ seed, signal, counted: 'learn', steps, every: world.scaled(10) },
          evaluate: async () => ({
            ...(await solving(world, policy, mathTask, math, 'math')),
            ...(await solving(world, policy, codeTask, code, 'code')),
          }),
        });
      } finally {
        await policy.dispose();
      }
    },
  };
}

export const domainsExperiment: RlExperiment = {
  name: 'domains',
  title: 'Mathematics, then code, in one model',
  claim: 'RL on mathematics helps code; RL on code after it costs mathematics 2 points or less.',
  arms: [
    domainsArm('mathematics', ['math']),
    domainsArm('code', ['code']),
    domainsArm('mathematics, then code', ['math', 'code']),
  ],
  measures: (['math', 'code'] as const).flatMap((metric) => [
    first(`${metric} at the start`, metric),
    last(`${metric} at the end`, metric),
    {
      ...last(`${metric}, change`, metric),
      value: (points) => {
        const [start, end] = [points[0]?.[metric], points.at(-1)?.[metric]];
        return start === undefined || end === undefined ? undefined : end - start;
      },
    },
  ]),
  contrasts: [
    ['mathematics, then code', 'mathematics'],
    ['mathematics, then code', 'code'],
  ],
  charts: (['math', 'code'] as const).map((metric) => ({
    title: `Accuracy, ${metric}`,
    x: 'steps.learn',
    xLabel: 'updates',
    y: [{ metric, label: '' }],
  })),
};
