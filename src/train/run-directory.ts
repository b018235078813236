import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { mkdir, open, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { fileError } from '../checkpoint/file-source.js';
import { AnnealError } from '../core/errors.js';
import type { Json } from '../data/batch-source.js';
import { repairCheckpoints } from './checkpoints.js';
import { type EventBody, eventsFile, parseEvent, type RunEvent } from './events.js';
import { lockDirectory } from './lock.js';

const configFile = 'config.json';

const isObject = (value: Json | undefined): value is { readonly [key: string]: Json } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Path and values of the first difference between two JSON values, keys in the order of `a`; undefined if there is none. */
export function firstDifference(
  a: Json | undefined,
  b: Json | undefined,
  at = '',
): { key: string; a: Json | undefined; b: Json | undefined } | undefined {
  const isArrays = Array.isArray(a) && Array.isArray(b);
  if (isArrays || (isObject(a) && isObject(b))) {
    const [left, right] = [a as Record<string, Json>, b as Record<string, Json>];
    for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) {
      const found = firstDifference(left[key], right[key], at === '' ? key : `${at}.${key}`);
      if (found) return found;
    }
    return undefined;
  }
  return a === b ? undefined : { key: at, a, b };
}

/** Reads a run's resolved config. @throws AnnealError if it is missing or damaged. */
export async function readConfig(directory: string): Promise<Json> {
  const file = path.join(directory, configFile);
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Json;
  } catch (error) {
    if (error instanceof SyntaxError) throw new AnnealError(`${file} is damaged: ${error.message}`);
    throw fileError('read', file, error);
  }
}

async function checkConfig(directory: string, config: Json, isResumable: boolean): Promise<boolean> {
  const names = (await readdir(directory)).filter((name) => !name.startsWith('lock'));
  if (!names.includes(configFile)) {
    if (names.length > 0) {
      throw new AnnealError(
        `${directory} is not empty and holds no run (no ${configFile}); choose another directory`,
      );
    }
    // Through JSON once, so that the comparison on resume sees what the file can hold.
    await writeFileAtomically(path.join(directory, configFile), `${JSON.stringify(config, undefined, 2)}\n`);
    return false;
  }
  if (!isResumable) {
    throw new AnnealError(`${directory} already holds a run; choose another directory, or resume it`);
  }
  const stored = await readConfig(directory);
  const difference = firstDifference(stored, JSON.parse(JSON.stringify(config)) as Json);
  if (difference) {
    const show = (value: Json | undefined) => (value === undefined ? 'nothing' : JSON.stringify(value));
    const { key, a, b } = difference;
    throw new AnnealError(
      `${directory} holds a run with another config: ${key || 'the whole of it'} is ${show(a)} there and ${show(b)} now; ` +
        'resume with the same config, or choose another directory',
    );
  }
  return true;
}

/** Ends the log with a whole line: a killed process, or a full disk, may have left part of one. */
async function repairLog(file: string): Promise<void> {
  const handle = await open(file, 'a+');
  try {
    const { size } = await handle.stat();
    if (size === 0) return;
    // Samples make long lines, but a torn one is no longer than a whole one.
    const length = Math.min(size, 2 ** 24);
    const tail = Buffer.alloc(length);
    await handle.read(tail, 0, length, size - length);
    if (tail[length - 1] === 0x0a) return;
    const start = tail.lastIndexOf(0x0a) + 1;
    if (parseEvent(tail.toString('utf8', start))) await handle.appendFile('\n');
    else await handle.truncate(size - length + start);
  } finally {
    await handle.close();
  }
}

/**
 * A run directory that this process writes to: config.json, events.jsonl, checkpoints/, samples/. It is locked
 * against other processes until it is closed.
 */
export class RunDirectory {
  private constructor(
    readonly path: string,
    /** Whether it held a run with this config before. */
    readonly isResumed: boolean,
    private readonly log: number,
    private readonly unlock: () => Promise<void>,
  ) {}

  private isClosed = false;

  /**
   * Makes the directory, or takes up the run that it holds: repairs a torn line of the log and removes what a killed
   * process left of a checkpoint.
   * @param config the resolved config, plain JSON. A run goes on only with the config that it began with.
   * @throws AnnealError if another process writes there, the config differs (naming the first key), it holds
   *   something else, or the disk refuses.
   */
  static async open(directory: string, config: Json, isResumable = true): Promise<RunDirectory> {
    try {
      await mkdir(directory, { recursive: true });
    } catch (error) {
      throw fileError('make', directory, error);
    }
    const unlock = await lockDirectory(directory);
    try {
      const isResumed = await checkConfig(directory, config, isResumable);
      await repairCheckpoints(directory);
      const file = path.join(directory, eventsFile);
      await repairLog(file);
      return new RunDirectory(directory, isResumed, openSync(file, 'a'), unlock);
    } catch (error) {
      await unlock();
      throw error instanceof AnnealError ? error : fileError('open', directory, error);
    }
  }

  /**
   * Appends an event: one write to the system, so that it outlives the process. @throws AnnealError if the disk is full.
   */
  append(step: number, body: EventBody): RunEvent {
    const event = { time: Date.now(), step, ...body };
    try {
      const line = Buffer.from(`${JSON.stringify(event)}\n`);
      let done = 0;
      while (done < line.length) done += writeSync(this.log, line, done);
    } catch (error) {
      throw fileError('append to', path.join(this.path, eventsFile), error);
    }
    return event;
  }

  /** Flushes the log to the disk. @throws AnnealError if the disk refuses. */
  flush(): void {
    try {
      fsyncSync(this.log);
    } catch (error) {
      throw fileError('write', path.join(this.path, eventsFile), error);
    }
  }

  /** Closes the log and gives the directory back. Idempotent. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    closeSync(this.log);
    await this.unlock();
  }
}
