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

/** Module specifiers of compiled code: static ones, and dynamic ones whose argument is a literal. */
function specifiers(source: string): { fixed: string[]; dynamic: string[] } {
  const find = (pattern: RegExp) => [...source.matchAll(pattern)].map((match) => match[1]!);
  return {
    fixed: find(/^\s*(?:import|export)\b[^;'"]*?(?:\bfrom\s*)?['"]([^'"]+)['"]/gm),
    dynamic: find(/\bimport\(\s*['"]([^'"]+)['"]\s*\)/g),
  };
}

const isThirdParty = (specifier: string) => !specifier.startsWith('.') && !specifier.startsWith('node:');

/** Adds the modules that `file` reaches through static imports. */
function collect(file: string, seen: Set<string>, outside: Set<string>): void {
  if (seen.has(file)) return;
  seen.add(file);
  for (const specifier of specifiers(readFileSync(file, 'utf8')).fixed) {
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
    const { fixed, dynamic } = specifiers(readFileSync(path.join(core, file), 'utf8'));
    for (const specifier of [...fixed, ...dynamic].filter(isThirdParty)) outside.add(specifier);
  }
  return [...outside].sort();
}
