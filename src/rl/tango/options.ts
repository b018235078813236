import { AnnealError } from '../../core/errors.js';
import type { ClassWeightOptions } from '../class-weights.js';
import type { SamplingSettings } from '../grpo-batch.js';
import type { Policy } from '../policy.js';
import type { CoefficientOptions } from '../schedules.js';
import type { StepTask } from '../tasks/task.js';
import type { Aggregation } from '../token-weights.js';
import type { TangoPrompts } from './prompts.js';
import type { ScriptedVerifier } from './scripted.js';

/** What Tango needs of a task; every `StepTask` is one. */
export interface TangoTask<P> extends Pick<StepTask<P>, 'problem' | 'question'> {
  /** Rule-based correctness of a final answer. */
  isCorrect(problem: P, answer: string): boolean | Promise<boolean>;
  /** Whether steps and answer belong together; part of the gate. Default: always. */
  isConsistent?: StepTask<P>['isConsistent'];
  /** Gold labels, for metrics alone: the verifier never learns from them. */
  stepLabels?: StepTask<P>['stepLabels'];
}

/** The part of a policy that Tango uses. */
export type TangoPolicy = Pick<Policy, 'rollout' | 'logprobs' | 'update' | 'updates' | 'tokenizer' | 'loss'>;

/** One of the two policies, and how it is sampled. */
export interface TangoPlayer {
  /** Clip, KL and entropy bonus are its own (`PolicyOptions.loss`): the paper has 0.2, k3 with 0.001, and 0.001. */
  policy: TangoPolicy;
  /** Completions of a prompt in a step of this policy. Default 5. */
  samples?: number;
  /** Prompts of such a step. Default 256. */
  prompts?: number;
  /** Most tokens of a completion. */
  maxTokens: number;
  /** Default: temperature 1, nothing filtered, ending at the tokenizer's end of text. */
  sampling?: SamplingSettings;
  /** Groups without a signal; see `learnOnPolicy`. Default `keep`. */
  flat?: 'keep' | 'drop';
}

/** Settings of `tangoPhases`; defaults are those of the paper's GRPO recipe (2505.15034, section 4 and its code). */
export interface TangoOptions<P> {
  generator: TangoPlayer;
  verifier: TangoPlayer & {
    /** Draws the problems of verifier steps, e.g. a mixture of lengths in which both verdicts occur. Default: `task`. */
    task?: TangoTask<P>;
    /**
     * Solutions sampled for each one that is verified: above 1, as many right as wrong ones are chosen where there
     * are enough. Default 1: all of them.
     */
    oversample?: number;
  };
  task: TangoTask<P>;
  /** Default `shortPrompts`. */
  prompts?: TangoPrompts;
  /** Seed of the problems. */
  seed: number;
  /** Verifier steps before the first generator step. Default 40. */
  warmUp?: number;
  /** Generator steps, then verifier steps. Default [3, 1]. */
  cycle?: readonly [number, number];
  /** Weight of the step rewards over the generator's updates. Default: exponential from 0.1 to 0.001 over `updates`. */
  alpha?: CoefficientOptions;
  /** Planned updates of the generator, for the default of `alpha`. Default 200. */
  updates?: number;
  /** Verifications of each response in a generator step, averaged. Default 1. */
  verifications?: number;
  /** Advantages of both policies. Default `grpo`. */
  advantage?: 'grpo' | 'rloo' | 'reinforce++';
  /**
   * Every step of a malformed response (its form, its number of steps, its answer) has reward −1, whatever a verifier would
   * say. Default true. False is a documented trap: without it step rewards destroy the format within some dozen updates.
   */
  gate?: boolean;
  /** Divides step rewards by the number of steps, so that more steps are not more reward. Default true. */
  perStep?: boolean;
  /** `separate` (default): outcome and step advantages are normalised apart, then mixed. `merged`: one set of rewards. */
  normalisation?: 'separate' | 'merged';
  /** Balance of the verifier's two classes. Default square root of the inverse, decay 0.8. */
  classWeights?: ClassWeightOptions;
  /** Weight of the verifier's format score. Default 0.8. */
  formatWeight?: number;
  /** A policy that never learns: an ablation. `verifier` leaves out the warm-up, too. */
  fixed?: 'generator' | 'verifier';
  /** Judges in the verifier's place, for studies of flawed verifiers. Implies `fixed: 'verifier'`. */
  scripted?: ScriptedVerifier<P>;
  /** Default `token-mean`. */
  aggregation?: Aggregation;
}

/** Options in which everything is decided. */
export type ResolvedTango<P> = TangoOptions<P> &
  Required<
    Pick<
      TangoOptions<P>,
      | 'prompts'
      | 'warmUp'
      | 'cycle'
      | 'alpha'
      | 'verifications'
      | 'advantage'
      | 'gate'
      | 'perStep'
      | 'normalisation'
      | 'formatWeight'
      | 'aggregation'
    >
  >;

const isCount = (value: number, least = 1) => Number.isInteger(value) && value >= least;

function checkPlayer(name: string, { samples = 5, prompts = 256, maxTokens, policy }: TangoPlayer): void {
  for (const [what, value] of Object.entries({ samples, prompts, maxTokens })) {
    if (!isCount(value))
      throw new AnnealError(`tango: ${name}.${what} is ${value}; pass a whole number of 1 or more`);
  }
  if (!policy.tokenizer)
    throw new AnnealError(`tango: the ${name} has no tokenizer; pass one to its Policy, formats are text`);
}

/** @throws AnnealError for impossible options */
export function checkTango<P>(options: ResolvedTango<P>): void {
  const { generator, verifier, warmUp, cycle, verifications, formatWeight, fixed, scripted } = options;
  checkPlayer('generator', generator);
  checkPlayer('verifier', verifier);
  if (!isCount(warmUp, 0)) throw new AnnealError(`tango: warmUp is ${warmUp}; pass 0 or more steps`);
  if (!isCount(cycle[0]) || !isCount(cycle[1]))
    throw new AnnealError(
      `tango: cycle is ${cycle.join(', ')}; pass generator and verifier steps, 1 or more`,
    );
  if (!isCount(verifications))
    throw new AnnealError(`tango: verifications is ${verifications}; pass a whole number of 1 or more`);
  if (!(verifier.oversample === undefined || isCount(verifier.oversample)))
    throw new AnnealError(`tango: verifier.oversample is ${verifier.oversample}; pass 1 or more`);
  if (!Number.isFinite(formatWeight) || formatWeight < 0)
    throw new AnnealError(`tango: formatWeight is ${formatWeight}; pass 0 or more`);
  if (fixed === 'generator' && scripted)
    throw new AnnealError(
      'tango: neither policy would learn: fixed is "generator" and the verifier is scripted',
    );
}
