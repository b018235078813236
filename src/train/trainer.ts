import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { AnnealError } from '../core/errors.js';
import type { Program } from '../core/program.js';
import type { Variable } from '../core/variable.js';
import type { Feeds, Json } from '../data/batch-source.js';
import type { WeightAverage } from './average.js';
import {
  checkpointPath,
  checkpointSteps,
  lastCheckpoint,
  pruneCheckpoints,
  readState,
  setDamagedAside,
  type TrainState,
  writeCheckpoint,
} from './checkpoints.js';
import type { EventBody, RunEvent } from './events.js';
import { readEvents } from './events.js';
import { Feeder } from './feeder.js';
import type { Moment, TrainOptions } from './options.js';
import { Smoothed } from './progress.js';
import type { RunDirectory } from './run-directory.js';
import { Scores } from './scores.js';
import {
  evaluationProgram,
  fastestSplit,
  leadingSizes,
  type StepParts,
  type StepValues,
  stepValues,
  updateProgram,
} from './step.js';
import { damageOf, StoredState, writeBatch } from './stored-state.js';

/** A step whose loss or gradient was a NaN or an infinity. The variables are as before it. */
export class NonFiniteError extends AnnealError {
  override name = 'NonFiniteError';

  constructor(
    message: string,
    /** Updates done before the one that was taken back. */
    readonly step: number,
    /** The batch that led to it. */
    readonly batch: Feeds,
  ) {
    super(message);
  }
}

type AnyOptions = TrainOptions<Record<string, never>>;
type AnyProgram = Program<string, string>;

/** Everything of one run that the loop drives: where it stands, and the things that it can do. */
export class Trainer {
  step = 0;
  /** Whether evaluation and sample of this step are done. */
  isEvaluated = false;
  readonly scores: Scores;
  resumedFrom: number | undefined;
  microBatches = 1;
  readonly loss = new Smoothed();
  /** Seconds of earlier sessions. */
  private earlierSeconds = 0;
  private readonly started = performance.now();
  private readonly feeder: Feeder;
  private readonly stored: StoredState;
  private readonly parts: StepParts;
  private update!: AnyProgram;
  private evaluation: AnyProgram | undefined;
  /** Step and phase of the last checkpoint. */
  private saved = '';
  private readonly early: RunEvent[] = [];
  private readonly listeners: ((event: RunEvent) => void)[] = [];

  constructor(
    private readonly options: AnyOptions,
    parameters: ReadonlyMap<string, Variable>,
    private readonly average: WeightAverage | undefined,
    private readonly directory: RunDirectory | undefined,
  ) {
    const { inputs, loss, optimizer, modelFiles, keepPrevious = true } = options;
    const trainable = [...parameters.values()].filter((p) => p.trainable);
    this.parts = { inputs, loss: loss as StepParts['loss'], trainable, optimizer, average, keepPrevious };
    const isAverageUsed = average !== undefined && options.average?.evaluate !== false;
    this.stored = new StoredState(parameters, optimizer, average, isAverageUsed, modelFiles);
    this.feeder = new Feeder(options.data);
    this.scores = new Scores(options.evaluate);
  }

  get seconds(): number {
    return this.earlierSeconds + (performance.now() - this.started) / 1000;
  }

  /** Floating-point operations of one update. */
  get flopsPerStep(): number {
    return this.update.report().flops;
  }

  /** Examples of the next batch: its leading axis. */
  async examples(): Promise<number> {
    return Math.max(1, ...leadingSizes(this.options.inputs, await this.feeder.peek()));
  }

  /** From now on the listener sees every event; those that came before anybody listened it sees at once. */
  listen(listener: (event: RunEvent) => void): void {
    this.early.forEach(listener);
    this.listeners.push(listener);
  }

  emit(body: EventBody): void {
    const event = this.directory?.append(this.step, body) ?? { time: Date.now(), step: this.step, ...body };
    if (this.listeners.length === 0) this.early.push(event);
    for (const listener of this.listeners) listener(event);
  }

