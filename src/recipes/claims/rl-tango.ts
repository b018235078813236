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
import { first, last, type Measure, type RlArm, type RlExperiment } from './rl-cells.js';
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

const sparse: Range = [longest, longest];
/** Few problems a step: with one right solution in a hundred, most steps of GRPO have nothing to learn from. */
const common = {
  words: sparse,
  verifierWords: [1, longest] as Range,
  prompts: 8,
  steps: 60,
  every: 6,
};

const tango = tangoArm({ ...common, name: 'Tango' });

/** The metric where the warm-up ends: the point before the generator's first step. */
const atWarmUp = (metric: string) => (points: readonly Point[]) =>
  points.findLast((point) => point['steps.generator'] === 0)?.[metric];

/** From the end of the warm-up to the end. */
const rise = (name: string, metric: string): Measure => ({
  name,
  value: (points) => {
    const [start, end] = [atWarmUp(metric)(points), points.at(-1)?.[metric]];
    return start === undefined || end === undefined ? undefined : end - start;
  },
  as: 'percent',
  by: 'difference',
});

const verifierMetrics = [
  ['F1 of steps', 'stepF1'],
  ['F1 of answers', 'outcomeF1'],
  ['balanced accuracy of steps', 'stepBalanced'],
  ['balanced accuracy of answers', 'outcomeBalanced'],
] as const;

export const verifierExperiment: RlExperiment = {
  name: 'verifier',
  title: 'The verifier learns from outcomes alone',
  claim: 'F1 of steps and of answers rise by 0.15 or more from the end of the warm-up.',
  arms: [tango],
  measures: verifierMetrics.flatMap(([name, metric]): Measure[] => [
    { ...first(`${name}, start`, metric) },
    { ...first(`${name}, after warm-up`, metric), value: atWarmUp(metric) },
    last(`${name}, end`, metric),
    rise(`${name}, rise since the warm-up`, metric),
  ]),
  contrasts: [],
  charts: [
    {
      title: 'Verifier on a fixed set, half of it right',
      x: 'allSteps',
      xLabel: 'steps of both policies',
      y: verifierMetrics.map(([label, metric]) => ({ metric, label })),
    },
  ],
};
