import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const readme = readFileSync(`${root}README.md`, 'utf8');

describe('README', () => {
  it('has an example that runs as it stands and prints the loss of an untrained network', () => {
    expect(existsSync(`${root}dist/index.js`), 'dist/ is missing: run npm run build').toBe(true);
    const example = /```ts\n([\s\S]*?)```/.exec(readme)![1]!;
    const run = ['--input-type=module', '--eval', example];
    const printed = execFileSync(process.execPath, run, { cwd: root, encoding: 'utf8' });
    const loss = Number(printed);
    // Near ln 10, the loss of ten equal guesses: the weights are small.
    expect(Math.abs(loss - Math.log(10))).toBeLessThan(1);
  });

  it('names only files that exist', () => {
    const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map((match) => match[1]!);
    expect(links.length).toBeGreaterThan(2);
    for (const link of links.filter((l) => !l.startsWith('http'))) {
      expect(existsSync(root + link), link).toBe(true);
    }
  });
});
