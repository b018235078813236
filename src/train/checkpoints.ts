import { type Dirent, existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { fileError } from '../checkpoint/file-source.js';
import { openSafetensorsFile } from '../checkpoint/safetensors-files.js';
import { AnnealError } from '../core/errors.js';
import type { Variable } from '../core/variable.js';
import type { Json } from '../data/batch-source.js';

/** What a run needs beside its tensors to go on as if it had never stopped. */
export interface TrainState {
  format: 1;
  /** Updates done. */
  step: number;
  /** Whether evaluation and sample of this step were done before the checkpoint was written. */
  isEvaluated: boolean;
  /** Parts that a batch is cut into: another number would round differently. */
  microBatches: number;
  /** Which weights `model.safetensors` holds; the averaged ones are what evaluations saw. */
  weights: 'trained' | 'average';
  /** Where the data stream was. */
  data: Json;
  /** State of the caller's own. */
  extra: Json;
  /** Best evaluation so far. */
  best: { step: number; value: number } | null;
  /** Evaluations since the best one. */
  patienceUsed: number;
  /** Whether patience ran out at this step. */
  isStopped: boolean;
  /** Metrics of the last evaluation. */
  metrics: Readonly<Record<string, number>>;
  /** Sum and weight of the smoothed training loss. */
  smoothedLoss: readonly [number, number];
  /** Seconds of training so far, over all sessions. */
  seconds: number;
}

const folderOf = (directory: string) => path.join(directory, 'checkpoints');
const nameOf = (step: number) => `step-${step}`;

/** Flushes a file, or the entries of a folder, to the disk; file systems that cannot flush folders are left alone. */
async function sync(target: string, isFolder: boolean): Promise<void> {
  try {
    const handle = await open(target, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (!isFolder || (error as NodeJS.ErrnoException).code === 'ENOSPC') throw error;
  }
}

async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const target = path.join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(target);
    else await sync(target, false);
  }
  await sync(folder, true);
}

async function entriesOf(folder: string): Promise<Dirent[]> {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw fileError('read', folder, error);
  }
}

/** Steps of the checkpoints of a run directory, ascending. */
export async function checkpointSteps(directory: string): Promise<number[]> {
  return (await entriesOf(folderOf(directory)))
    .flatMap((entry) => {
      const step = /^step-(\d+)$/.exec(entry.name)?.[1];
      return step !== undefined && entry.isDirectory() ? [Number(step)] : [];
    })
    .sort((a, b) => a - b);
}

/** Path of the checkpoint after `step` updates. */
export const checkpointPath = (directory: string, step: number): string =>
  path.join(folderOf(directory), nameOf(step));

/**
 * Reads a checkpoint's state.json.
 * @throws AnnealError if it is missing or damaged.
 */
export async function readState(directory: string, step: number): Promise<TrainState> {
  const file = path.join(checkpointPath(directory, step), 'state.json');
  let state: TrainState;
  try {
    state = JSON.parse(await readFile(file, 'utf8')) as TrainState;
  } catch (error) {
    if (error instanceof SyntaxError) throw new AnnealError(`${file} is damaged: ${error.message}`);
    throw fileError('read', file, error);
  }
  if (state.format !== 1 || state.step !== step) {
    throw new AnnealError(`${file} is no state of step ${step} that this version can read`);
  }
  return state;
}

/** The newest checkpoint of a run directory, or undefined. */
export async function lastCheckpoint(directory: string): Promise<string | undefined> {
  const step = (await checkpointSteps(directory)).at(-1);
  return step === undefined ? undefined : checkpointPath(directory, step);
}

/** The checkpoint of the best evaluation; undefined if the run has evaluated nothing yet, or nothing was kept. */
export async function bestCheckpoint(directory: string): Promise<string | undefined> {
  const step = (await checkpointSteps(directory)).at(-1);
  if (step === undefined) return undefined;
  const { best } = await readState(directory, step);
  if (!best) return undefined;
  const found = checkpointPath(directory, best.step);
  return existsSync(found) ? found : undefined;
}

