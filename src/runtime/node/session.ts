import { Gate } from '../queue.js';
import { appendProvider, type Environment, type NodeDevice } from './environment.js';
import { check, type Pointer, pointerArray, resultOf, type Status, statusText } from './ort-api.js';

/** What a session is made from. */
export interface SessionRequest {
  /** Serialized ModelProto; must not change until the session is made. */
  model: Uint8Array;
  device: NodeDevice;
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
      return await createFromArray(environment, request.model, options);
    } finally {
      api.ReleaseSessionOptions(options);
    }
  });
}

function sessionOptions({ ort: { api } }: Environment, request: SessionRequest): Pointer {
  const options = resultOf(api, (out) => api.CreateSessionOptions(out));
  const set = (key: string, value: string) => check(api, api.AddSessionConfigEntry(options, key, value));
  try {
    check(api, api.SetSessionGraphOptimizationLevel(options, allOptimizations));
    check(api, api.DisablePerSessionThreads(options));
    // A recomputed activation is a deliberate duplicate: merging it with the original would keep both alive.
    set('optimization.disable_specified_optimizers', 'CommonSubexpressionElimination');
    if (request.profile !== undefined) check(api, api.EnableProfiling(options, request.profile));
    if (request.optimizedModel !== undefined) {
      check(api, api.SetOptimizedModelFilePath(options, request.optimizedModel));
    }
    appendProvider(api, options, request.device);
    return options;
  } catch (error) {
    api.ReleaseSessionOptions(options);
    throw error;
  }
}

function createFromArray(environment: Environment, model: Uint8Array, options: Pointer): Promise<Pointer> {
  const { api } = environment.ort;
  const out = pointerArray(1);
  // A model this short may lie on V8's moving heap.
  const bytes = model.byteLength < 128 ? stableCopy(model) : model;
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, status: Status) => {
      // Naming `bytes` here also keeps the model alive until native code has read it.
      const text = error ? error.message : statusText(api, status);
      if (text === undefined) resolve(out[0]!);
      else reject(new Error(`${text} (model of ${bytes.byteLength} bytes)`));
    };
    api.CreateSessionFromArray.async(environment.env, bytes, bytes.byteLength, options, out, done);
  });
}

function stableCopy(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new ArrayBuffer(128), 0, bytes.byteLength);
  copy.set(bytes);
  return copy;
}
