import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { AnnealError } from '../core/errors.js';

const magic = /[*?[\]{}]/;

/**
 * A regular expression for a path pattern: `*` and `?` match within a name, `**` over folders, `[abc]` one of some
 * characters, `{a,b}` one of some alternatives. Names that begin with a dot must be asked for with a dot.
 */
export function globPattern(pattern: string): RegExp {
  let source = '';
  let braces = 0;
  for (let i = 0; i < pattern.length; i++) {
    const character = pattern[i]!;
    const isNameStart = i === 0 || pattern[i - 1] === '/';
    const noDot = isNameStart ? '(?!\\.)' : '';
    if (character === '*' && pattern[i + 1] === '*' && isNameStart) {
      const isWhole = pattern[i + 2] === '/' || i + 2 === pattern.length;
      if (!isWhole) throw new AnnealError(`in the pattern ${pattern}, ** must be a whole part of the path`);
      source += pattern[i + 2] === '/' ? '(?:(?!\\.)[^/]+/)*' : '(?:(?!\\.)[^/]+/)*(?!\\.)[^/]+';
      i += pattern[i + 2] === '/' ? 2 : 1;
    } else if (character === '*') source += `${noDot}[^/]*`;
    else if (character === '?') source += `${noDot}[^/]`;
    else if (character === '[') {
      const end = pattern.indexOf(']', i + 2);
      if (end < 0) throw new AnnealError(`the pattern ${pattern} has a [ without its ]`);
      const set = pattern
        .slice(i + 1, end)
        .replace(/^!/, '^')
        .replace(/[\\[\]]/g, '\\$&');
      source += `(?!/)[${set}]`;
      i = end;
    } else if (character === '{') {
      braces++;
      source += '(?:';
    } else if (character === '}' && braces) {
      braces--;
      source += ')';
    } else if (character === ',' && braces) source += '|';
    else source += character.replace(/[.+^$()|\\{}\]]/g, '\\$&');
  }
  if (braces) throw new AnnealError(`the pattern ${pattern} has a { without its }`);
  return new RegExp(`^${source}$`, 'u');
}

/** Whether a path, with `/` between its parts, matches one of some patterns. */
export function matchesAny(file: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => globPattern(pattern).test(file));
}

/**
 * Files that paths and patterns name, each once: in the order of the patterns, those of one pattern sorted.
 * A folder stands for no files: say which, as in `folder/*.txt`.
 *
 * @throws AnnealError for a path that does not exist, or a pattern that matches nothing
 */
export async function findFiles(patterns: string | readonly string[]): Promise<string[]> {
  const found = new Set<string>();
  for (const pattern of typeof patterns === 'string' ? [patterns] : patterns) {
    // A file whose name merely looks like a pattern is taken as it is.
    const kind = await kindOf(pattern);
    if (kind === 'file') found.add(pattern);
    else if (kind === 'folder') {
      throw new AnnealError(
        `${pattern} is a folder; say which of its files, as in ${path.join(pattern, '*.txt')}`,
      );
    } else if (!magic.test(pattern)) {
      throw new AnnealError(`there is no file ${pattern}; check the path`);
    } else {
      const matches = await expand(pattern);
      if (!matches.length) throw new AnnealError(`no file matches ${pattern}; check the pattern`);
      for (const match of matches) found.add(match);
    }
  }
  return [...found];
}

async function kindOf(file: string): Promise<'file' | 'folder' | undefined> {
  const info = await stat(file).catch(() => undefined);
  return info?.isDirectory() ? 'folder' : info ? 'file' : undefined;
}

async function expand(pattern: string): Promise<string[]> {
  const normal = pattern.split(path.sep).join('/');
  const parts = normal.split('/');
  const fixed = parts.slice(
    0,
    parts.findIndex((part) => magic.test(part)),
  );
  const root = fixed.length ? fixed.join('/') || '/' : '.';
  const depth = parts.includes('**') ? Number.POSITIVE_INFINITY : parts.length - fixed.length;
  const regex = globPattern(normal);
  const files = await walk(root, fixed.length ? `${fixed.join('/')}/` : '', depth);
  return files.filter((file) => regex.test(file)).sort();
}

/** Files below a folder, as `prefix` and the path from the folder; names with a dot included. */
async function walk(folder: string, prefix: string, depth: number): Promise<string[]> {
  if (depth < 1) return [];
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const files = await Promise.all(
    entries.map(async (entry) => {
      const file = prefix + entry.name;
      const full = path.join(folder, entry.name);
      if (entry.isDirectory()) return walk(full, `${file}/`, depth - 1);
      // A link may lead to a file; links to folders are not followed, for they may lead back.
      const isFile = entry.isFile() || (entry.isSymbolicLink() && (await kindOf(full)) === 'file');
      return isFile ? [file] : [];
    }),
  );
  return files.flat();
}
