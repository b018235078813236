import { z } from 'zod';

/** A group of settings under one name; what is left out takes its defaults. */
export const section = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.strictObject(shape).prefault({} as never);

/** A setting as a table shows it. */
export interface Setting {
  /** Dotted path, e.g. `model.layers`. */
  path: string;
  /** What it accepts, in words. */
  type: string;
  /** Its default; undefined where it has to be given or may be left out. */
  default: unknown;
  /** It has neither a default nor may it be left out. */
  required: boolean;
  description: string;
}

/** The schema inside defaults, optionals and the like. */
export function unwrapped(schema: z.ZodType): z.ZodType {
  let inner = schema;
  while (
    inner instanceof z.ZodDefault ||
    inner instanceof z.ZodPrefault ||
    inner instanceof z.ZodOptional ||
    inner instanceof z.ZodReadonly
  ) {
    inner = inner.unwrap() as z.ZodType;
  }
  return inner;
}

/** The members of a group of settings by name; undefined where the schema is a single setting. */
export function membersOf(schema: z.ZodType): Readonly<Record<string, z.ZodType>> | undefined {
  const inner = unwrapped(schema);
  return inner instanceof z.ZodObject ? (inner.shape as Record<string, z.ZodType>) : undefined;
}

/** The part of JSON Schema that describes a setting. */
interface JsonSchema {
  type?: string;
  const?: unknown;
  enum?: unknown[];
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minItems?: number;
  minLength?: number;
  default?: unknown;
}

function rangeText({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }: JsonSchema): string {
  // Whole numbers carry JavaScript's safe range, which says nothing to a reader.
  const bounded = (x: number | undefined): x is number =>
    x !== undefined && Math.abs(x) < Number.MAX_SAFE_INTEGER;
  const parts = [
    bounded(minimum) ? `≥ ${minimum}` : '',
    bounded(exclusiveMinimum) ? `> ${exclusiveMinimum}` : '',
    bounded(maximum) ? `≤ ${maximum}` : '',
    bounded(exclusiveMaximum) ? `< ${exclusiveMaximum}` : '',
  ].filter((part) => part !== '');
  return parts.length === 0 ? '' : ` ${parts.join(' and ')}`;
}

function typeText(schema: JsonSchema): string {
  if (schema.anyOf) return schema.anyOf.map(typeText).join(' or ');
  if (schema.enum) return `one of ${schema.enum.map(String).join(', ')}`;
  if ('const' in schema) return String(schema.const);
  switch (schema.type) {
    case 'integer':
      return `a whole number${rangeText(schema)}`;
    case 'number':
      return `a number${rangeText(schema)}`;
    case 'boolean':
      return 'true or false';
    case 'string':
      return 'text';
    case 'null':
      return 'null';
    case 'array':
      return `a JSON list of ${schema.items ? typeText(schema.items).replace(/^an? /, '') : 'values'}`;
    default:
      return 'a JSON object';
  }
}

/** What a setting accepts, in words: `a whole number ≥ 1`, `one of char, byte, bpe`. */
export function describeType(schema: z.ZodType): string {
  return typeText(z.toJSONSchema(unwrapped(schema), { unrepresentable: 'any' }) as JsonSchema);
}

/**
 * All single settings of a config by dotted path, in the order of their declaration.
 * @param defaults values in place of the schema's own defaults
 */
export function settingsOf(schema: z.ZodType, defaults: unknown = {}, prefix = ''): Setting[] {
  return Object.entries(membersOf(schema) ?? {}).flatMap(([key, member]) => {
    const path = prefix + key;
    const own = (defaults as Record<string, unknown> | undefined)?.[key];
    if (membersOf(member)) return settingsOf(member, own, `${path}.`);
    const known = member.safeParse(own);
    return [
      {
        path,
        type: describeType(member),
        default: known.success ? known.data : undefined,
        required: !known.success,
        description: member.description ?? unwrapped(member).description ?? '',
      },
    ];
  });
}

/** Edits (insertions, deletions, changes, swaps of neighbours) that turn one word into the other. */
function editDistance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i, ...Array<number>(b.length).fill(0)]);
  for (let j = 1; j <= b.length; j++) rows[0]![j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(rows[i - 1]![j]! + 1, rows[i]![j - 1]! + 1, rows[i - 1]![j - 1]! + change);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) best = Math.min(best, rows[i - 2]![j - 2]! + 1);
      rows[i]![j] = best;
    }
  }
  return rows[a.length]![b.length]!;
}

const lastOf = (path: string) => path.slice(path.lastIndexOf('.') + 1);

/**
 * Up to three of `names` that `name` may stand for, best first: few typing errors apart, or the same last part
 * (`layers` for `model.layers`).
 */
export function nearest(name: string, names: readonly string[]): string[] {
  const wanted = name.toLowerCase();
  const scored = names.map((candidate) => {
    const full = candidate.toLowerCase();
    const distance = Math.min(
      editDistance(wanted, full),
      editDistance(lastOf(wanted), lastOf(full)) + (lastOf(full) === full ? 0 : 0.5),
    );
    return { candidate, distance };
  });
  const limit = Math.max(1.5, lastOf(wanted).length / 3);
  return scored
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3)
    .map(({ candidate }) => candidate);
}
