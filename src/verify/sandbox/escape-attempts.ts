/**
 * Programs that want to get out of a sandbox or to take its host down. They are harmless on a host that they reach:
 * they read a bait, call a server of the test, or fill what has a limit.
 */
import type { FaultKind } from './sandbox.js';

/** One attempt to get out of a sandbox or to take the host down. */
export interface EscapeAttempt {
  name: string;
  source: string;
  /** How it may end: a fault of one of these kinds, or with the value true, which the source gives if it failed to get out. */
  ends: readonly (FaultKind | 'contained')[];
}

/** Wraps Python statements that must fail: `contained` is True if they raised. */
const pythonTry = (body: string) => `
def f():
    try:
${body
  .trim()
  .split('\n')
  .map((line) => `        ${line}`)
  .join('\n')}
    except BaseException as e:
        return True
    return "escaped"
`;

/** Attempts on a Python sandbox. `secret` is a file that only the host may read, `port` a server of the host. */
export const pythonAttempts = (secret: string, port: number): EscapeAttempt[] => [
  {
    // Files: the bait is readable by whoever runs the host.
    name: 'file: read',
    source: pythonTry(`return open(${JSON.stringify(secret)}).read()`),
    ends: ['contained'],
  },
  {
    name: 'file: read through os',
    source: pythonTry(`import os\nreturn str(os.read(os.open(${JSON.stringify(secret)}, 0), 99))`),
    ends: ['contained'],
  },
  {
    name: 'file: write beside it',
    source: pythonTry(`open(${JSON.stringify(`${secret}.new`)}, "w").write("x")`),
    ends: ['contained'],
  },
  {
    name: 'file: delete',
    source: pythonTry(`import os\nos.remove(${JSON.stringify(secret)})`),
    ends: ['contained'],
  },
  {
    // Processes: a shell, a program, a copy of itself, and a signal to the parent. A killed interpreter is
    // contained, too.
    name: 'process: system',
    source:
      'import os\ndef f():\n    try: return os.system("echo out") != 0 or "escaped"\n    except BaseException: return True',
    ends: ['contained', 'crash'],
  },
  {
    name: 'process: subprocess',
    source: pythonTry(
      'import subprocess\nreturn subprocess.run(["/usr/bin/id"], capture_output=True).stdout.decode()',
    ),
    ends: ['contained', 'crash'],
  },
  {
    name: 'process: fork',
    source: pythonTry('import os\nif os.fork() == 0: os._exit(0)'),
    ends: ['contained', 'crash'],
  },
  {
    name: 'process: signal to the parent',
    source:
      'import os\ndef f():\n    try: os.kill(os.getppid(), 9)\n    except BaseException: pass\n    return True',
    ends: ['contained', 'crash'],
  },
  {
    // Network: to a server that listens on the host, as a server, and by a library.
    name: 'network: connect',
    source: pythonTry(
      `import socket\ns = socket.create_connection(("127.0.0.1", ${port}), 2)\ns.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")`,
    ),
    ends: ['contained', 'timeout'],
  },
  {
    name: 'network: listen',
    source: pythonTry(
      'import socket\ns = socket.socket()\ns.bind(("0.0.0.0", 0))\ns.listen()\nif s.getsockname()[1] == 0: raise OSError("no port")',
    ),
    ends: ['contained', 'crash'],
  },
  {
    name: 'network: fetch',
    source: pythonTry(
      `import urllib.request\nurllib.request.urlopen("http://127.0.0.1:${port}/", timeout=2).read()`,
    ),
    ends: ['contained', 'timeout'],
  },
  {
    // C functions, past all that Python itself checks.
    name: 'host bridge: ctypes',
    source: pythonTry(
      `import ctypes\nlibc = ctypes.CDLL(None)\nfd = libc.open(${JSON.stringify(secret)}.encode(), 0)\nif fd < 0: raise OSError()`,
    ),
    ends: ['contained', 'crash'],
  },
  {
    // Memory: page by page, without ever giving up, and at once.
    name: 'memory bomb',
    source: 'def f():\n    a = []\n    while True: a.append(bytearray(1 << 20))',
    ends: ['memory'],
  },
  {
    name: 'memory bomb that is caught',
    source:
      'def f():\n    a = []\n    while True:\n        try: a.append("x" * (1 << 20) + str(len(a)))\n        except MemoryError: pass',
    ends: ['memory', 'timeout'],
  },
  { name: 'one large allocation', source: 'def f(): return len([0] * 10**10)', ends: ['memory', 'runtime'] },
  {
    // What would fill the table of processes.
    name: 'fork bomb',
    source: 'import os\ndef f():\n    while True:\n        try: os.fork()\n        except OSError: pass',
    ends: ['timeout', 'crash', 'runtime'],
  },
  {
    name: 'thread bomb',
    source:
      'import threading, time\ndef f():\n    n = 0\n    while True:\n        try:\n            threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n            n += 1\n        except BaseException:\n            return n < 10000',
    ends: ['contained', 'timeout', 'memory'],
  },
  // Time: in Python, under a handler for everything, asleep, and in C where no signal is looked at.
  { name: 'infinite loop', source: 'def f():\n    while True: pass', ends: ['timeout'] },
  {
    name: 'infinite loop that catches everything',
    source:
      'def f():\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass',
    ends: ['timeout'],
  },
  { name: 'sleep', source: 'import time\ndef f(): time.sleep(60)', ends: ['timeout'] },
  {
    name: 'one long C call',
    source: 'def f(): return len(str(10 ** (10 ** 8)))',
    ends: ['timeout', 'memory'],
  },
  {
    name: 'catastrophic regular expression',
    source: 'import re\ndef f(): return re.match("(a+)+$", "a" * 40 + "b")',
    ends: ['timeout'],
  },
  { name: 'output flood', source: 'def f():\n    while True: print("x" * 1000)', ends: ['output-limit'] },
  {
    name: 'output flood that is caught',
    source:
      'import sys\ndef f():\n    while True:\n        try: sys.stdout.write("x" * 1000)\n        except BaseException: pass',
    ends: ['output-limit', 'timeout'],
  },
  {
    name: 'error flood',
    source: 'import sys\ndef f():\n    while True: sys.stderr.write("x" * 1000)',
    ends: ['timeout', 'output-limit'],
  },
  {
    name: 'huge result',
    source: 'def f(): return "x" * (1 << 27)',
    ends: ['output-limit', 'memory', 'crash'],
  },
  {
    // The C stack, and an end that looks like success.
    name: 'recursion without a limit',
    source: 'import sys\nsys.setrecursionlimit(10**9)\ndef g(n): return g(n + 1) + 1\ndef f(): return g(0)',
    ends: ['crash', 'runtime', 'memory', 'timeout'],
  },
  { name: 'exit', source: 'import os\ndef f(): os._exit(0)', ends: ['crash', 'exit'] },
];

