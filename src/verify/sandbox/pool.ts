/** Interpreters booted ahead of need, so that a program waits for no boot, and its clock starts with its own work. */
import { AnnealError } from '../../core/errors.js';
import type { Interpreter, Sandbox, SandboxLimits } from './sandbox.js';
import { Session } from './session.js';

export interface PoolOptions {
  /** Programs at once; default 2. */
  workers?: number;
  /** Interpreters that are kept booted ahead of use; default as many as workers. */
  spare?: number;
}

/** An interpreter on loan. */
export interface Loan {
  readonly session: Session;
  /** Gives it back: used up and killed, or made as new where the sandbox can. Resolves when it is. */
  release(): Promise<void>;
}

/**
 * Booted interpreters, ahead of need. Every program gets one that no program has touched. Waiting for a free
 * worker counts towards no program's time.
 */
export class SandboxPool {
  readonly sandbox: Sandbox;
  readonly limits: SandboxLimits;
  readonly #workers: number;
  readonly #spare: number;
  // In the order in which they were started, ready or not.
  #booting: Promise<Interpreter>[] = [];
  // Loans that are out; never more than workers.
  #busy = 0;
  readonly #queue: (() => void)[] = [];
  // Kills under way: `close` waits for them, nobody else does.
  readonly #ending = new Set<Promise<void>>();
  #closed = false;

  constructor(sandbox: Sandbox, limits: SandboxLimits, options: PoolOptions = {}) {
    this.sandbox = sandbox;
    this.limits = limits;
    this.#workers = options.workers ?? 2;
    this.#spare = options.spare ?? this.#workers;
    if (!(Number.isInteger(this.#workers) && this.#workers > 0))
      throw new AnnealError(`workers is ${options.workers}, but must be a whole number above 0.`);
  }

  /** Waits for a free worker and a booted interpreter. Rejects where none can be booted. */
  async acquire(): Promise<Loan> {
    if (this.#closed) throw new AnnealError('The sandbox pool is closed: make a new one.');
    if (this.#busy >= this.#workers) await new Promise<void>((resolve) => this.#queue.push(resolve));
    else this.#busy++;
    try {
      let interpreter = await (this.#booting.shift() ?? this.#boot());
      // Something else may have ended one that waited.
      while (interpreter.ended) interpreter = await (this.#booting.shift() ?? this.#boot());
      this.#fill();
      return this.#lend(interpreter);
    } catch (error) {
      this.#free();
      throw error;
    }
  }

  #lend(interpreter: Interpreter): Loan {
    const session = new Session(interpreter, this.limits);
    let released: Promise<void> | undefined;
    const give = async () => {
      if (session.alive && interpreter.reset && !this.#closed) {
        try {
          await interpreter.reset();
          this.#booting.push(Promise.resolve(interpreter));
          return this.#free();
        } catch {
          // It could not be made as new, so it goes.
        }
      }
      // The next program need not wait for this one's process to be gone.
      this.#free();
      await interpreter.kill();
    };
    return {
      session,
      release: () => {
        released ??= this.#track(give());
        return released;
      },
    };
  }

  #boot(): Promise<Interpreter> {
    const booting = this.sandbox.boot(this.limits);
    // Whoever takes it sees the failure; until then it is nobody's.
    booting.catch(() => {});
    return booting;
  }

  /** Boots spare interpreters while others work. */
  #fill() {
    while (!this.#closed && this.#booting.length < this.#spare) this.#booting.push(this.#boot());
  }

  #free() {
    const next = this.#queue.shift();
    if (next) next();
    else this.#busy--;
  }

  #track(work: Promise<void>): Promise<void> {
    this.#ending.add(work);
    return work.finally(() => this.#ending.delete(work));
  }

  /** Kills every interpreter; resolves when nothing is left. Loans must have been released. */
  async close(): Promise<void> {
    this.#closed = true;
    const spare = this.#booting;
    this.#booting = [];
    await Promise.all(spare.map((one) => one.then((interpreter) => interpreter.kill()).catch(() => {})));
    await Promise.all(this.#ending);
  }
}
