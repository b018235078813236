import { domainOf } from '../../native/kernels.js';
import type { WeightBinding } from '../backend.js';
import { Gate } from '../queue.js';
import { appendProvider, type Environment, type NodeDevice } from './environment.js';
import { check, type Pointer, pointerArray, resultOf, type Status, statusText } from './ort-api.js';

/** What a session is made from. */
export interface SessionRequest {
  /** Serialized ModelProto; must not change until the session is made. */
  model: Uint8Array;
  device: NodeDevice;
  /** Operators of the domain `anneal` in the model that are machine code of our own. */
  kernels?: readonly string[] | undefined;
  /** Initializers whose bytes lie outside the model. They are copied, or rearranged, when the session is made. */
  weights?: readonly WeightBinding[] | undefined;
  /** Path prefix of the profile; profiling is on if it is given. */
  profile?: string;
  /** Where to write the optimized model, for tests and inspection. */
  optimizedModel?: string;
}

/** All rewrites of the graph, layout ones included. */
const allOptimizations = 99;

/** libuv has four threads by default; two stay free for runs and for files. */
const compilations = new Gate(2);

/** Makes an OrtSession* off the main thread. Rejects with ONNX Runtime's text. The caller releases it. */
export function createSession(environment: Environment, request: SessionRequest): Promise<Pointer> {
  return compilations.pass(async () => {
    const { api } = environment.ort;
    const options = sessionOptions(environment, request);
    try {
      // `request` is used until then, and with it the memory of the weights that the options point at.
      return await whenDomainIsKnown(request, () => createFromArray(environment, request, options));
    } finally {
      api.ReleaseSessionOptions(options);
    }
  });
}

/** Settles once a session with kernels has been made. */
let domainKnown: Promise<boolean> | undefined;

/**
 * ONNX Runtime enters the domain of custom operators into a table of the process, without a lock: of two first
 * sessions at a time, one would fail. So the first one is made alone.
 */
async function whenDomainIsKnown<T>({ kernels = [] }: SessionRequest, make: () => Promise<T>): Promise<T> {
  if (kernels.length === 0) return make();
  while (domainKnown !== undefined) {
    if (await domainKnown) return make();
  }
  const first = make();
  domainKnown = first.then(
    () => true,
    () => {
      domainKnown = undefined;
      return false;
    },
  );
  return first;
}

function sessionOptions(environment: Environment, request: SessionRequest): Pointer {
  const { api } = environment.ort;
  const options = resultOf(api, (out) => api.CreateSessionOptions(out));
  const set = (key: string, value: string) => check(api, api.AddSessionConfigEntry(options, key, value));
  try {
    check(api, api.SetSessionGraphOptimizationLevel(options, allOptimizations));
    check(api, api.DisablePerSessionThreads(options));
    // See `shareArena`.
    set('session.use_env_allocators', '1');
    // A recomputed activation is a deliberate duplicate: merging it with the original would keep both alive.
    set('optimization.disable_specified_optimizers', 'CommonSubexpressionElimination');
    if (request.profile !== undefined) check(api, api.EnableProfiling(options, request.profile));
    if (request.optimizedModel !== undefined) {
      check(api, api.SetOptimizedModelFilePath(options, request.optimizedModel));
    }
    appendProvider(api, options, request.device);
    const { kernels = [] } = request;
    if (kernels.length > 0) check(api, api.AddCustomOpDomain(options, domainOf(kernels)));
    addWeights(environment, options, request.weights ?? []);
    return options;
  } catch (error) {
    api.ReleaseSessionOptions(options);
    throw error;
  }
}

/** Gives each weight's memory the name of the file that the model believes it to be in. */
function addWeights({ ort }: Environment, options: Pointer, weights: readonly WeightBinding[]): void {
  if (weights.length === 0) return;
  const { api, koffi } = ort;
  // ORTCHAR_T: UTF-16 on Windows, where the name of a file is that.
  const encoding = process.platform === 'win32' ? 'utf16le' : 'utf8';
  const names = weights.map(({ name }) => stableCopy(Buffer.from(`${name}\0`, encoding)));
  const files = pointerArray(weights.length);
  const buffers = pointerArray(weights.length);
  const sizes = pointerArray(weights.length);
  for (const [i, { slot }] of weights.entries()) {
    files[i] = koffi.address(names[i]!);
    buffers[i] = koffi.address(slot.data);
    sizes[i] = BigInt(slot.data.byteLength);
  }
  const status = api.AddExternalInitializersFromFilesInMemory(options, files, buffers, sizes, weights.length);
  check(api, status);
  // Referred to here, so that the names stay until they have been read.
  if (names.length !== weights.length) throw new Error('a name is missing');
}

function createFromArray(
  environment: Environment,
  request: SessionRequest,
  options: Pointer,
): Promise<Pointer> {
  const { model, weights = [] } = request;
  const { api } = environment.ort;
  const out = pointerArray(1);
  // A model this short may lie on V8's moving heap.
  const bytes = model.byteLength < 128 ? stableCopy(model) : model;
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, status: Status) => {
      // Naming `bytes` and `weights` here also keeps them alive until native code has read them.
      const text = error ? error.message : statusText(api, status);
      if (text === undefined) resolve(out[0]!);
      else
        reject(
          new Error(`${text} (model of ${bytes.byteLength} bytes, ${weights.length} weights outside it)`),
        );
    };
    api.CreateSessionFromArray.async(environment.env, bytes, bytes.byteLength, options, out, done);
  });
}

function stableCopy(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new ArrayBuffer(Math.max(128, bytes.byteLength)), 0, bytes.byteLength);
  copy.set(bytes);
  return copy;
}
