import { readFile } from 'node:fs/promises';
import { fileError } from '../../checkpoint/file-source.js';
import { AnnealError } from '../../core/errors.js';
import { loadRecipe } from '../../recipes/index.js';
import { type LaunchOptions, launch } from '../../recipes/launch.js';
import type { Cli } from '../terminal.js';

interface Flags {
  dir?: string;
  config?: string;
  restart?: boolean;
  dryRun?: boolean;
  tensorboard?: boolean;
  json?: boolean;
}

async function readConfigFile(file: string): Promise<unknown> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw fileError('read --config', file, error);
  });
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new AnnealError(`--config ${file} is no JSON: ${(error as Error).message}`);
  }
}

/** `anneal run RECIPE key=value …`. */
export async function run(this: Cli, flags: Flags, name: string, ...overrides: string[]): Promise<void> {
  const { terminal } = this;
  const recipe = await loadRecipe(name);
  const options: LaunchOptions = {
    overrides,
    restart: flags.restart === true,
    dryRun: flags.dryRun === true,
    tensorboard: flags.tensorboard === true,
    signal: terminal.interrupts(),
  };
  if (flags.dir !== undefined) options.directory = flags.dir;
  if (flags.config !== undefined) options.file = await readConfigFile(flags.config);
  if (!flags.json) options.stream = terminal.stream;
  const launched = await launch(recipe, options);
  const { outcome, derived, ...rest } = launched;
  if (flags.json) {
    const numbers = Object.fromEntries(derived.map((quantity) => [quantity.name, quantity.value]));
    terminal.json({ ...rest, derived: numbers, status: 'planned', ...outcome });
    return;
  }
  // The loop has said that it stopped.
  if (!outcome || outcome.status === 'stopped') return;
  const summary = Object.entries(outcome.summary).map(([key, value]) => `${key} ${value}`);
  if (summary.length > 0) terminal.print(summary.join(' · '));
}
