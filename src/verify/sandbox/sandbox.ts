import type { Wire } from './plain.js';

/** What a program may use. All limits are enforced from outside the program. */
export interface SandboxLimits {
  /** Milliseconds of one call or one run, from the moment the sandbox begins it; default 6000. */
  timeMs: number;
  /** Bytes of memory; default 512 MiB. */
  memoryBytes: number;
  /** Bytes that one call or run may print, and that a result may have; default 1 MiB. */
  outputBytes: number;
}

export const defaultLimits: SandboxLimits = {
  timeMs: 6000,
  memoryBytes: 512 * 2 ** 20,
  outputBytes: 2 ** 20,
};

/** Why a call or run gave no value. `runner` is a fault of ours: it says nothing about the program. */
export type FaultKind =
  | 'compile'
  | 'runtime'
  | 'timeout'
  | 'memory'
  | 'output-limit'
  | 'exit'
  | 'tamper'
  | 'crash'
  | 'runner';

export interface Fault {
  ok: false;
  kind: FaultKind;
  /** One line of at most 500 characters. */
  message: string;
  ms: number;
}

/** A value that came back, or what the program printed. */
export interface Result {
  ok: true;
  value: Wire;
  ms: number;
}

export type Reply = Result | Fault;

/** How a booted interpreter is spoken to: lines of JSON, on a channel apart from the program's own output. */
export interface Interpreter {
  send(line: string): void;
  /** Whoever uses the interpreter listens here. */
  onLine: (line: string) => void;
  /** Called once, when it ended by itself or was killed by a watchdog. */
  onEnd: (kind: 'crash' | 'memory' | 'output-limit', message: string) => void;
  /** It has ended, by itself or not: also while it was waiting for work. */
  ended: boolean;
  /** Ends it at once; resolves when no process or thread of it is left. */
  kill(): Promise<void>;
  /** Makes it as new for the next program. Absent where every program gets an interpreter of its own. */
  reset?: () => Promise<void>;
}

export type SandboxName = 'bubblewrap' | 'pyodide' | 'quickjs';

/** A way of running foreign code. */
export interface Sandbox {
  readonly name: SandboxName;
  readonly language: 'python' | 'javascript';
  /** Which isolation this is, with versions: one line to print. */
  readonly description: string;
  /** How much slower than the native interpreter its programs run; time limits are multiplied by it. */
  readonly slowdown: number;
  /** Boots an interpreter and resolves when it is ready for work. */
  boot(limits: SandboxLimits): Promise<Interpreter>;
  /** Frees what all its interpreters share. */
  close(): Promise<void>;
}

/** Why a machine cannot use a sandbox, with the remedy. */
export interface Unusable {
  name: SandboxName;
  reason: string;
}
