import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { AnnealError } from '../../core/errors.js';

/** An address. koffi 3 speaks bigint. */
export type Pointer = bigint;

/** OrtStatus*: null means success. Whoever receives one must pass it to `check` or `statusText`. */
export type Status = Pointer | null;

/** What a `void *` parameter accepts: an address, or a typed array whose memory is passed as it is. */
export type Memory = Pointer | NodeJS.ArrayBufferView | null;

/** A C function. A plain call blocks; `async` runs it on a libuv thread and holds no reference to its arguments. */
export interface NativeFunction<Args extends readonly unknown[], Result> {
  (...args: Args): Result;
  async(...args: [...Args, (error: Error | null, result: Result) => void]): void;
}

/** The part of koffi that the runtime uses; spelled out because koffi is an optional peer. */
export interface Koffi {
  /** `null`: what the process has loaded already, the C library among it. */
  load(file: string | null): { func(definition: string): (...args: unknown[]) => unknown };
  proto(result: string, args: readonly string[]): unknown;
  decode(address: Pointer, type: unknown, length?: number): unknown;
  array(type: string, length: number): unknown;
  address(memory: NodeJS.ArrayBufferView): Pointer;
  config(settings?: { async_stack_size: number }): { async_stack_size: number };
}

/** C parameter types and the values that stand for them. `path` is ORTCHAR_T*: UTF-16 on Windows. */
interface Parameters {
  'void *': Memory;
  int: number;
  size_t: number;
  str: string;
  path: string;
}

interface Results {
  'void *': Status;
  str: string;
  void: undefined;
}

const p = 'void *';

/**
 * Index in the OrtApi struct, result and parameters of every function in use. The struct only ever grows
 * at its end, so an index is valid in every later library.
 */
const signatures = {
  GetErrorMessage: [2, 'str', [p]],
  CreateSessionFromArray: [8, p, [p, p, 'size_t', p, p]],
  Run: [9, p, [p, p, p, p, 'size_t', p, 'size_t', p]],
  CreateSessionOptions: [10, p, [p]],
  SetOptimizedModelFilePath: [11, p, [p, 'path']],
  EnableProfiling: [14, p, [p, 'path']],
  SetSessionGraphOptimizationLevel: [23, p, [p, 'int']],
  CreateCustomOpDomain: [26, p, ['str', p]],
  CustomOpDomain_Add: [27, p, [p, p]],
  AddCustomOpDomain: [28, p, [p, p]],
  CreateTensorWithDataAsOrtValue: [49, p, [p, p, 'size_t', p, 'size_t', 'int', p]],
  CreateCpuMemoryInfo: [69, p, ['int', 'int', p]],
  AllocatorFree: [76, p, [p, p]],
  GetAllocatorWithDefaultOptions: [78, p, [p]],
  ReleaseStatus: [93, 'void', [p]],
  ReleaseSession: [95, 'void', [p]],
  ReleaseValue: [96, 'void', [p]],
  ReleaseSessionOptions: [100, 'void', [p]],
  SessionEndProfiling: [110, p, [p, p, p]],
  CreateEnvWithGlobalThreadPools: [119, p, ['int', 'str', p, p]],
  DisablePerSessionThreads: [120, p, [p]],
  CreateThreadingOptions: [121, p, [p]],
  ReleaseThreadingOptions: [122, 'void', [p]],
  GetAvailableProviders: [125, p, [p, p]],
  ReleaseAvailableProviders: [126, p, [p, 'int']],
  AddSessionConfigEntry: [130, p, [p, 'str', 'str']],
  CreateAndRegisterAllocator: [144, p, [p, p, p]],
  SetGlobalIntraOpNumThreads: [147, p, [p, 'int']],
  SetGlobalInterOpNumThreads: [148, p, [p, 'int']],
  CreateArenaCfg: [156, p, ['size_t', 'int', 'int', 'int', p]],
  ReleaseArenaCfg: [157, 'void', [p]],
  SessionOptionsAppendExecutionProvider_CUDA_V2: [204, p, [p, p]],
  CreateCUDAProviderOptions: [205, p, [p]],
  ReleaseCUDAProviderOptions: [208, 'void', [p]],
  SessionOptionsAppendExecutionProvider: [216, p, [p, 'str', p, p, 'size_t']],
  AddExternalInitializersFromFilesInMemory: [279, p, [p, p, p, p, 'size_t']],
} as const satisfies Record<string, readonly [number, keyof Results, readonly (keyof Parameters)[]]>;

type Arguments<C extends readonly (keyof Parameters)[]> = { [I in keyof C]: Parameters[C[I]] };

/** The C functions by name, with types derived from the table above. */
export type OrtApi = {
  readonly [N in keyof typeof signatures]: NativeFunction<
    Arguments<(typeof signatures)[N][2]>,
    Results[(typeof signatures)[N][1]]
  >;
};

/** The loaded library. */
export interface Ort {
  api: OrtApi;
  /** Address of a function by its index in the OrtApi struct, for code that calls it without JavaScript. */
  addressOf(index: number): Pointer;
  koffi: Koffi;
  /** Folder of the library file, where add-on providers lie beside it. */
  directory: string;
  /** Never read, never dropped: the library is unloaded under its callers when this handle is collected. */
  handle: unknown;
}

/** The struct's layout that is asked for; libraries from ONNX Runtime 1.24 on have it. */
const apiVersion = 24;

/**
 * Stack of an asynchronous call. koffi runs C functions on stacks of its own, by default 128 KiB for
 * asynchronous calls, while one matrix product of ONNX Runtime keeps a 64 KiB panel on the stack. Only
 * pages that were touched cost memory.
 */
