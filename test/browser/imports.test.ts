import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, it } from 'vitest';

/** Modules that a source file imports when it runs, static and dynamic; imports of types are gone by then. */
function importsOf(source: string): string[] {
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: {
      module: ts.ModuleKind.ESNext,
      target: ts.ScriptTarget.ES2022,
      verbatimModuleSyntax: true,
    },
  });
  return ts.preProcessFile(outputText).importedFiles.map(({ fileName }) => fileName);
}

/** Names of packages that the module graph of `entry` reaches. */
async function packagesOf(entry: URL): Promise<{ packages: Set<string>; files: Set<string> }> {
  const packages = new Set<string>();
  const files = new Set<string>();
  const open = [entry];
  for (let url = open.pop(); url; url = open.pop()) {
    if (files.has(url.href)) continue;
    files.add(url.href);
    for (const name of importsOf(await readFile(fileURLToPath(url), 'utf8'))) {
      if (name.startsWith('.')) open.push(new URL(name.replace(/\.js$/, '.ts'), url));
      else packages.add(name);
    }
  }
  return { packages, files };
}

it('reaches nothing of Node from the entry for browsers', async () => {
  const { packages, files } = await packagesOf(new URL('../../src/browser.ts', import.meta.url));
  expect([...packages].sort()).toEqual(['onnxruntime-web', 'onnxruntime-web/webgpu']);
  expect(files.size).toBeGreaterThan(20);
});
