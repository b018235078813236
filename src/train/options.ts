import type { InputSpec } from '../core/feeds.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import type { BatchSource, Feeds, Json } from '../data/batch-source.js';
import type { Module } from '../nn/module.js';
import type { Optimizer } from '../optim/optimizer.js';
import type { RunEvent, StopReason } from './events.js';
import type { ProgressOptions } from './progress.js';

/** What a loss function computes: the scalar to minimise, or that as `loss` beside other scalars to report. */
export type Losses = Tensor | ({ loss: Tensor } & Record<string, Tensor>);

/** What evaluations and samples are told. */
export interface Moment {
  /** Updates done. */
  step: number;
  /** Whether this is the run's last step. */
  isLast: boolean;
  /** The run directory, if there is one. */
  directory: string | undefined;
}

/** When and how to evaluate. */
export interface EvaluateOptions {
  /** Updates from one evaluation to the next; there is one before the first update and one after the last, too. */
  every: number;
  /** Batches of each evaluation: the loss function runs on them, and its scalars are averaged. */
  batches?: readonly Feeds[] | (() => Iterable<Feeds> | AsyncIterable<Feeds>);
  /** Metrics of the caller's own, beside or instead of those of `batches`. */
  run?: (moment: Moment) => Promise<Readonly<Record<string, number>>>;
  /** The metric that decides which checkpoint is best. Default `loss`. Null: none is. */
  metric?: string | null;
  /** Default `lower`. */
  better?: 'lower' | 'higher';
  /** Evaluations without improvement after which the run ends. Default: it never ends early. */
  patience?: number;
}

/** When to save, and what is kept. */
export interface SaveOptions {
  /** Updates from one checkpoint to the next. One more is written at the end, and one at each best evaluation. */
  every: number;
  /** How many of the last checkpoints stay; the best one stays in any case. Default 2. */
  keep?: number;
}

/** How the weights lie in a checkpoint, for callers with a format of their own. */
export interface ModelFiles {
  /** Writes the parameters' current values, exactly, into a folder. */
  write(folder: string): Promise<void>;
  /** Fills the parameters from what `write` wrote, bit for bit. */
  read(folder: string): Promise<void>;
}

/** Settings that every run has, whatever an update of it is. */
export interface RunOptions {
  /** Updates of the whole run. */
  steps: number;
  evaluate?: EvaluateOptions;
  /** Something to look at, e.g. generated text: what it returns goes into the log and, if it is text, to the terminal. */
  sample?: { every: number; run: (moment: Moment) => Promise<Json> };
  save?: SaveOptions;
  /** Run directory. Absent: nothing is written. */
  directory?: string;
  /** The resolved config, for the run directory. A run goes on only with the config that it began with. */
  config?: Json;
  /** Go on with the run that the directory holds. False: refuse such a directory. Default true. */
  resume?: boolean;
  /** The terminal. False: silence. */
  progress?: boolean | ProgressOptions;
  /** Highest FLOP/s of the machine, for the share of it that is used; `measure` spends 0.3 s. Default: not shown. */
  peakFlops?: number | 'measure';
  /** Also write TensorBoard event files into <directory>/tensorboard. Default false. */
  tensorBoard?: boolean;
  /** Write report.md when the run ends. Default true where there is a directory. */
  report?: boolean;
  /** Called with every event. */
  onEvent?: (event: RunEvent) => void;
  /** Ends the run after the step under way, with a checkpoint. */
  signal?: AbortSignal;
  /** Do the same on SIGINT and SIGTERM; a second one ends the process at once. Default true. */
  handleSignals?: boolean;
}

/** Settings of `train`. */
export interface TrainOptions<I extends Readonly<Record<string, InputSpec>>> extends RunOptions {
  /** A module, or variables by the names that checkpoints use. Those with `trainable: false` are stored, not trained. */
  parameters: Module | ReadonlyMap<string, Variable>;
  /** Inputs of the step: one per entry of a batch. */
  inputs: I;
  /** The loss of a batch. The mode lets dropout and its like differ. */
  loss: (batch: { [K in keyof I]: Tensor }, mode: 'train' | 'evaluate') => Losses;
  /** Batches. `next` must return arrays that it does not write to again before the next-but-one call. */
  data: BatchSource;
  optimizer: Optimizer;
  /**
   * Parts that each batch is cut into along its leading axis. `auto` times the divisors of the batch and takes the
   * fastest; a resumed run keeps the choice. Default 1.
   */
  microBatches?: number | 'auto';
  /** Keeps an exponential moving average of the weights. Default: none. */
  average?: {
    /** Share of the average that stays at each step, e.g. 0.999. */
    decay: number;
    /** Evaluate, sample and store the averaged weights as the model. Default true. */
    evaluate?: boolean;
  };
  /** State beside parameters, optimiser and data that a resumed run needs. */
  extra?: { save(): Json; restore(state: Json): void };
  modelFiles?: ModelFiles;
  /**
   * Prepare the next batch while the device computes. False where a batch depends on the weights, as rollouts do.
   * Default true.
   */
  prefetch?: boolean;
  /**
   * Keep the state before each update, so that a step whose loss or gradient is not finite can be taken back:
   * costs no time, but the optimiser's moments take twice their memory. Default true.
   */
  keepPrevious?: boolean;
  /** What `rate` counts, and how many one step has. Default: examples, the batch's leading axis. */
  units?: { name: string; perStep: number };
}

/** How a run ended. */
export interface TrainResult {
  /** Updates done. */
  step: number;
  reason: Exclude<StopReason, 'failed'>;
  /** Smoothed training loss; NaN if no step was run. */
  loss: number;
  /** Best evaluation, by the metric of `evaluate`. */
  best: { step: number; value: number } | undefined;
  /** Metrics of the last evaluation. */
  metrics: Readonly<Record<string, number>>;
  /** Step at which this call took the run up; undefined if it began it. */
  resumedFrom: number | undefined;
  microBatches: number;
  /** Seconds of training, over all sessions. */
  seconds: number;
}
