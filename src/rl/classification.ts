import { AnnealError } from '../core/errors.js';

/** How well verdicts agree with the truth. Positive = correct. */
export interface BinaryMetrics {
  accuracy: number;
  /** Mean of the recalls of the classes that occur: a constant verdict gets 0.5 whatever the shares are. */
  balancedAccuracy: number;
  /** 2 TP / (2 TP + FP + FN); 0 where there is no positive at all, as of precision and recall. */
  f1: number;
  precision: number;
  recall: number;
  /** Share of the verdicts that could be read. */
  parsed: number;
  /** Share of positive verdicts, and of positive truths. */
  predictedPositive: number;
  actualPositive: number;
  count: number;
}

const share = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);

/**
 * Metrics of a verifier's verdicts. A verdict that could not be read (null) counts as "incorrect", as in RL Tango.
 * Look at F1 or balanced accuracy: with 5 % correct solutions "always incorrect" has an accuracy of 95 %.
 * @throws AnnealError if the lists differ in length or are empty.
 */
export function binaryMetrics(
  predicted: readonly (boolean | null)[],
  actual: readonly boolean[],
): BinaryMetrics {
  const count = actual.length;
  if (predicted.length !== count || count === 0)
    throw new AnnealError(
      `binaryMetrics: ${predicted.length} verdicts on ${count} items; pass one a item, at least one`,
    );
  let [tp, fp, fn, tn] = [0, 0, 0, 0];
  predicted.forEach((verdict, i) => {
    if (verdict === true) actual[i] ? tp++ : fp++;
    else actual[i] ? fn++ : tn++;
  });
  const recalls = [...(tp + fn > 0 ? [tp / (tp + fn)] : []), ...(tn + fp > 0 ? [tn / (tn + fp)] : [])];
  return {
    accuracy: (tp + tn) / count,
    balancedAccuracy: recalls.reduce((a, b) => a + b, 0) / recalls.length,
    f1: share(2 * tp, 2 * tp + fp + fn),
    precision: share(tp, tp + fp),
    recall: share(tp, tp + fn),
    parsed: share(predicted.filter((verdict) => verdict !== null).length, count),
    predictedPositive: share(tp + fp, count),
    actualPositive: share(tp + fn, count),
    count,
  };
}

/** A solution with the first step that is wrong. */
export interface FirstError {
  /** Index of the first wrong step; −1 if there is none. */
  label: number;
  /** The same by the verifier; null if its verdict could not be read, which is never right. */
  predicted: number | null;
}

/** Results on ProcessBench. */
export interface ProcessBenchScore {
  /** Share of the wrong solutions whose first wrong step was found exactly. */
  errorAccuracy: number;
  /** Share of the right solutions in which no error was claimed. */
  correctAccuracy: number;
  /** Harmonic mean of the two. */
  f1: number;
}

/**
 * ProcessBench's F1 (Zheng et al. 2024). A class without items makes its accuracy, and the F1, NaN.
 */
export function processBenchF1(items: readonly FirstError[]): ProcessBenchScore {
  const accuracy = (chosen: readonly FirstError[]) =>
    chosen.length === 0
      ? Number.NaN
      : chosen.filter(({ label, predicted }) => label === predicted).length / chosen.length;
  const errorAccuracy = accuracy(items.filter(({ label }) => label !== -1));
  const correctAccuracy = accuracy(items.filter(({ label }) => label === -1));
  const total = errorAccuracy + correctAccuracy;
  return {
    errorAccuracy,
    correctAccuracy,
    f1: total === 0 ? 0 : (2 * errorAccuracy * correctAccuracy) / total,
  };
}
