/**
 * RL Tango (Zha et al. 2025, 2505.15034) on the paper's own small experiment, last-letter concatenation over English words:
 *
 *     anneal run tango
 *     anneal run tango seed=1 alpha.kind=constant
 *     anneal run tango steps=300 baseline=300 model.layers=6 model.dim=256 task.words=[2,10]
 *
 * Two small models learn the format from examples. Then, from that one start, GRPO with the outcome alone, and Tango:
 * generator and verifier in turn. Each part is a run of its own inside the run directory and goes on where it stopped.
 */
import path from 'node:path';
import { countParameters } from '../nn/index.js';
import { type Phase, type Policy, type ReinforceResult, reinforce, stepsUntil } from '../rl/index.js';
import { type Quantity, type RunContext, type RunOutcome, recipe } from './recipe.js';
import { makeSmallModel } from './rl-start.js';
import { generatorMetrics, verifierMetrics } from './tango-evaluation.js';
import { armPhases } from './tango-phases.js';
import { type Game, makeGame, playerFrom, smallModel, warmedUp } from './tango-players.js';
import { writeComparison } from './tango-report.js';
import { type TangoConfig, tangoSettings } from './tango-settings.js';

type Context = RunContext<TangoConfig, Game>;

/** Steps from one evaluation to the next, so that generators are compared after about as many. */
function evaluationSteps({ evaluate, cycle, fixed }: TangoConfig, isBaseline: boolean): number {
  if (isBaseline || fixed !== 'none') return evaluate.every;
  const [generator, verifier] = cycle;
  return Math.max(1, Math.round((evaluate.every * (generator + verifier)) / generator));
}

/** Runs one arm to its last step of the generator, or of the verifier if the generator is fixed. */
async function runArm(
  context: Context,
  name: 'grpo' | 'tango',
  generator: Policy,
  verifier: Policy,
): Promise<ReinforceResult> {
  const { config, prepared: game, directory, record, signal, stream, tensorboard } = context;
  const isBaseline = name === 'grpo';
  const { phases, schedule, state } = armPhases(config, game, { generator, verifier }, isBaseline);
  const counted = !isBaseline && config.fixed === 'generator' ? 'verifier' : 'generator';
  return reinforce<Record<string, Policy>>({
    policies: isBaseline ? { generator } : { generator, verifier },
    phases: phases as Readonly<Record<string, Phase<Record<string, Policy>>>>,
    ...{ schedule, state, tensorBoard: tensorboard, signal },
    seed: config.seed,
    steps: stepsUntil(schedule, counted, isBaseline ? config.baseline : config.steps),
    evaluate: {
      every: evaluationSteps(config, isBaseline),
      run: async () => ({
        ...(await generatorMetrics(config, game, generator)),
        ...(isBaseline ? {} : await verifierMetrics(config, game, generator, verifier)),
      }),
    },
    save: { every: 50, keep: 1 },
    figures: ['accuracy', 'stepAccuracy', 'outcomeF1', 'stepF1', 'alpha'],
    directory: path.join(directory, name),
    config: record,
    handleSignals: false,
    progress: stream ? { stream } : false,
  });
}

function derive(config: TangoConfig, game: Game): Quantity[] {
  const { generator, verifier, steps, warmUp, cycle } = config;
  const parameters = countParameters(makeSmallModel(smallModel(config, game, 'generator')));
  const verifierSteps = warmUp + Math.floor(steps / cycle[0]) * cycle[1];
  return [
    { name: 'parameters', value: parameters, unit: 'parameters' },
    { name: 'vocabulary', value: game.tokenizer.size, unit: '' },
    { name: 'context', value: game.context, unit: 'tokens' },
    { name: 'generatorSteps', value: steps, unit: '' },
    { name: 'verifierSteps', value: verifierSteps, unit: '' },
    { name: 'responsesPerStep', value: generator.prompts * generator.samples, unit: '' },
    { name: 'verificationsPerStep', value: verifier.prompts * verifier.samples, unit: '' },
  ];
}

async function run(context: Context): Promise<RunOutcome> {
  const { config, prepared: game, directory, print } = context;
  const stopped = (step = 0): RunOutcome => ({ status: 'stopped', step, summary: {} });
  print('1. Both models learn the format from examples\n');
  const generatorStart = await warmedUp(config, game, 'generator', context);
  const verifierStart = generatorStart && (await warmedUp(config, game, 'verifier', context));
  if (!generatorStart || !verifierStart) return stopped();
  const arms = config.baseline > 0 ? (['grpo', 'tango'] as const) : (['tango'] as const);
  let step = 0;
  for (const [i, arm] of arms.entries()) {
    print(
      `${i + 2}. ${arm === 'grpo' ? 'GRPO: rewards of answers alone' : 'Tango: generator and verifier in turn'}\n`,
    );
    const generator = playerFrom(config, game, 'generator', generatorStart);
    const verifier = playerFrom(config, game, 'verifier', verifierStart);
    const { reason, step: steps } = await runArm(context, arm, generator, verifier);
    await generator.dispose();
    await verifier.dispose();
    step += steps;
    if (reason === 'aborted' || reason === 'interrupted') return stopped(step);
  }
  const { text, summary } = await writeComparison(directory, config);
  print(`\n${text}`);
  return { status: 'finished', step, summary };
}

export const tango = recipe({
  name: 'tango',
  summary: 'RL Tango on last-letter concatenation: a generator and its verifier learn together, beside GRPO',
  config: tangoSettings,
  prepare: makeGame,
  derive,
  run,
});
