import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { bridgeAttempts, type EscapeAttempt, javascriptAttempts, pythonAttempts } from './escape-attempts.js';
import { SandboxPool } from './pool.js';
import type { Sandbox } from './sandbox.js';

/** What became of an attempt. */
export interface EscapeResult {
  name: string;
  /** `contained`, the kind of the fault that ended it, or `escaped: …` with what it brought back. */
  end: string;
  /** It got something of the host, or reached it. */
  escaped: boolean;
  /** It ended in one of the ways that the attempt allows. */
  expected: boolean;
  /** The time limit that it ran under, in milliseconds. */
  limitMs: number;
  /** From where the program began to its end, and how long the end of its process took then. */
  ms: number;
  endMs: number;
}

export interface EscapeOptions {
  /** Milliseconds for attempts that only a time limit ends; default 400. */
  timeMs?: number;
  /** Milliseconds for the others, which another limit ends; default 10 000. */
  otherTimeMs?: number;
  /** Default 128 MiB. */
  memoryBytes?: number;
}

/** The attempts on a sandbox. `secret` is a file that only the host may read, `port` a server of the host. */
export function escapeAttempts(sandbox: Sandbox, secret: string, port: number): EscapeAttempt[] {
  if (sandbox.language === 'javascript') return javascriptAttempts(secret, port);
  // Python inside JavaScript has one more way out: the bridge between the two.
  const bridge = sandbox.name === 'pyodide' ? bridgeAttempts(secret, port) : [];
  return [...bridge, ...pythonAttempts(secret, port)];
}

/** The children of this process and theirs that are alive: what has ended and waits for its parent is not. */
export function descendants(): number[] {
  if (process.platform !== 'linux') return [];
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((one) => /^\d+$/.test(one))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (state !== 'Z') parents.set(Number(name), Number(parent));
    } catch {
      // It ended while we looked.
    }
  }
  const isOurs = (pid: number): boolean =>
    pid === process.pid || (parents.has(pid) && isOurs(parents.get(pid)!));
  return [...parents.keys()].filter((pid) => pid !== process.pid && isOurs(pid));
}

/**
 * Tries a sandbox out with programs that want to get out: at files, processes, the network, the bridge to the host,
 * prototypes, memory and time. Baits a folder and a server of the host for them. Close it when done.
 */
export class EscapeBattery {
  readonly sandbox: Sandbox;
  readonly #options: Required<EscapeOptions>;
  readonly #folder: string;
  readonly #server: Server;
  readonly #pool: SandboxPool;
  readonly #before = descendants();
  #visits = 0;

  private constructor(sandbox: Sandbox, options: EscapeOptions) {
    const { timeMs = 400, otherTimeMs = 10_000, memoryBytes = 2 ** 27 } = options;
    this.sandbox = sandbox;
    this.#options = { timeMs, otherTimeMs, memoryBytes };
    this.#folder = mkdtempSync(path.join(tmpdir(), 'anneal-escapes-'));
    writeFileSync(this.#secret, 'the secret');
    this.#server = createServer((_, response) => {
      this.#visits++;
      response.end('hello');
    });
    const limits = { timeMs, memoryBytes, outputBytes: 2 ** 18 };
    this.#pool = new SandboxPool(sandbox, limits, { workers: 1, spare: 2 });
  }

  static async open(sandbox: Sandbox, options: EscapeOptions = {}): Promise<EscapeBattery> {
    const battery = new EscapeBattery(sandbox, options);
    await new Promise<void>((resolve) => battery.#server.listen(0, '127.0.0.1', resolve));
    return battery;
  }

  get #secret(): string {
    return path.join(this.#folder, 'secret');
  }

  /** The attempts, with this battery's baits in them. */
  get attempts(): EscapeAttempt[] {
    return escapeAttempts(this.sandbox, this.#secret, (this.#server.address() as AddressInfo).port);
  }

  /** Runs one attempt. Never rejects for what the program does. */
  async try({ name, source, ends }: EscapeAttempt): Promise<EscapeResult> {
    const { timeMs, otherTimeMs } = this.#options;
    const limitMs = ends.includes('timeout') ? timeMs : otherTimeMs;
    const loan = await this.#pool.acquire();
    try {
      const loaded = await loan.session.request({ op: 'load', source }, { timeMs: limitMs });
      const reply = loaded.ok
        ? await loan.session.request({ op: 'call', name: 'f', args: [] }, { timeMs: limitMs })
        : loaded;
      const started = performance.now();
      await loan.release();
      const endMs = performance.now() - started;
      const back =
        reply.ok && reply.value !== true ? `escaped: ${JSON.stringify(reply.value).slice(0, 200)}` : '';
      const end = reply.ok ? back || 'contained' : reply.kind;
      const escaped = back !== '' || this.#isTouched();
      return { name, end, escaped, expected: (ends as string[]).includes(end), limitMs, ms: reply.ms, endMs };
    } finally {
      await loan.release();
    }
  }

  /** Whether anything reached the server, or changed the folder. */
  #isTouched(): boolean {
    const files = readdirSync(this.#folder);
    const isWhole = files.length === 1 && files[0] === 'secret';
    return this.#visits > 0 || !isWhole || readFileSync(this.#secret, 'utf8') !== 'the secret';
  }

  /** Ends all and returns the processes that are left although none should be. The sandbox is its owner's to close. */
  async close(): Promise<number[]> {
    await this.#pool.close();
    this.#server.close();
    rmSync(this.#folder, { recursive: true, force: true });
    const left = () => descendants().filter((pid) => !this.#before.includes(pid));
    // What was killed needs a moment to be gone from the table of processes.
    for (let wait = 0; wait < 40 && left().length > 0; wait++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    return left();
  }
}
