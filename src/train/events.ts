import { createReadStream } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileError } from '../checkpoint/file-source.js';
import type { Json } from '../data/batch-source.js';

/** Numbers by name. A value that JSON cannot hold (NaN, infinities) is null in the log. */
export type Metrics = Readonly<Record<string, number | null>>;

/** What happened, without its time. `step` is the number of updates done by then. */
export type EventBody =
  | {
      kind: 'start';
      microBatches: number;
      parameters: number;
      steps: number;
      /** Absent where steps differ. */
      flopsPerStep?: number;
    }
  /** The run goes on from this step: train, evaluate, sample and save events of later steps no longer count. */
  | { kind: 'resume'; microBatches: number }
  | {
      kind: 'train';
      loss: number;
      /** Learning rate of the update. */
      lr: number;
      /** Global norm of the gradients before clipping. */
      gradNorm: number;
      /** Wall time of the step in milliseconds. */
      ms: number;
      /** Tokens or examples a second over this step. */
      rate: number;
      metrics?: Metrics;
      /** What kind of update it was, where a run has several. */
      phase?: string;
      /** Updates that each policy has had by then, where a run has policies. */
      updates?: Readonly<Record<string, number>>;
    }
  | {
      kind: 'evaluate';
      metrics: Metrics;
      isBest: boolean;
      ms: number;
      updates?: Readonly<Record<string, number>>;
    }
  | { kind: 'sample'; value: Json }
  | { kind: 'save'; checkpoint: string; isBest: boolean; ms: number }
  | { kind: 'note'; text: string; data?: Json }
  | { kind: 'end'; reason: StopReason; seconds: number };

/** Why a run ended. */
export type StopReason = 'finished' | 'early stop' | 'interrupted' | 'aborted' | 'failed';

/** One line of events.jsonl. `time` is in milliseconds since 1970. */
export type RunEvent = { time: number; step: number } & EventBody;

/** Events of one kind. */
export type EventOf<K extends RunEvent['kind']> = Extract<RunEvent, { kind: K }>;

/** Name of the log in a run directory. */
export const eventsFile = 'events.jsonl';

/** What a log holds. */
export interface EventLog {
  /** In the order in which they were written, those that a resumed run did again left out. */
  events: RunEvent[];
  /** Lines that are no event: a torn last line of a killed run, or damage. */
  badLines: number;
}

const isEvent = (value: unknown): value is RunEvent =>
  typeof value === 'object' &&
  value !== null &&
  typeof (value as RunEvent).kind === 'string' &&
  Number.isInteger((value as RunEvent).step);

/** The event of a line, or undefined if the line is none. */
export function parseEvent(line: string): RunEvent | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isEvent(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

const repeatable: ReadonlySet<string> = new Set(['train', 'evaluate', 'sample', 'save']);

/**
 * The last word on every step: a `resume` event at step N takes back what the killed run did after N, and of two
 * events of one kind and step the later counts. Notes, starts and ends all stay.
 */
export function withoutSuperseded(events: readonly RunEvent[]): RunEvent[] {
  const kept: RunEvent[] = [];
  const seen = new Set<string>();
  let limit = Number.POSITIVE_INFINITY;
  for (let i = events.length - 1; i >= 0; i--) {
    const event = events[i]!;
    if (repeatable.has(event.kind)) {
      const key = `${event.kind} ${event.step}`;
      if (event.step > limit || seen.has(key)) continue;
      seen.add(key);
    }
    kept.push(event);
    if (event.kind === 'resume') limit = Math.min(limit, event.step);
    // A start from nothing takes back everything before it.
    else if (event.kind === 'start') limit = Math.min(limit, -1);
  }
  return kept.reverse();
}

/**
 * Reads a run's log, line by line. Damaged lines are counted, not fatal.
 * @param options.all also the events that were superseded. Default false.
 * @throws AnnealError if the directory has no log.
 */
export async function readEvents(directory: string, options: { all?: boolean } = {}): Promise<EventLog> {
  const file = path.join(directory, eventsFile);
  const events: RunEvent[] = [];
  let badLines = 0;
  try {
    const lines = createInterface({
      input: createReadStream(file, 'utf8'),
      crlfDelay: Number.POSITIVE_INFINITY,
    });
    for await (const line of lines) {
      const event = parseEvent(line);
      if (event) events.push(event);
      else if (line !== '') badLines++;
    }
  } catch (error) {
    throw fileError('read', file, error);
  }
  return { events: options.all ? events : withoutSuperseded(events), badLines };
}

/** Values over steps, ascending. */
export interface Series {
  steps: number[];
  values: number[];
  /** Milliseconds since 1970. */
  times: number[];
}

/** What kind of update an event is of, where a run has several. */
export const phaseOf = (event: RunEvent): string | undefined =>
  event.kind === 'train' ? event.phase : undefined;

const quantity = (event: RunEvent, key: string): unknown =>
  key in event
    ? (event as unknown as Record<string, unknown>)[key]
    : (event as { metrics?: Metrics }).metrics?.[key];

/**
 * One quantity over the steps: a number of the events themselves (`loss`, `lr`, `rate`) or of their metrics.
 * A value that was not finite is NaN.
 * @param phase only updates of this kind, where a run has several
 */
export function seriesOf(
  events: readonly RunEvent[],
  kind: 'train' | 'evaluate',
  key: string,
  phase?: string,
): Series {
  const series: Series = { steps: [], values: [], times: [] };
  for (const event of events) {
    if (event.kind !== kind || (phase !== undefined && phaseOf(event) !== phase)) continue;
    const value = quantity(event, key);
    if (value === undefined) continue;
    series.steps.push(event.step);
    series.values.push(typeof value === 'number' ? value : Number.NaN);
    series.times.push(event.time);
  }
  return series;
}

/** Names of the metrics that events of a kind carry, in the order of their first appearance. */
export function metricNames(events: readonly RunEvent[], kind: 'train' | 'evaluate'): string[] {
  const names = new Set<string>();
  for (const event of events) {
    if (event.kind !== kind) continue;
    if (kind === 'train') names.add('loss');
    for (const name of Object.keys(event.metrics ?? {})) names.add(name);
  }
  return [...names];
}
