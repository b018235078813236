import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const readme = readFileSync(`${root}README.md`, 'utf8');

describe('README', () => {
  it('has an example that runs as it stands and prints a loss', () => {
    expect(existsSync(`${root}dist/index.js`), 'dist/ is missing: run npm run build').toBe(true);
    const example = /```ts\n([\s\S]*?)```/.exec(readme)![1]!;
    const run = ['--input-type=module', '--eval', example];
    const printed = execFileSync(process.execPath, run, { cwd: root, encoding: 'utf8' });
    const loss = Number(printed);
    // Weights of seed 0 and constant pixels: the value that the example had when it was written.
    expect(Math.abs(loss - 3.66357)).toBeLessThan(1e-3);
  });

  it('names only files that exist', () => {
    const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map((match) => match[1]!);
    expect(links.length).toBeGreaterThan(2);
    for (const link of links.filter((l) => !l.startsWith('http'))) {
      expect(existsSync(root + link), link).toBe(true);
    }
  });
});
