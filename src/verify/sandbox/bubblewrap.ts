/** The host's Python in namespaces of its own: the fastest sandbox for Python, on Linux. */
import { execFile, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { childInterpreter } from './child-interpreter.js';
import { processTransport, pythonHarness } from './python-harness.js';
import type { Interpreter, Sandbox, SandboxLimits, Unusable } from './sandbox.js';
import { hasFilter, seccompFilter } from './seccomp.js';

/** How long a probe of the machine may take is set at each call: a hung tool must not hang the choice. */
const run = promisify(execFile);
const harness = pythonHarness(processTransport);

/** A user that owns nothing. Inside the sandbox always, outside it where we are root. */
const nobody = 65534;

/** An interpreter of the host, seen through links and shims. */
interface Python {
  executable: string;
  prefix: string;
  version: string;
}

/** The interpreter itself: a version manager's shim would start a shell for every program. */
async function findPython(): Promise<Python | undefined> {
  const question =
    "import sys,os;print(os.path.realpath(sys.executable),sys.base_prefix,sys.version.split()[0],sep='\\n')";
  for (const name of ['/usr/bin/python3', 'python3']) {
    try {
      const { stdout } = await run(name, ['-I', '-c', question], { timeout: 20_000 });
      const [executable, prefix, version] = stdout.trim().split('\n');
      if (executable && prefix && version) return { executable, prefix, version };
    } catch {
      // Not there: the next one.
    }
  }
  return undefined;
}

/**
 * The file system of a program: the system's libraries and the interpreter, read-only, and nothing else; no /proc,
 * whose files a container of root could otherwise write to. Every namespace is its own, the network's is empty.
 */
function isolation({ executable, prefix }: Python): string[] {
  const folders = ['/usr', '/lib', '/lib64', '/lib32', '/bin'].filter((folder) => existsSync(folder));
  if (!executable.startsWith('/usr/') && !prefix.startsWith('/usr/')) folders.push(prefix);
  return [
    ...['--unshare-all', '--unshare-user', '--uid', `${nobody}`, '--gid', `${nobody}`],
    ...['--die-with-parent', '--new-session', '--cap-drop', 'ALL', '--hostname', 'sandbox'],
    ...folders.flatMap((folder) => ['--ro-bind', folder, folder]),
    ...['/dev/null', '/dev/zero', '/dev/urandom'].flatMap((device) => ['--dev-bind', device, device]),
    ...['--remount-ro', '/', '--chdir', '/', '--clearenv'],
    ...['--setenv', 'PYTHONHASHSEED', '0', '--setenv', 'LANG', 'C.UTF-8', '--setenv', 'PATH', '/usr/bin'],
    ...['--seccomp', '4'],
  ];
}

class Bubblewrap implements Sandbox {
  readonly name = 'bubblewrap';
  readonly language = 'python';
  // The host's own interpreter.
  readonly slowdown = 1;
  readonly description: string;
  readonly #python: Python;
  readonly #filterFile: string;
  readonly #dropUser: boolean;

  constructor(python: Python, version: string, filterFile: string, dropUser: boolean) {
    this.#python = python;
    this.#filterFile = filterFile;
    this.#dropUser = dropUser;
    const user = dropUser ? ', as nobody' : '';
    this.description = `${version} with seccomp${user}; Python ${python.version} (${python.executable})`;
  }

  /**
   * A process in namespaces of its own. The limits are arguments of the harness, which sets them before any
   * program.
   */
  boot(limits: SandboxLimits): Promise<Interpreter> {
    const command = [this.#python.executable, '-S', '-s', '-B', '-c', harness];
    const sizes = [String(limits.memoryBytes), String(limits.outputBytes)];
    // bubblewrap reads the filter to its end: every start needs an open file of its own.
    const filter = openSync(this.#filterFile, 'r');
    try {
      const child = spawn('bwrap', [...isolation(this.#python), ...command, ...sizes], {
        stdio: ['ignore', 'ignore', 'pipe', 'pipe', filter],
        ...(this.#dropUser && { uid: nobody, gid: nobody }),
      });
      // The kernel holds memory to its limit (see the harness's transport), so nobody watches it.
      return childInterpreter(child);
    } finally {
      closeSync(filter);
    }
  }

  /** Removes the filter's file; interpreters are their pools' to end. */
  close(): Promise<void> {
    rmSync(path.dirname(this.#filterFile), { recursive: true, force: true });
    return Promise.resolve();
  }
}

/** bubblewrap with the host's Python, tried out once; or why this machine cannot use it. */
export async function bubblewrap(): Promise<Sandbox | Unusable> {
  const unusable = (reason: string): Unusable => ({ name: 'bubblewrap', reason });
  if (process.platform !== 'linux') return unusable(`needs Linux, and this is ${process.platform}`);
  if (!hasFilter(process.arch)) return unusable(`has no seccomp filter for ${process.arch}`);
  let version: string;
  try {
    version = (await run('bwrap', ['--version'], { timeout: 20_000 })).stdout.trim();
  } catch {
    return unusable('bwrap is not installed: apt install bubblewrap');
  }
  const python = await findPython();
  if (!python) return unusable('python3 is not installed: apt install python3');
  const folder = mkdtempSync(path.join(tmpdir(), 'anneal-sandbox-'));
  const filterFile = path.join(folder, 'seccomp.bpf');
  writeFileSync(filterFile, seccompFilter(process.arch));
  let reason = '';
  // As nobody, the kernel itself sees an unprivileged user; some machines allow namespaces to root only.
  for (const dropUser of process.getuid?.() === 0 ? [true, false] : [false]) {
    const sandbox = new Bubblewrap(python, version, filterFile, dropUser);
    try {
      const interpreter = await sandbox.boot({ timeMs: 6000, memoryBytes: 2 ** 28, outputBytes: 2 ** 16 });
      await interpreter.kill();
      return sandbox;
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
  }
  rmSync(folder, { recursive: true, force: true });
  return unusable(`bwrap cannot make a sandbox here (${reason}): allow unprivileged user namespaces`);
}