  /** Compiles the update and takes up the newest checkpoint that is whole, if there is one. */
  async prepare(): Promise<void> {
    const state = await this.newestState();
    if (state) {
      this.feeder.restore(state.data);
      this.options.extra?.restore(state.extra);
      this.microBatches = state.microBatches;
    } else {
      this.microBatches = await this.chooseMicroBatches();
    }
    this.update = updateProgram(this.parts, this.microBatches, this.parts.keepPrevious);
    // Tracing creates the optimiser's state, which the checkpoint then fills.
    await this.update.compile(await this.feeder.peek());
    if (state) await this.restore(state);
  }

  private async restore(state: TrainState): Promise<void> {
    await this.stored.read(checkpointPath(this.directory!.path, state.step));
    this.step = state.step;
    this.isEvaluated = state.isEvaluated;
    this.scores.restore(state);
    this.loss.restore(state.smoothedLoss);
    this.earlierSeconds = state.seconds;
    this.resumedFrom = state.step;
    this.saved = this.savedMark();
  }

  private async newestState(): Promise<TrainState | undefined> {
    if (!this.directory?.isResumed) return undefined;
    const { path: folder } = this.directory;
    for (const step of (await checkpointSteps(folder)).reverse()) {
      const damage = await damageOf(folder, step);
      if (damage === undefined) return readState(folder, step);
      const aside = await setDamagedAside(folder, step);
      this.emit({
        kind: 'note',
        text: `checkpoint step-${step} is damaged and now lies in ${aside}: ${damage}`,
      });
    }
    return undefined;
  }

  private async chooseMicroBatches(): Promise<number> {
    const { microBatches = 1 } = this.options;
    if (microBatches !== 'auto') return microBatches;
    if (this.directory?.isResumed) {
      // The run was killed before its first checkpoint: it repeats itself only with the split that it had.
      const { events } = await readEvents(this.directory.path);
      const start = events.findLast((event) => event.kind === 'start');
      if (start) return start.microBatches;
    }
    const { microBatches: fastest, milliseconds } = await fastestSplit(this.parts, await this.feeder.peek());
    this.emit({
      kind: 'note',
      text: `batches are cut into ${fastest} micro-batches, the fastest split`,
      data: { milliseconds },
    });
    return fastest;
  }

  /** One update. @throws NonFiniteError if its loss or gradient is not finite; the variables are as before then. */
  async advance(): Promise<void> {
    const start = performance.now();
    const { steps, prefetch = true, units } = this.options;
    const { feeder } = this;
    const batch = await this.nextBatch();
    const before = feeder.cursor;
    feeder.advance();
    const running = this.update(batch);
    if (prefetch && this.step + 1 < steps) {
      // The run begins in microtasks; only after them may the main thread be busy with the next batch.
      await new Promise(setImmediate);
      feeder.peek();
    }
    const values = stepValues(await running);
    if (!Number.isFinite(values.loss) || !Number.isFinite(values.gradNorm)) {
      await this.takeBack(values, batch, before);
    }
    this.step++;
    this.isEvaluated = false;
    this.loss.add(values.loss);
    const ms = performance.now() - start;
    const { loss, lr, gradNorm, metrics } = values;
    const count = units?.perStep ?? Math.max(1, ...leadingSizes(this.options.inputs, batch));
    const event: EventBody = { kind: 'train', loss, lr, gradNorm, ms, rate: (1000 * count) / ms };
    this.emit(Object.keys(metrics).length > 0 ? { ...event, metrics } : event);
  }

  private async nextBatch(): Promise<Feeds> {
    try {
      return await this.feeder.peek();
    } catch (error) {
      // The data is gone, the work is not.
      await this.save();
      throw error;
    }
  }

  private async takeBack(values: StepValues, batch: Feeds, before: Json): Promise<never> {
    const { inputs } = this.options;
    const what = Number.isFinite(values.loss) ? 'gradient' : 'loss';
    let text = `the ${what} of step ${this.step + 1} is not finite (loss ${values.loss}, gradient norm ${values.gradNorm})`;
    if (this.parts.keepPrevious) this.update.undo();
    const bad = this.parts.keepPrevious ? this.stored.firstNonFinite() : 'everything';
    if (this.directory) {
      const file = path.join(this.directory.path, 'non-finite', `step-${this.step + 1}.safetensors`);
      await writeBatch(file, inputs, batch);
      text += `; its batch is in ${file}`;
      if (bad === undefined) await this.save(before);
      const last = await lastCheckpoint(this.directory.path);
      text += last ? `, the last good state in ${last}` : ', there is no checkpoint of an earlier step';
    }
    text += '; lower the learning rate, clip the gradients, or look for bad values in the batch';
    this.emit({ kind: 'note', text });
    throw new NonFiniteError(text, this.step, batch);
  }

