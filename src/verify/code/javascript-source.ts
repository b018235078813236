import { type Node, type Program, parse } from 'acorn';

/** A piece of source that is replaced. Edits are made from the end, so that places stay what they are. */
interface Edit {
  start: number;
  end: number;
  text: string;
}

// Names may be written as texts: `import { "a b" as c }`.
const nameOf = (node: { type: string; name?: string; value?: unknown }) => node.name ?? String(node.value);

/** `import a, { b as c } from 'm'` as `const a = …, { b: c } = …`. */
function asRequire(node: Program['body'][number] & { type: 'ImportDeclaration' }): string {
  const source = `require(${JSON.stringify(node.source.value)})`;
  const named = node.specifiers.flatMap((one) =>
    one.type === 'ImportSpecifier' ? [`${nameOf(one.imported as never)}: ${one.local.name}`] : [],
  );
  const whole = node.specifiers.flatMap((one) => (one.type === 'ImportSpecifier' ? [] : [one.local.name]));
  const parts = [...whole.map((name) => `${name} = ${source}`)];
  if (named.length > 0) parts.push(`{ ${named.join(', ')} } = ${source}`);
  return parts.length > 0 ? `const ${parts.join(', ')};` : `${source};`;
}

/**
 * A module as the script that QuickJS evaluates: imports become `require`, exports plain declarations, and top-level
 * `await` an async function around the whole. A script, or what acorn cannot read, stays as it is.
 */
export function asScript(source: string): string {
  let program: Program;
  try {
    program = parse(source, {
      ecmaVersion: 'latest',
      sourceType: 'module',
      allowReturnOutsideFunction: true,
    });
  } catch {
    return source;
  }
  const edits: Edit[] = [];
  const replace = ({ start, end }: Node | Edit, text: string) => edits.push({ start, end, text });
  for (const node of program.body) {
    if (node.type === 'ImportDeclaration') replace(node, asRequire(node));
    else if (node.type === 'ExportNamedDeclaration') {
      if (node.declaration) replace({ start: node.start, end: node.declaration.start, text: '' }, '');
      else replace(node, ';');
    } else if (node.type === 'ExportDefaultDeclaration') {
      const isNamed = 'id' in node.declaration && node.declaration.id;
      const text = isNamed ? '' : 'module.exports = ';
      replace({ start: node.start, end: node.declaration.start, text }, text);
    } else if (node.type === 'ExportAllDeclaration') replace(node, ';');
  }
  let script = source;
  for (const { start, end, text } of edits.reverse())
    script = script.slice(0, start) + text + script.slice(end);
  return awaitsOnTop(script) ? `(async () => {\n${script}\n})();` : script;
}

/** Whether the script is one only with top-level await. */
function awaitsOnTop(script: string): boolean {
  const readable = (allowAwaitOutsideFunction: boolean) => {
    try {
      parse(script, { ecmaVersion: 'latest', sourceType: 'script', allowAwaitOutsideFunction });
      return true;
    } catch {
      return false;
    }
  };
  return /\bawait\b/.test(script) && !readable(false) && readable(true);
}
