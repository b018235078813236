import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { AnnealError } from '../../core/errors.js';
import type { BackendOptions } from '../backend.js';
import { check, loadOrt, type Ort, type OrtApi, type Pointer, pointerArray, resultOf } from './ort-api.js';

/** ONNX Runtime's process-wide state. */
export interface Environment {
  ort: Ort;
  /** OrtEnv*. Lives as long as the process: sessions in other hands may still use its threads. */
  env: Pointer;
  /** OrtMemoryInfo* of plain host memory. */
  hostMemory: Pointer;
  /** Threads that compute, the caller of Run among them. */
  threads: number;
}

/** Every error reaches the caller as a status with the same text, so only fatal messages go to stderr. */
const logFatal = 4;

/** OrtDeviceAllocator and OrtMemTypeDefault: memory that the caller owns. OrtArenaAllocator: memory that is kept and reused. */
const deviceAllocator = 0;
const arenaAllocator = 1;
const defaultMemory = 0;

let current: Environment | undefined;

/**
 * The environment, made by the first call with `options.threads` threads (default: one per core).
 * Throws AnnealError if a later call asks for another number: the pool cannot be resized.
 */
export function environment(options: BackendOptions): Environment {
  const { threads } = options;
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1)) {
    throw new AnnealError(`threads must be a positive integer, got ${threads}`);
  }
  current ??= createEnvironment(threads ?? availableParallelism());
  if (threads !== undefined && threads !== current.threads) {
    throw new AnnealError(
      `this process already computes with ${current.threads} threads, so ${threads} cannot be had; ` +
        'pass the same number of threads to every backend of a process',
    );
  }
  return current;
}

function createEnvironment(threads: number): Environment {
  const ort = loadOrt();
  const { api } = ort;
  const options = resultOf(api, (out) => api.CreateThreadingOptions(out));
  try {
    check(api, api.SetGlobalIntraOpNumThreads(options, threads));
    // Nodes run one after the other, so a pool for running several at a time would only idle.
    check(api, api.SetGlobalInterOpNumThreads(options, 1));
    // One pool for all sessions: pools of their own spin against each other and halve the speed.
    const env = resultOf(api, (out) => api.CreateEnvWithGlobalThreadPools(logFatal, 'anneal', options, out));
    const hostMemory = resultOf(api, (out) => api.CreateCpuMemoryInfo(deviceAllocator, defaultMemory, out));
    shareArena(ort, env);
    return { ort, env, hostMemory, threads };
  } finally {
    api.ReleaseThreadingOptions(options);
  }
}

/**
 * One arena for the intermediate values of all sessions (each must ask for it). With one of its own, every session
 * keeps what its largest run needed: a program compiled for eight lengths took 9.4 GB, now 2.2 GB.
 */
function shareArena({ api }: Ort, env: Pointer): void {
  const memory = resultOf(api, (out) => api.CreateCpuMemoryInfo(arenaAllocator, defaultMemory, out));
  // No limit; regions grow by powers of two; the rest as ONNX Runtime has it.
  const config = resultOf(api, (out) => api.CreateArenaCfg(0, 0, -1, -1, out));
  try {
    check(api, api.CreateAndRegisterAllocator(env, memory, config));
  } finally {
    api.ReleaseArenaCfg(config);
  }
}

/** Devices that the Node runtime can drive, and the provider behind each. */
const providers = {
  cpu: 'CPUExecutionProvider',
  webgpu: 'WebGpuExecutionProvider',
  cuda: 'CUDAExecutionProvider',
} as const;

export type NodeDevice = keyof typeof providers;

/** Devices whose provider is in the library, `cpu` first. */
export function availableDevices(ort: Ort): NodeDevice[] {
  const names = providerNames(ort);
  const devices = Object.keys(providers) as NodeDevice[];
  return devices.filter((device) => {
    if (!names.includes(providers[device])) return false;
    // The library names CUDA even where the add-on that holds its kernels was not downloaded.
    return device !== 'cuda' || existsSync(path.join(ort.directory, cudaAddOn()));
  });
}

function cudaAddOn(): string {
  const isWindows = process.platform === 'win32';
  return isWindows ? 'onnxruntime_providers_cuda.dll' : 'libonnxruntime_providers_cuda.so';
}

function providerNames({ api, koffi }: Ort): string[] {
  const count = new Int32Array(new ArrayBuffer(128), 0, 1);
  const list = resultOf(api, (out) => api.GetAvailableProviders(out, count));
  try {
    return koffi.decode(list, koffi.array('str', count[0]!)) as string[];
  } finally {
    check(api, api.ReleaseAvailableProviders(list, count[0]!));
  }
}

/** Adds a device's provider to session options. Throws an Error with ONNX Runtime's text where it fails. */
export function appendProvider(api: OrtApi, options: Pointer, device: NodeDevice): void {
  if (device === 'webgpu') {
    const none = pointerArray(0);
    check(api, api.SessionOptionsAppendExecutionProvider(options, 'WebGPU', none, none, 0));
  } else if (device === 'cuda') {
    const cuda = resultOf(api, (out) => api.CreateCUDAProviderOptions(out));
    try {
      check(api, api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda));
    } finally {
      api.ReleaseCUDAProviderOptions(cuda);
    }
  }
}
