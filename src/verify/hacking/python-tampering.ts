/** Signs of tampering in Python: names and modules that an honest solution has no use for. */
import type { SyntaxNode, Tree } from '@lezer/common';
import { children, textOf } from '../code/python-syntax.js';
import type { TamperSign } from './facts.js';

/** What a name or a module gives away. Rules are tried in order, and the first that fits is it. */
type Rule = [kind: TamperSign['kind'], severity: TamperSign['severity'], pattern: RegExp];

/** What a called name or an attribute gives away; the text is the dotted name. */
const nameRules: readonly Rule[] = [
  ['exit', 'strong', /^(?:os\._exit|os\.abort|os\.kill|signal\.raise_signal|faulthandler\._sigsegv)$/],
  ['exit', 'weak', /^(?:sys\.exit|exit|quit|SystemExit|atexit\.\w+)$/],
  ['skip', 'strong', /(?:^|\.)(?:SkipTest|skipTest|skip_module|importorskip|xfail)$|^pytest\./],
  [
    'frames',
    'strong',
    /(?:^|\.)(?:_getframe|_current_frames|currentframe|f_back|f_locals|f_globals|tb_frame|settrace|setprofile|get_objects|get_referrers|get_referents)$/,
  ],
  [
    'frames',
    'weak',
    /^(?:inspect|traceback|gc)\.|(?:^|\.)(?:__closure__|__code__|__globals__|__subclasses__)$/,
  ],
  ['monkeypatch', 'strong', /^(?:sys\.modules|sys\.meta_path|__builtins__)$/],
  [
    'files',
    'strong',
    /^(?:os\.(?:listdir|scandir|walk|remove|unlink|rename|open|environ\.copy)|glob\.\w+|shutil\.\w+|pathlib\.\w+|tempfile\.\w+|io\.open|io\.FileIO|Path)$/,
  ],
  [
    'process',
    'strong',
    /^(?:subprocess\.\w+|os\.(?:system|popen|fork|exec\w+|spawn\w+|posix_spawn)|ctypes\.\w+|multiprocessing\.\w+|socket\.\w+|urllib\.\w+|requests\.\w+|pty\.\w+|run_js)$/,
  ],
  ['clock', 'weak', /^time\.(?:sleep|time|perf_counter|monotonic|process_time)$/],
  ['environment', 'weak', /^(?:os\.environ|os\.getenv|sys\.argv|__file__|sys\.flags)$/],
  ['threads', 'weak', /^(?:signal\.\w+|threading\.\w+|_thread\.\w+|concurrent\.\w+|asyncio\.\w+)$/],
  [
    'dynamic-code',
    'weak',
    /^(?:eval|exec|compile|__import__|importlib\.\w+|marshal\.\w+|pickle\.loads?|codecs\.decode)$/,
  ],
];

/** Imports that say it all: a function that is tested by calls has no use for them. */
const moduleRules: readonly Rule[] = [
  [
    'process',
    'strong',
    /^(?:subprocess|ctypes|multiprocessing|socket|urllib|requests|pty|js|pyodide|pyodide_js|_pyodide_core)(?:\.|$)/,
  ],
  ['files', 'strong', /^(?:glob|shutil|pathlib|tempfile|fileinput)$/],
  ['skip', 'strong', /^(?:pytest|unittest|nose|doctest)(?:\.|$)/],
  ['frames', 'weak', /^(?:inspect|gc|traceback|faulthandler)$/],
  ['exit', 'weak', /^atexit$/],
];

/** Classes that an object must derive from to pass for a plain value. */
const plainTypes = /^(?:int|float|str|list|dict|tuple|set|frozenset|bytes|complex|bool)$/;

/** Methods through which an object decides what it equals. */
const equalities = /^__(?:eq|ne|hash|lt|le|gt|ge|bool|instancecheck|class|contains)__$/;

/** Signs of tampering in a Python program. Names are resolved through `import … as` and `from … import`. */
export function pythonTampering(tree: Tree, source: string): TamperSign[] {
  const finder = new Finder(source);
  finder.visit(tree.topNode);
  return finder.signs;
}

/** Walks the tree once. Parts that the parser could not read are walked like the rest. */
class Finder {
  readonly signs: TamperSign[] = [];
  readonly #source: string;
  /** What a local name stands for: `o` for `os` after `import os as o`. */
  readonly #aliases = new Map<string, string>();
  readonly #modules = new Set<string>(['builtins', '__builtins__']);

  constructor(source: string) {
    this.#source = source;
  }

