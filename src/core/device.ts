import type { Backend, BackendLoader, BackendOptions, BackendStats, Kernels } from '../runtime/backend.js';
import { AnnealError } from './errors.js';

/** Settings of the process; change them before the first program runs. */
export interface Configuration extends BackendOptions {
  /** Device on which programs run unless they name one: `cpu` (default), `webgpu`, `cuda`. */
  device?: string;
  /**
   * Whether programs compiled from now on may use machine code that is emitted at run time (docs/kernels.md).
   * Default true; where the machine does not allow it, the ordinary operators are used anyway.
   */
  native?: boolean;
}

const loaders = new Map<string, BackendLoader>();
const loading = new Map<string, Promise<Backend>>();
const loaded = new Map<string, Backend>();
let settings: Configuration = {};

/** Makes a device known by name. The entry points of the package call this for the runtimes they bring. */
export function registerDevice(name: string, loader: BackendLoader): void {
  loaders.set(name, loader);
}

/**
 * Sets the default device, the number of threads, and whether emitted machine code may be used.
 * @throws AnnealError on an unknown device, or if a runtime with other threads is already running.
 */
export function configure(options: Configuration): void {
  if (options.device !== undefined) checkDevice(options.device);
  if (options.threads !== undefined) {
    if (!Number.isInteger(options.threads) || options.threads < 1) {
      throw new AnnealError(`configure: threads must be a positive integer, not ${options.threads}`);
    }
    if (loading.size > 0 && options.threads !== settings.threads) {
      throw new AnnealError(
        'configure: threads cannot change after the first program has run; call configure() first',
      );
    }
  }
  settings = { ...settings, ...options };
}

function checkDevice(name: string): void {
  if (!loaders.has(name)) {
    throw new AnnealError(`device "${name}" is unknown; this build knows: ${[...loaders.keys()].join(', ')}`);
  }
}

/** The device's backend, started on first use. */
export function backendOf(device = settings.device ?? 'cpu'): Promise<Backend> {
  checkDevice(device);
  let promise = loading.get(device);
  if (!promise) {
    const { threads } = settings;
    promise = loaders.get(device)!(threads === undefined ? {} : { threads });
    loading.set(device, promise);
    promise.then(
      (backend) => loaded.set(device, backend),
      () => loading.delete(device),
    );
  }
  return promise;
}

/** The backend's own kernels, unless the settings forbid them. */
export const kernelsOf = (backend: Backend): Kernels | undefined =>
  settings.native === false ? undefined : backend.kernels;

/**
 * What the runtimes of this process hold: compiled graphs, bytes, runs so far. `native` names the instruction
 * set that machine code is emitted for, or says why none is.
 */
export function runtimeStats(): Record<string, BackendStats & { native: string }> {
  return Object.fromEntries(
    [...loaded].map(([name, backend]) => {
      const kernels = backend.kernels?.status ?? 'not on this device';
      return [
        name,
        { ...backend.stats(), native: settings.native === false ? 'off by configure()' : kernels },
      ];
    }),
  );
}

let tail: Promise<void> = Promise.resolve();
let pending = 0;

/** True while a program runs or waits. */
export const isBusy = (): boolean => pending > 0;

/** Runs `body` after every program that was called earlier: calls take effect in their order. */
export function inOrder<T>(body: () => Promise<T>): Promise<T> {
  pending++;
  const result = (pending === 1 ? body() : tail.then(body)).finally(() => {
    pending--;
  });
  tail = result.then(
    () => undefined,
    () => undefined,
  );
  return result;
}
