import { pythonHarness } from './python-harness.js';

/**
 * Transport for Pyodide: `anneal_channel` is a module of JavaScript functions that disappears once they are taken.
 * Standard streams are new for every request; their descriptors lead to buffers of the child.
 */
const pyodideTransport = `
import sys, io, os, anneal_channel
receive, transmit, reset_io, take_io = (anneal_channel.receive, anneal_channel.transmit, anneal_channel.reset,
                                        anneal_channel.take)
del sys.modules['anneal_channel'], anneal_channel

def streams(io=io, sys=sys, reset=reset_io, take=take_io, stat=os.fstat, open_fd=os.open):
    state = {}
    def begin_io(text):
        reset(text)
        # A program that opened descriptor 0 or 1 and closed it would take it from the next run.
        for fd, device, mode in ((0, '/dev/stdin', 0), (1, '/dev/stdout', 1)):
            try: stat(fd)
            except OSError: open_fd(device, mode)
        sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.open(0, 'rb', closefd=False), encoding='utf-8')
        state['out'] = sys.stdout = sys.__stdout__ = io.TextIOWrapper(
            io.open(1, 'wb', closefd=False), encoding='utf-8', errors='replace', newline='\\n')
    def end_io():
        for stream in (sys.stdout, state['out']):
            try: stream.flush()
            except BaseException: pass
        return take()
    return begin_io, end_io

begin_io, end_io = streams()
`;

/**
 * The child process around Pyodide, as source text of a module. Arguments: address of pyodide, the snapshot's path
 * ('' to make one and write it to descriptor 3), and the limits in bytes.
 *
 * Node's permission model denies files, processes, workers and native addons. What it leaves is closed here before any
 * foreign code runs: no code from strings (a flag of the child), no \`fetch\` and its like, no connecting and listening, no way to
 * load a module, and nothing but an empty object behind \`import js\`.
 */
export const pyodideChild = `
import fs from 'node:fs';
import net from 'node:net';
import dgram from 'node:dgram';
import dns from 'node:dns';
import { syncBuiltinESMExports } from 'node:module';

const [address, snapshot, memoryBytes, outputBytes] = process.argv.slice(1);

// The heap cannot grow past the limit; Python sees a MemoryError.
const { grow } = WebAssembly.Memory.prototype;
let room = Infinity;
WebAssembly.Memory.prototype.grow = function (pages) {
  if (this.buffer.byteLength + pages * 65536 > room) throw new RangeError('memory limit');
  return grow.call(this, pages);
};

// Pyodide asks for one table of constants this way, and only that is given.
process.binding = () => ({ fs: fs.constants });
const deny = () => { throw new Error('denied by the sandbox'); };
const seal = (object, name) => Object.defineProperty(object, name, { value: deny, writable: false, configurable: false });
for (const name of ['connect', '_read', 'open']) seal(net.Socket.prototype, name);
for (const name of ['listen', '_listen2']) seal(net.Server.prototype, name);
for (const name of ['bind', 'connect', 'send']) seal(dgram.Socket.prototype, name);
for (const owner of [net, dgram]) for (const name of ['connect', 'createConnection', 'createServer', 'createSocket']) if (name in owner) owner[name] = deny;
for (const owner of [dns, dns.promises]) for (const name of Object.keys(owner)) if (typeof owner[name] === 'function') { try { owner[name] = deny; } catch {} }
syncBuiltinESMExports();

const { loadPyodide } = await import(address);
const given = { in: Buffer.alloc(0), at: 0, out: [], size: 0, flooded: false };
const limit = Number(outputBytes);
const options = { stdin: () => undefined, stdout: () => {}, stderr: () => {}, checkAPIVersion: false };
if (snapshot) options._loadSnapshot = fs.readFileSync(snapshot);
else options._makeSnapshot = true;
const pyodide = await loadPyodide({ ...options, jsglobals: Object.create(null) });

function writeAll(data) {
  for (let at = 0; at < data.length; ) {
    try { at += fs.writeSync(3, data, at); }
    catch (error) { if (error.code !== 'EAGAIN') throw error; Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2); }
  }
}

if (!snapshot) {
  pyodide.runPython('import sys, io, builtins, types, json, random, collections, re, math, itertools, functools, heapq, typing, string, copy, operator, datetime, bisect');
  writeAll(pyodide.makeMemorySnapshot());
  process.exit(0);
}

let held = Buffer.alloc(0);
const block = Buffer.alloc(1 << 16);
function receive() {
  const parts = [held];
  while (!parts.at(-1).includes(10)) {
    let count = 0;
    try { count = fs.readSync(3, block); }
    catch (error) { if (error.code !== 'EAGAIN') throw error; Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2); continue; }
    if (count === 0) process.reallyExit(0);
    parts.push(Buffer.from(block.subarray(0, count)));
  }
  const all = Buffer.concat(parts);
  const end = all.indexOf(10);
  held = all.subarray(end + 1);
  return all.toString('utf8', 0, end);
}

pyodide.setStdin({ read(buffer) { const count = given.in.copy(buffer, 0, given.at); given.at += count; return count; }, isatty: false });
pyodide.setStdout({ write(buffer) {
  given.size += buffer.length;
  if (given.size > limit) { given.flooded = true; given.out = []; throw new Error('output limit'); }
  given.out.push(Buffer.from(buffer));
  return buffer.length;
}, isatty: false });
pyodide.setStderr({ write: (buffer) => buffer.length, isatty: false });
pyodide.registerJsModule('anneal_channel', {
  receive,
  transmit: (text) => writeAll(Buffer.from(text + '\\n')),
  reset(text) { Object.assign(given, { in: Buffer.from(text), at: 0, out: [], size: 0, flooded: false }); },
  take: () => (given.flooded ? undefined : Buffer.concat(given.out).toString('utf8')),
});
const harness = ${JSON.stringify(pythonHarness(pyodideTransport))};

// From here on the process needs nothing of Node but descriptor 3.
for (const name of ['fetch', 'WebSocket', 'EventSource', 'Worker', 'XMLHttpRequest', 'navigator', 'BroadcastChannel', 'MessageChannel', 'require']) {
  try { Object.defineProperty(globalThis, name, { value: undefined, writable: false, configurable: false }); } catch {}
}
for (const name of ['getBuiltinModule', 'dlopen', '_linkedBinding', 'kill', '_kill', 'chdir', 'abort', '_debugProcess', 'mainModule', 'setuid', 'setgid', 'report']) {
  try { Object.defineProperty(process, name, { value: undefined, writable: false, configurable: false }); } catch {}
}
for (const name of Object.keys(process.env)) delete process.env[name];
pyodide.unregisterJsModule('pyodide_js');
pyodide.runPython("import sys; sys.modules.pop('pyodide_js', None)");
room = Math.max(Number(memoryBytes), pyodide._module.HEAPU8.length);
pyodide.runPython(harness);
`;
