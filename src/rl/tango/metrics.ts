import { moments } from '../advantages.js';
import { binaryMetrics } from '../classification.js';
import type { UpdateReport } from '../policy-update.js';
import type { Response } from './responses.js';
import type { Verification } from './verify-responses.js';

const meanOf = (values: readonly number[]): number => moments(values, 0).mean;
const shareOf = <T>(list: readonly T[], test: (one: T) => boolean): number =>
  list.length === 0 ? 0 : list.filter(test).length / list.length;

/** Pearson's correlation; 0 where one of the two does not vary. */
function correlation(x: readonly number[], y: readonly number[]): number {
  const [a, b] = [moments(x, 0), moments(y, 0)];
  if (a.std === 0 || b.std === 0) return 0;
  return meanOf(x.map((value, i) => (value - a.mean) * (y[i]! - b.mean))) / (a.std * b.std);
}

/** What rules say about responses: outcome, form, number of steps, and their gold labels where there are some. */
export function responseMetrics<P>(responses: readonly Response<P>[]): Record<string, number> {
  const steps = responses.map(({ solution }) => solution.steps.length);
  const lengths = responses.map(({ sample }) => sample.tokens.length);
  const labels = responses.flatMap((response) => response.labels ?? []);
  return {
    accuracy: shareOf(responses, ({ isCorrect }) => isCorrect),
    format: meanOf(responses.map(({ solution }) => solution.format)),
    wellFormed: shareOf(responses, ({ isWellFormed }) => isWellFormed),
    steps: meanOf(steps),
    stepsStd: moments(steps, 1).std,
    ...(labels.length > 0 && { stepAccuracy: shareOf(labels, Boolean) }),
    length: meanOf(lengths),
    truncated: shareOf(responses, ({ sample }) => sample.finishReason === 'length'),
  };
}

/** Verdicts on steps beside their gold labels: a step whose verification could not be aligned has none. */
function stepVerdicts<P>(verifications: readonly Verification<P>[]) {
  const predicted: (boolean | null)[] = [];
  const actual: boolean[] = [];
  for (const { response, parsed } of verifications) {
    response.labels?.forEach((label, k) => {
      actual.push(label);
      predicted.push(parsed.verdicts?.[k] ?? null);
    });
  }
  return { predicted, actual };
}

/**
 * How good verdicts are: on outcomes against the rule, on steps against gold labels; positive = correct, and what cannot
 * be read counts as "incorrect". `hackGap` is the mean verdict minus the mean label of the steps, both as −1 and +1:
 * what a generator is paid for beyond what it does right.
 */
export function verdictMetrics<P>(verifications: readonly Verification<P>[]): Record<string, number> {
  if (verifications.length === 0) return {};
  const outcome = binaryMetrics(
    verifications.map(({ parsed }) => parsed.final ?? null),
    verifications.map(({ response }) => response.isCorrect),
  );
  const aligned = (kind: string) => shareOf(verifications, ({ parsed }) => parsed.alignment === kind);
  const metrics: Record<string, number> = {
    outcomeF1: outcome.f1,
    outcomeBalancedAccuracy: outcome.balancedAccuracy,
    outcomeAccuracy: outcome.accuracy,
    outcomePrecision: outcome.precision,
    outcomeRecall: outcome.recall,
    predictedCorrect: outcome.predictedPositive,
    parsed: outcome.parsed,
    aligned: aligned('perfect'),
    missingVerdicts: aligned('missing'),
    extraVerdicts: aligned('extra'),
    unreadVerdicts: aligned('unread'),
    verifierFormat: meanOf(verifications.map(({ parsed }) => parsed.format)),
  };
  const { predicted, actual } = stepVerdicts(verifications);
  if (actual.length === 0) return metrics;
  const steps = binaryMetrics(predicted, actual);
  const read = predicted.flatMap((verdict, i) => (verdict === null ? [] : [[verdict, actual[i]!] as const]));
  const sign = (is: boolean) => (is ? 1 : -1);
  return {
    ...metrics,
    stepF1: steps.f1,
    stepBalancedAccuracy: steps.balancedAccuracy,
    hackGap: meanOf(read.map(([verdict, label]) => sign(verdict) - sign(label))),
  };
}

/** Correlation of the number of steps with the step advantage of the first token: pay for the number of steps alone. */
export function stepCountBias<P>(
  responses: readonly Response<P>[],
  step: readonly (Float32Array | undefined)[],
): number {
  const judged = responses.flatMap(({ solution }, i) => {
    const row = step[i];
    return row && row.length > 0 ? [[solution.steps.length, row[0]!] as const] : [];
  });
  return correlation(
    judged.map(([k]) => k),
    judged.map(([, advantage]) => advantage),
  );
}

/** Numbers of an update; of a step without one, only that. */
export function reportMetrics(report: UpdateReport | undefined): Record<string, number> {
  if (!report) return { updates: 0 };
  const { loss, gradNorm, lr, clipFraction, approximateKl, kl, entropy, sampleDifference } = report;
  return {
    updates: 1,
    loss,
    gradNorm,
    lr,
    clipFraction,
    approximateKl,
    entropy,
    ...(kl !== undefined && { kl }),
    ...(sampleDifference !== undefined && { sampleDifference }),
    'ms.update': report.ms,
  };
}
