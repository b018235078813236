/**
 * Python in WebAssembly, in a process of its own: for machines where no namespaces can be made, and as far as it
 * goes on all systems that Node runs on.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Duplex } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { childInterpreter } from './child-interpreter.js';
import { residentBytes, watchMemory } from './memory.js';
import { pyodideChild } from './pyodide-child.js';
import type { Interpreter, Sandbox, SandboxLimits, Unusable } from './sandbox.js';

const run = promisify(execFile);

/** What a child may hold beyond the program's own memory: garbage of the host's JavaScript, copies of output. */
const overheadBytes = 2 ** 27;

/** Where Pyodide is, and how its children are started. */
interface Place {
  /** Folder of the pyodide package. */
  folder: string;
  version: string;
  /** Command that starts what follows it; see `launcher`. */
  launcher: string[];
}

class Pyodide implements Sandbox {
  readonly name = 'pyodide';
  readonly language = 'python';
  // WebAssembly against native CPython: about 2.2 was measured, and time limits err on the program's side.
  readonly slowdown = 2.5;
  readonly description: string;
  readonly #place: Place;
  readonly #scratch: string;
  #snapshot: Promise<string> | undefined;

  constructor(place: Place) {
    this.#place = place;
    this.#scratch = realpathSync(mkdtempSync(path.join(tmpdir(), 'anneal-pyodide-')));
    const network = place.launcher.includes('--net') ? ', no network interface' : ', network calls removed';
    this.description = `Pyodide ${place.version} in a process each, Node's permission model${network}`;
  }

  /**
   * Starts a child. It may read its package and the snapshot, sees no environment, and cannot make code
   * from strings.
   */
  #start(snapshot: string, limits: SandboxLimits) {
    const permission = process.allowedNodeEnvironmentFlags.has('--permission')
      ? '--permission'
      : '--experimental-permission';
    const [command, ...args] = [
      ...this.#place.launcher,
      process.execPath,
      permission,
      `--allow-fs-read=${path.join(this.#place.folder, '*')}`,
      ...(snapshot ? [`--allow-fs-read=${snapshot}`] : []),
      ...['--no-warnings', '--disallow-code-generation-from-strings', '--max-old-space-size=256'],
      ...['--input-type=module', '--eval', pyodideChild, '--'],
      pathToFileURL(path.join(this.#place.folder, 'pyodide.mjs')).href,
      snapshot,
      String(limits.memoryBytes),
      String(limits.outputBytes),
    ];
    return spawn(command!, args, {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
      env: {},
      cwd: this.#scratch,
    });
  }

  /** The memory of a booted interpreter, in a file: made once, by the first who needs it. */
  #makeSnapshot(limits: SandboxLimits): Promise<string> {
    this.#snapshot ??= new Promise((resolve, reject) => {
      const child = this.#start('', limits);
      const parts: Buffer[] = [];
      let complaint = '';
      child.stderr!.on('data', (data: Buffer) => {
        if (complaint.length < 4000) complaint += data.toString();
      });
      (child.stdio[3] as Duplex).on('data', (data: Buffer) => parts.push(data));
      child.once('error', reject);
      child.once('close', (status) => {
        if (status !== 0) return reject(new Error(complaint.trim() || `it ended with status ${status}`));
        const file = path.join(this.#scratch, 'snapshot.bin');
        writeFileSync(file, Buffer.concat(parts));
        resolve(file);
      });
    });
    return this.#snapshot;
  }

  /** A child from the snapshot: half a second instead of five. */
  async boot(limits: SandboxLimits): Promise<Interpreter> {
    const child = this.#start(await this.#makeSnapshot(limits), limits);
    return childInterpreter(child, {
      // WebAssembly's own limit does not count what the program makes JavaScript hold.
      watch: async (pid, onExceeded) => {
        const booted = (await residentBytes(pid)) ?? 0;
        return watchMemory(pid, booted + limits.memoryBytes + overheadBytes, onExceeded);
      },
    });
  }

  close(): Promise<void> {
    rmSync(this.#scratch, { recursive: true, force: true });
    this.#snapshot = undefined;
    return Promise.resolve();
  }
}

/** Pyodide, if it is installed and its child starts; or why not. The trial makes the snapshot: seconds. */
export async function pyodide(): Promise<Sandbox | Unusable> {
  const unusable = (reason: string): Unusable => ({ name: 'pyodide', reason });
  let place: Place;
  try {
    const require = createRequire(import.meta.url);
    const folder = realpathSync(path.dirname(require.resolve('pyodide/package.json')));
    const { version } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')) as {
      version: string;
    };
    place = { folder, version, launcher: await launcher() };
  } catch {
    return unusable('pyodide is not installed: npm i pyodide@314.0.7');
  }
  const sandbox = new Pyodide(place);
  try {
    const interpreter = await sandbox.boot({ timeMs: 6000, memoryBytes: 2 ** 28, outputBytes: 2 ** 16 });
    await interpreter.kill();
    return sandbox;
  } catch (error) {
    await sandbox.close();
    return unusable(`its process does not start (${error instanceof Error ? error.message : error})`);
  }
}

/**
 * What the child is started through: `unshare` for an empty network, `setpriv` so that the kernel ends the child when
 * this process is killed. As much of it as works here.
 */
async function launcher(): Promise<string[]> {
  if (process.platform !== 'linux') return [];
  const network = ['unshare', '--user', '--map-current-user', '--net'];
  const together = ['setpriv', '--pdeathsig', 'KILL'];
  for (const command of [[...network, ...together], network, together]) {
    try {
      await run(command[0]!, [...command.slice(1), 'true'], { timeout: 20_000 });
      return command;
    } catch {
      // Not installed or not allowed: the next best.
    }
  }
  return [];
}