  /** Looks at a node and at everything in it. */
  visit(node: SyntaxNode): void {
    if (node.name === 'ImportStatement') this.#imports(node);
    else if (node.name === 'ClassDefinition') this.#class(node);
    else if (
      node.name === 'AssignStatement' ||
      node.name === 'UpdateStatement' ||
      node.name === 'DeleteStatement'
    )
      this.#assignment(node);
    else if (node.name === 'CallExpression') this.#call(node);
    if (node.name === 'MemberExpression' || node.name === 'VariableName') this.#name(node);
    // A part of a dotted name was looked at with the whole.
    const isDotted = node.name === 'MemberExpression' && /^[\w.]+$/.test(textOf(node, this.#source));
    if (!isDotted) for (const one of children(node)) this.visit(one);
  }

  /** Records a sign, one of a kind for each line. */
  #note(node: SyntaxNode, kind: TamperSign['kind'], severity: TamperSign['severity']): void {
    const line = this.#source.slice(0, node.from).split('\n').length;
    const text = textOf(node, this.#source).split('\n')[0]!.slice(0, 100);
    if (!this.signs.some((one) => one.kind === kind && one.line === line))
      this.signs.push({ kind, severity, line, text });
  }

  /** A dotted name with its head resolved through imports. */
  #dotted(node: SyntaxNode): string {
    const [head = '', ...rest] = textOf(node, this.#source).replace(/\s+/g, '').split('.');
    return [this.#aliases.get(head) ?? head, ...rest].join('.');
  }

  /** A name that is used, called or not. */
  #name(node: SyntaxNode): void {
    const name = this.#dotted(node);
    const rule = nameRules.find(([, , pattern]) => pattern.test(name));
    if (rule) this.#note(node, rule[0], rule[1]);
  }

  /** An import: notes what its names stand for, and whether the module itself is a sign. */
  #imports(node: SyntaxNode): void {
    const text = textOf(node, this.#source).replace(/[()\\\n]/g, ' ');
    const from = /^from\s+([\w.]+)\s+import\s+(.*)$/.exec(text);
    const list = (from ? from[2]! : text.replace(/^import\s+/, '')).split(',');
    for (const part of list) {
      const [name = '', alias] = part.trim().split(/\s+as\s+/);
      const whole = from ? `${from[1]}.${name}` : name;
      const module = from ? from[1]! : name;
      this.#aliases.set(
        alias ?? (from ? name : name.split('.')[0]!),
        from || alias ? whole : name.split('.')[0]!,
      );
      if (!from) this.#modules.add(alias ?? name.split('.')[0]!);
      const rule = moduleRules.find(([, , pattern]) => pattern.test(module));
      if (rule) this.#note(node, rule[0], rule[1]);
    }
  }

  /** Objects that claim to be equal, and subclasses of plain types. */
  #class(node: SyntaxNode): void {
    const bases = node.getChild('ArgList');
    const body = node.getChild('Body');
    const methods = body ? children(body).filter(({ name }) => name === 'FunctionDefinition') : [];
    const isPlain = bases ? children(bases).some((one) => plainTypes.test(textOf(one, this.#source))) : false;
    for (const method of methods) {
      const name = method.getChild('VariableName');
      if (!name || !equalities.test(textOf(name, this.#source))) continue;
      const code = textOf(method, this.#source);
      const isConstant =
        /return\s+(?:True|False|not\s+False|1|0)\s*$/m.test(code) && !/\bif\b|==|isinstance/.test(code);
      const strong = /__(?:eq|ne|instancecheck|class)__/.test(code) && (isConstant || isPlain);
      this.#note(method, 'equality', strong ? 'strong' : 'weak');
    }
    if (isPlain && methods.length === 0) this.#note(node, 'equality', 'weak');
  }

  /** Assignments to what belongs to a module: `builtins.sum = …`, `time.time = …`, `sys.modules[…] = …`. */
  #assignment(node: SyntaxNode): void {
    for (const target of children(node)) {
      if (target.name === 'AssignOp' || target.name === 'UpdateOp') break;
      if (target.name !== 'MemberExpression') continue;
      const text = textOf(target, this.#source);
      const head = text.split(/[.[]/)[0]!;
      if (/^sys\.(?:setrecursionlimit|stdin|stdout)/.test(text)) continue;
      if (!this.#modules.has(head)) continue;
      this.#note(node, /\btime\b|datetime/.test(head) ? 'clock' : 'monkeypatch', 'strong');
    }
  }

  /**
   * A call: files that are opened, attributes that are set, modules that are imported by name, code that is
   * decoded and run.
   */
  #call(node: SyntaxNode): void {
    const called = node.firstChild ? this.#dotted(node.firstChild) : '';
    const list = node.getChild('ArgList');
    const first = list ? children(list)[1] : undefined;
    const argument = first ? textOf(first, this.#source) : '';
    if (called === 'open' && !/^(?:0|1|['"]\/dev\/std(?:in|out)['"])$/.test(argument))
      this.#note(node, 'files', 'strong');
    if ((called === 'setattr' || called === 'delattr') && this.#modules.has(argument))
      this.#note(node, 'monkeypatch', 'strong');
    if (called === '__import__' || called === 'importlib.import_module') {
      const name = argument.replace(/['"]/g, '');
      const rule = moduleRules.find(([, , pattern]) => pattern.test(name));
      if (rule) this.#note(node, rule[0], rule[1]);
    }
    // A program inside a constant: decoded, then run.
    if (/^(?:exec|eval)$/.test(called) && /decode|decompress|fromhex|loads/.test(argument))
      this.#note(node, 'dynamic-code', 'strong');
  }
}
