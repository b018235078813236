import { AnnealError } from '../core/errors.js';
import type { StopReason } from './events.js';
import { Interrupt } from './interrupt.js';
import type { RunOptions, TrainResult } from './options.js';
import { measurePeak } from './peak.js';
import { Progress } from './progress.js';
import { writeReport } from './report.js';
import type { Run } from './run.js';
import { RunDirectory } from './run-directory.js';
import { TensorBoardWriter } from './tensorboard.js';

/** Whether something that happens every `every` steps is due now. */
const isDue = (every: number, step: number, isLast: boolean): boolean => isLast || step % every === 0;

/**
 * Checks the settings that every run has.
 * @param what name of the function that was called, for messages
 * @throws AnnealError that names the setting.
 */
export function checkRunOptions(what: string, options: RunOptions): void {
  const positive = (name: string, value: number | undefined) => {
    if (value !== undefined && !(Number.isInteger(value) && value >= 1))
      throw new AnnealError(`${what}: ${name} must be a positive integer, not ${value}`);
  };
  const { steps, evaluate, sample, save } = options;
  if (!Number.isInteger(steps) || steps < 0)
    throw new AnnealError(`${what}: steps must be an integer of 0 or more, not ${steps}`);
  positive('evaluate.every', evaluate?.every);
  positive('evaluate.patience', evaluate?.patience);
  positive('sample.every', sample?.every);
  positive('save.every', save?.every);
  positive('save.keep', save?.keep);
  if (options.tensorBoard && options.directory === undefined)
    throw new AnnealError(`${what}: tensorBoard needs a directory to write to`);
}

/**
 * The loop. Each round stands between two updates and does what is due there, in this order: end, if somebody wants
 * that; evaluate; sample; save; end, if this is the last round; update. There is one round more than updates, so
 * that the last weights are evaluated and saved, too.
 */
async function loop(run: Run, options: RunOptions, interrupt: Interrupt): Promise<TrainResult['reason']> {
  const { steps, evaluate, sample } = options;
  const saveEvery = options.save?.every ?? Math.max(1, Math.round(steps / 10));
  for (;;) {
    const { step } = run;
    const isEnd = step >= steps || run.isOver();
    if (interrupt.reason) {
      await run.save();
      return interrupt.reason;
    }
    if (!run.isEvaluated) {
      let isBest: boolean | undefined = false;
      if (evaluate && isDue(evaluate.every, step, isEnd)) {
        isBest = await run.evaluate(() => interrupt.reason !== undefined);
        if (isBest === undefined) continue;
      }
      const isLast = isEnd || run.scores.isStopped;
      if (sample && step > 0 && isDue(sample.every, step, isLast)) await run.sample();
      run.isEvaluated = true;
      // The first weights are made again from the config at no cost.
      if ((step > 0 || isLast) && (isBest || isDue(saveEvery, step, isLast))) await run.save();
    }
    if (isEnd) return 'finished';
    if (run.scores.isStopped) return 'early stop';
    await run.advance();
  }
}

async function addListeners(run: Run, options: RunOptions): Promise<(() => void)[]> {
  const ends: (() => void)[] = [];
  const { progress = true, peakFlops, directory } = options;
  if (progress !== false) {
    const peak = peakFlops === 'measure' ? await measurePeak() : peakFlops;
    const shown = new Progress(progress === true ? {} : progress, {
      ...(await run.work()),
      peakFlops: peak,
    });
    run.listen((event) => shown.see(event));
    ends.push(() => shown.end());
  }
  if (options.tensorBoard) {
    const board = new TensorBoardWriter(directory!);
    run.listen((event) => board.see(event));
    ends.push(() => board.close());
  }
  if (options.onEvent) run.listen(options.onEvent);
  return ends;
}

async function conclude(run: Run, options: RunOptions, reason: StopReason): Promise<void> {
  const { directory, report = true } = options;
  if (reason === 'interrupted' || reason === 'aborted') {
    const how = directory === undefined ? 'nothing was saved' : `run the same command again to go on`;
    run.emit({ kind: 'note', text: `stopped after step ${run.step} of ${options.steps}; ${how}` });
  }
  run.emit({ kind: 'end', reason, seconds: run.seconds });
  if (directory !== undefined && report) await writeReport(directory);
}

/** The log of a failed run says so, where the disk still takes a line. */
function endBadly(run: Run): void {
  try {
    run.emit({ kind: 'end', reason: 'failed', seconds: run.seconds });
  } catch {
    // The error that ended the run is the one to report.
  }
}

/**
 * Drives a run to its end: opens and locks the directory, takes up a checkpoint, listens to signals, keeps the log,
 * writes the report. `train` and `reinforce` are this loop with different updates.
 * @param open makes the run; it gets the directory, where there is one
 * @param finish makes the caller's result while everything is still there
 */
export async function driveRun<R extends Run, Result>(
  options: RunOptions,
  open: (directory: RunDirectory | undefined, interrupt: Interrupt) => R,
  finish: (run: R, reason: TrainResult['reason']) => Result,
): Promise<Result> {
  const { directory: folder, config = null } = options;
  const directory =
    folder === undefined ? undefined : await RunDirectory.open(folder, config, options.resume ?? true);
  const interrupt = new Interrupt();
  const ends: (() => void)[] = [];
  const run = open(directory, interrupt);
  try {
    await run.prepare();
    ends.push(...(await addListeners(run, options)));
    if (options.signal) interrupt.follow(options.signal);
    if (options.handleSignals ?? true) {
      interrupt.listen((name) =>
        process.stderr.write(`\n${name}: ending after this step; once more ends at once\n`),
      );
    }
    run.emit(run.begin());
    const reason = await loop(run, options, interrupt);
    await conclude(run, options, reason);
    return finish(run, reason);
  } catch (error) {
    endBadly(run);
    throw error;
  } finally {
    for (const end of ends) end();
    interrupt.dispose();
    run.dispose();
    await directory?.close();
  }
}
