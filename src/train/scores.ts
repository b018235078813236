import { AnnealError } from '../core/errors.js';
import type { TrainState } from './checkpoints.js';
import type { EvaluateOptions } from './options.js';

/** What evaluations decide: which checkpoint is best, and whether to end early. */
export class Scores {
  best: { step: number; value: number } | null = null;
  /** Metrics of the last evaluation. */
  metrics: Readonly<Record<string, number>> = {};
  /** Whether patience has run out. */
  isStopped = false;
  /** Evaluations since the best one. */
  private patienceUsed = 0;

  constructor(private readonly options: Pick<EvaluateOptions, 'metric' | 'better' | 'patience'> = {}) {}

  /**
   * Takes note of an evaluation. A value that is not finite is never the best, and without a metric none is.
   * @returns whether it is the best so far.
   * @throws AnnealError if the metric that decides is not among the metrics.
   */
  observe(step: number, metrics: Readonly<Record<string, number>>): boolean {
    const { metric = 'loss', better = 'lower', patience = Number.POSITIVE_INFINITY } = this.options;
    const value = metric === null ? Number.NaN : metrics[metric];
    if (value === undefined) {
      throw new AnnealError(
        `evaluate: there is no metric "${metric}" among ${Object.keys(metrics).join(', ') || 'none'}`,
      );
    }
    const { best } = this;
    const isBetter = best === null || (better === 'lower' ? value < best.value : value > best.value);
    const isBest = Number.isFinite(value) && isBetter;
    if (isBest) this.best = { step, value };
    this.patienceUsed = isBest ? 0 : this.patienceUsed + 1;
    if (this.patienceUsed >= patience) this.isStopped = true;
    this.metrics = metrics;
    return isBest;
  }

  /** For a checkpoint. */
  state(): Pick<TrainState, 'best' | 'patienceUsed' | 'isStopped' | 'metrics'> {
    const { best, patienceUsed, isStopped, metrics } = this;
    return { best, patienceUsed, isStopped, metrics };
  }

  restore({ best, patienceUsed, isStopped, metrics }: ReturnType<Scores['state']>): void {
    Object.assign(this, { best, patienceUsed, isStopped, metrics });
  }
}
