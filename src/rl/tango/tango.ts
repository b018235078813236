import { ClassWeights } from '../class-weights.js';
import { interleave, type Phase, type PhaseSchedule } from '../phases.js';
import type { Stateful } from '../reinforce.js';
import { alphaSchedule } from '../schedules.js';
import { generatorPhase } from './generator-phase.js';
import { checkTango, type ResolvedTango, type TangoOptions } from './options.js';
import { shortPrompts } from './prompts.js';
import { verifierPhase } from './verifier-phase.js';

/** What `reinforce` needs beside the two policies. */
export interface TangoPhases {
  phases: { generator: Phase; verifier: Phase };
  schedule: PhaseSchedule;
  state: { classWeights: Stateful };
}

function resolve<P>(options: TangoOptions<P>): ResolvedTango<P> {
  const { updates = 200 } = options;
  return {
    prompts: shortPrompts,
    warmUp: 40,
    cycle: [3, 1],
    alpha: { kind: 'exponential', start: 0.1, end: 1e-3, updates },
    verifications: 1,
    advantage: 'grpo',
    gate: true,
    perStep: true,
    normalisation: 'separate',
    formatWeight: 0.8,
    aggregation: 'token-mean',
    ...options,
  };
}

function scheduleOf<P>({ fixed, scripted, warmUp, cycle }: ResolvedTango<P>): PhaseSchedule {
  if (fixed === 'generator') return () => 'verifier';
  if (fixed === 'verifier' || scripted) return () => 'generator';
  const [generator, verifier] = cycle;
  return interleave({
    warmUp: { phase: 'verifier', steps: warmUp },
    cycle: [
      ['generator', generator],
      ['verifier', verifier],
    ],
  });
}

/**
 * RL Tango (Zha et al. 2025, 2505.15034): a generator and a generative verifier of its steps, both trained by
 * reinforcement in turn. The verifier is rewarded for its verdict on the answer alone; the generator gets the outcome by
 * rule and, with a weight that decays over its updates, the verifier's verdicts on its steps.
 *
 *     const { phases, schedule, state } = tangoPhases({ generator: { policy, maxTokens }, verifier: { … }, task, seed });
 *     await reinforce({ policies: { generator, verifier }, phases, schedule, state, steps, directory });
 *
 * `alpha: { kind: 'constant', start: 0 }` with `fixed: 'verifier'` is plain GRPO on the same prompts. The models' contexts
 * must hold a question with a response and, for the verifier, a verification on top.
 * @throws AnnealError for impossible options
 */
export function tangoPhases<P>(options: TangoOptions<P>): TangoPhases {
  const resolved = resolve(options);
  checkTango(resolved);
  const classWeights = new ClassWeights(options.classWeights);
  return {
    phases: {
      generator: generatorPhase(resolved, alphaSchedule(resolved.alpha)),
      verifier: verifierPhase(resolved, classWeights),
    },
    schedule: scheduleOf(resolved),
    state: { classWeights },
  };
}
