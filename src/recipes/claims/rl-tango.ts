/** Arms of RL Tango (Zha et al. 2025, 2505.15034) as data, and what is claimed about them. */
import {
  type ClassWeightOptions,
  type CoefficientOptions,
  type LastLetterProblem,
  type Policy,
  type Range,
  type ScriptedVerifier,
  tangoPhases,
} from '../../rl/index.js';
import { accuracyChart, first, last, type Measure, type RlArm, type RlExperiment } from './rl-cells.js';
import { balancedSolutions, freshSolutions, type JudgedSolution, solving, verifying } from './rl-evaluate.js';
import { follow, type Point } from './rl-follow.js';
import { longest, type Start, type World } from './rl-world.js';

/** What one arm has that others have not. */
interface TangoArm {
  name: string;
  /** Words of the generator's problems. */
  words: Range;
  /** Words of the problems that the verifier learns from: short ones have right solutions from the beginning. */
  verifierWords?: Range;
  /** Steps of the counted phase, and from one evaluation to the next. */
  steps: number;
  every: number;
  /** Problems of a generator's step. Default: as configured. */
  prompts?: number;
  /** Problems of a verifier's step, as a multiple of what is configured. Default 1. */
  verifierPrompts?: number;
  warmUp?: number;
  alpha?: Omit<CoefficientOptions, 'updates'>;
  fixed?: 'generator' | 'verifier';
  scripted?: ScriptedVerifier<LastLetterProblem>;
  balance?: ClassWeightOptions['kind'];
  oversample?: number;
  /** What the verifier is measured on. Default: a fixed set with as many right as wrong solutions. */
  measuredOn?: 'balanced' | 'fresh' | 'nothing';
  /** How many solutions that are, as a multiple of the held-out problems. Default 2. */
  measured?: number;
  /** What both policies begin with. Default `letters`. */
  start?: Start;
}

function phasesOf(world: World, arm: TangoArm, seed: number, generator: Policy, verifier: Policy) {
  const { warmUp = 16, alpha = { kind: 'exponential', start: 0.5, end: 1e-3 }, oversample = 2 } = arm;
  const { prompts, samples } = world.config;
  const { solution, verification } = world.lengths;
  const updates = world.scaled(arm.steps);
  return tangoPhases<LastLetterProblem>({
    generator: {
      ...{ policy: generator, prompts: Math.min(prompts, arm.prompts ?? prompts), samples },
      ...{ maxTokens: solution, flat: 'drop' },
    },
    verifier: {
      ...{ policy: verifier, samples, oversample, maxTokens: verification, flat: 'drop' },
      prompts: (arm.verifierPrompts ?? 1) * prompts,
      task: world.letters(arm.verifierWords ?? arm.words),
    },
    ...{ task: world.letters(arm.words), seed: 100 + seed, warmUp: world.scaled(warmUp), cycle: [3, 1] },
    alpha: { ...alpha, updates },
    classWeights: { kind: arm.balance ?? 'sqrt-inverse' },
    ...(arm.fixed && { fixed: arm.fixed }),
    ...(arm.scripted && { scripted: arm.scripted }),
  });
}

/** An arm as something that runs. */
export function tangoArm(arm: TangoArm): RlArm {
  const { name, words, measuredOn = 'balanced' } = arm;
  return {
    name,
    async run({ world, seed, directory, signal }) {
      const start = await world.start(arm.start ?? 'letters', seed, directory, signal);
      if (!start) return undefined;
      const [generator, verifier] = [world.policy(start), world.policy(start)];
      const { phases, schedule } = phasesOf(world, arm, seed, generator, verifier);
      const task = world.letters(words);
      const judgedTask = world.letters(arm.verifierWords ?? words);
      const count = (arm.measured ?? 2) * world.config.problems;
      let judged: JudgedSolution[] = [];
      if (measuredOn === 'balanced') judged = balancedSolutions(judgedTask, count);
      if (measuredOn === 'fresh') judged = await freshSolutions(world, generator, judgedTask, count);
      try {
        return await follow({
          phases: phases as never,
          ...{ schedule, seed, signal },
          counted: arm.fixed === 'generator' ? 'verifier' : 'generator',
          steps: world.scaled(arm.steps),
          every: world.scaled(arm.every),
          watch: ['hackGap', 'stepAccuracy'],
          evaluate: async () => ({
            ...(arm.fixed === 'generator' ? {} : await solving(world, generator, task)),
            ...(judged.length > 0 ? await verifying(world, verifier, judgedTask, judged) : {}),
          }),
        });
      } finally {
        await generator.dispose();
        await verifier.dispose();
      }
    },
  };
}