const asyncStackBytes = 8 * 2 ** 20;

const installLine = 'npm install onnxruntime-node koffi';
const require = createRequire(import.meta.url);

/**
 * koffi, set up for ONNX Runtime. All native code of the library must get koffi from here: its settings
 * are frozen once any library is loaded. Throws AnnealError if koffi is missing or was used before.
 */
export function loadKoffi(): Koffi {
  const koffi = requirePeer('koffi') as Koffi;
  if (koffi.config().async_stack_size < asyncStackBytes) {
    try {
      koffi.config({ async_stack_size: asyncStackBytes });
    } catch {
      throw new AnnealError(
        'koffi has already loaded a library, with stacks too small for ONNX Runtime; call ' +
          `koffi.config({ async_stack_size: ${asyncStackBytes} }) before the first koffi.load`,
      );
    }
  }
  return koffi;
}

let loaded: Ort | undefined;

/** Loads ONNX Runtime's library once. Throws AnnealError if a package or a file for this platform is missing. */
export function loadOrt(): Ort {
  loaded ??= openLibrary(loadKoffi(), findLibrary());
  return loaded;
}

function requirePeer(name: string): unknown {
  try {
    return require(name);
  } catch (error) {
    throw missingPeer(name, error);
  }
}

function missingPeer(name: string, cause: unknown): AnnealError {
  const isMissing = (cause as { code?: string }).code === 'MODULE_NOT_FOUND';
  const problem = isMissing ? 'is not installed' : `cannot be loaded (${(cause as Error).message})`;
  return new AnnealError(`Anneal needs the package ${name}, which ${problem}; run: ${installLine}`, {
    cause,
  });
}

/** Path of the shared library inside onnxruntime-node, whose file name differs by platform and version. */
function findLibrary(): string {
  let root: string;
  try {
    // The package itself is not loaded: its own binding would bring a second environment.
    root = path.dirname(require.resolve('onnxruntime-node/package.json'));
  } catch (error) {
    throw missingPeer('onnxruntime-node', error);
  }
  const { platform, arch } = process;
  const directory = path.join(root, 'bin', 'napi-v6', platform, arch);
  let files: string[] = [];
  try {
    files = readdirSync(directory);
  } catch {
    // An unsupported platform has no folder; the message below covers both cases.
  }
  const file = files.find((name) => /^(lib)?onnxruntime(\.so|\.dll|\.dylib|\.\d[\d.]*dylib)/.test(name));
  if (file === undefined) {
    throw new AnnealError(`onnxruntime-node has no library for ${platform}/${arch} (looked in ${directory})`);
  }
  return path.join(directory, file);
}

function openLibrary(koffi: Koffi, file: string): Ort {
  const handle = koffi.load(file);
  const base = handle.func('void *OrtGetApiBase()')() as Pointer;
  // OrtApiBase is { GetApi, GetVersionString }.
  const [getApiAddress, getVersionAddress] = addresses(koffi, base, 2);
  const getApi = koffi.decode(getApiAddress!, koffi.proto('void *', ['uint32_t'])) as (v: number) => Status;
  const struct = getApi(apiVersion);
  if (!struct) {
    const version = (koffi.decode(getVersionAddress!, koffi.proto('str', [])) as () => string)();
    throw new AnnealError(
      `onnxruntime-node ${version} is too old, version 1.${apiVersion} is needed; run: ${installLine}`,
    );
  }
  const addressOf = (index: number) => addresses(koffi, struct + 8n * BigInt(index), 1)[0]!;
  return { api: bindFunctions(koffi, struct), addressOf, koffi, directory: path.dirname(file), handle };
}

function bindFunctions(koffi: Koffi, struct: Pointer): OrtApi {
  const last = Math.max(...Object.values(signatures).map(([index]) => index));
  const table = addresses(koffi, struct, last + 1);
  const pathType = process.platform === 'win32' ? 'str16' : 'str';
  const functions = Object.entries(signatures).map(([name, [index, result, parameters]]) => {
    const types = parameters.map((type) => (type === 'path' ? pathType : type));
    return [name, koffi.decode(table[index]!, koffi.proto(result, types))];
  });
  return Object.fromEntries(functions) as OrtApi;
}

/** `count` pointers that lie in a row at `address`. */
function addresses(koffi: Koffi, address: Pointer, count: number): Pointer[] {
  return Array.from(koffi.decode(address, 'uint64_t', count) as ArrayLike<number | bigint>, BigInt);
}

/** The text of a failed status, which is released; undefined for success. */
export function statusText(api: OrtApi, status: Status): string | undefined {
  if (!status) return undefined;
  const text = api.GetErrorMessage(status).trim();
  api.ReleaseStatus(status);
  return text;
}

/** Throws an Error with ONNX Runtime's text if `status` is a failure. */
export function check(api: OrtApi, status: Status): void {
  const text = statusText(api, status);
  if (text !== undefined) throw new Error(text);
}

/** A typed array over memory that never moves: V8 moves the small ones that own no explicit ArrayBuffer. */
export function pointerArray(length: number): BigUint64Array<ArrayBuffer> {
  return new BigUint64Array(new ArrayBuffer(Math.max(128, 8 * length)), 0, length);
}

const scratch = pointerArray(1);

/** Calls a function whose last parameter receives a pointer, and returns that pointer. Synchronous calls only. */
export function resultOf(api: OrtApi, call: (out: BigUint64Array) => Status): Pointer {
  check(api, call(scratch));
  return scratch[0]!;
}
