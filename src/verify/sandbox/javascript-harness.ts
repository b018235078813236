/**
 * What runs inside a QuickJS context before the program: an expression whose value is an object of functions
 * that the worker holds by handle, so that the program cannot reach them. It captures the built-ins it needs.
 *
 * `begin(request)` starts a request and `finish()` gives its reply; between the two the worker evaluates the source
 * of `load` and `run`, tells `thrown()` what that threw, and runs pending jobs and `tick()`, which runs the next timer (at once: nobody waits for the clock) or says that nothing is left.
 *
 * A whole program finds what such programs use of Node: `console`, `process`, timers, and `require` of
 * `fs`, `readline`, `os`, `util` and `assert`, as far as reading standard input and printing go.
 */
export const javascriptHarness = `(() => {
'use strict';
// Built-ins, taken before the program can patch them: nothing below asks an object for a method that it
// could have replaced.
const { stringify, parse } = JSON;
const { isArray, from: arrayFrom } = Array;
const { getPrototypeOf, keys, prototype: objectPrototype } = Object;
const { apply, ownKeys } = Reflect;
const { is } = Object;
const uncurry = (method) => (self, ...args) => apply(method, self, args);
const then = uncurry(Promise.prototype.then);
const mapEntries = uncurry(Map.prototype.entries), setValues = uncurry(Set.prototype.values);
const nextOfMap = uncurry(getPrototypeOf(new Map().entries()).next);
const nextOfSet = uncurry(getPrototypeOf(new Set().values()).next);
const bigText = uncurry(BigInt.prototype.toString), split = uncurry(String.prototype.split);
const isInteger = Number.isSafeInteger;
const globals = globalThis, indirectEval = eval, PromiseOf = Promise, text = String, ErrorOf = Error, Big = BigInt;
const MapOf = Map, SetOf = Set, SyntaxErrorOf = SyntaxError, numberOf = Number, BytesOf = Uint8Array;
class Exit extends Error {}
let limit = 0, printed = '', state, timers = [], timerId = 0, now = 0;

// All that the program prints, up to the limit; past it printing raises, and the reply says so whatever the
// program made of that.
const print = (line) => {
  printed += line;
  if (printed.length > limit) { state.flood = true; printed = ''; throw new ErrorOf('output limit'); }
};

// A value as wire text. Only exact built-in types cross; a subclass or a function arrives as its type, and
// equals nothing.
function encode(value, depth) {
  if (value === null || value === true || value === false) return text(value);
  switch (typeof value) {
    case 'string': return stringify(value);
    case 'number': return isInteger(value) && !is(value, -0) ? '["i","' + value + '"]' : '["f","' + (is(value, -0) ? '-0' : value) + '"]';
    case 'bigint': return '["i","' + bigText(value) + '"]';
    case 'undefined': return '["u"]';
    case 'object': break;
    default: return '["x","' + typeof value + '"]';
  }
  if (depth > 200) return '["x","nested too deep"]';
  if (isArray(value)) {
    let out = '';
    for (let i = 0; i < value.length; i++) out += (i ? ',' : '') + encode(value[i], depth + 1);
    return '["l",[' + out + ']]';
  }
  // By prototype, not by instanceof or toString: those the program can answer itself.
  const prototype = getPrototypeOf(value);
  if (prototype === objectPrototype || prototype === null) {
    const names = keys(value);
    let out = '';
    for (let i = 0; i < names.length; i++)
      out += (i ? ',' : '') + '[' + stringify(names[i]) + ',' + encode(value[names[i]], depth + 1) + ']';
    return '["d",[' + out + ']]';
  }
  if (prototype === MapOf.prototype) {
    const entries = mapEntries(value);
    let out = '';
    for (let one = nextOfMap(entries); !one.done; one = nextOfMap(entries))
      out += (out ? ',' : '') + '[' + encode(one.value[0], depth + 1) + ',' + encode(one.value[1], depth + 1) + ']';
    return '["d",[' + out + ']]';
  }
  if (prototype === SetOf.prototype) {
    const values = setValues(value);
    let out = '';
    for (let one = nextOfSet(values); !one.done; one = nextOfSet(values))
      out += (out ? ',' : '') + encode(one.value, depth + 1);
    return '["s",[' + out + ']]';
  }
  return '["x","object"]';
}

// The way back. Keys are defined, not assigned: __proto__ is a key like others.
function decode(wire) {
  if (!isArray(wire)) return wire;
  const [tag, body] = wire;
  if (tag === 'i') return isInteger(numberOf(body)) ? numberOf(body) : body[0] === '-' ? -Big(body.slice(1)) : Big(body);
  if (tag === 'f') return body === 'nan' ? NaN : body === 'inf' ? Infinity : body === '-inf' ? -Infinity : numberOf(body);
  if (tag === 'l' || tag === 't') return body.map(decode);
  if (tag === 's') return new SetOf(body.map(decode));
  if (tag === 'd') {
    const out = {};
    for (const [key, one] of body) Object.defineProperty(out, decode(key), { value: decode(one), writable: true, enumerable: true, configurable: true });
    return out;
  }
  if (tag === 'b') return BytesOf.from(body.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  return undefined;
}

// What console.log prints, as Node does for the values that programs print.
const show = (value, depth = 0) => {
  if (typeof value === 'string') return depth ? "'" + value + "'" : value;
  if (typeof value === 'bigint') return value + 'n';
  if (typeof value === 'function') return '[Function: ' + (value.name || '(anonymous)') + ']';
  if (value === null || typeof value !== 'object') return is(value, -0) ? '-0' : text(value);
  if (value instanceof ErrorOf) return value.stack ? value + '' : text(value);
  if (depth > 3) return isArray(value) ? '[Array]' : '[Object]';
  if (isArray(value)) return value.length ? '[ ' + value.map((x) => show(x, depth + 1)).join(', ') + ' ]' : '[]';
  if (value instanceof MapOf) return 'Map(' + value.size + ') {' + [...value].map(([k, v]) => ' ' + show(k, 1) + ' => ' + show(v, 1)).join(',') + ' }';
  if (value instanceof SetOf) return 'Set(' + value.size + ') {' + [...value].map((v) => ' ' + show(v, 1)).join(',') + ' }';
  const body = keys(value).map((k) => (/^[A-Za-z_$][\\w$]*$/.test(k) ? k : "'" + k + "'") + ': ' + show(value[k], depth + 1));
  return body.length ? '{ ' + body.join(', ') + ' }' : '{}';
};
// printf-like formats of console.log.
const format = (args) => {
  const [first, ...rest] = args;
  if (typeof first !== 'string' || !first.includes('%')) return args.map((x) => show(x)).join(' ');
  const used = first.replace(/%([sdifjoO%])/g, (whole, how) => {
    if (how === '%') return '%';
    if (!rest.length) return whole;
    const value = rest.shift();
    if (how === 'd' || how === 'i') return typeof value === 'bigint' ? value + 'n' : text(how === 'i' ? parseInt(value) : numberOf(value));
    return how === 'f' ? text(parseFloat(value)) : how === 'j' ? stringify(value) : show(value, how === 's' ? 0 : 1);
  });
  return [used, ...rest.map((x) => show(x))].join(' ');
};

/** Standard input, and what of Node leads to it. */
function surroundings(stdin) {
  const lines = stdin === '' ? [] : split(stdin.endsWith('\\n') ? stdin.slice(0, -1) : stdin, /\\r?\\n/);
  let line = 0;
  // Input arrives by events, and events come after the program's own code has run.
  const later = (work) => { timers.push({ id: ++timerId, at: now, work }); };
  // As much of an event emitter as readers of standard input use.
  const emitter = () => {
    const listeners = {};
    return {
      on(name, listener) { (listeners[name] ??= []).push(listener); this.started?.(name); return this; },
      once(name, listener) { return this.on(name, listener); },
      addListener(name, listener) { return this.on(name, listener); },
      removeListener() { return this; }, removeAllListeners() { return this; }, off() { return this; },
      emit(name, ...args) { for (const one of listeners[name] ?? []) one.apply(this, args); return true; },
    };
  };
  let flowing = false;
  // process.stdin: one piece of data, then the end.
  const input = Object.assign(emitter(), {
    fd: 0, isTTY: false,
    setEncoding() { return this; }, resume() { return this; }, pause() { return this; }, unref() { return this; },
    read() { if (this.given) return null; this.given = true; return stdin; },
    pipe() { return this; },
    started(name) {
      if (flowing || !['data', 'end', 'readable', 'close'].includes(name)) return;
      flowing = true;
      later(() => {
        this.emit('readable');
        if (stdin !== '') this.emit('data', stdin);
        this.emit('end');
        this.emit('close');
      });
    },
    async *[Symbol.asyncIterator]() { if (stdin !== '') yield stdin; },
  });
  // Lines by event, by question or by iteration.
  const readline = {
    createInterface() {
      let open = true, begun = false;
      const waiting = [];
      const face = Object.assign(emitter(), {
        started(name) {
          if (begun || (name !== 'line' && name !== 'close')) return;
          begun = true;
          later(() => { while (open && line < lines.length) this.emit('line', lines[line++]); this.close(); });
        },
        question(query, options, answer = options) { print(query); later(() => { if (line < lines.length) answer(lines[line++]); }); },
        setPrompt() {}, prompt() {}, pause() { return this; }, resume() { return this; },
        close() { if (open) { open = false; this.emit('close'); } },
        async *[Symbol.asyncIterator]() { while (line < lines.length) yield lines[line++]; },
      });
      return face;
    },
  };
  // Only descriptors 0 to 2 exist.
  const fs = {
    readFileSync(file, how) {
      if (file !== 0 && file !== '/dev/stdin') throw new ErrorOf("ENOENT: no such file or directory, open '" + text(file) + "'");
      if (how) return stdin;
      return { toString: () => stdin, length: stdin.length };
    },
    writeFileSync(file, data) { if (file === 1 || file === '/dev/stdout') print(text(data)); else if (file !== 2) throw new ErrorOf('EACCES: permission denied'); },
    writeSync(fd, data) { this.writeFileSync(fd, data); },
  };
  const assert = (ok, message) => { if (!ok) throw new ErrorOf(message ?? 'assertion failed'); };
  const packages = { fs, readline, os: { EOL: '\\n' }, util: { format: (...args) => format(args), inspect: (x) => show(x, 1) }, assert,
    process: undefined, 'readline/promises': { createInterface: (...args) => Object.assign(readline.createInterface(...args), { question: async () => lines[line++] }) } };
  const log = (...args) => print(format(args) + '\\n');
  const quiet = () => {};
  // process.exit unwinds: an end of the whole program is fine in a run, and a fault in a call.
  const leave = (code) => { state.exit = code ?? 0; throw new Exit('exit'); };
  const process = { stdin: input, stdout: { write(data) { print(text(data)); return true; }, end(data) { if (data !== undefined) print(text(data)); }, isTTY: false, on() { return this; } },
    stderr: { write: () => true }, argv: ['node', 'solution.js'], env: {}, exit: leave, on() { return this; }, once() { return this; }, platform: 'linux',
    nextTick: (work, ...args) => { then(PromiseOf.resolve(), () => work(...args)); }, hrtime: Object.assign(() => [0, 0], { bigint: () => Big(0) }),
    uptime: () => 0, memoryUsage: () => ({ heapUsed: 0, rss: 0 }), cwd: () => '/', version: 'v20.0.0', versions: { node: '20.0.0' } };
  packages.process = process;
  // Timers run at once, in the order of their times: nobody waits for the clock, and an endless chain of
  // them runs into the limit.
  const timer = (work, delay = 0, ...args) => { timers.push({ id: ++timerId, at: now + (delay > 1 ? numberOf(delay) : 1), work: () => work(...args) }); return timerId; };
  const clear = (id) => { timers = timers.filter((one) => one.id !== id); };
  const require = (name) => {
    const found = packages[text(name).replace(/^node:/, '')];
    if (!found) throw new ErrorOf("Cannot find module '" + text(name) + "'");
    return found;
  };
  const module = { exports: {} };
  Object.assign(globals, { console: { log, info: log, debug: log, error: quiet, warn: quiet, table: log, time: quiet, timeEnd: quiet, assert: quiet, trace: quiet },
    process, require, module, exports: module.exports, setTimeout: timer, setImmediate: (work, ...args) => timer(work, 0, ...args), clearTimeout: clear, clearImmediate: clear, clearInterval: clear,
    setInterval: (work, delay, ...args) => { const again = () => { work(...args); timers.push({ id, at: now + (numberOf(delay) || 1), work: again }); }; const id = timer(again, delay); return id; },
    queueMicrotask: (work) => { then(PromiseOf.resolve(), work); }, print: log, readline: () => lines[line++], global: globals,
    structuredClone: (x) => decode(parse(encode(x, 0))), performance: { now: () => now } });
  return module;
}

// A fault as a reply. Showing the error may run code of the program's, so that is guarded, too.
const fail = (kind, error) => {
  let message = 'an exception that cannot be shown';
  try { message = error instanceof ErrorOf ? error.name + ': ' + error.message : text(error); } catch {}
  state.reply = '"error":"' + kind + '","message":' + stringify(text(message).slice(0, 400));
};
// What an error means: a flood of output, an exit, a full memory, or the program's own.
const failed = (error) => {
  if (state.flood) return fail('output-limit', 'printed more than the output limit');
  if (error instanceof Exit) {
    if (state.op === 'run' && !state.exit) return;
    return fail('exit', 'process.exit(' + text(state.exit) + ')');
  }
  // Of a full memory, QuickJS says null or "out of memory".
  if (error === null || (error && error.message === 'out of memory')) return fail('memory', 'out of memory');
  fail(state.op !== 'call' && error instanceof SyntaxErrorOf ? 'compile' : 'runtime', error);
};
const settle = (value) => { state.reply = '"value":' + encode(value, 0); };
let module;

// The function of a name: exported, global, or a method of a class, of which an object is made.
function lookUp(name) {
  const parts = split(name, '.');
  let found = module.exports?.[parts[0]];
  if (found === undefined) { try { found = indirectEval(parts[0]); } catch { found = undefined; } }
  if (found === undefined && typeof module.exports === 'function') found = module.exports;
  for (let i = 1; i < parts.length && found !== undefined; i++) {
    const owner = typeof found === 'function' && found.prototype ? new found() : found;
    const method = owner[parts[i]];
    found = typeof method === 'function' ? (...args) => apply(method, owner, args) : method;
  }
  if (typeof found !== 'function') throw new ErrorOf('the program does not define the function ' + name);
  return found;
}

return {
  begin(line) {
    const request = parse(line);
    limit = request.outputBytes; printed = ''; timers = []; now = 0;
    state = { op: request.op, reply: undefined, exit: undefined, flood: false };
    try {
      if (request.op === 'load') {
        // The worker evaluates the source as a script of its own, so that its \`const\` and \`let\` are global too.
        module = surroundings('');
      } else if (request.op === 'call') {
        const args = request.args.map(decode);
        const value = apply(lookUp(request.name), undefined, args);
        const given = (result) => settle('changed' in request ? args[request.changed] : result);
        if (value instanceof PromiseOf) then(value, given, failed);
        else given(value);
      } else if (request.op === 'value') settle(indirectEval('(' + request.source + '\\n)'));
      else {
        module = surroundings(request.stdin);
      }
    } catch (error) { failed(error); }
  },
  thrown(error) { failed(error); },
  tick() {
    if (state.reply !== undefined || timers.length === 0) return false;
    let first = 0;
    for (let i = 1; i < timers.length; i++) if (timers[i].at < timers[first].at) first = i;
    const [due] = timers.splice(first, 1);
    now = due.at;
    try { due.work(); } catch (error) { failed(error); timers = []; }
    return true;
  },
  finish(broken, message) {
    if (broken) fail(message === 'null' || /out of memory/.test(message) ? 'memory' : 'runtime', message);
    if (state.flood) fail('output-limit', 'printed more than the output limit');
    if (state.reply === undefined) {
      if (state.op === 'load') settle(null);
      else if (state.op === 'run') state.reply = '"value":' + stringify(printed);
      else fail('runtime', 'the promise never settles');
    }
    return state.reply;
  },
};
})()`;