/** Attempts on Python inside JavaScript: through the bridge between the two. */
export const bridgeAttempts = (secret: string, port: number): EscapeAttempt[] => [
  {
    name: 'host bridge: run_js',
    source: pythonTry('from pyodide.code import run_js\nrun_js("process.kill(process.ppid)")'),
    ends: ['contained'],
  },
  {
    name: 'host bridge: import js',
    source: pythonTry('import js\njs.process.mainModule'),
    ends: ['contained'],
  },
  {
    name: 'host bridge: fetch',
    source: pythonTry(`import js\njs.fetch("http://127.0.0.1:${port}/")`),
    ends: ['contained'],
  },
  {
    name: 'host bridge: Function',
    source: pythonTry(
      'from pyodide.ffi import to_js\nto_js([]).constructor.constructor("return process")().pid',
    ),
    ends: ['contained'],
  },
  {
    name: 'host bridge: module',
    source: pythonTry('import sys\nsys.meta_path[:] = sys.meta_path\nimport pyodide_js\npyodide_js._module'),
    ends: ['contained'],
  },
  {
    name: 'host bridge: mount',
    source: pythonTry(
      `import sys, gc\nfor x in gc.get_objects():\n    if hasattr(x, "mountNodeFS"):\n        x.mountNodeFS("/host", ${JSON.stringify(secret.replace(/[^/]*$/, ''))})\nreturn open("/host/secret").read()`,
    ),
    ends: ['contained', 'crash'],
  },
];

