import { mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileError } from '../checkpoint/file-source.js';
import { AnnealError } from '../core/errors.js';
import { Rng } from '../core/random.js';
import type { Json } from '../data/batch-source.js';
import type { EventBody } from '../train/events.js';
import type { Interrupt } from '../train/interrupt.js';
import type { RunOptions } from '../train/options.js';
import { type OwnState, Run, type RunWork } from '../train/run.js';
import type { RunDirectory } from '../train/run-directory.js';
import { damageOf } from '../train/stored-state.js';
import type { PhaseContext, PhaseReport } from './phases.js';
import type { ReinforceOptions, StoredPolicy } from './reinforce.js';

type AnyOptions = ReinforceOptions<Readonly<Record<string, StoredPolicy>>>;
type States = Readonly<Record<string, Json>>;

/** A run of `reinforce`: an update is a step of a phase. */
export class ReinforceRun extends Run {
  private readonly policies: readonly (readonly [string, StoredPolicy])[];
  /** Steps that each phase has had. */
  private readonly phaseSteps = new Map<string, number>();
  private readonly never = new AbortController();
  /** The table that is being written. */
  private table: Promise<void> = Promise.resolve();

  constructor(
    private readonly options: AnyOptions,
    settings: RunOptions,
    directory: RunDirectory | undefined,
    private readonly interrupt: Interrupt,
  ) {
    super(settings, directory);
    this.policies = Object.entries(options.policies);
  }

  /** Updates that each policy has had. */
  updates(): Record<string, number> {
    return Object.fromEntries(this.policies.map(([name, policy]) => [name, policy.updates]));
  }

  async prepare(): Promise<void> {
    const state = await this.newestState();
    if (state) {
      for (const [name, policy] of this.policies)
        await policy.restore(this.folderOf(this.checkpoint(state.step), name));
      this.restoreStates((state.extra ?? {}) as States);
      this.restorePlace(state);
    }
    for (let step = 0; step < this.step; step++) this.count(this.phaseOf(step));
  }

  override isOver(): boolean {
    return this.options.isOver?.() ?? false;
  }

  begin(): EventBody {
    if (this.resumedFrom !== undefined) return { kind: 'resume', microBatches: 1 };
    const sizes = this.policies.flatMap(([, { parameters }]) =>
      [...parameters.values()].map(({ size }) => size),
    );
    const parameters = sizes.reduce((a, b) => a + b, 0);
    return { kind: 'start', microBatches: 1, parameters, steps: this.options.steps };
  }

  async work(): Promise<RunWork> {
    const { steps, figures = ['reward', 'gradNorm', 'zeroVariance'] } = this.options;
    return { steps, unit: 'tokens', perStep: undefined, flopsPerStep: undefined, figures };
  }

  /** One step of the phase whose turn it is. */
  async advance(): Promise<void> {
    const start = performance.now();
    const phase = this.phaseOf(this.step);
    const [updates, states] = [this.updates(), this.states()];
    let report: PhaseReport;
    try {
      report = await this.options.phases[phase]!(this.contextOf(phase));
      checkMetrics(phase, report);
    } catch (error) {
      await this.takeBack(error, updates, states);
      return;
    }
    await this.writeTable(report, this.step + 1);
    this.step++;
    this.isEvaluated = false;
    this.count(phase);
    const ms = performance.now() - start;
    const { loss = Number.NaN, lr = 0, gradNorm = Number.NaN, ...metrics } = report.metrics;
    if (Number.isFinite(loss)) this.loss.add(loss);
    const rate = (1000 * (metrics.tokens ?? 0)) / ms;
    // The norm is a metric, too, so that progress can show it.
    const shown = Number.isFinite(gradNorm) ? { ...metrics, gradNorm } : metrics;
    this.emit({
      kind: 'train',
      loss,
      lr,
      gradNorm,
      ms,
      rate,
      metrics: shown,
      phase,
      updates: this.updates(),
    });
  }

  private phaseOf(step: number): string {
    const { phases, schedule } = this.options;
    const phase = schedule ? schedule(step) : Object.keys(phases)[0]!;
    if (Object.hasOwn(phases, phase)) return phase;
    throw new AnnealError(
      `reinforce: the schedule gives "${phase}" for step ${step}; the phases are ${Object.keys(phases).join(', ')}`,
    );
  }

