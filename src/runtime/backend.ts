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

/** A variable that never changes, as an initializer of the model whose bytes lie outside it. */
export interface WeightBinding {
  name: string;
  slot: Slot;
}

/** What a backend's own operator has to compute. Operators know the types of their tensors in advance. */
export interface KernelRequest {
  /** What it computes, e.g. `geluTanhGrad`. */
  kind: string;
  /** Numbers that are part of the function; a flag is 0 or 1. */
  attributes: Readonly<Record<string, number>>;
  inputs: readonly KernelType[];
  outputs: readonly KernelType[];
}

/** Type of an operand or a result. */
export interface KernelType {
  dtype: DType;
  shape: readonly number[];
}

/** A node of one of the backend's operators: the values that it reads and writes. */
export interface KernelLink {
  operator: string;
  inputs: readonly string[];
  outputs: readonly string[];
}

/** An operator that does the work of `count` nodes from the `first` on. */
export interface JoinedKernel {
  first: number;
  count: number;
  operator: string;
  inputs: readonly string[];
  /** Values that the rest of the graph reads; others may follow. */
  outputs: readonly ({ name: string } & KernelType)[];
}

/** Operators that a backend has besides those of ONNX. */
export interface Kernels {
  /** Name of the operator in the domain `anneal`; undefined where the backend has none, or none that is faster. */
  find(request: KernelRequest): string | undefined;
  /**
   * Operators that take the place of several nodes of those that `find` named. `links` follow one another; `reads` says how
   * often each value is read in the whole graph, its results included.
   */
  join?(links: readonly KernelLink[], reads: ReadonlyMap<string, number>): readonly JoinedKernel[];
  /** What they are made for, e.g. `avx512`, or why there are none. */
  readonly status: string;
}

export interface ExecutableSpec {
  /** For messages and profiles. */
  label: string;
  /** Serialized ONNX ModelProto. */
  model: Uint8Array;
  inputs: readonly Port[];
  outputs: readonly Port[];
  slots: readonly SlotBinding[];
  /** Fixed variables: initializers of the model whose bytes lie outside it, under these names. */
  weights?: readonly WeightBinding[];
  /** The backend's own operators in the model, as `Kernels.find` named them. */
  kernels?: readonly string[];
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
  readonly kernels?: Kernels | undefined;
  compile(spec: ExecutableSpec): Promise<Executable>;
  /** Resolves when every run that was started has ended. */
  idle(): Promise<void>;
  stats(): BackendStats;
}

/** Loads a backend; rejects with a message that lists the devices of this machine. */
export type BackendLoader = (options: BackendOptions) => Promise<Backend>;
