import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { AnnealError } from '../core/errors.js';
import type { Json } from '../data/batch-source.js';
import { checkpointSteps, readState } from './checkpoints.js';
import { type EventLog, type EventOf, eventsFile, readEvents, type StopReason, seriesOf } from './events.js';
import { firstDifference, readConfig } from './run-directory.js';

/** What a run directory tells about its run. */
export interface RunSummary {
  /** Last part of the path. */
  name: string;
  directory: string;
  config: Json;
  /** Updates done, as the log has them. */
  step: number;
  /** Updates of the whole run; undefined if it died before it began. */
  steps: number | undefined;
  parameters: number | undefined;
  /** `running` also stands for a run that was killed: it wrote no end. */
  status: StopReason | 'running';
  /** Mean training loss of the last steps (a hundredth of the run, at least ten). */
  loss: number | undefined;
  /** Metrics of the last evaluation. */
  metrics: Readonly<Record<string, number | null>>;
  best: { step: number; value: number } | undefined;
  /** Wall time of all updates in seconds. */
  seconds: number;
  /** Steps of the checkpoints. */
  checkpoints: number[];
  /** Milliseconds since 1970. */
  startedAt: number | undefined;
  updatedAt: number | undefined;
  /** Damaged lines of the log. */
  badLines: number;
}

/** A run's summary with its events. */
export interface RunRecord extends RunSummary {
  events: EventLog['events'];
}

function lossOf(events: EventLog['events']): number | undefined {
  const { values } = seriesOf(events, 'train', 'loss');
  const last = values.slice(-Math.max(10, Math.round(values.length / 100)));
  return last.length > 0 ? last.reduce((a, b) => a + b, 0) / last.length : undefined;
}

/** Reads one run. @throws AnnealError if the directory holds none. */
export async function readRun(directory: string): Promise<RunRecord> {
  const config = await readConfig(directory);
  const { events, badLines } = existsSync(path.join(directory, eventsFile))
    ? await readEvents(directory)
    : { events: [], badLines: 0 };
  const start = events.findLast((e): e is EventOf<'start'> => e.kind === 'start');
  const turn = events.findLast((e) => e.kind === 'start' || e.kind === 'resume' || e.kind === 'end');
  const evaluation = events.findLast((e): e is EventOf<'evaluate'> => e.kind === 'evaluate');
  const trained = events.filter((e): e is EventOf<'train'> => e.kind === 'train');
  const checkpoints = await checkpointSteps(directory);
  const last = checkpoints.at(-1);
  const state = last === undefined ? undefined : await readState(directory, last);
  return {
    name: path.basename(path.resolve(directory)),
    directory,
    config,
    step: trained.at(-1)?.step ?? 0,
    steps: start?.steps,
    parameters: start?.parameters,
    status: turn?.kind === 'end' ? turn.reason : 'running',
    loss: lossOf(events),
    metrics: evaluation?.metrics ?? {},
    best: state?.best ?? undefined,
    seconds: trained.reduce((sum, e) => sum + e.ms, 0) / 1000,
    checkpoints,
    startedAt: events[0]?.time,
    updatedAt: events.at(-1)?.time,
    badLines,
    events,
  };
}

/** The runs directly below a folder, newest first. @throws AnnealError if there is no such folder. */
export async function listRuns(folder: string): Promise<RunSummary[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch {
    throw new AnnealError(`${folder} is no folder that can be read; pass the folder that holds the runs`);
  }
  const runs: RunSummary[] = [];
  for (const name of names) {
    const directory = path.join(folder, name);
    if (!existsSync(path.join(directory, 'config.json'))) continue;
    const { events: _, ...summary } = await readRun(directory);
    runs.push(summary);
  }
  return runs.sort((a, b) => (b.startedAt ?? 0) - (a.startedAt ?? 0));
}

/** Runs side by side. */
export interface RunComparison {
  runs: RunSummary[];
  /** Keys of the config in which the runs differ, with each run's value; undefined where a run lacks the key. */
  differences: { key: string; values: (Json | undefined)[] }[];
  /** Every metric of any run's last evaluation, with each run's value. */
  metrics: { name: string; values: (number | null | undefined)[] }[];
}

function flatten(config: Json, at = '', into = new Map<string, Json>()): Map<string, Json> {
  if (typeof config === 'object' && config !== null && !Array.isArray(config)) {
    for (const [key, value] of Object.entries(config)) flatten(value, at === '' ? key : `${at}.${key}`, into);
  } else into.set(at, config);
  return into;
}

/** Compares runs by config and results. @throws AnnealError if one of the directories holds no run. */
export async function compareRuns(directories: readonly string[]): Promise<RunComparison> {
  const runs: RunSummary[] = [];
  for (const directory of directories) {
    const { events: _, ...summary } = await readRun(directory);
    runs.push(summary);
  }
  const configs = runs.map(({ config }) => flatten(config));
  const keys = new Set(configs.flatMap((config) => [...config.keys()]));
  const differences = [...keys].flatMap((key) => {
    const values = configs.map((config) => config.get(key));
    return values.some((value) => firstDifference(values[0], value)) ? [{ key, values }] : [];
  });
  const names = new Set(runs.flatMap(({ metrics }) => Object.keys(metrics)));
  const metrics = [...names].map((name) => ({ name, values: runs.map((run) => run.metrics[name]) }));
  return { runs, differences, metrics };
}
