import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { AnnealError } from '../core/errors.js';
import { configLines, derivedLines } from './format.js';
import { differences, flattened, resolveConfig } from './overrides.js';
import type { Quantity, Recipe, RunOutcome } from './recipe.js';

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
  /** Receives text for people; nothing is printed without it. */
  print?: (text: string) => void;
  /** Width of a line. Default 100. */
  columns?: number;
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
  const defaults = recipe.config.safeParse({});
  if (defaults.success && differences(defaults.data, config).length === 0) return path.join('runs', name);
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

/** Deletes a run, and only a run. */
function clearDirectory(directory: string): void {
  if (!existsSync(directory)) return;
  if (readdirSync(directory).length > 0 && !existsSync(path.join(directory, 'config.json'))) {
    throw new AnnealError(`${directory} is no run directory (it has no config.json); it is not deleted`);
  }
  rmSync(directory, { recursive: true });
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
  const { columns = 100, print = () => {}, tensorboard = false } = options;
  const config = resolveConfig(recipe, options.overrides, options.file);
  const directory = options.directory ?? defaultDirectory(recipe, config);
  if (!options.restart) checkDirectory(directory, recipe.name, config);
  const prepared = await recipe.prepare(config);
  const derived = await recipe.derive(config, prepared);
  const launched = { recipe: recipe.name, directory, config, derived };
  print(`${recipe.name}: ${recipe.summary}`);
  print(configLines(config, columns).join('\n'));
  if (derived.length > 0) print(derivedLines(derived, columns).join('\n'));
  if (options.dryRun) return launched;
  print(`  in ${directory}\n`);
  if (options.restart) clearDirectory(directory);
  await mkdir(directory, { recursive: true });
  const outcome = await recipe.run({
    config,
    prepared,
    derived,
    recipe: recipe.name,
    directory,
    print,
    quiet: options.print === undefined,
    tensorboard,
    signal: options.signal ?? new AbortController().signal,
  });
  return { ...launched, outcome };
}
