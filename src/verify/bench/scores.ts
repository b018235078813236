/**
 * Scores over VerifyBench's items. Abstentions are counted in three ways, because the paper's figures hinge on
 * them.
 */
import { bootstrap, type Interval, wilson } from '../../evaluate/metrics.js';
import type { BenchRecord } from './run.js';

/** Items by what the annotators and what the verifier say. */
export interface Confusion {
  truePositive: number;
  falsePositive: number;
  trueNegative: number;
  falseNegative: number;
  /** Right completions on which the verifier abstained, and wrong ones. */
  abstainedPositive: number;
  abstainedNegative: number;
}

/** Measured on one group of items. Shares of nothing have the value NaN. */
export interface BenchScores extends Confusion {
  /** Items with a verdict, abstentions included; failures of the verifier are not. */
  items: number;
  /** Share of verdicts that are the annotators'. An abstention is not: this is the paper's accuracy. */
  accuracy: Interval;
  /** The same, with abstentions read as "no". */
  accuracyAbstainIsNo: Interval;
  /** Accuracy over decided items alone. */
  accuracyDecided: Interval;
  /** Share of items that were decided. */
  coverage: Interval;
  /** Of the accepted completions, the share that is right. */
  precision: Interval;
  /** Of the right completions, the share that was accepted. */
  recall: Interval;
  /** Harmonic mean of precision and recall, with a bootstrap interval. */
  f1: Interval;
  /** Of the wrong completions, the share that was accepted. */
  falseAcceptRate: Interval;
  /** Of the right completions, the share that was rejected; abstentions are no rejections. */
  falseRejectRate: Interval;
}

// A number for each cell, so that the bootstrap resamples numbers.
const cells = [
  'truePositive',
  'falsePositive',
  'trueNegative',
  'falseNegative',
  'abstainedPositive',
  'abstainedNegative',
] as const;

function cellOf({ expected, verdict }: BenchRecord): (typeof cells)[number] {
  const isRight = expected === 'correct';
  if (verdict === 'correct') return isRight ? 'truePositive' : 'falsePositive';
  if (verdict === 'incorrect') return isRight ? 'falseNegative' : 'trueNegative';
  return isRight ? 'abstainedPositive' : 'abstainedNegative';
}

/** F1 from cell numbers, for the bootstrap: 2 TP / (accepted + right). */
function f1Of(values: Float64Array): number {
  let [hits, accepted, right] = [0, 0, 0];
  for (const cell of values) {
    if (cell === 0) hits++;
    if (cell === 0 || cell === 1) accepted++;
    if (cell === 0 || cell === 3 || cell === 4) right++;
  }
  return accepted + right === 0 ? Number.NaN : (2 * hits) / (accepted + right);
}

// Nothing is known of a share of nothing.
const unknown: Interval = { value: Number.NaN, low: 0, high: 1 };

function f1Interval(numbers: readonly number[], confidence: number): Interval {
  if (numbers.length === 0) return unknown;
  const { value, low, high } = bootstrap(numbers, { confidence, statistic: f1Of });
  // Resamples without a right or an accepted item have no F1; with so few of them an interval means nothing.
  return Number.isNaN(low) || Number.isNaN(high) ? { ...unknown, value } : { value, low, high };
}

/**
 * Scores of records. Intervals are Wilson's; the two completions of a question are taken for independent.
 * @param confidence of the intervals
 */
export function benchScores(records: readonly BenchRecord[], confidence = 0.95): BenchScores {
  const judged = records.filter(({ verdict }) => verdict !== 'failed');
  const numbers = judged.map((record) => cells.indexOf(cellOf(record)));
  const counts = Object.fromEntries(
    cells.map((name, cell) => [name, numbers.filter((one) => one === cell).length]),
  ) as unknown as Confusion;
  const { truePositive, falsePositive, trueNegative, falseNegative } = counts;
  const positives = truePositive + falseNegative + counts.abstainedPositive;
  const negatives = trueNegative + falsePositive + counts.abstainedNegative;
  const decided = truePositive + falsePositive + trueNegative + falseNegative;
  const share = (part: number, of: number) => wilson(part, of, confidence);
  const agreed = truePositive + trueNegative;
  return {
    items: judged.length,
    ...counts,
    accuracy: share(agreed, judged.length),
    accuracyAbstainIsNo: share(agreed + counts.abstainedNegative, judged.length),
    accuracyDecided: share(agreed, decided),
    coverage: share(decided, judged.length),
    precision: share(truePositive, truePositive + falsePositive),
    recall: share(truePositive, positives),
    f1: f1Interval(numbers, confidence),
    falseAcceptRate: share(falsePositive, negatives),
    falseRejectRate: share(falseNegative, positives),
  };
}

/** Milliseconds of work an item. */
export interface Times {
  mean: number;
  median: number;
  p99: number;
  max: number;
}

/** Nearest-rank quantiles of the items' times; NaN without items. */
export function benchTimes(records: readonly BenchRecord[]): Times {
  const sorted = records
    .filter(({ verdict }) => verdict !== 'failed')
    .map(({ ms }) => ms)
    .sort((a, b) => a - b);
  const at = (p: number) => sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)] ?? Number.NaN;
  const total = sorted.reduce((sum, ms) => sum + ms, 0);
  return { mean: total / sorted.length, median: at(0.5), p99: at(0.99), max: at(1) };
}
