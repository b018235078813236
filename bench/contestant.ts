/** A suite's side of a contestant: a long-lived child process that works on request and is idle otherwise. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { type Answer, type Memory, parseReply, type Ran, type Reply, type Request } from './protocol.js';
import { packageRoot } from './report.js';

/** How to start a contestant, and what has to exist for that. */
export interface ContestantSpec {
  name: string;
  command: string;
  args: readonly string[];
  /** Path whose absence means that the peer is not installed. */
  requires?: string;
}

const START_TIMEOUT_MS = 10 * 60_000;
const STOP_TIMEOUT_MS = 3000;
const LINUX_TICK_MS = 10;

/** The folder of the peers. */
export const PEERS = path.join(packageRoot, 'bench', 'peers');

/** A peer in Python: a script of bench/peers that speaks the line protocol. */
export function pythonSpec(name: string, script: string, args: readonly string[]): ContestantSpec {
  const python = path.join(PEERS, '.venv', 'bin', 'python');
  return { name, command: python, args: [path.join(PEERS, script), ...args], requires: python };
}

/** A running contestant. */
export class Contestant {
  readonly name: string;
  about = '';
  compileMs: number | null = null;
  #child: ChildProcessWithoutNullStreams;
  #waiting: ((reply: Reply | Error) => void) | undefined;
  #complaints: string[] = [];

  private constructor(spec: ContestantSpec) {
    this.name = spec.name;
    this.#child = spawn(spec.command, spec.args, { stdio: 'pipe' });
    readline.createInterface({ input: this.#child.stdout }).on('line', (line) => {
      const reply = parseReply(line);
      if (reply !== null) this.#settle(reply);
    });
    readline.createInterface({ input: this.#child.stderr }).on('line', (line) => {
      if (line.trim() !== '') this.#complaints = [...this.#complaints.slice(-7), line];
    });
    this.#child.on('error', (error) => this.#settle(error));
    // Writing to a child that has just died is reported by 'close' in plainer words than EPIPE.
    this.#child.stdin.on('error', () => {});
    this.#child.on('close', (code, signal) => {
      const last = this.#complaints.at(-1) ?? 'no message';
      this.#settle(new Error(`${this.name} ended (${signal ?? `exit code ${code}`}): ${last}`));
    });
  }

  /** Its process id. */
  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Starts a contestant; resolves when it is ready to train, or to the reason why it cannot. */
  static async start(spec: ContestantSpec): Promise<Contestant | { unavailable: string }> {
    if (spec.requires !== undefined && !existsSync(spec.requires)) {
      return { unavailable: `${spec.name} is not installed: run \`npm run bench:peers\`` };
    }
    const contestant = new Contestant(spec);
    try {
      const reply = await contestant.#receive(START_TIMEOUT_MS);
      if (reply.type === 'ready') {
        contestant.about = String(reply.about);
        contestant.compileMs = (reply.compileMs as number | null | undefined) ?? null;
        return contestant;
      }
      await contestant.stop();
      const isPlain = reply.type === 'unavailable' && 'reason' in reply;
      return { unavailable: isPlain ? String(reply.reason) : `unexpected reply ${reply.type}` };
    } catch (error) {
      await contestant.stop();
      return { unavailable: (error as Error).message };
    }
  }

  /** Asks for something; the answer has to be of the type that goes with it. */
  async ask<A extends Answer>(request: Request, type: A['type']): Promise<A> {
    if (this.#child.exitCode !== null) throw new Error(`${this.name} has ended`);
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const reply = await this.#receive();
    if (reply.type !== type) throw new Error(`${this.name} answered ${reply.type} to ${request.op}`);
    return reply as A;
  }

  /** Trains for at least `steps` steps and `budgetMs` milliseconds. */
  async run(steps: number, budgetMs: number): Promise<{ ms: number[]; losses: number[] }> {
    return this.ask<Ran>({ op: 'run', steps, budgetMs }, 'ran');
  }

  /** Peak resident memory so far. */
  async peakMB(): Promise<number> {
    return (await this.ask<Memory>({ op: 'memory' }, 'memory')).peakMB;
  }

  /** Share of one core that this process burns while nobody asks it for anything; null if unknowable. */
  async idleShare(windowMs = 400): Promise<number | null> {
    const before = this.#cpuMs();
    await new Promise((resolve) => setTimeout(resolve, windowMs));
    const after = this.#cpuMs();
    return before === null || after === null ? null : (after - before) / windowMs;
  }

  /** Ends the process; resolves when it is gone, so that what is measured next has the machine to itself. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'close');
    const deadline = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    this.#child.stdin.end(`${JSON.stringify({ op: 'stop' } satisfies Request)}\n`);
    await gone;
    clearTimeout(deadline);
  }

  #cpuMs(): number | null {
    try {
      const stat = readFileSync(`/proc/${this.pid}/stat`, 'utf8');
      // Fields 14 and 15 (user and system time); counting starts after the command's closing parenthesis.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return (Number(fields[11]) + Number(fields[12])) * LINUX_TICK_MS;
    } catch {
      return null;
    }
  }

  #receive(timeoutMs?: number): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const timer =
        timeoutMs && setTimeout(() => this.#settle(new Error(`${this.name} is not ready`)), timeoutMs);
      this.#waiting = (reply) => {
        clearTimeout(timer || undefined);
        if (reply instanceof Error) reject(reply);
        else resolve(reply);
      };
    });
  }

  #settle(reply: Reply | Error): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.(reply);
  }
}
