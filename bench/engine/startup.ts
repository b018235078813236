/** What `import 'anneal'` costs and pulls in. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../report.js';

const DIST = path.join(packageRoot, 'dist');
const ENTRY = path.join(DIST, 'index.js');

/** Milliseconds of `import` in fresh processes, without Node's own start. */
export function importTimes(repeats: number): number[] {
  const program = `const start = performance.now();
    await import(${JSON.stringify(pathToFileURL(ENTRY).href)});
    process.stdout.write(String(performance.now() - start), () => process.exit());`;
  const run = () =>
    Number(execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' }));
  return Array.from({ length: repeats }, run);
}

/**
 * Module specifiers in compiled code: those of import and export declarations, and of `import()` with a
 * literal argument. Matched at the start of a line, where tsc puts declarations, so that no string or comment
 * is taken for one.
 */
export function moduleSpecifiers(source: string): { declared: string[]; dynamic: string[] } {
  const find = (pattern: RegExp) => [...source.matchAll(pattern)].map((match) => match[1]!);
  return {
    declared: [
      ...find(/^import\s*['"]([^'"]+)['"]/gm),
      ...find(/^(?:import|export)\s[\w$\s{},*]*?\bfrom\s*['"]([^'"]+)['"]/gm),
    ],
    dynamic: find(/\bimport\(\s*['"]([^'"]+)['"]\s*\)/g),
  };
}

const isThirdParty = (specifier: string) => !specifier.startsWith('.') && !specifier.startsWith('node:');

/** Adds the modules that `file` reaches through static imports. */
function collect(file: string, seen: Set<string>, outside: Set<string>): void {
  if (seen.has(file)) return;
  seen.add(file);
  for (const specifier of moduleSpecifiers(readFileSync(file, 'utf8')).declared) {
    if (specifier.startsWith('.')) collect(path.resolve(path.dirname(file), specifier), seen, outside);
    else if (isThirdParty(specifier)) outside.add(specifier);
  }
}

/**
 * Third-party modules that `import 'anneal'` loads, together with those that anything in core/ names at all,
 * loaded or not.
 */
export function thirdPartyImports(): string[] {
  const outside = new Set<string>();
  collect(ENTRY, new Set(), outside);
  const core = path.join(DIST, 'core');
  const files = existsSync(core) ? readdirSync(core, { recursive: true, encoding: 'utf8' }) : [];
  for (const file of files.filter((name) => name.endsWith('.js'))) {
    const { declared, dynamic } = moduleSpecifiers(readFileSync(path.join(core, file), 'utf8'));
    for (const specifier of [...declared, ...dynamic].filter(isThirdParty)) outside.add(specifier);
  }
  return [...outside].sort();
}
