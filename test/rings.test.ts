import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../src/', import.meta.url));

interface Import {
  /** File that imports, relative to src. */
  from: string;
  /** File or package that it imports; files relative to src. */
  to: string;
  /** What it imports is gone at run time. */
  typeOnly: boolean;
}

/** Every module name in a file: static, dynamic and re-exporting imports, and imports of types. */
function importsOf(file: string): Import[] {
  const source = ts.createSourceFile(
    file,
    readFileSync(path.join(root, file), 'utf8'),
    ts.ScriptTarget.ES2022,
  );
  const found: Import[] = [];
  const note = (name: ts.Node | undefined, typeOnly: boolean) => {
    if (!name) return;
    if (!ts.isStringLiteralLike(name)) {
      // A computed module name could be anything; only the runtime needs one.
      found.push({ from: file, to: '<computed>', typeOnly });
      return;
    }
    const { text } = name;
    const to = text.startsWith('.')
      ? path.posix.join(path.posix.dirname(file), text).replace(/\.js$/, '.ts')
      : text;
    found.push({ from: file, to, typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) note(node.moduleSpecifier, node.importClause?.isTypeOnly ?? false);
    else if (ts.isExportDeclaration(node)) note(node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument))
      note(node.argument.literal, true);
    else if (ts.isCallExpression(node)) {
      const isImport = node.expression.kind === ts.SyntaxKind.ImportKeyword;
      const isRequire = ts.isIdentifier(node.expression) && node.expression.text === 'require';
      if (isImport || isRequire) note(node.arguments[0], false);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .map((file) => file.split(path.sep).join('/'))
  .filter((file) => file.endsWith('.ts'));
const imports = files.flatMap(importsOf);

const folderOf = (file: string) => (file.includes('/') ? file.slice(0, file.indexOf('/')) : '');
const isLocal = ({ to }: Import) => to.endsWith('.ts');

/** Rings from the inside out. The files of `src` itself are the main entry: core, optimisers, runtime. */
const rings: Record<string, number> = {
  core: 0,
  onnx: 0,
  native: 1,
  runtime: 1,
  optim: 2,
  nn: 2,
  data: 2,
  checkpoint: 2,
  generate: 2,
  '': 2,
  models: 3,
  train: 3,
  evaluate: 3,
  verify: 3,
  rl: 4,
  recipes: 5,
  cli: 5,
  serve: 5,
};
const ringOf = (file: string) => rings[folderOf(file)] ?? Number.NaN;

/** Folders that may use other packages; the rest needs none. */
const outward = new Set([
  'runtime',
  'native',
  'data',
  'checkpoint',
  'train',
  'verify',
  'serve',
  'cli',
  'recipes',
]);

const show = (list: readonly Import[]) => list.map(({ from, to }) => `${from} imports ${to}`);

describe('imports', () => {
  it('are found', () => {
    expect(files.length).toBeGreaterThan(40);
    expect(show(imports)).toEqual(
      expect.arrayContaining([
        'core/program.ts imports core/compile.ts',
        'library.ts imports core/index.ts',
        'index.ts imports runtime/node/backend.ts',
        'core/compile.ts imports runtime/backend.ts',
      ]),
    );
  });

  it('lead to files that exist', () => {
    expect(show(imports.filter((one) => isLocal(one) && !files.includes(one.to)))).toEqual([]);
  });

  it('point inwards', () => {
    const outwards = imports.filter((one) => isLocal(one) && ringOf(one.to) > ringOf(one.from));
    // The interface of a runtime is the core's own port: types only.
    expect(show(outwards.filter(({ to, typeOnly }) => !(to === 'runtime/backend.ts' && typeOnly)))).toEqual(
      [],
    );
  });

  it('of core and onnx are of core and onnx', () => {
    const inner = imports.filter(({ from }) => ringOf(from) === 0);
    const foreign = inner.filter(({ to, typeOnly }) => {
      if (to === 'runtime/backend.ts') return !typeOnly;
      return !to.startsWith('core/') && !to.startsWith('onnx/');
    });
    expect(show(foreign)).toEqual([]);
  });

  it('are of folders with a ring', () => {
    expect(files.filter((file) => Number.isNaN(ringOf(file)))).toEqual([]);
  });

  it('of other packages are in the outward folders only', () => {
    const isNode = ({ to }: Import) => to.startsWith('node:') || builtinModules.includes(to);
    const third = imports.filter((one) => !isLocal(one) && !isNode(one));
    expect(show(third.filter(({ from }) => !outward.has(folderOf(from))))).toEqual([]);
    expect(third.length).toBeGreaterThan(0);
    // And the port itself needs none.
    expect(
      show(imports.filter((one) => one.from === 'runtime/backend.ts' && !one.to.startsWith('core/'))),
    ).toEqual([]);
  });

  it('name Node by its prefix', () => {
    expect(show(imports.filter(({ to }) => builtinModules.includes(to)))).toEqual([]);
  });
});
