import { AnnealError } from '../core/errors.js';

/** An item of a JSONL file. */
export type JsonItem = Readonly<Record<string, unknown>>;

/**
 * Reads a JSONL file of objects. Unlike training data, items of an evaluation are never skipped: scores over
 * different items could not be compared.
 * @throws AnnealError if the file cannot be read, a line is no JSON object, or there is none
 */
export async function readItems(file: string): Promise<JsonItem[]> {
  const text = await readText(file);
  const items: JsonItem[] = [];
  text.split('\n').forEach((line, i) => {
    if (line.trim() === '') return;
    const fail = (why: string) =>
      new AnnealError(`${file}, line ${i + 1}: ${why}; correct or remove the line`);
    let item: unknown;
    try {
      item = JSON.parse(line);
    } catch (error) {
      throw fail((error as Error).message);
    }
    if (typeof item !== 'object' || item === null || Array.isArray(item)) throw fail('it is no JSON object');
    items.push(item as JsonItem);
  });
  if (items.length === 0) throw new AnnealError(`${file} has no items`);
  return items;
}

/** @throws AnnealError if the file cannot be read. */
export async function readText(file: string): Promise<string> {
  // On first use: evaluation also runs in browsers, on items that are there already.
  const { readFile } = await import('node:fs/promises');
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    // Node's own words name the system call and the path once more.
    const reasons: Record<string, string> = {
      ENOENT: 'it does not exist; check the path',
      EISDIR: 'it is a directory; name a file',
      EACCES: 'permission is denied',
    };
    const { code = '', message } = error as NodeJS.ErrnoException;
    throw new AnnealError(`cannot read ${file}: ${reasons[code] ?? message}`);
  }
}

const textOf = (value: unknown): string | undefined =>
  typeof value === 'string'
    ? value
    : typeof value === 'number' || typeof value === 'boolean'
      ? String(value)
      : undefined;

function field(item: JsonItem, name: string): string {
  const found = textOf(item[name]);
  if (found !== undefined) return found;
  const has = Object.keys(item).join(', ') || 'none';
  const what = item[name] === undefined ? 'is missing' : 'is neither text nor number';
  throw new AnnealError(`the field "${name}" of an item ${what}; its fields are ${has}`);
}

const placeholder = /\{\{\s*([^{}]+?)\s*\}\}/g;

/**
 * What a mapping makes of an item: the field of that name, or a text with `{{field}}` in it, filled in.
 * @throws AnnealError if a field is missing or no text
 */
export function mapped(item: JsonItem, mapping: string): string {
  if (!mapping.includes('{{')) return field(item, mapping);
  return mapping.replace(placeholder, (_, name: string) => field(item, name));
}
