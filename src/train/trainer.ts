import path from 'node:path';
import { AnnealError } from '../core/errors.js';
import type { Program } from '../core/program.js';
import type { Variable } from '../core/variable.js';
import type { Feeds, Json } from '../data/batch-source.js';
import type { WeightAverage } from './average.js';
import { lastCheckpoint } from './checkpoints.js';
import type { EventBody } from './events.js';
import { readEvents } from './events.js';
import { Feeder } from './feeder.js';
import type { TrainOptions } from './options.js';
import { type OwnState, Run, type RunWork } from './run.js';
import type { RunDirectory } from './run-directory.js';
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

/** A run of `train`: batches from a stream, one program for the update. */
export class Trainer extends Run {
  microBatches = 1;
  private readonly feeder: Feeder;
  private readonly stored: StoredState;
  private readonly parts: StepParts;
  private update!: AnyProgram;
  private evaluation: AnyProgram | undefined;

  constructor(
    private readonly options: AnyOptions,
    private readonly parameters: ReadonlyMap<string, Variable>,
    private readonly average: WeightAverage | undefined,
    directory: RunDirectory | undefined,
  ) {
    super(options, directory);
    const { inputs, loss, optimizer, modelFiles, keepPrevious = true } = options;
    const trainable = [...parameters.values()].filter((p) => p.trainable);
    this.parts = { inputs, loss: loss as StepParts['loss'], trainable, optimizer, average, keepPrevious };
    const isAverageUsed = average !== undefined && options.average?.evaluate !== false;
    this.stored = new StoredState(parameters, optimizer, average, isAverageUsed, modelFiles);
    this.feeder = new Feeder(options.data);
  }

  async work(): Promise<RunWork> {
    const { steps, units } = this.options;
    return {
      steps,
      unit: units?.name ?? 'examples',
      perStep: units?.perStep ?? (await this.examples()),
      flopsPerStep: this.update.report().flops,
    };
  }

  begin(): EventBody {
    const { microBatches } = this;
    if (this.resumedFrom !== undefined) return { kind: 'resume', microBatches };
    const parameters = [...this.parameters.values()].reduce((n, p) => n + p.size, 0);
    const { flops: flopsPerStep } = this.update.report();
    return { kind: 'start', microBatches, parameters, steps: this.options.steps, flopsPerStep };
  }

  /** Examples of the next batch: its leading axis. */
  private async examples(): Promise<number> {
    return Math.max(1, ...leadingSizes(this.options.inputs, await this.feeder.peek()));
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
    if (state) {
      await this.stored.read(this.checkpoint(state.step));
      this.restorePlace(state);
    }
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
      if (bad === undefined) await this.save({ ...this.ownState(), data: before });
      const last = await lastCheckpoint(this.directory.path);
      text += last ? `, the last good state in ${last}` : ', there is no checkpoint of an earlier step';
    }
    text += '; lower the learning rate, clip the gradients, or look for bad values in the batch';
    this.emit({ kind: 'note', text });
    throw new NonFiniteError(text, this.step, batch);
  }

  protected async measure(isInterrupted: () => boolean): Promise<Record<string, number> | undefined> {
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

  protected ownState(): OwnState {
    const { microBatches, feeder } = this;
    const { weights } = this.stored;
    return { microBatches, weights, data: feeder.cursor, extra: this.options.extra?.save() ?? null };
  }

  protected writeTensors(folder: string): Promise<void> {
    return this.stored.write(folder);
  }

  protected damageOf(step: number): Promise<string | undefined> {
    return damageOf(this.directory!.path, step);
  }

  protected override withModelWeights<T>(body: () => Promise<T>): Promise<T> {
    return this.stored.withModelWeights(body);
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
