import { AnnealError } from '../../core/errors.js';
import type { Backend, BackendOptions, BackendStats, Executable, ExecutableSpec } from '../backend.js';
import { probeModel } from '../probe.js';
import { RunQueue } from '../queue.js';
import { type Counters, WebExecutable } from './executable.js';
import { deviceOf, errorText, loadOrt, type Ort, type WebRuntime } from './ort.js';
import { Session } from './session.js';

/**
 * A backend on onnxruntime-web: `wasm` is the library's device `cpu`, `webgpu` its device of that name.
 *
 * Variables live in the page's memory and are copied to the runtime with each run. `wasm` computes on the
 * calling thread (besides helpers if `threads` is over 1): call it from a worker to keep a page responsive.
 *
 * `webgpu` does not check indices: one out of bounds reads some other element, where `cpu` fails.
 *
 * Threads: `options.threads`, else one per core on a cross-origin isolated page and one on any other.
 * Rejects with an AnnealError if `onnxruntime-web` is missing, if the device is not available, or if the
 * threads cannot be had.
 */
export async function createWebBackend(runtime: WebRuntime, options: BackendOptions = {}): Promise<Backend> {
  if (runtime === 'webgpu') await checkAdapter();
  const ort = await loadOrt(runtime, options);
  await probe(ort, runtime);
  return new WebBackend(ort, runtime);
}

/** `cpu`, and `webgpu` where the browser has it; whether there is an adapter, only `createWebBackend` finds out. */
export function webDevices(): string[] {
  return gpuOf() ? ['cpu', 'webgpu'] : ['cpu'];
}

class WebBackend implements Backend {
  readonly device: string;
  readonly #ort: Ort;
  readonly #runtime: WebRuntime;
  readonly #counters: Counters = { executables: 0, liveBytes: 0, runs: 0 };
  readonly #queue = new RunQueue();

  constructor(ort: Ort, runtime: WebRuntime) {
    this.device = deviceOf[runtime];
    this.#ort = ort;
    this.#runtime = runtime;
  }

  async compile(spec: ExecutableSpec): Promise<Executable> {
    // In the queue: a suspended WebGPU run does not let the runtime's code be entered a second time.
    return this.#queue.enqueue(async () => {
      try {
        const session = new Session(this.#ort, this.#runtime, spec.model, spec.weights);
        await session.open();
        return new WebExecutable(this.#ort, this.#queue, this.#counters, spec, session);
      } catch (cause) {
        throw new Error(`${spec.label}: ${errorText(cause)} (model of ${spec.model.byteLength} bytes)`, {
          cause,
        });
      }
    });
  }

  idle(): Promise<void> {
    return this.#queue.idle();
  }

  stats(): BackendStats {
    return { ...this.#counters };
  }
}

/** What is used of the WebGPU interface. */
interface Gpu {
  requestAdapter(): Promise<object | null>;
}

const gpuOf = (): Gpu | undefined => (globalThis.navigator as { gpu?: Gpu } | undefined)?.gpu;

async function checkAdapter(): Promise<void> {
  const gpu = gpuOf();
  if (!gpu) throw unavailable('webgpu', 'the browser has no WebGPU');
  if (!(await gpu.requestAdapter())) throw unavailable('webgpu', 'there is no WebGPU adapter');
}

/** Starts the runtime with a session of one node: its files may be missing, its hardware may refuse. */
async function probe(ort: Ort, runtime: WebRuntime): Promise<void> {
  try {
    const session = new Session(ort, runtime, probeModel());
    await session.open();
    await session.release();
  } catch (cause) {
    throw unavailable(deviceOf[runtime], errorText(cause), cause);
  }
}

function unavailable(device: string, reason: string, cause?: unknown): AnnealError {
  const others = webDevices().filter((name) => name !== device);
  const rest = others.length > 0 ? `; this browser has: ${others.join(', ')}` : '';
  return new AnnealError(`device "${device}" is not available here (${reason})${rest}`, { cause });
}