/**
 * Writes a checkpoint so that it is there completely or not at all: into a temporary folder, flushed, renamed. A
 * process that is killed at any moment leaves the earlier checkpoints as they were.
 * @throws AnnealError if the disk is full or cannot be written; nothing is left behind then.
 */
export async function writeCheckpoint(
  directory: string,
  state: TrainState,
  body: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = folderOf(directory);
  const final = checkpointPath(directory, state.step);
  const temporary = path.join(folder, `.${nameOf(state.step)}.tmp`);
  const old = path.join(folder, `.${nameOf(state.step)}.old`);
  try {
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true });
    await body(temporary);
    await writeFileAtomically(path.join(temporary, 'state.json'), `${JSON.stringify(state, undefined, 2)}\n`);
    await syncTree(temporary);
    // A folder cannot be renamed over another; `repairCheckpoints` knows what to do if this is cut in half.
    const isAgain = existsSync(final);
    if (isAgain) await rename(final, old);
    await rename(temporary, final);
    await sync(folder, true);
    if (isAgain) await rm(old, { recursive: true, force: true });
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw error instanceof AnnealError ? error : fileError('write', final, error);
  }
}

/** Removes a checkpoint; a process that is killed meanwhile leaves no half of one. */
export async function removeCheckpoint(directory: string, step: number): Promise<void> {
  const trash = path.join(folderOf(directory), `.${nameOf(step)}.trash`);
  await rm(trash, { recursive: true, force: true });
  await rename(checkpointPath(directory, step), trash);
  await rm(trash, { recursive: true, force: true });
}

/** Removes all but the last `keep` checkpoints and those of the steps in `spared`. */
export async function pruneCheckpoints(
  directory: string,
  keep: number,
  spared: readonly number[],
): Promise<void> {
  const steps = await checkpointSteps(directory);
  for (const step of steps.slice(0, Math.max(0, steps.length - keep))) {
    if (!spared.includes(step)) await removeCheckpoint(directory, step);
  }
}

/** Puts a checkpoint that cannot be read out of the way, for the user to look at. */
export async function setDamagedAside(directory: string, step: number): Promise<string> {
  const aside = path.join(folderOf(directory), `damaged-${nameOf(step)}`);
  await rm(aside, { recursive: true, force: true });
  await rename(checkpointPath(directory, step), aside);
  return aside;
}

/** Cleans up after a process that was killed while it wrote or removed a checkpoint. */
export async function repairCheckpoints(directory: string): Promise<void> {
  const folder = folderOf(directory);
  for (const { name } of await entriesOf(folder)) {
    const [, step, state] = /^\.step-(\d+)\.(tmp|old|trash)$/.exec(name) ?? [];
    if (step === undefined) continue;
    const final = checkpointPath(directory, Number(step));
    if (state === 'old' && !existsSync(final)) await rename(path.join(folder, name), final);
    else await rm(path.join(folder, name), { recursive: true, force: true });
  }
}

/**
 * Fills variables from a safetensors file, all or none of them.
 * @throws AnnealError if the file is damaged, lacks a variable, or has another shape.
 */
export async function readVariables(file: string, variables: ReadonlyMap<string, Variable>): Promise<void> {
  const reader = await openSafetensorsFile(file);
  try {
    const values = new Map<Variable, ArrayLike<number>>();
    for (const [name, variable] of variables) {
      const shape = reader.tensors.get(name)?.shape;
      if (!shape || shape.join() !== variable.shape.join()) {
        throw new AnnealError(
          `${file}: "${name}" is ${shape ? `[${shape.join(', ')}]` : 'missing'}, the run needs [${variable.shape.join(', ')}]`,
        );
      }
      values.set(variable, await reader.read(name, variable.dtype));
    }
    for (const [variable, value] of values) variable.set(value);
  } finally {
    await reader.close();
  }
}
