/**
 * Tango on the task of the recipe `tango`: last letters of five English words, from a start at which one
 * answer in a few hundred is right. Arms of a seed share warm starts, problems and seeds of samples.
 */
import path from 'node:path';
import type { Policy } from '../../rl/index.js';
import { generatorMetrics, verifierMetrics } from '../tango-evaluation.js';
import { armPhases } from '../tango-phases.js';
import { makeGame, playerFrom, warmedUp } from '../tango-players.js';
import { type TangoConfig, tangoSettings } from '../tango-settings.js';
import {
  type ArmContext,
  accuracyChart,
  first,
  last,
  type RlArm,
  type RlExperiment,
  reach,
  reachShare,
} from './rl-cells.js';
import { follow } from './rl-follow.js';
import type { World } from './rl-world.js';

interface WordsArm {
  name: string;
  isBaseline: boolean;
}

/** Settings of the recipe for a seed; everything that is not named here is as it is there. */
function configOf(world: World, seed: number): TangoConfig {
  const { steps, baseline, warmStart, verifierWarmStart, problems, ...model } = world.config.words;
  return tangoSettings.parse({
    ...{ seed, model },
    ...{ steps: world.scaled(steps), baseline: world.scaled(baseline) },
    warmStart: { steps: warmStart, verifierSteps: verifierWarmStart },
    evaluate: { problems },
  });
}

/** Both models as they were taught; they lie in the run directory. */
async function startsOf(config: TangoConfig, { directory, signal, seed }: ArmContext) {
  const game = await makeGame(config);
  const context = {
    directory: path.join(directory, 'warm-start', `words-${seed}`),
    record: JSON.parse(JSON.stringify({ warmStart: config.warmStart, model: config.model, seed })),
    ...{ signal, stream: undefined },
  };
  const generator = await warmedUp(config, game, 'generator', context);
  const verifier = generator && (await warmedUp(config, game, 'verifier', context));
  return generator && verifier && { game, generator, verifier };
}

function wordsArm({ name, isBaseline }: WordsArm): RlArm {
  return {
    name,
    async run(context) {
      const { world, seed, signal } = context;
      const config = configOf(world, seed);
      const starts = await startsOf(config, context);
      if (!starts) return undefined;
      const { game } = starts;
      const player = (who: 'generator' | 'verifier'): Policy => playerFrom(config, game, who, starts[who]);
      const players = { generator: player('generator'), verifier: player('verifier') };
      const { phases, schedule } = armPhases(config, game, players, isBaseline);
      const evaluate = async () => {
        const { accuracy, sampled, ...others } = await generatorMetrics(config, game, players.generator);
        const verdicts = isBaseline
          ? {}
          : await verifierMetrics(config, game, players.generator, players.verifier);
        return { 'accuracy.greedy': accuracy!, accuracy: sampled!, ...others, ...verdicts };
      };
      try {
        return await follow({
          phases: phases as never,
          ...{ schedule, seed, signal, evaluate, counted: 'generator' },
          steps: isBaseline ? config.baseline : config.steps,
          every: world.scaled(10),
          watch: ['hackGap', 'stepAccuracy'],
        });
      } finally {
        await players.generator.dispose();
        await players.verifier.dispose();
      }
    },
  };
}

const grpo = wordsArm({ name: 'GRPO, words', isBaseline: true });
const tango = wordsArm({ name: 'Tango, words', isBaseline: false });

const verifierMeasures = [
  first('F1 of steps, start', 'stepF1'),
  last('F1 of steps, end', 'stepF1'),
  first('F1 of answers, start', 'outcomeF1'),
  last('F1 of answers, end', 'outcomeF1'),
];

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
    reachShare(0.5, 'steps.generator'),
    reachShare(0.5, 'seconds'),
    reach("generator steps to GRPO's final accuracy", 'steps.generator'),
    reach('steps of both', 'allSteps'),
    reach('generated tokens', 'tokens'),
    reach('processor seconds', 'seconds'),
    ...verifierMeasures,
  ],
  contrasts: [['Tango, words', 'GRPO, words']],
  charts: [
    accuracyChart('Accuracy by steps of the generator'),
    accuracyChart('Accuracy by generated tokens', 'tokens', 'generated tokens'),
  ],
};
