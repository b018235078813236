import type { z } from 'zod';
import { AnnealError } from '../core/errors.js';
import type { Json } from '../data/batch-source.js';
import { section } from './settings.js';

export { section };

/** Units that a derived number can have; they decide how it is printed. */
export type Unit = 'parameters' | 'tokens' | 'bytes' | 'FLOP' | 'seconds' | 'steps' | 'nats' | '';

/** A number that follows from a config. */
export interface Quantity {
  /** What it is, camelCase, e.g. `tokensPerStep`. */
  name: string;
  value: number;
  unit: Unit;
}

/** How a run ended. */
export interface RunOutcome {
  /** `stopped`: the signal ended it early and the same command continues it. */
  status: 'finished' | 'stopped';
  /** Steps done in total, earlier sessions included. */
  step: number;
  /** What a reader wants to know at the end, e.g. the final loss; printed and part of `--json`. */
  summary: Readonly<Record<string, number | string>>;
}

/** Where text for people goes. */
export interface OutputStream {
  write(text: string): unknown;
  /** Lines may be renewed. */
  isTTY: boolean;
  columns: number;
}

/** What a recipe's `run` receives. */
export interface RunContext<Config, Prepared> {
  /** The resolved config. */
  config: Config;
  /** What `prepare` returned. */
  prepared: Prepared;
  /** What `derive` returned. */
  derived: readonly Quantity[];
  /** Name of the recipe. */
  recipe: string;
  /** The run directory. A run that is in it already must be continued. */
  directory: string;
  /** What its config.json must hold: `{ recipe, config }`. */
  record: Json;
  /** Writes text for a person, a line or more. Goes nowhere if nobody is to see it (`--json`). */
  print(text: string): void;
  /** Where progress is shown; undefined if nobody is to see it. */
  stream: OutputStream | undefined;
  /** Write TensorBoard event files, too. */
  tensorboard: boolean;
  /** Aborted by Ctrl-C: save and return `stopped`. */
  signal: AbortSignal;
}

/** A complete run as data and one function. */
export interface Recipe<Config = unknown, Prepared = unknown> {
  /** Name on the command line. */
  name: string;
  /** One line for the list of recipes. */
  summary: string;
  /** Strict object of settings, each with a description and, unless it must be given, a default. */
  config: z.ZodType<Config>;
  /** Values in place of the schema's defaults, as a config file would give them. */
  defaults?: Readonly<Record<string, unknown>>;
  /** Reads what the derived numbers depend on, e.g. the corpus and its tokenizer. Nothing is written yet. */
  prepare(config: Config): Prepared | Promise<Prepared>;
  /** Numbers that follow from the config: parameters, tokens per step, FLOPs, memory, estimated time. */
  derive(config: Config, prepared: Prepared): Quantity[] | Promise<Quantity[]>;
  /** Trains, evaluates, writes into the run directory. */
  run(context: RunContext<Config, Prepared>): Promise<RunOutcome>;
}

type RecipeSpec<Schema extends z.ZodType, Prepared> = Omit<
  Recipe<z.output<Schema>, Prepared>,
  'config' | 'prepare'
> & { config: Schema } & (undefined extends Prepared
    ? { prepare?: (config: z.output<Schema>) => Prepared | Promise<Prepared> }
    : { prepare: (config: z.output<Schema>) => Prepared | Promise<Prepared> });

/**
 * Declares a recipe; a file exports one and src/recipes/index.ts lists it.
 *
 *     export const mine = recipe({
 *       name: 'mine',
 *       summary: 'what it does, in a line',
 *       config: z.strictObject({ steps: z.int().min(1).default(100).describe('training steps') }),
 *       derive: ({ steps }) => [{ name: 'steps', value: steps, unit: 'steps' }],
 *       run: async ({ config, directory }) => …,
 *     });
 */
export function recipe<Schema extends z.ZodType, Prepared = undefined>(
  spec: RecipeSpec<Schema, Prepared>,
): Recipe<z.output<Schema>, Prepared> {
  if (!/^[a-z][a-z0-9]*([-/][a-z0-9]+)*$/.test(spec.name)) {
    throw new AnnealError(`recipe: "${spec.name}" is no name; use lower-case words joined by - or /`);
  }
  const prepare = spec.prepare ?? (() => undefined as Prepared);
  return { ...spec, prepare } as Recipe<z.output<Schema>, Prepared>;
}
