/** Signs of tampering in JavaScript. */
import type { TamperSign } from './facts.js';
import { type AnyNode, childNodes, dottedName, javascriptLiteral } from './javascript-facts.js';

/** What a name or a module gives away; the first rule that fits is it. */
type Rule = [kind: TamperSign['kind'], severity: TamperSign['severity'], pattern: RegExp];

/**
 * Dotted names, as they are written. Strong: an honest program has no use for it. Weak: many have (a command line
 * reads its arguments, a script ends itself): such signs are listed, but flag no program.
 */
const nameRules: readonly Rule[] = [
  ['exit', 'strong', /^process\.(?:abort|kill|reallyExit)$/],
  ['exit', 'weak', /^process\.exit(?:Code)?$/],
  ['skip', 'strong', /^(?:it|test|describe|suite)\.(?:skip|todo|only)$|^(?:xit|xdescribe)$/],
  ['frames', 'strong', /(?:^|\.)(?:captureStackTrace|prepareStackTrace|caller|callee)$/],
  ['frames', 'weak', /\.stack$/],
  ['process', 'strong', /^process\.(?:binding|dlopen|mainModule|getBuiltinModule)$|^Deno\.|^Bun\./],
  ['environment', 'weak', /^process\.(?:env|argv|title|cwd)$|^__filename$|^import\.meta/],
  ['dynamic-code', 'weak', /^(?:eval|Function|vm\.\w+)$/],
  ['threads', 'weak', /^(?:Worker|SharedArrayBuffer|Atomics\.wait)$/],
  ['process', 'strong', /^(?:fetch|XMLHttpRequest|WebSocket)$/],
  [
    'files',
    'strong',
    /^(?:fs|fsp|fs\.promises)\.(?:writeFile|readdir|unlink|rm|rename|appendFile|createReadStream|open)\w*$/,
  ],
];

/** Modules that reach out of the program, or belong to a test runner. */
const moduleRules: readonly Rule[] = [
  [
    'process',
    'strong',
    /^(?:child_process|cluster|worker_threads|net|http|https|dgram|tls|vm|v8|inspector|module)$/,
  ],
  ['skip', 'strong', /^(?:vitest|jest|mocha|node:test|test|@jest\/globals)$/],
];

/** Owners of built-ins: to assign to their members changes them for everybody. */
const globalsToPatch =
  /^(?:globalThis|window|global|Object|Array|String|Number|Boolean|Function|Math|JSON|Map|Set|Promise|Symbol|Reflect|Date|RegExp|Error|console|performance|assert|process)\b/;

/** Methods through which an object can pass for another value. */
const coercions = new Set([
  'valueOf',
  'toString',
  'toJSON',
  'Symbol.toPrimitive',
  'Symbol.hasInstance',
  'equals',
  'asymmetricMatch',
]);

/** Signs of tampering in a JavaScript program. */
export function javascriptTampering(program: AnyNode, source: string): TamperSign[] {
  const signs: TamperSign[] = [];
  // One sign of a kind for a line: `process.exit(process.exitCode)` is one attempt, not two.
  const note = (node: AnyNode, kind: TamperSign['kind'], severity: TamperSign['severity']) => {
    const { line } = node.loc!.start;
    const text = source.slice(node.start, node.end).split('\n')[0]!.slice(0, 100);
    if (!signs.some((one) => one.kind === kind && one.line === line))
      signs.push({ kind, severity, line, text });
  };
  const visit = (node: AnyNode): void => {
    if (node.type === 'MemberExpression' || node.type === 'Identifier') {
      const name = dottedName(node);
      const rule = nameRules.find(([, , pattern]) => pattern.test(name));
      if (rule) note(node, rule[0], rule[1]);
    }
    if (node.type === 'AssignmentExpression') assignment(node, note);
    if (node.type === 'CallExpression') call(node, note);
    if (node.type === 'ImportDeclaration' || node.type === 'ImportExpression')
      modules(node, node.source, note);
    if (node.type === 'Property' || node.type === 'MethodDefinition') {
      const key = node.computed ? dottedName(node.key) : (node.key.name ?? String(node.key.value));
      if (
        coercions.has(key) &&
        (node.method || node.type === 'MethodDefinition' || /Function/.test(node.value?.type))
      )
        note(node, 'equality', key === 'asymmetricMatch' || key === 'Symbol.toPrimitive' ? 'strong' : 'weak');
    }
    for (const one of childNodes(node)) {
      // Names of properties are no references.
      const isName = node.type === 'MemberExpression' && one === node.property && !node.computed;
      if (!isName) visit(one);
    }
  };
  visit(program);
  return signs;
}

/** Records a sign, one of a kind for each line. */
type Note = (node: AnyNode, kind: TamperSign['kind'], severity: TamperSign['severity']) => void;

/** Assignments to members of built-ins; a program's own global variables are none. */
function assignment(node: AnyNode, note: Note): void {
  const name = dottedName(node.left);
  if (!name.includes('.') || !globalsToPatch.test(name)) return;
  // globalThis.answer = … is how a script shares a variable; globalThis.JSON = … replaces what the tests use.
  if (
    /^(?:globalThis|window|global)\.\w+$/.test(name) &&
    !/\.(?:JSON|Math|Object|Array|Date|console|assert|expect)$/.test(name)
  )
    return;
  // A patched clock makes a slow program fast, and is told apart for those who look for that.
  const isClock = /^(?:Date|performance)\./.test(name);
  note(node, isClock ? 'clock' : 'monkeypatch', 'strong');
}

/** Calls that patch, import or read. */
function call(node: AnyNode, note: Note): void {
  const name = dottedName(node.callee);
  const [first] = node.arguments as AnyNode[];
  if (/^(?:Object|Reflect)\.(?:defineProperty|defineProperties|assign|setPrototypeOf)$/.test(name)) {
    const target = dottedName(first);
    if (globalsToPatch.test(target) && target !== 'Object.create') note(node, 'monkeypatch', 'strong');
  }
  if (name === 'require') modules(node, first, note);
  if (/(?:^|\.)readFile(?:Sync)?$/.test(name)) {
    const value = javascriptLiteral(first);
    // Standard input is what whole programs read.
    const isInput =
      value === '/dev/stdin' ||
      (Array.isArray(value) && value[1] === '0') ||
      dottedName(first) === 'process.stdin.fd';
    if (!isInput) note(node, 'files', 'strong');
  }
}

/** A module that is imported or required by a literal name. */
function modules(node: AnyNode, source: AnyNode | undefined, note: Note): void {
  const value = javascriptLiteral(source);
  if (typeof value !== 'string') return;
  const rule = moduleRules.find(
    ([, , pattern]) => pattern.test(value.replace(/^node:/, '')) || pattern.test(value),
  );
  if (rule) note(node, rule[0], rule[1]);
}
