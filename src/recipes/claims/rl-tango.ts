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
import { firstReach } from '../tango-report.js';
import { first, last, type Measure, type RlArm, type RlExperiment } from './rl-cells.js';
import { balancedSolutions, freshSolutions, type JudgedSolution, solving, verifying } from './rl-evaluate.js';
import { follow, type Point } from './rl-follow.js';
import { longest, type World } from './rl-world.js';

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
  warmUp?: number;
  alpha?: Omit<CoefficientOptions, 'updates'>;
  fixed?: 'generator' | 'verifier';
  scripted?: ScriptedVerifier<LastLetterProblem>;
  balance?: ClassWeightOptions['kind'];
  oversample?: number;
  /** What the verifier is measured on. Default: a fixed set with as many right as wrong solutions. */
  measuredOn?: 'balanced' | 'fresh' | 'nothing';
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
      ...{ policy: verifier, prompts, samples, oversample, maxTokens: verification, flat: 'drop' },
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
      const start = await world.start('letters', seed, directory, signal);
      if (!start) return undefined;
      const [generator, verifier] = [world.policy(start), world.policy(start)];
      const { phases, schedule } = phasesOf(world, arm, seed, generator, verifier);
      const task = world.letters(words);
      const judgedTask = world.letters(arm.verifierWords ?? words);
      const count = 2 * world.config.problems;
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

const grpo = tangoArm({
  ...common,
  name: 'GRPO',
  alpha: { kind: 'constant', start: 0 },
  fixed: 'verifier',
  measuredOn: 'nothing',
});
const tango = tangoArm({ ...common, name: 'Tango' });
const fixedVerifier = tangoArm({ ...common, name: 'fixed verifier', fixed: 'verifier' });
const fixedGenerator = tangoArm({ ...common, name: 'fixed generator', fixed: 'generator', steps: 32 });

/** How far along an axis an arm is when it first has the reference's final accuracy. */
const reach = (name: string, axis: string): Measure => ({
  name,
  value: (points, reference) => reachOf(points, reference, axis),
  as: 'number',
  by: 'ratio',
});

function reachOf(points: readonly Point[], reference: readonly Point[], axis: string): number | undefined {
  const target = reference.at(-1)?.accuracy;
  if (target === undefined) return undefined;
  return firstReach(
    points.map((point) => point[axis] ?? 0),
    points.map(({ accuracy = 0 }) => accuracy),
    target,
  );
}

const accuracyChart = (title: string, x = 'steps.generator', xLabel = 'steps of the generator') => ({
  title,
  ...{ x, xLabel },
  y: [{ metric: 'accuracy', label: '' }],
});

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

export const tangoExperiment: RlExperiment = {
  name: 'tango',
  title: 'Tango beside GRPO on a sparse task',
  claim: "Tango reaches GRPO's final accuracy in at most 0.6x the generator's steps.",
  arms: [grpo, tango],
  measures: [
    first('accuracy at the start', 'accuracy'),
    first('greedy accuracy at the start', 'accuracy.greedy'),
    last('accuracy at the end', 'accuracy'),
    last('greedy accuracy at the end', 'accuracy.greedy'),
    reach("generator steps to GRPO's final accuracy", 'steps.generator'),
    reach('steps of both', 'allSteps'),
    reach('generated tokens', 'tokens'),
    reach('processor seconds', 'seconds'),
  ],
  contrasts: [['Tango', 'GRPO']],
  charts: [
    accuracyChart('Accuracy by steps of the generator'),
    accuracyChart('Accuracy by generated tokens', 'tokens', 'generated tokens'),
  ],
};

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

export const ablationExperiment: RlExperiment = {
  name: 'ablations',
  title: 'One policy fixed',
  claim:
    'A fixed verifier helps the generator less than one that learns; without a generator that improves, the verifier stops early.',
  arms: [grpo, tango, fixedVerifier, fixedGenerator],
  measures: [
    last('accuracy', 'accuracy'),
    last('F1 of steps', 'stepF1'),
    last('F1 of answers', 'outcomeF1'),
    last('balanced accuracy of answers', 'outcomeBalanced'),
    reach("generator steps to GRPO's final accuracy", 'steps.generator'),
  ],
  contrasts: [
    ['Tango', 'fixed verifier'],
    ['Tango', 'fixed generator'],
    ['fixed verifier', 'GRPO'],
  ],
  charts: [
    accuracyChart('Accuracy by steps of the generator'),
    {
      title: 'F1 of answers by steps of the verifier',
      x: 'steps.verifier',
      xLabel: 'steps of the verifier',
      y: [{ metric: 'outcomeF1', label: '' }],
    },
  ],
};