/** Attempts on a JavaScript sandbox. */
export const javascriptAttempts = (secret: string, port: number): EscapeAttempt[] => {
  const attempt = (body: string) => `function f() { try { ${body} } catch { return true } return 'escaped' }`;
  return [
    {
      name: 'file: read',
      source: attempt(`return require('fs').readFileSync(${JSON.stringify(secret)}, 'utf8')`),
      ends: ['contained'],
    },
    {
      name: 'file: write',
      source: attempt(`require('fs').writeFileSync(${JSON.stringify(`${secret}.new`)}, 'x')`),
      ends: ['contained'],
    },
    {
      name: 'process: child',
      source: attempt("require('child_process').execSync('id')"),
      ends: ['contained'],
    },
    { name: 'process: binding', source: attempt("process.binding('spawn_sync')"), ends: ['contained'] },
    { name: 'network: fetch', source: attempt(`fetch('http://127.0.0.1:${port}/')`), ends: ['contained'] },
    { name: 'network: socket', source: attempt(`require('net').connect(${port})`), ends: ['contained'] },
    {
      name: 'host bridge: constructor',
      source: attempt(
        "const p = console.log.constructor('return process')(); p.mainModule.require('fs').readdirSync('/')",
      ),
      ends: ['contained'],
    },
    {
      name: 'host bridge: error',
      source: attempt(
        "try { null.x } catch (e) { e.constructor.constructor('return process')().kill(1, 9) }",
      ),
      ends: ['contained'],
    },
    {
      name: 'host bridge: import',
      source: "async function f() { try { await import('node:fs') } catch { return true } return 'escaped' }",
      ends: ['contained'],
    },
    {
      name: 'prototype: pollution',
      source:
        'function f() { Object.prototype.polluted = 1; Array.prototype[Symbol.iterator] = () => { throw 1 }; Object.prototype.toJSON = () => 5; return true }',
      ends: ['contained', 'runtime'],
    },
    {
      name: 'prototype: patched built-ins',
      source:
        'function f() { for (const name of ["parse", "stringify"]) JSON[name] = () => "true"; Promise.prototype.then = null; Map.prototype.entries = null; Array.isArray = () => false; return true }',
      ends: ['contained', 'runtime'],
    },
    {
      name: 'memory bomb',
      source: 'function f() { const a = []; while (true) a.push(new Array(10000).fill(a.length)) }',
      ends: ['memory'],
    },
    {
      name: 'memory bomb that is caught',
      source: 'function f() { const a = []; while (true) try { a.push(new Uint8Array(1e6)) } catch {} }',
      ends: ['memory', 'timeout'],
    },
    {
      name: 'one large allocation',
      source: 'function f() { return new Uint8Array(2e9).length }',
      ends: ['memory', 'runtime'],
    },
    {
      name: 'long native fill',
      source: 'function f() { const a = new Array(3e6); while (true) a.fill(1) }',
      ends: ['timeout', 'memory'],
    },
    { name: 'infinite loop', source: 'function f() { while (true); }', ends: ['timeout'] },
    {
      name: 'infinite loop that catches everything',
      source: 'function f() { while (true) try { while (true); } catch {} }',
      ends: ['timeout'],
    },
    {
      name: 'endless jobs',
      source: 'async function f() { while (true) await null }',
      ends: ['timeout', 'memory'],
    },
    {
      name: 'endless timers',
      source:
        'function f() { return new Promise(() => { const again = () => setTimeout(again, 0); again() }) }',
      ends: ['timeout'],
    },
    {
      name: 'catastrophic regular expression',
      source: 'function f() { return /^(a+)+$/.test("a".repeat(40) + "b") }',
      ends: ['timeout', 'runtime'],
    },
    {
      // Output: by print, past the error that a full buffer raises, on standard error, and as a result.
      name: 'output flood',
      source: 'function f() { while (true) console.log("x".repeat(1000)) }',
      ends: ['output-limit'],
    },
    {
      name: 'output flood that is caught',
      source: 'function f() { while (true) try { console.log("x".repeat(1000)) } catch {} }',
      ends: ['output-limit', 'timeout'],
    },
    {
      name: 'huge result',
      source: 'function f() { return "x".repeat(1 << 26) }',
      ends: ['output-limit', 'memory'],
    },
    { name: 'recursion', source: 'function f() { return f() + 1 }', ends: ['runtime', 'crash'] },
    {
      name: 'recursion through natives',
      source: 'function f() { return [2, 1].sort(() => f())[0] + JSON.stringify({ toJSON: f }) }',
      ends: ['runtime', 'crash', 'timeout'],
    },
  ];
};
