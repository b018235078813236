import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { AnnealError } from '../core/errors.js';
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
import type { Moment, RunOptions } from './options.js';
import { Smoothed } from './progress.js';
import type { RunDirectory } from './run-directory.js';
import { Scores } from './scores.js';

/** The part of a checkpoint's state that only the kind of run knows. */
export type OwnState = Pick<TrainState, 'microBatches' | 'weights' | 'data' | 'extra'>;

/** What the line of progress says about a run's work. */
export interface RunWork {
  steps: number;
  /** What `rate` counts. */
  unit: string;
  /** Units of one step; undefined where steps differ, and each event's `rate` is shown. */
  perStep: number | undefined;
  /** Undefined where it is not known. */
  flopsPerStep: number | undefined;
  /** Metrics of the train events to show, beside or instead of the loss. */
  figures?: readonly string[];
}

/**
 * What every run has that the loop (`driveRun`) drives, whatever an update of it is: where it stands, its log, its
 * evaluations, samples and checkpoints.
 */
export abstract class Run {
  step = 0;
  /** Whether evaluation and sample of this step are done. */
  isEvaluated = false;
  readonly scores: Scores;
  resumedFrom: number | undefined;
  readonly loss = new Smoothed();
  /** Seconds of earlier sessions. */
  private earlierSeconds = 0;
  private readonly started = performance.now();
  /** Step and phase of the last checkpoint. */
  private saved = '';
  /** Events from before the beginning, for listeners to come. */
  private readonly early: RunEvent[] = [];
  private isUnderWay = false;
  private readonly listeners: ((event: RunEvent) => void)[] = [];

  constructor(
    protected readonly settings: RunOptions,
    protected readonly directory: RunDirectory | undefined,
  ) {
    this.scores = new Scores(settings.evaluate);
  }

  /** Takes up the newest checkpoint that is whole, if there is one, and makes ready for the first update. */
  abstract prepare(): Promise<void>;
  /** One update. */
  abstract advance(): Promise<void>;
  /** The first event of the run, or of this session of it. */
  abstract begin(): EventBody;
  /** What progress is counted in. */
  abstract work(): Promise<RunWork>;
  /** Frees what the run made. */
  abstract dispose(): void;
  /** Metrics of an evaluation; undefined if `isInterrupted` ended it. */
  protected abstract measure(
    isInterrupted: () => boolean,
  ): Promise<Readonly<Record<string, number>> | undefined>;
  /** Writes all tensors into a folder. No program may be running. */
  protected abstract writeTensors(folder: string): Promise<void>;
  /** What is wrong with a checkpoint's files; undefined if they are whole. */
  protected abstract damageOf(step: number): Promise<string | undefined>;
  protected abstract ownState(): OwnState;

  /** Whether there is nothing left to do, although `steps` says more. */
  isOver(): boolean {
    return false;
  }

  /** What evaluations are told beside their metrics. */
  protected tally(): { updates?: Readonly<Record<string, number>> } {
    return {};
  }

  /** Runs `body` while the weights are those that evaluations see. */
  protected withModelWeights<T>(body: () => Promise<T>): Promise<T> {
    return body();
  }

  get seconds(): number {
    return this.earlierSeconds + (performance.now() - this.started) / 1000;
  }

  /** From now on the listener sees every event; those that came before anybody listened it sees at once. */
  listen(listener: (event: RunEvent) => void): void {
    this.early.forEach(listener);
    this.listeners.push(listener);
  }

  emit(body: EventBody): void {
    const event = this.directory?.append(this.step, body) ?? { time: Date.now(), step: this.step, ...body };
    // All listeners are there when a run begins; a log of everything would grow without end.
    if (body.kind === 'start' || body.kind === 'resume') this.isUnderWay = true;
    if (!this.isUnderWay) this.early.push(event);
    for (const listener of this.listeners) listener(event);
  }

  /** State of the newest checkpoint that is whole; damaged ones are set aside. */
  protected async newestState(): Promise<TrainState | undefined> {
    if (!this.directory?.isResumed) return undefined;
    const { path: folder } = this.directory;
    for (const step of (await checkpointSteps(folder)).reverse()) {
      const damage = await this.damageOf(step);
      if (damage === undefined) return readState(folder, step);
      const aside = await setDamagedAside(folder, step);
      this.emit({
        kind: 'note',
        text: `checkpoint step-${step} is damaged and now lies in ${aside}: ${damage}`,
      });
    }
    return undefined;
  }

  /** Folder of a checkpoint of this run. */
  protected checkpoint(step: number): string {
    return checkpointPath(this.directory!.path, step);
  }

  /** Goes to where a checkpoint was written; its tensors are the caller's. */
  protected restorePlace(state: TrainState): void {
    this.step = state.step;
    this.isEvaluated = state.isEvaluated;
    this.scores.restore(state);
    this.loss.restore(state.smoothedLoss);
    this.earlierSeconds = state.seconds;
    this.resumedFrom = state.step;
    this.saved = this.savedMark();
  }

  protected moment(): Moment {
    const isLast = this.step === this.settings.steps || this.scores.isStopped;
    return { step: this.step, isLast, directory: this.directory?.path };
  }

  /**
   * Evaluates, and decides about the best checkpoint and an early stop.
   * @returns whether the evaluation is the best so far; undefined if `isInterrupted` ended it.
   */
  async evaluate(isInterrupted: () => boolean): Promise<boolean | undefined> {
    const start = performance.now();
    const metrics = await this.withModelWeights(() => this.measure(isInterrupted));
    if (!metrics) return undefined;
    const isBest = this.scores.observe(this.step, metrics);
    this.emit({ kind: 'evaluate', metrics, isBest, ms: performance.now() - start, ...this.tally() });
    return isBest;
  }

  async sample(): Promise<void> {
    const { run } = this.settings.sample!;
    const value = await this.withModelWeights(() => run(this.moment()));
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
  async save(own: OwnState = this.ownState()): Promise<void> {
    if (!this.directory || this.saved === this.savedMark()) return;
    const start = performance.now();
    const { path: folder } = this.directory;
    const { step, isEvaluated, seconds } = this;
    const scores = { ...this.scores.state(), smoothedLoss: this.loss.state() };
    try {
      const state: TrainState = { format: 1, step, isEvaluated, ...own, ...scores, seconds };
      await writeCheckpoint(folder, state, (to) => this.writeTensors(to));
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
    const { keep = 2 } = this.settings.save ?? {};
    await pruneCheckpoints(folder, keep, best ? [best.step] : []);
  }
}
