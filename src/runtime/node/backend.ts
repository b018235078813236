import { AnnealError } from '../../core/errors.js';
import { nativeKernels } from '../../native/kernels.js';
import type {
  Backend,
  BackendOptions,
  BackendStats,
  Executable,
  ExecutableSpec,
  Kernels,
} from '../backend.js';
import { probeModel } from '../probe.js';
import { RunQueue } from '../queue.js';
import { availableDevices, type Environment, environment, type NodeDevice } from './environment.js';
import { labelled, NodeExecutable } from './executable.js';
import { loadOrt } from './ort-api.js';
import { Program } from './program.js';
import { createSession } from './session.js';
import { type Counters, SlotTable } from './tensors.js';

export type { NodeDevice } from './environment.js';

/**
 * A backend on ONNX Runtime's native library. Backends of one process share its threads.
 *
 * Rejects with an AnnealError if `onnxruntime-node` or `koffi` is missing, if the device is not available,
 * or if the process already computes with another number of threads than `options.threads`.
 */
export async function createNodeBackend(device: NodeDevice, options: BackendOptions = {}): Promise<Backend> {
  const devices = availableDevices(loadOrt());
  if (!devices.includes(device)) throw unavailable(device, devices);
  const env = environment(options);
  if (device !== 'cpu') await probe(env, device, devices);
  return new NodeBackend(env, device);
}

/**
 * Devices whose provider is in the installed library, `cpu` first. `webgpu` is listed even where the
 * machine has no adapter for it; only `createNodeBackend` finds that out. Rejects like createNodeBackend
 * if a package is missing.
 */
export async function listDevices(): Promise<string[]> {
  return availableDevices(loadOrt());
}

class NodeBackend implements Backend {
  readonly device: NodeDevice;
  readonly #environment: Environment;
  readonly #counters: Counters = { executables: 0, liveBytes: 0, runs: 0 };
  readonly #queue = new RunQueue();
  readonly #slots: SlotTable;

  constructor(env: Environment, device: NodeDevice) {
    this.device = device;
    this.#environment = env;
    this.#slots = new SlotTable(env, this.#counters);
  }

  /** Other devices keep their tensors where machine code for the processor cannot reach them. */
  get kernels(): Kernels | undefined {
    return this.device === 'cpu' ? nativeKernels() : undefined;
  }

  async compile(spec: ExecutableSpec): Promise<Executable> {
    const env = this.#environment;
    const { device } = this;
    const { model, kernels, weights } = spec;
    const request = { model, device, kernels, weights };
    const session = await labelled(spec.label, createSession(env, request));
    try {
      const program = new Program(env, this.#counters, this.#slots, spec, session);
      return new NodeExecutable(env, device, this.#queue, spec, program);
    } catch (error) {
      env.ort.api.ReleaseSession(session);
      throw error;
    }
  }

  idle(): Promise<void> {
    return this.#queue.idle();
  }

  stats(): BackendStats {
    return { ...this.#counters };
  }
}

/** Opens a session of one node: a provider may be in the library while its hardware or driver is absent. */
async function probe(env: Environment, device: NodeDevice, devices: readonly string[]): Promise<void> {
  try {
    env.ort.api.ReleaseSession(await createSession(env, { model: probeModel(), device }));
  } catch (error) {
    const others = devices.filter((name) => name !== device);
    throw unavailable(device, others, error as Error);
  }
}

function unavailable(device: string, devices: readonly string[], cause?: Error): AnnealError {
  // ONNX Runtime puts the failed check of its source in front of the sentence that says why.
  const reason = cause ? ` (${cause.message.replace(/^\S+\.cc:\d+ .* was false\. /s, '')})` : '';
  const message = `device "${device}" is not available here${reason}; this machine has: ${devices.join(', ')}`;
  return cause ? new AnnealError(message, { cause }) : new AnnealError(message);
}
