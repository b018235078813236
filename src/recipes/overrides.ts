import type { z } from 'zod';
import { AnnealError } from '../core/errors.js';
import { describeType, membersOf, nearest, settingsOf } from './settings.js';

/** A partly filled config: what the user said, before defaults. */
type Tree = { [key: string]: unknown };

const isObject = (value: unknown): value is Tree =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const show = (value: unknown): string => (typeof value === 'string' ? `"${value}"` : JSON.stringify(value));

function unknownSetting(recipe: string, path: string, schema: z.ZodType): AnnealError {
  const paths = settingsOf(schema).map((setting) => setting.path);
  const near = nearest(path, paths);
  const remedy =
    near.length > 0
      ? `did you mean ${near.join(' or ')}?`
      : `\`anneal recipes ${recipe}\` lists its ${paths.length} settings`;
  return new AnnealError(`${recipe} has no setting "${path}"; ${remedy}`);
}

/** What a text on the command line may mean, likeliest first. */
function readings(text: string): unknown[] {
  const found: unknown[] = [];
  try {
    found.push(JSON.parse(text));
  } catch {
    // `.5` and `+3` are numbers to a person, though not to JSON.
    if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) found.push(Number(text));
  }
  return [...found, text];
}

/** Writes a checked value at a path of the tree. Groups are written member by member, so that each is checked. */
function place(recipe: string, root: z.ZodType, path: string, candidates: readonly unknown[], tree: Tree) {
  const keys = path.split('.');
  let schema = root;
  let target = tree;
  for (const [i, key] of keys.entries()) {
    const members = membersOf(schema);
    if (!members || !Object.hasOwn(members, key)) throw unknownSetting(recipe, path, root);
    schema = members[key]!;
    if (i < keys.length - 1) {
      if (!isObject(target[key])) target[key] = {};
      target = target[key] as Tree;
    }
  }
  const members = membersOf(schema);
  const group = members ? candidates.find(isObject) : undefined;
  if (members && !group) {
    const names = Object.keys(members).map((key) => `${path}.${key}`);
    throw new AnnealError(
      `${path} is a group of settings, not one: set ${names.slice(0, 3).join(', ')}${names.length > 3 ? ', …' : ''}`,
    );
  }
  if (group) {
    for (const [key, value] of Object.entries(group)) place(recipe, root, `${path}.${key}`, [value], tree);
    return;
  }
  const value = candidates.find((candidate) => schema.safeParse(candidate).success);
  // `undefined` is never a candidate, so a setting that may be left out is not lost here.
  if (value === undefined) throw wrongValue(path, schema, candidates.at(-1));
  target[keys.at(-1)!] = value;
}

function wrongValue(path: string, schema: z.ZodType, value: unknown): AnnealError {
  const issue = schema.safeParse(value).error?.issues[0];
  // A rule of its own (`refine`) says more than the type.
  const reason =
    issue?.code === 'custom'
      ? `${issue.message}, not ${show(value)}`
      : `must be ${describeType(schema)}, not ${show(value)}`;
  return new AnnealError(`${path} ${reason}`);
}

/** What is wrong with a config whose single settings are all right. */
function brokenConfig(recipe: string, schema: z.ZodType, error: z.ZodError): AnnealError {
  const issue = error.issues[0]!;
  const path = issue.path.join('.');
  const missing = settingsOf(schema).find((setting) => setting.path === path && setting.required);
  if (missing && issue.code !== 'custom') {
    return new AnnealError(`${recipe} needs ${path}=…: ${missing.description} (${missing.type})`);
  }
  return new AnnealError(path === '' ? `${recipe}: ${issue.message}` : `${path} ${issue.message}`);
}

/**
 * A recipe's config from a config file's contents and, over it, overrides of the form `key=value` with dotted
 * keys. Values are read as JSON where that fits the setting's type and as plain text otherwise.
 *
 * @throws AnnealError naming the setting, the value and what is expected: an unknown key (with the nearest names),
 *   a wrong type, a missing setting, settings that contradict each other.
 */
export function resolveConfig<Config>(
  recipe: { name: string; config: z.ZodType<Config>; defaults?: Readonly<Record<string, unknown>> },
  overrides: readonly string[] = [],
  file: unknown = {},
): Config {
  const tree: Tree = {};
  if (!isObject(file)) throw new AnnealError(`the config file must hold a JSON object, not ${show(file)}`);
  for (const source of [recipe.defaults ?? {}, file]) {
    for (const [key, value] of Object.entries(source)) place(recipe.name, recipe.config, key, [value], tree);
  }
  for (const override of overrides) {
    const at = override.indexOf('=');
    if (at < 1) {
      throw new AnnealError(`"${override}" is no setting; write key=value, as in steps=100`);
    }
    place(recipe.name, recipe.config, override.slice(0, at), readings(override.slice(at + 1)), tree);
  }
  const parsed = recipe.config.safeParse(tree);
  if (!parsed.success) throw brokenConfig(recipe.name, recipe.config, parsed.error);
  return parsed.data;
}

/** Leaves of a config by dotted path; lists are leaves. */
export function flattened(config: unknown, prefix = ''): Map<string, unknown> {
  const found = new Map<string, unknown>();
  for (const [key, value] of Object.entries(config as Tree)) {
    if (isObject(value))
      for (const [path, leaf] of flattened(value, `${prefix}${key}.`)) found.set(path, leaf);
    else if (value !== undefined) found.set(prefix + key, value);
  }
  return found;
}

/** Paths at which two configs differ, with both values. */
export function differences(a: unknown, b: unknown): { path: string; before: unknown; after: unknown }[] {
  const left = flattened(a);
  const right = flattened(b);
  return [...new Set([...left.keys(), ...right.keys()])]
    .map((path) => ({ path, before: left.get(path), after: right.get(path) }))
    .filter(({ before, after }) => JSON.stringify(before) !== JSON.stringify(after));
}