/**
 * A verifier that says of two steps in five that they should say the first letter, and a generator whose problems of one to
 * four words are sometimes right from the beginning: both classes occur in every step. Its warm-up is short, and a step of
 * the verifier has 96 solutions: 24 teach it little, and can make it worse.
 */
const mixed = {
  start: 'weak verifier' as const,
  words: [1, longest] as Range,
  warmUp: 8,
  verifierPrompts: 4,
  measured: 4,
};
const lengths = { steps: 60, every: 10 };
const together = tangoArm({ ...mixed, ...lengths, name: 'learning together' });
const fixedVerifier = tangoArm({ ...mixed, ...lengths, name: 'fixed verifier', fixed: 'verifier' });
const fixedGenerator = tangoArm({
  ...{ ...mixed, name: 'fixed generator', fixed: 'generator' },
  // As many steps as the verifier has beside a generator.
  ...{ steps: 28, every: 4 },
});
const outcomes = tangoArm({
  ...{ ...mixed, ...lengths, name: 'GRPO' },
  ...{ alpha: { kind: 'constant', start: 0 }, fixed: 'verifier', measuredOn: 'nothing' },
});

/** The metric where the warm-up ends: the point before the generator's first step. */
const atWarmUp = (metric: string) => (points: readonly Point[]) =>
  points.some((point) => point['steps.generator']! > 0)
    ? points.findLast((point) => point['steps.generator'] === 0)?.[metric]
    : undefined;

/** How far a metric went from one point to the last. */
const riseFrom = (metric: string, from: number | undefined, points: readonly Point[]) => {
  const end = points.at(-1)?.[metric];
  return from === undefined || end === undefined ? undefined : end - from;
};

/** From the end of the warm-up to the end. */
const rise = (name: string, metric: string): Measure => ({
  name,
  value: (points) => riseFrom(metric, atWarmUp(metric)(points), points),
  as: 'percent',
  by: 'difference',
});

const verifierMetrics = [
  ['F1 of steps', 'stepF1'],
  ['F1 of answers', 'outcomeF1'],
  ['balanced accuracy of steps', 'stepBalanced'],
  ['balanced accuracy of answers', 'outcomeBalanced'],
] as const;

/** A metric of the verifier where it stands, and where it rose. */
const measuresOf = (name: string, metric: string): Measure[] => [
  { ...first(`${name}, start`, metric) },
  { ...first(`${name}, after warm-up`, metric), value: atWarmUp(metric) },
  last(`${name}, end`, metric),
  rise(`${name}, rise since the warm-up`, metric),
  {
    ...last(`${name}, rise since the start`, metric),
    value: (points) => riseFrom(metric, points[0]?.[metric], points),
  },
  {
    ...last(`${name}, rise in the last third of the verifier's steps`, metric),
    value: (points) => {
      const late = (2 / 3) * points.at(-1)!['steps.verifier']!;
      return riseFrom(metric, points.findLast((point) => point['steps.verifier']! <= late)?.[metric], points);
    },
  },
];

export const verifierExperiment: RlExperiment = {
  name: 'verifier',
  title: 'The verifier learns from outcomes alone',
  claim:
    'F1 of steps and of answers rise by 0.15 or more from the end of the warm-up. Ablations: a fixed verifier misleads the generator at first, a verifier beside a fixed generator learns less.',
  arms: [together, fixedGenerator, fixedVerifier, outcomes],
  measures: [
    {
      ...last('accuracy after 20 steps of the generator', 'accuracy'),
      value: (points) => points.findLast((point) => point['steps.generator']! <= 20)?.accuracy,
    },
    last('accuracy at the end', 'accuracy'),
    ...verifierMetrics.flatMap(([name, metric]) => measuresOf(name, metric)),
  ],
  contrasts: [
    [together.name, fixedGenerator.name],
    [together.name, fixedVerifier.name],
    [fixedVerifier.name, outcomes.name],
  ],
  charts: [
    {
      title: 'Verifier on a fixed set, half of it right',
      x: 'steps.verifier',
      xLabel: 'steps of the verifier',
      y: verifierMetrics.slice(0, 2).map(([label, metric]) => ({ metric, label })),
    },
    accuracyChart('Accuracy by steps of the generator'),
  ],
};
