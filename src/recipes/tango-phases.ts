import { type Policy, type TangoPhases, tangoPhases } from '../rl/index.js';
import type { Game } from './tango-players.js';
import type { TangoConfig } from './tango-settings.js';

/**
 * Phases, schedule and state of an arm: Tango as configured, or plain GRPO, which is Tango without a verifier's say. Groups
 * without a signal are left out of updates in both.
 */
export function armPhases(
  config: TangoConfig,
  game: Game,
  { generator, verifier }: { generator: Policy; verifier: Policy },
  isBaseline: boolean,
): TangoPhases {
  const { steps, warmUp, cycle, advantage, gate, normalisation, balance, fixed, alpha, seed } = config;
  const { prompts, samples, oversample } = config.verifier;
  const own = isBaseline
    ? { fixed: 'verifier' as const, alpha: { kind: 'constant' as const, start: 0 } }
    : { ...(fixed !== 'none' && { fixed }), alpha: { ...alpha, updates: steps } };
  return tangoPhases({
    generator: {
      policy: generator,
      ...{ prompts: config.generator.prompts, samples: config.generator.samples },
      maxTokens: game.solutionTokens,
      flat: 'drop',
    },
    verifier: {
      policy: verifier,
      ...{ prompts, samples, oversample },
      task: game.verifierTask,
      maxTokens: game.verificationTokens,
      flat: 'drop',
    },
    ...{ task: game.task, seed, warmUp, cycle, advantage, gate, normalisation },
    classWeights: { kind: balance },
    ...own,
  });
}
