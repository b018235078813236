import type { DType, TypedArray } from '../core/dtype.js';

/** A graph input or output that travels with each call. */
export interface Port {
  name: string;
  dtype: DType;
  shape: readonly number[];
}

/**
 * Host memory of a variable. Every program that uses the variable reads and writes these arrays; a
 * backend may keep a native handle per array.
 */
export interface Slot {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** The current value. */
  data: TypedArray;
  /** Second buffer of a double-buffered variable; swapped with `data` after a run. */
  spare: TypedArray | undefined;
}

/** How one variable takes part in a program. */
export interface SlotBinding {
  slot: Slot;
  /** Graph input that reads the current value, if the program reads it. */
  input: string | undefined;
  /** Graph output that is the next value, if the program assigns it. */
  output: string | undefined;
  /** True: the output is written straight into `slot.data`. False: into `slot.spare`, then swapped. */
  inPlace: boolean;
}

export interface ExecutableSpec {
  /** For messages and profiles. */
  label: string;
  /** Serialized ONNX ModelProto. */
  model: Uint8Array;
  inputs: readonly Port[];
  outputs: readonly Port[];
  slots: readonly SlotBinding[];
}

/** Time of one executed node, from the runtime's own profiler. */
export interface NodeTime {
  node: string;
  op: string;
  calls: number;
  /** Summed over calls, in milliseconds. */
  ms: number;
}

/** A compiled program on a device. */
export interface Executable {
  /**
   * Runs once, off the main thread where the backend can. `feeds` follow `spec.inputs` (right dtype
   * and length, checked by the caller) and must stay unchanged until the promise settles; results
   * follow `spec.outputs` and are fresh arrays. Runs of one backend happen one at a time, in the order of the calls.
   * If a run fails, double-buffered variables keep their value.
   */
  run(feeds: readonly TypedArray[]): Promise<TypedArray[]>;
  /** The same on the calling thread; throws where the backend has no synchronous path or a run is pending. */
  runSync(feeds: readonly TypedArray[]): TypedArray[];
  /** Per-node times of `repeats` runs after one warm-up. Variables change as in ordinary runs. */
  profile(feeds: readonly TypedArray[], repeats: number): Promise<NodeTime[]>;
  /** Frees native memory. Idempotent; later runs throw. */
  release(): void;
}

export interface BackendOptions {
  /** Threads of the process-wide pool. Default: one per core. */
  threads?: number;
}

/** What a backend holds now. */
export interface BackendStats {
  executables: number;
  /** Bytes of variables, staging buffers and results that native code can reach. */
  liveBytes: number;
  runs: number;
}

/** A runtime that can execute ONNX models on one device. */
export interface Backend {
  readonly device: string;
  compile(spec: ExecutableSpec): Promise<Executable>;
  /** Resolves when every run that was started has ended. */
  idle(): Promise<void>;
  stats(): BackendStats;
}

/** Loads a backend; rejects with a message that lists the devices of this machine. */
export type BackendLoader = (options: BackendOptions) => Promise<Backend>;
