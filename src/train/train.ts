import { AnnealError } from '../core/errors.js';
import type { InputSpec } from '../core/feeds.js';
import { Variable } from '../core/variable.js';
import { parametersOf } from '../nn/module.js';
import { WeightAverage } from './average.js';
import { checkRunOptions, driveRun } from './drive.js';
import type { TrainOptions, TrainResult } from './options.js';
import { Trainer } from './trainer.js';

type AnyOptions = TrainOptions<Record<string, never>>;

function checkOptions(options: AnyOptions): void {
  checkRunOptions('train', options);
  const { microBatches = 1, evaluate } = options;
  if (microBatches !== 'auto' && !(Number.isInteger(microBatches) && microBatches >= 1))
    throw new AnnealError(`train: microBatches must be a positive integer, not ${microBatches}`);
  if (evaluate && !evaluate.batches && !evaluate.run)
    throw new AnnealError('train: evaluate needs batches, or a function run, or both');
}

function parametersIn({ parameters }: AnyOptions): ReadonlyMap<string, Variable> {
  const found = parameters instanceof Map ? (parameters as Map<string, Variable>) : parametersOf(parameters);
  for (const [name, parameter] of found) {
    if (!(parameter instanceof Variable)) throw new AnnealError(`train: parameter "${name}" is no variable`);
  }
  if (![...found.values()].some((p) => p.trainable))
    throw new AnnealError('train: there is no trainable variable among the parameters');
  return found;
}

/**
 * Trains: the one loop of all systems. It knows parameters, a loss over a batch, a stream of batches and an optimiser.
 *
 * With a directory the run survives everything: killed at any moment and called again with the same config, it goes
 * on from its last checkpoint to the same losses, bit for bit (same machine, same number of threads). After the run the
 * parameters hold the weights that evaluations saw: the averaged ones where `average` is used.
 *
 * @throws AnnealError on bad options; if the directory belongs to another run or process; if the disk is full (the last
 *   good checkpoint stays); if the data fails (after a checkpoint).
 * @throws NonFiniteError if a loss or gradient is not finite, after a checkpoint of the state before it.
 */
export async function train<I extends Readonly<Record<string, InputSpec>>>(
  options: TrainOptions<I>,
): Promise<TrainResult> {
  const settings = options as unknown as AnyOptions;
  checkOptions(settings);
  const parameters = parametersIn(settings);
  const trainable = new Map([...parameters].filter(([, p]) => p.trainable));
  const average = options.average && new WeightAverage(trainable, options.average.decay);
  return driveRun(
    settings,
    (directory) => new Trainer(settings, parameters, average, directory),
    (trainer, reason) => {
      trainer.settle();
      const { step, loss, resumedFrom, microBatches, seconds } = trainer;
      const { best, metrics } = trainer.scores;
      const result = { step, reason, loss: loss.value, metrics, resumedFrom, microBatches, seconds };
      return { ...result, best: best ?? undefined };
    },
  );
}
