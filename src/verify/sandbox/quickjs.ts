/**
 * JavaScript in QuickJS, compiled to WebAssembly, in a thread that can be ended. `node:vm` is no boundary: its
 * objects lead back to the host.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { javascriptHarness } from './javascript-harness.js';
import { quickjsWorker } from './quickjs-worker.js';
import type { Interpreter, Sandbox, SandboxLimits, Unusable } from './sandbox.js';

/**
 * QuickJS's own stack. A frame of JavaScript takes about 150 bytes of it and several times that of the thread's
 * stack, which is set to match.
 */
// Together they let a program recurse about 5000 frames deep and then fail as a program does.
const stackBytes = 2 ** 20;
const threadStackMb = 64;

class QuickJs implements Sandbox {
  readonly name = 'quickjs';
  readonly language = 'javascript';
  // An interpreter without a compiler: loops take about ten times as long as in V8.
  readonly slowdown = 10;
  readonly description: string;
  readonly #path: string;
  readonly #wasm: WebAssembly.Module;

  constructor(libraryPath: string, version: string, wasm: WebAssembly.Module) {
    this.#path = libraryPath;
    this.#wasm = wasm;
    this.description = `QuickJS in WebAssembly (quickjs-emscripten ${version}), a worker thread each`;
  }

  /** A thread that has its own WebAssembly instance by the time it says `ready`. */
  boot(limits: SandboxLimits): Promise<Interpreter> {
    const { memoryBytes, outputBytes } = limits;
    const worker = new Worker(quickjsWorker, {
      eval: true,
      env: {},
      argv: [],
      execArgv: [],
      stdin: false,
      stdout: true,
      stderr: true,
      trackUnmanagedFds: true,
      resourceLimits: { maxOldGenerationSizeMb: 128, stackSizeMb: threadStackMb },
      workerData: {
        path: this.#path,
        wasm: this.#wasm,
        harness: javascriptHarness,
        memoryBytes,
        outputBytes,
        stackBytes,
      },
    });
    // A waiting sandbox does not keep the process alive.
    worker.unref();
    return ready(worker);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Wires a thread up as an interpreter. `reset` gives it a new instance, which is cheaper than a new thread. */
function ready(worker: Worker): Promise<Interpreter> {
  // Readiness is awaited at the start and after each reset.
  let onReady: (() => void) | undefined;
  let onFailure: ((error: Error) => void) | undefined;
  const isReady = () =>
    new Promise<void>((resolve, reject) => {
      onReady = resolve;
      onFailure = reject;
    });
  let killed = false;
  // Told once: a thread that we ended ends without a report.
  const end = (message: string) => {
    interpreter.ended = true;
    onFailure?.(new Error(message));
    if (killed) return;
    killed = true;
    interpreter.onEnd('crash', message);
  };
  const interpreter: Interpreter = {
    send: (line) => worker.postMessage(line),
    onLine: () => {},
    onEnd: () => {},
    ended: false,
    reset: () => {
      const done = isReady();
      worker.postMessage('reset');
      return done;
    },
    kill: async () => {
      killed = true;
      await worker.terminate();
    },
  };
  worker.on('message', (line: string) => (line === 'ready' ? onReady?.() : interpreter.onLine(line)));
  worker.on('error', (error) => end(`the worker failed: ${error.message}`));
  worker.on('exit', () => end('the worker ended'));
  return isReady().then(() => interpreter);
}

/** QuickJS, if quickjs-emscripten is installed; or why not. */
export function quickjs(): Promise<Sandbox | Unusable> {
  const require = createRequire(import.meta.url);
  try {
    const libraryPath = require.resolve('quickjs-emscripten');
    // The compiled module is made once and shared by all workers.
    const variant = createRequire(libraryPath).resolve('@jitl/quickjs-wasmfile-release-sync/wasm');
    const wasm = new WebAssembly.Module(readFileSync(variant));
    const { version } = JSON.parse(
      readFileSync(path.join(path.dirname(libraryPath), '..', 'package.json'), 'utf8'),
    ) as { version: string };
    return Promise.resolve(new QuickJs(libraryPath, version, wasm));
  } catch (error) {
    const { message } = error as Error;
    const reason = `quickjs-emscripten 0.32.0 cannot be loaded (${message.split('\n')[0]}): npm i quickjs-emscripten@0.32.0`;
    return Promise.resolve({ name: 'quickjs', reason });
  }
}