  private moment(): Moment {
    const isLast = this.step === this.options.steps || this.scores.isStopped;
    return { step: this.step, isLast, directory: this.directory?.path };
  }

  /**
   * Evaluates, and decides about the best checkpoint and an early stop.
   * @returns whether the evaluation is the best so far; undefined if `isInterrupted` ended it.
   */
  async evaluate(isInterrupted: () => boolean): Promise<boolean | undefined> {
    const start = performance.now();
    const metrics = await this.stored.withModelWeights(() => this.measure(isInterrupted));
    if (!metrics) return undefined;
    const isBest = this.scores.observe(this.step, metrics);
    this.emit({ kind: 'evaluate', metrics, isBest, ms: performance.now() - start });
    return isBest;
  }

  private async measure(isInterrupted: () => boolean): Promise<Record<string, number> | undefined> {
    const { batches, run } = this.options.evaluate!;
    const sums: Record<string, number> = {};
    let count = 0;
    if (batches) {
      this.evaluation ??= evaluationProgram(this.parts);
      for await (const feeds of typeof batches === 'function' ? batches() : batches) {
        if (isInterrupted()) return undefined;
        const values = await this.evaluation(feeds);
        for (const name in values) sums[name] = (sums[name] ?? 0) + values[name]!.item();
        count++;
      }
      if (count === 0) throw new AnnealError('evaluate: there are no batches; pass some, or leave them out');
    }
    for (const name in sums) sums[name]! /= count;
    return run ? { ...sums, ...(await run(this.moment())) } : sums;
  }

  async sample(): Promise<void> {
    const { run } = this.options.sample!;
    const value = await this.stored.withModelWeights(() => run(this.moment()));
    this.emit({ kind: 'sample', value });
    if (!this.directory) return;
    const isText = typeof value === 'string';
    const file = path.join(this.directory.path, 'samples', `step-${this.step}.${isText ? 'txt' : 'json'}`);
    await writeFileAtomically(file, isText ? `${value}\n` : `${JSON.stringify(value, undefined, 2)}\n`);
  }

  private savedMark(): string {
    return `${this.step} ${this.isEvaluated}`;
  }

  /**
   * Writes a checkpoint, unless this very state has one, and removes those that are no longer kept.
   * @throws AnnealError if the disk is full or refuses; it names the last good checkpoint.
   */
  async save(data: Json = this.feeder.cursor): Promise<void> {
    if (!this.directory || this.saved === this.savedMark()) return;
    const start = performance.now();
    const { path: folder } = this.directory;
    const { step, isEvaluated, microBatches, seconds } = this;
    const { weights } = this.stored;
    const extra = this.options.extra?.save() ?? null;
    const place = { step, isEvaluated, microBatches, weights, data, extra };
    const scores = { ...this.scores.state(), smoothedLoss: this.loss.state() };
    try {
      const state: TrainState = { format: 1, ...place, ...scores, seconds };
      await writeCheckpoint(folder, state, (to) => this.stored.write(to));
    } catch (error) {
      const last = await lastCheckpoint(folder);
      const advice = last ? `the run can go on from ${last}` : 'there is no earlier checkpoint';
      throw new AnnealError(`${(error as Error).message}; ${advice}`, { cause: error });
    }
    this.saved = this.savedMark();
    const { best } = this.scores;
    const isBest = best?.step === step;
    this.emit({ kind: 'save', checkpoint: `step-${step}`, isBest, ms: performance.now() - start });
    this.directory.flush();
    const { keep = 2 } = this.options.save ?? {};
    await pruneCheckpoints(folder, keep, best ? [best.step] : []);
  }

  /** Leaves the weights that evaluations saw in the parameters. */
  settle(): void {
    if (this.stored.weights === 'average') this.average!.swap();
  }

  /** Frees the programs. */
  dispose(): void {
    this.update?.dispose();
    this.evaluation?.dispose();
  }
}