  private count(phase: string): void {
    this.phaseSteps.set(phase, (this.phaseSteps.get(phase) ?? 0) + 1);
  }

  private contextOf(phase: string): PhaseContext<never> {
    const { step } = this;
    const { seed = 0, policies, signal = this.never.signal } = this.options;
    const stream = new Rng(seed, 'reinforce').split(step).split(phase);
    return {
      step,
      phase,
      phaseStep: this.phaseSteps.get(phase) ?? 0,
      policies: policies as never,
      seed: (...parts) =>
        Math.floor(parts.reduce<Rng>((rng, part) => rng.split(part), stream).next() * 2 ** 53),
      signal,
      emit: (text, data) => this.emit({ kind: 'note', text, ...(data !== undefined && { data }) }),
    };
  }

  /**
   * After a phase that threw: if no policy was updated, everything is as before the step, and a checkpoint keeps it. A
   * phase that ended because the run should end is no failure.
   */
  private async takeBack(error: unknown, updates: Record<string, number>, states: States): Promise<void> {
    this.restoreStates(states);
    const now = this.updates();
    const changed = Object.keys(updates).filter((name) => updates[name] !== now[name]);
    if (changed.length === 0) {
      if (this.interrupt.reason !== undefined) return;
      await this.save();
    } else {
      const text = `step ${this.step + 1} failed after an update of ${changed.join(', ')}; the run goes on from its last checkpoint`;
      this.emit({ kind: 'note', text });
    }
    throw error;
  }

  /** Begins to write the step's table, after the one before is there. */
  private async writeTable({ samples }: PhaseReport, step: number): Promise<void> {
    await this.table;
    const { rollouts = { every: 1 } } = this.options;
    if (!this.directory || !rollouts || !samples || step % rollouts.every !== 0) return;
    const file = path.join(this.directory.path, 'rollouts', `step-${step}.jsonl`);
    this.table = writeTable(file, samples.map((row) => `${JSON.stringify(row)}\n`).join(''));
    // Whoever awaits it next hears of a failure.
    this.table.catch(() => undefined);
  }

  /** A checkpoint has the tables of all steps before it. */
  override async save(own?: OwnState): Promise<void> {
    await this.table;
    await super.save(own);
  }

  private states(): States {
    const entries = Object.entries(this.options.state ?? {});
    return Object.fromEntries(entries.map(([name, part]) => [name, part.save()]));
  }

  private restoreStates(states: States): void {
    for (const [name, part] of Object.entries(this.options.state ?? {})) {
      if (!Object.hasOwn(states, name))
        throw new AnnealError(
          `the checkpoint of step ${this.step} has no state "${name}"; it is of another run`,
        );
      part.restore(states[name]!);
    }
  }

  /** A single policy's files lie where those of a trained model do, so that every command finds them. */
  private folderOf(checkpoint: string, policy: string): string {
    return this.policies.length === 1 ? checkpoint : path.join(checkpoint, policy);
  }

  protected async measure(): Promise<Readonly<Record<string, number>>> {
    return this.options.evaluate!.run(this.moment());
  }

  protected override tally(): { updates: Record<string, number> } {
    return { updates: this.updates() };
  }

  protected async writeTensors(folder: string): Promise<void> {
    for (const [name, policy] of this.policies) {
      const own = this.folderOf(folder, name);
      await mkdir(own, { recursive: true });
      await policy.save(own);
    }
  }

  protected damageOf(step: number): Promise<string | undefined> {
    const required = this.policies.map(([name]) =>
      path.join(this.folderOf('', name), 'optimizer.safetensors'),
    );
    return damageOf(this.directory!.path, step, required);
  }

  protected ownState(): OwnState {
    return { microBatches: 1, weights: 'trained', data: null, extra: this.states() };
  }

  dispose(): void {
    // Policies are the caller's.
  }
}

/** There completely or not at all after a kill; not flushed, as the log is not: that would take longer than a small step. */
async function writeTable(file: string, text: string): Promise<void> {
  const temporary = `${file}.tmp`;
  try {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(temporary, text);
    await rename(temporary, file);
  } catch (error) {
    throw fileError('write', file, error);
  }
}

function checkMetrics(phase: string, report: PhaseReport): void {
  for (const [name, value] of Object.entries(report.metrics)) {
    if (typeof value !== 'number')
      throw new AnnealError(`phase "${phase}": its metric "${name}" is ${String(value)}; return numbers`);
  }
}
