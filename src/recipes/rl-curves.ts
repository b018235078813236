/** Curves of runs of reinforcement learning, for the reports of recipes. */
import { existsSync } from 'node:fs';
import { type ChartLine, type RunEvent, readEvents } from '../train/index.js';

/** Evaluations of a run, and what had been spent by then. */
export interface RunCurve {
  steps: number[];
  /** Tokens sampled in training, those that scored prompts included. */
  tokens: number[];
  /** Seconds of training steps; evaluations and pauses do not count. */
  seconds: number[];
  metrics: Record<string, number[]>;
}

/** Evaluations in the order of the log. */
export function runCurve(events: readonly RunEvent[]): RunCurve {
  const curve: RunCurve = { steps: [], tokens: [], seconds: [], metrics: {} };
  let [ms, tokens] = [0, 0];
  for (const event of events) {
    if (event.kind === 'train') {
      ms += event.ms;
      tokens += (event.metrics?.tokens ?? 0) + (event.metrics?.scoringTokens ?? 0);
    }
    if (event.kind !== 'evaluate') continue;
    curve.steps.push(event.step);
    curve.tokens.push(tokens);
    curve.seconds.push(ms / 1000);
    for (const [name, value] of Object.entries(event.metrics)) {
      curve.metrics[name] ??= [];
      curve.metrics[name].push(value ?? Number.NaN);
    }
  }
  return curve;
}

/** Events of a run directory; none if there is no run. */
export const eventsOf = async (directory: string): Promise<readonly RunEvent[]> =>
  existsSync(directory) ? (await readEvents(directory)).events : [];

/** A metric as a line over steps; nothing where there is none. */
export function lineOf(curve: RunCurve, metric: string, name: string): ChartLine[] {
  const values = curve.metrics[metric];
  return values ? [{ name, steps: curve.steps, values, hasDots: true }] : [];
}

/** `41.3 %`; a dash where there is no value. */
export const percent = (value: number | undefined): string =>
  value === undefined || !Number.isFinite(value) ? '–' : `${(100 * value).toFixed(1)} %`;
