import { dtypes, type TypedArray } from '../../core/dtype.js';
import { AnnealError } from '../../core/errors.js';
import type { Executable, ExecutableSpec, NodeTime, Port } from '../backend.js';
import type { RunQueue } from '../queue.js';
import { errorText, type InferenceSession, type Ort, type Tensor } from './ort.js';
import type { Session } from './session.js';

/** What a backend holds now; its parts count themselves in and out. */
export interface Counters {
  executables: number;
  liveBytes: number;
  runs: number;
}

/** Frees a session. It must not refer to the executable that owns it, or that would never be collected. */
type Disposer = () => void;

const collected = new FinalizationRegistry<Disposer>((dispose) => dispose());

/** A port with its bytes. */
interface BoundPort {
  port: Port;
  bytes: number;
}

/** A compiled program of onnxruntime-web. Dropping the last reference frees it, too. */
export class WebExecutable implements Executable {
  readonly #ort: Ort;
  readonly #queue: RunQueue;
  readonly #counters: Counters;
  readonly #spec: ExecutableSpec;
  readonly #session: Session;
  readonly #inputs: readonly BoundPort[];
  readonly #outputNames: string[];
  readonly #dispose: Disposer;
  #isReleased = false;

  constructor(ort: Ort, queue: RunQueue, counters: Counters, spec: ExecutableSpec, session: Session) {
    this.#ort = ort;
    this.#queue = queue;
    this.#counters = counters;
    this.#spec = spec;
    this.#session = session;
    this.#inputs = spec.inputs.map((port) => ({ port, bytes: bytesOf(port) }));
    const assigned = spec.slots.flatMap(({ output }) => (output === undefined ? [] : [output]));
    this.#outputNames = [...spec.outputs.map(({ name }) => name), ...assigned];
    this.#dispose = disposer(queue, counters, session);
    counters.executables++;
    collected.register(this, this.#dispose, this);
  }

  async run(feeds: readonly TypedArray[]): Promise<TypedArray[]> {
    if (this.#isReleased) throw new AnnealError(`${this.#spec.label}: run after release`);
    return this.#queue.enqueue(() => this.#run(feeds));
  }

  /** Throws: a browser's runtime has no synchronous path. */
  runSync(): TypedArray[] {
    throw new AnnealError(
      `${this.#spec.label}: runSync does not exist in the browser; await the program instead`,
    );
  }

  /** Rejects: the runtime's browser build prints its profile to the console, where no program can read it. */
  async profile(): Promise<NodeTime[]> {
    throw new AnnealError(
      `${this.#spec.label}: the browser's runtime cannot report times per node; profile the program in Node`,
    );
  }

  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    collected.unregister(this);
    this.#dispose();
  }

  async #run(feeds: readonly TypedArray[]): Promise<TypedArray[]> {
    const { label } = this.#spec;
    const tensors = this.#bind(feeds);
    const bytes = Object.values(tensors).reduce((n, { data }) => n + (data as TypedArray).byteLength, 0);
    this.#counters.liveBytes += bytes;
    try {
      return this.#finish(await this.#session.run(tensors, this.#outputNames));
    } catch (cause) {
      throw new Error(`${label}: ${errorText(cause)}`, { cause });
    } finally {
      this.#counters.liveBytes -= bytes;
    }
  }

  #bind(feeds: readonly TypedArray[]): Record<string, Tensor> {
    const { label, slots } = this.#spec;
    if (feeds.length !== this.#inputs.length) {
      throw new Error(`${label}: got ${feeds.length} feeds for ${this.#inputs.length} inputs`);
    }
    const tensors: Record<string, Tensor> = {};
    for (const [i, { port, bytes }] of this.#inputs.entries()) {
      const feed = feeds[i]!;
      if (feed.byteLength !== bytes) {
        throw new Error(`${label}: feed ${port.name} has ${feed.byteLength} bytes, not ${bytes}`);
      }
      tensors[port.name] = this.#tensor(port, feed);
    }
    for (const { slot, input } of slots) {
      if (input === undefined) continue;
      const bytes = bytesOf(slot);
      // A transferred buffer leaves its array behind with length 0.
      if (slot.data.byteLength !== bytes) {
        throw new Error(`${label}: storage of a variable has ${slot.data.byteLength} bytes, not ${bytes}`);
      }
      tensors[input] = this.#tensor(slot, slot.data);
    }
    return tensors;
  }

  #tensor({ dtype, shape }: TensorType, data: TypedArray): Tensor {
    return new this.#ort.Tensor(dtype, data, shape);
  }

  /** Turns the runtime's outputs into results; the variables change together, once every output is in hand. */
  #finish(values: InferenceSession.OnnxValueMapType): TypedArray[] {
    const { outputs, slots } = this.#spec;
    const results = outputs.map((port) => take(values, port.name, port));
    const next = slots.map(({ slot, output }) =>
      output === undefined ? undefined : take(values, output, slot),
    );
    for (const [i, { slot, inPlace }] of slots.entries()) {
      const data = next[i];
      if (!data) continue;
      // The runtime's outputs are fresh arrays, so that a double-buffered variable needs no second one.
      if (inPlace) slot.data.set(data);
      else slot.data = data;
    }
    this.#counters.runs++;
    return results;
  }
}

type TensorType = Pick<Port, 'dtype' | 'shape'>;

const bytesOf = ({ dtype, shape }: TensorType): number =>
  shape.reduce((a, b) => a * b, 1) * dtypes[dtype].bytes;

/** The elements of an output. The runtime uses Float16Array where the browser has it; the library uses its bits. */
function take(values: InferenceSession.OnnxValueMapType, name: string, type: TensorType): TypedArray {
  const data = (values[name] as Tensor).data as TypedArray;
  if (data.byteLength !== bytesOf(type)) {
    throw new Error(`output ${name} has ${data.byteLength} bytes, not ${bytesOf(type)}`);
  }
  return type.dtype === 'float16' ? new Uint16Array(data.buffer, data.byteOffset, data.length) : data;
}

function disposer(queue: RunQueue, counters: Counters, session: Session): Disposer {
  return () => {
    counters.executables--;
    // Behind the runs that were accepted. A failure would have no reader: the session is out of use anyway.
    queue.enqueue(() => session.release()).catch(() => {});
  };
}
