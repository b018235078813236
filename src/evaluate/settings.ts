import { AnnealError } from '../core/errors.js';
import type { Settings, TaskKind, TaskOption } from './task.js';

function convert(
  task: string,
  name: string,
  { type }: TaskOption,
  value: unknown,
): string | number | boolean {
  const fail = (expected: string) =>
    new AnnealError(`${task}: ${name} is ${JSON.stringify(value)}; it must be ${expected}`);
  if (type === 'text') {
    if (typeof value === 'string') return value;
    throw fail('text');
  }
  if (type === 'number') {
    const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
    if (typeof number === 'number' && Number.isFinite(number)) return number;
    throw fail('a number');
  }
  if (value === true || value === 'true') return true;
  if (value === false || value === 'false') return false;
  throw fail('true or false');
}

/**
 * Settings of a task with defaults filled in; texts, as a command line gives them, become what the option is.
 * @throws AnnealError for a name that the task does not have, a value of the wrong type, or a missing one
 */
export function resolveSettings(
  task: string,
  { options }: TaskKind,
  values: Readonly<Record<string, unknown>>,
): Settings {
  for (const name of Object.keys(values)) {
    if (!Object.hasOwn(options, name)) {
      throw new AnnealError(`${task} has no option "${name}"; it has ${Object.keys(options).join(', ')}`);
    }
  }
  const settings: Record<string, string | number | boolean | undefined> = {};
  for (const [name, option] of Object.entries(options)) {
    const value = values[name];
    if (value === undefined && option.required)
      throw new AnnealError(`${task} needs ${name}=…: ${option.description}`);
    settings[name] = value === undefined ? option.default : convert(task, name, option, value);
  }
  return settings;
}
