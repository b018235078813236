import { firstReach } from '../tango-report.js';
import type { Point } from './rl-follow.js';
import type { ExperimentName } from './rl-settings.js';
import type { World } from './rl-world.js';

/** One run of an arm. */
export interface RlCell {
  arm: string;
  seed: number;
  points: Point[];
  seconds: number;
}

/** What an arm is told. */
export interface ArmContext {
  world: World;
  seed: number;
  /** The recipe's run directory. */
  directory: string;
  signal: AbortSignal;
}

/** A kind of run. Arms are named once: experiments that need the same one share its cells. */
export interface RlArm {
  name: string;
  /** @returns undefined if the signal came first */
  run(context: ArmContext): Promise<Point[] | undefined>;
}

/** A number that follows from an arm's points, e.g. the accuracy at the end. */
export interface Measure {
  name: string;
  /**
   * Of an arm, beside those of a reference (the experiment's first arm) of the same seed; undefined where there is none:
   * the arm has no verifier, or never gets there.
   */
  value(points: readonly Point[], reference: readonly Point[]): number | undefined;
  /** How it is printed. */
  as: 'percent' | 'number';
  /** How two arms are compared: by the paired difference, or by the ratio (its geometric mean over seeds). */
  by: 'difference' | 'ratio';
}

/** Lines of a chart: the mean of a metric over seeds, for each arm that has it. */
export interface RlChart {
  title: string;
  x: string;
  xLabel: string;
  y: readonly { metric: string; label: string }[];
}

/** A claim: arms, what is measured, what is compared with what, what is drawn. */
export interface RlExperiment {
  name: ExperimentName;
  title: string;
  /** What is to be shown, with its target. */
  claim: string;
  arms: readonly RlArm[];
  measures: readonly Measure[];
  /** Pairs of arms: the first against the second. */
  contrasts: readonly (readonly [string, string])[];
  charts: readonly RlChart[];
}

/** The metric at the last point that has it. */
export const last = (name: string, metric: string): Measure => ({
  name,
  value: (points) => points.findLast((point) => point[metric] !== undefined)?.[metric],
  as: 'percent',
  by: 'difference',
});

/** The metric at the first point. */
export const first = (name: string, metric: string): Measure => ({
  ...last(name, metric),
  value: (points) => points[0]?.[metric],
});

/** Mean of the metric over the last three points that have it: small evaluations are noisy. */
export const late = (name: string, metric: string): Measure => ({
  ...last(name, metric),
  value: (points) => {
    const values = points.flatMap((point) => point[metric] ?? []).slice(-3);
    return values.length > 0 ? values.reduce((a, b) => a + b, 0) / values.length : undefined;
  },
});

/** How far along an axis an arm is when it first has the reference's final accuracy. */
export const reach = (name: string, axis: string): Measure => ({
  name,
  value: (points, reference) => reachOf(points, reference, axis),
  as: 'number',
  by: 'ratio',
});

function reachOf(points: readonly Point[], reference: readonly Point[], axis: string): number | undefined {
  const target = reference.at(-1)?.accuracy;
  if (target === undefined) return undefined;
  return firstReach(
    points.map((point) => point[axis] ?? 0),
    points.map(({ accuracy = 0 }) => accuracy),
    target,
  );
}

/** How far along an axis an arm is when it first has so high an accuracy at temperature 1. */
export const reachShare = (share: number, axis: string): Measure => ({
  name: `${axis === 'steps.generator' ? 'generator steps' : axis} to ${100 * share} %`,
  value: (points) =>
    firstReach(
      points.map((point) => point[axis] ?? 0),
      points.map(({ accuracy = 0 }) => accuracy),
      share,
    ),
  as: 'number',
  by: 'ratio',
});

/** A chart of accuracy at temperature 1. */
export const accuracyChart = (
  title: string,
  x = 'steps.generator',
  xLabel = 'steps of the generator',
): RlChart => ({
  title,
  ...{ x, xLabel },
  y: [{ metric: 'accuracy', label: '' }],
});
