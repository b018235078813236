import type { TypedArray } from '../../core/dtype.js';
import { AnnealError } from '../../core/errors.js';
import type { Executable, ExecutableSpec, NodeTime } from '../backend.js';
import type { RunQueue } from '../queue.js';
import type { Environment, NodeDevice } from './environment.js';
import { endProfiling, withProfile } from './profile.js';
import type { Program } from './program.js';
import { createSession } from './session.js';

/** Programs whose executable is gone. A program does not refer to its executable, or this would never fire. */
const collected = new FinalizationRegistry<Program>((program) => program.dispose());

/** A compiled program of the Node runtime. Dropping the last reference frees it, too. */
export class NodeExecutable implements Executable {
  readonly #environment: Environment;
  readonly #device: NodeDevice;
  readonly #queue: RunQueue;
  readonly #spec: ExecutableSpec;
  readonly #program: Program;
  #isReleased = false;

  constructor(
    environment: Environment,
    device: NodeDevice,
    queue: RunQueue,
    spec: ExecutableSpec,
    program: Program,
  ) {
    this.#environment = environment;
    this.#device = device;
    this.#queue = queue;
    this.#spec = spec;
    this.#program = program;
    collected.register(this, program, this);
  }

  async run(feeds: readonly TypedArray[]): Promise<TypedArray[]> {
    return this.#enqueue(() => this.#program.run(feeds));
  }

  runSync(feeds: readonly TypedArray[]): TypedArray[] {
    this.#checkLive();
    if (this.#queue.pending > 0) {
      throw new AnnealError(
        `${this.#spec.label}: runSync while an asynchronous run is pending; await it first`,
      );
    }
    return this.#program.runSync(feeds);
  }

  /** Uses a second session of the same model. The runs count as ordinary ones and change variables. */
  async profile(feeds: readonly TypedArray[], repeats: number): Promise<NodeTime[]> {
    return this.#enqueue(() => withProfile((prefix) => this.#record(feeds, repeats, prefix)));
  }

  release(): void {
    if (this.#isReleased) return;
    // The program waits for accepted runs by itself.
    this.#isReleased = true;
    collected.unregister(this);
    this.#program.dispose();
  }

  async #record(feeds: readonly TypedArray[], repeats: number, prefix: string): Promise<void> {
    const { ort } = this.#environment;
    // Profiling is a property of the session from the start; the ordinary one stays free of its cost.
    const { model, label, kernels, weights } = this.#spec;
    const session = await labelled(
      label,
      createSession(this.#environment, { model, device: this.#device, kernels, weights, profile: prefix }),
    );
    try {
      for (let run = 0; run <= repeats; run++) await this.#program.run(feeds, session);
    } finally {
      // Also after a failed run: the file is written, and removed, in any case.
      endProfiling(ort, session);
      ort.api.ReleaseSession(session);
    }
  }

  /** Keeps the program's memory until the job has ended, whatever becomes of this object meanwhile. */
  #enqueue<T>(job: () => Promise<T>): Promise<T> {
    this.#checkLive();
    const program = this.#program;
    program.enter();
    return this.#queue.enqueue(job).finally(() => program.leave());
  }

  #checkLive(): void {
    if (this.#isReleased) throw new AnnealError(`${this.#spec.label}: run after release`);
  }
}

/** Puts the label in front of the message of a rejection. */
export async function labelled<T>(label: string, promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    throw new Error(`${label}: ${(error as Error).message}`, { cause: error });
  }
}
