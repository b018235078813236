import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { routes } from '../src/cli/routes.js';
import { loadRecipe } from '../src/recipes/index.js';
import { resolveConfig } from '../src/recipes/overrides.js';
import { ended, printed, start } from './support/command.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const readme = readFileSync(`${root}README.md`, 'utf8');

const recipes = new Map(
  await Promise.all(['lm', 'sft'].map(async (name) => [name, await loadRecipe(name)] as const)),
);

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

  it('names commands, recipes and settings that exist', async () => {
    const lines = [...readme.matchAll(/^npx anneal (.*)$/gm)].map((match) =>
      match[1]!.replace(/ #.*$/, '').trim(),
    );
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) {
      const [command, name, ...words] = line.split(/\s+/);
      expect(Object.keys(routes), line).toContain(command);
      if (command === 'run') expect(() => resolveConfig(recipes.get(name!)!, words), line).not.toThrow();
    }
  });

  const model = fileURLToPath(
    new URL('../../shared/models/SmolLM2-135M-Instruct.Q4_1.gguf', import.meta.url),
  );
  const isThere = existsSync(model);
  if (!isThere) console.log(`skipped: the README's client needs ${model}`);
  it.skipIf(!isThere)("has a client of OpenAI's that gets the answer it names", async () => {
    const server = start(['serve', model, '--port', '0'], root);
    try {
      await printed(server, /serving \S+ at http:\S+\/v1/);
      const url = /http:\S+\/v1/.exec(server.output().out)![0];
      const client = /```js\n([\s\S]*?)```/.exec(readme)![1]!.replace('http://127.0.0.1:8000/v1', url);
      const run = ['--input-type=module', '--eval', client];
      expect(`${execFileSync(process.execPath, run, { cwd: root, encoding: 'utf8' })}`).toBe(
        `${/\/\/ (The capital .*)/.exec(client)![1]}\n`,
      );
    } finally {
      server.kill('SIGINT');
      await ended(server);
    }
  });

  it('names only files that exist', () => {
    const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map((match) => match[1]!);
    expect(links.length).toBeGreaterThan(2);
    for (const link of links.filter((l) => !l.startsWith('http'))) {
      expect(existsSync(root + link), link).toBe(true);
    }
  });
});
