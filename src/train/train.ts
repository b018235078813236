import { AnnealError } from '../core/errors.js';
import type { InputSpec } from '../core/feeds.js';
import { Variable } from '../core/variable.js';
import { parametersOf } from '../nn/module.js';
import { WeightAverage } from './average.js';
import type { StopReason } from './events.js';
import { Interrupt } from './interrupt.js';
import type { TrainOptions, TrainResult } from './options.js';
import { measurePeak } from './peak.js';
import { Progress } from './progress.js';
import { writeReport } from './report.js';
import { RunDirectory } from './run-directory.js';
import { TensorBoardWriter } from './tensorboard.js';
import { Trainer } from './trainer.js';

type AnyOptions = TrainOptions<Record<string, never>>;

/** Whether something that happens every `every` steps is due now. */
const isDue = (every: number, step: number, isLast: boolean): boolean => isLast || step % every === 0;

function checkOptions(options: AnyOptions): void {
  const positive = (name: string, value: number | undefined) => {
    if (value !== undefined && !(Number.isInteger(value) && value >= 1))
      throw new AnnealError(`train: ${name} must be a positive integer, not ${value}`);
  };
  const { steps, microBatches, evaluate, sample, save } = options;
  if (!Number.isInteger(steps) || steps < 0)
    throw new AnnealError(`train: steps must be an integer of 0 or more, not ${steps}`);
  if (microBatches !== 'auto') positive('microBatches', microBatches);
  positive('evaluate.every', evaluate?.every);
  positive('evaluate.patience', evaluate?.patience);
  positive('sample.every', sample?.every);
  positive('save.every', save?.every);
  positive('save.keep', save?.keep);
  if (evaluate && !evaluate.batches && !evaluate.run)
    throw new AnnealError('train: evaluate needs batches, or a function run, or both');
  if (options.tensorBoard && options.directory === undefined)
    throw new AnnealError('train: tensorBoard needs a directory to write to');
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
 * The loop. Each round stands between two updates and does what is due there, in this order: end, if somebody wants
 * that; evaluate; sample; save; end, if this is the last round; update. There is one round more than updates, so
 * that the last weights are evaluated and saved, too.
 */
async function loop(
  trainer: Trainer,
  options: AnyOptions,
  interrupt: Interrupt,
): Promise<TrainResult['reason']> {
  const { steps, evaluate, sample } = options;
  const saveEvery = options.save?.every ?? Math.max(1, Math.round(steps / 10));
  for (;;) {
    const { step } = trainer;
    if (interrupt.reason) {
      await trainer.save();
      return interrupt.reason;
    }
    if (!trainer.isEvaluated) {
      let isBest: boolean | undefined = false;
      if (evaluate && isDue(evaluate.every, step, step === steps)) {
        isBest = await trainer.evaluate(() => interrupt.reason !== undefined);
        if (isBest === undefined) continue;
      }
      const isLast = step === steps || trainer.scores.isStopped;
      if (sample && step > 0 && isDue(sample.every, step, isLast)) await trainer.sample();
      trainer.isEvaluated = true;
      // The first weights are made again from the config at no cost.
      if ((step > 0 || isLast) && (isBest || isDue(saveEvery, step, isLast))) await trainer.save();
    }
    if (step >= steps) return 'finished';
    if (trainer.scores.isStopped) return 'early stop';
    await trainer.advance();
  }
}

async function addListeners(trainer: Trainer, options: AnyOptions): Promise<(() => void)[]> {
  const ends: (() => void)[] = [];
  const { progress = true, peakFlops, steps, units, directory } = options;
  if (progress !== false) {
    const peak = peakFlops === 'measure' ? await measurePeak() : peakFlops;
    const shown = new Progress(progress === true ? {} : progress, {
      steps,
      unit: units?.name ?? 'examples',
      perStep: units?.perStep ?? (await trainer.examples()),
      flopsPerStep: trainer.flopsPerStep,
      peakFlops: peak,
    });
    trainer.listen((event) => shown.see(event));
    ends.push(() => shown.end());
  }
  if (options.tensorBoard) {
    const board = new TensorBoardWriter(directory!);
    trainer.listen((event) => board.see(event));
    ends.push(() => board.close());
  }
  if (options.onEvent) trainer.listen(options.onEvent);
  return ends;
}

function begin(trainer: Trainer, options: AnyOptions, parameters: ReadonlyMap<string, Variable>): void {
  const { microBatches } = trainer;
  if (trainer.resumedFrom !== undefined) {
    trainer.emit({ kind: 'resume', microBatches });
    return;
  }
  const count = [...parameters.values()].reduce((n, p) => n + p.size, 0);
  const { flopsPerStep } = trainer;
  trainer.emit({ kind: 'start', microBatches, parameters: count, steps: options.steps, flopsPerStep });
}

async function conclude(trainer: Trainer, options: AnyOptions, reason: StopReason): Promise<void> {
  const { directory, report = true } = options;
  if (reason === 'interrupted' || reason === 'aborted') {
    const how = directory === undefined ? 'nothing was saved' : `run the same command again to go on`;
    trainer.emit({ kind: 'note', text: `stopped after step ${trainer.step} of ${options.steps}; ${how}` });
  }
  trainer.emit({ kind: 'end', reason, seconds: trainer.seconds });
  if (directory !== undefined && report) await writeReport(directory);
}

/** The log of a failed run says so, where the disk still takes a line. */
function endBadly(trainer: Trainer): void {
  try {
    trainer.emit({ kind: 'end', reason: 'failed', seconds: trainer.seconds });
  } catch {
    // The error that ended the run is the one to report.
  }
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
  const { directory: folder, config = null } = options;
  const directory =
    folder === undefined ? undefined : await RunDirectory.open(folder, config, options.resume ?? true);
  const interrupt = new Interrupt();
  const ends: (() => void)[] = [];
  const trainer = new Trainer(settings, parameters, average, directory);
  try {
    await trainer.prepare();
    ends.push(...(await addListeners(trainer, settings)));
    if (options.signal) interrupt.follow(options.signal);
    if (options.handleSignals ?? true) {
      interrupt.listen((name) =>
        process.stderr.write(`\n${name}: ending after this step; once more ends at once\n`),
      );
    }
    begin(trainer, settings, parameters);
    const reason = await loop(trainer, settings, interrupt);
    await conclude(trainer, settings, reason);
    trainer.settle();
    const { step, loss, resumedFrom, microBatches, seconds } = trainer;
    const { best, metrics } = trainer.scores;
    const result = { step, reason, loss: loss.value, metrics, resumedFrom, microBatches, seconds };
    return { ...result, best: best ?? undefined };
  } catch (error) {
    endBadly(trainer);
    throw error;
  } finally {
    for (const end of ends) end();
    interrupt.dispose();
    trainer.dispose();
    await directory?.close();
  }
}
