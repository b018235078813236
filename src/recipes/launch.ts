import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { fileError } from '../checkpoint/file-source.js';
import { AnnealError } from '../core/errors.js';
import type { Json } from '../data/batch-source.js';
import { lockDirectory } from '../train/lock.js';
import { configLines, derivedLines } from './format.js';
import { differences, flattened, resolveConfig } from './overrides.js';
import type { OutputStream, Quantity, Recipe, RunOutcome } from './recipe.js';
import { settingsOf } from './settings.js';

/** How a recipe is started. */
export interface LaunchOptions {
  /** `key=value`, dotted keys. */
  overrides?: readonly string[];
  /** Contents of a config file; overrides go over it. */
  file?: unknown;
  /** Run directory. Default: `defaultDirectory`. */
  directory?: string;
  /** Deletes what the run directory holds first. */
  restart?: boolean;
  /** Stops before anything is written. */
  dryRun?: boolean;
  tensorboard?: boolean;
  /** Receives text for people; nothing is shown without it. */
  stream?: OutputStream;
  /** Ends the run early; it saves and can be continued. */
  signal?: AbortSignal;
}

/** A run that was started, or with `dryRun` would have been. */
export interface Launched {
  recipe: string;
  directory: string;
  config: unknown;
  derived: readonly Quantity[];
  /** Absent with `dryRun`. */
  outcome?: RunOutcome;
}

/**
 * Where a run lives if nobody says: `runs/RECIPE`, and with settings other than the defaults a suffix that depends
 * on them. So the same command finds its run again, and another one does not meet it.
 */
export function defaultDirectory(recipe: Recipe<unknown, unknown>, config: unknown): string {
  const name = recipe.name.replaceAll('/', '-');
  const changed = settingsOf(recipe.config, recipe.defaults).some(
    (setting) => JSON.stringify(flattened(config).get(setting.path)) !== JSON.stringify(setting.default),
  );
  if (!changed) return path.join('runs', name);
  const settings = JSON.stringify([...flattened(config)].sort(([a], [b]) => (a < b ? -1 : 1)));
  return path.join('runs', `${name}-${createHash('sha256').update(settings).digest('hex').slice(0, 6)}`);
}

/** What a run directory says about its run; undefined if it holds none. */
function readStarted(directory: string): { recipe?: unknown; config?: unknown } | undefined {
  const file = path.join(directory, 'config.json');
  if (!existsSync(file)) return undefined;
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as { recipe?: unknown; config?: unknown };
  } catch {
    throw new AnnealError(
      `${file} is no JSON; --restart begins the run anew, --dir DIR chooses another directory`,
    );
  }
}

/** Refuses a directory that belongs to a run of other settings, or to something that is no run at all. */
function checkDirectory(directory: string, recipe: string, config: unknown): void {
  if (!existsSync(directory)) return;
  const started = readStarted(directory);
  if (!started) {
    const [first] = readdirSync(directory);
    if (first === undefined) return;
    throw new AnnealError(`${directory} is no run directory and holds ${first}; choose another with --dir`);
  }
  if (started.recipe !== recipe) {
    throw new AnnealError(
      `${directory} holds a run of the recipe "${String(started.recipe)}"; choose another with --dir`,
    );
  }
  const [first, ...others] = differences(started.config ?? {}, config);
  if (!first) return;
  const more = others.length > 0 ? ` (and ${others.length} more)` : '';
  throw new AnnealError(
    `${directory} holds a run with ${first.path}=${JSON.stringify(first.before)}, not ${JSON.stringify(first.after)}${more}; choose another with --dir, or begin anew with --restart`,
  );
}

/** Refuses to delete what is no run. */
function checkDeletable(directory: string): void {
  const names = existsSync(directory) ? readdirSync(directory) : [];
  if (names.length === 0 || names.includes('config.json')) return;
  throw new AnnealError(`${directory} is no run directory (it has no config.json); it is not deleted`);
}

/** Deletes a run, unless another process is writing it. */
async function clearDirectory(directory: string): Promise<void> {
  if (!existsSync(directory)) return;
  const unlock = await lockDirectory(directory);
  for (const name of readdirSync(directory))
    if (name !== 'lock') rmSync(path.join(directory, name), { recursive: true, force: true });
  await unlock();
}

/** Puts config and derived numbers down before the run begins, for whoever looks into the directory. */
async function describeRun(directory: string, record: Json, derived: readonly Quantity[]): Promise<void> {
  const write = async (name: string, value: unknown) => {
    const file = path.join(directory, name);
    if (!existsSync(file)) await writeFileAtomically(file, `${JSON.stringify(value, undefined, 2)}\n`);
  };
  try {
    await mkdir(directory, { recursive: true });
    await write('config.json', record);
    await write('derived.json', derived);
  } catch (error) {
    throw error instanceof AnnealError ? error : fileError('make', directory, error);
  }
}

/**
 * Resolves the config, prints it with the numbers that follow from it, and runs the recipe in its directory; a run
 * that was stopped there goes on.
 *
 * @throws AnnealError for settings that are wrong and directories that belong to another run.
 */
export async function launch(
  recipe: Recipe<unknown, unknown>,
  options: LaunchOptions = {},
): Promise<Launched> {
  const { stream, tensorboard = false } = options;
  const print = (text: string) => void stream?.write(`${text}\n`);
  const columns = Math.min(stream?.columns ?? 100, 110);
  const config = resolveConfig(recipe, options.overrides, options.file);
  const directory = options.directory ?? defaultDirectory(recipe, config);
  if (options.restart) checkDeletable(directory);
  else checkDirectory(directory, recipe.name, config);
  const prepared = await recipe.prepare(config);
  const derived = await recipe.derive(config, prepared);
  const launched = { recipe: recipe.name, directory, config, derived };
  print(`${recipe.name}: ${recipe.summary}`);
  print(configLines(config, columns).join('\n'));
  if (derived.length > 0) print(derivedLines(derived, columns).join('\n'));
  print(`  in ${directory}\n`);
  if (options.dryRun) return launched;
  if (options.restart) await clearDirectory(directory);
  const record = JSON.parse(JSON.stringify({ recipe: recipe.name, config })) as Json;
  await describeRun(directory, record, derived);
  const signal = options.signal ?? new AbortController().signal;
  const context = {
    config,
    prepared,
    derived,
    recipe: recipe.name,
    directory,
    record,
    print,
    stream,
    tensorboard,
    signal,
  };
  return { ...launched, outcome: await recipe.run(context) };
}
