/**
 * Recipes that are made of many small trainings. Each finished one, a cell, is a line of cells.jsonl in the run
 * directory, in the order in which they end; a stopped run goes on with those that are not there. A training of a model
 * so small cannot use two cores, two trainings can: they run in processes of their own, each with one thread.
 */
import { appendFileSync, mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { duration } from '../format.js';
import type { RunContext, RunOutcome } from '../recipe.js';
import { readCells } from './cells.js';
import { trainInProcesses } from './processes.js';

/** What a recipe trains. Jobs follow from config and prepared alone, so that another process finds the same ones. */
export interface Trainings<Config, Prepared, Job, Cell> {
  jobs(config: Config, prepared: Prepared): Job[];
  /** Whether a cell is the result of a job. */
  isOf(cell: Cell, job: Job): boolean;
  /** @returns undefined if the signal came first */
  train(job: Job, config: Config, prepared: Prepared, signal: AbortSignal): Promise<Cell | undefined>;
  /** A job for a person, e.g. `length 128, RoPE, seed 0`. */
  nameOf(job: Job): string;
  /** What a cell found, in a few words. */
  found(cell: Cell): string;
  /** Tables of all cells: prints them and writes report.md. */
  report(context: RunContext<Config, Prepared>, cells: readonly Cell[]): void;
}

/** The setting of a recipe whose trainings run side by side. */
export const workersSetting = z
  .int()
  .min(1)
  .max(256)
  .optional()
  .describe(
    'trainings at once, each in a process of its own with one thread (default: one for each core; 1: in this process)',
  );

/** Does what is left of the trainings, and reports. */
export async function runTrainings<Config extends { workers?: number | undefined }, Prepared, Job, Cell>(
  context: RunContext<Config, Prepared>,
  trainings: Trainings<Config, Prepared, Job, Cell>,
): Promise<RunOutcome> {
  const { config, prepared, directory, signal, print } = context;
  mkdirSync(directory, { recursive: true });
  const file = path.join(directory, 'cells.jsonl');
  const cells = readCells<Cell>(file);
  const jobs = trainings.jobs(config, prepared);
  const isDone = (job: Job) => cells.some((cell) => trainings.isOf(cell, job));
  const todo = [...jobs.keys()].filter((at) => !isDone(jobs[at]!));
  const started = performance.now();
  let done = 0;
  const keep = (at: number, cell: Cell) => {
    cells.push(cell);
    appendFileSync(file, `${JSON.stringify(cell)}\n`);
    done++;
    const seconds = (performance.now() - started) / 1000;
    const remaining = duration((seconds / done) * (todo.length - done));
    const name = trainings.nameOf(jobs[at]!);
    const number = jobs.length - todo.length + done;
    print(`${number}/${jobs.length}  ${name}: ${trainings.found(cell)}  (${remaining} left)\n`);
  };
  const workers = Math.min(config.workers ?? availableParallelism(), todo.length);
  if (workers > 1) {
    const names = new Map(todo.map((at) => [at, trainings.nameOf(jobs[at]!)]));
    await trainInProcesses({ recipe: context.recipe, config, jobs: names, workers, signal, onCell: keep });
  } else {
    for (const at of todo) {
      const cell = await trainings.train(jobs[at]!, config, prepared, signal);
      if (!cell) break;
      keep(at, cell);
    }
  }
  if (!jobs.every(isDone)) return { status: 'stopped', step: cells.length, summary: {} };
  trainings.report(context, cells);
  return { status: 'finished', step: cells.length, summary: { trainings: cells.length } };
}
