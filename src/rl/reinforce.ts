import { AnnealError } from '../core/errors.js';
import type { Variable } from '../core/variable.js';
import type { Json } from '../data/batch-source.js';
import { checkRunOptions, driveRun } from '../train/drive.js';
import type { EvaluateOptions, RunOptions, TrainResult } from '../train/options.js';
import type { Phase, PhaseSchedule } from './phases.js';
import { ReinforceRun } from './reinforce-run.js';

/** What the loop needs of a policy; `Policy` is one. */
export interface StoredPolicy {
  /** Updates so far; restored with the weights. */
  readonly updates: number;
  /** What is trained, by name. */
  readonly parameters: ReadonlyMap<string, Variable>;
  /** Writes everything that its future depends on into a folder that exists. */
  save(folder: string): Promise<void>;
  restore(folder: string): Promise<void>;
}

/** State beside the policies that a resumed run needs, as `ClassWeights` is. */
export interface Stateful {
  save(): Json;
  restore(state: Json): void;
}

/** Settings of `reinforce`. */
export interface ReinforceOptions<P extends Readonly<Record<string, StoredPolicy>>>
  extends Omit<RunOptions, 'evaluate' | 'peakFlops'> {
  /** The policies that learn, by name. */
  policies: P;
  /** Kinds of steps, by name. */
  phases: Readonly<Record<string, Phase<P>>>;
  /** Which phase each step is. Default: the only one. */
  schedule?: PhaseSchedule;
  /** Everything random in a run is a function of this and the step. Default 0. */
  seed?: number;
  /** More state, by name. */
  state?: Readonly<Record<string, Stateful>>;
  /** Without a `metric` no checkpoint is best; with one, higher is better unless `better` says otherwise. */
  evaluate?: Omit<EvaluateOptions, 'batches'> & Required<Pick<EvaluateOptions, 'run'>>;
  /**
   * Ends the run before its last step, as where a curriculum is over; asked between steps. A pure function of `state`, so
   * that a resumed run ends where the other would have.
   */
  isOver?: () => boolean;
  /** Steps from one table of samples, rollouts/step-N.jsonl, to the next. False: none. Default 1. */
  rollouts?: { every: number } | false;
  /** Metrics of phases that the line of progress shows. Default reward, gradNorm and zeroVariance. */
  figures?: readonly string[];
}

/** How a run ended. */
export interface ReinforceResult extends Omit<TrainResult, 'loss' | 'microBatches'> {
  /** Updates that each policy has had. */
  updates: Readonly<Record<string, number>>;
}

type AnyOptions = ReinforceOptions<Readonly<Record<string, StoredPolicy>>>;

function check(options: AnyOptions): void {
  checkRunOptions('reinforce', options as RunOptions);
  const names = Object.keys(options.phases);
  if (names.length === 0) throw new AnnealError('reinforce: there are no phases; pass at least one');
  if (Object.keys(options.policies).length === 0)
    throw new AnnealError('reinforce: there are no policies; pass at least one');
  for (const name of Object.keys(options.policies)) {
    // Names are folders of checkpoints.
    if (!/^[\w-]+$/.test(name))
      throw new AnnealError(
        `reinforce: a policy is named "${name}"; use letters, digits, - and _ for its folder`,
      );
  }
  if (!options.schedule && names.length > 1)
    throw new AnnealError(
      `reinforce: there are the phases ${names.join(', ')}; pass a schedule, e.g. interleave(…)`,
    );
  const { rollouts, evaluate } = options;
  if (evaluate?.patience !== undefined && typeof evaluate.metric !== 'string')
    throw new AnnealError('reinforce: evaluate.patience needs evaluate.metric, by which it is measured');
  if (rollouts && !(Number.isInteger(rollouts.every) && rollouts.every >= 1))
    throw new AnnealError(`reinforce: rollouts.every must be a positive integer, not ${rollouts.every}`);
}

/**
 * Reinforcement learning: the loop of `train` with steps that are phases of any kind, over one policy or several that
 * learn together, each with its own optimiser, reference and counters. Each round stands between two steps and does what
 * is due there: evaluate, sample, save, step.
 *
 * With a directory the run survives everything: killed at any moment, in whatever phase, and called again with the same
 * config, it goes on from its last checkpoint to the same policies, bit for bit. A checkpoint is step-N/ with the
 * policy's files, or step-N/<name>/ where there are several. Rewards, advantages and completions of each step are in
 * rollouts/step-N.jsonl.
 *
 * The loss of an on-policy step with centred advantages is about 0, whether or not the policy learns: look at
 * `reward`, `gradNorm` and `zeroVariance`.
 *
 * @throws AnnealError on bad options; if the directory belongs to another run or process; if the disk is full; what a
 *   phase throws, after a checkpoint if no policy was updated in that step.
 */
export async function reinforce<P extends Readonly<Record<string, StoredPolicy>>>(
  options: ReinforceOptions<P>,
): Promise<ReinforceResult> {
  const settings = options as unknown as AnyOptions;
  check(settings);
  const { evaluate, ...others } = settings;
  const runOptions: RunOptions = {
    ...others,
    ...(evaluate && { evaluate: { better: 'higher' as const, metric: null, ...evaluate } }),
  };
  return driveRun(
    runOptions,
    (directory, interrupt) => new ReinforceRun(settings, runOptions, directory, interrupt),
    (run, reason) => {
      const { step, resumedFrom, seconds } = run;
      const { best, metrics } = run.scores;
      const updates = run.updates();
      return { step, reason, best: best ?? undefined, metrics, resumedFrom, seconds, updates };
    },
  );
}
