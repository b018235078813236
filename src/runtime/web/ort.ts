import type { Env, InferenceSession, Tensor } from 'onnxruntime-web';
import { AnnealError } from '../../core/errors.js';
import type { BackendOptions } from '../backend.js';

export type { InferenceSession, Tensor } from 'onnxruntime-web';

/** Runtimes of onnxruntime-web. */
export type WebRuntime = 'wasm' | 'webgpu';

/** The names under which the rest of the library knows these runtimes. */
export const deviceOf = { wasm: 'cpu', webgpu: 'webgpu' } as const;

/** The part of onnxruntime-web that is used here. */
export interface Ort {
  readonly Tensor: typeof Tensor;
  readonly InferenceSession: {
    create(model: Uint8Array, options: SessionOptions): Promise<InferenceSession>;
  };
  readonly env: Env;
}

type SessionOptions = InferenceSession.SessionOptions;

const installLine = 'npm install onnxruntime-web@1.30.0';

/** Threads of the modules loaded so far; their pools are made by the first session and cannot be resized. */
const threadsOf = new Map<WebRuntime, number>();

/**
 * The package's module for `runtime`, set to the wished number of threads.
 * @throws AnnealError if the package is missing, or if the threads cannot be had.
 */
export async function loadOrt(runtime: WebRuntime, { threads }: BackendOptions): Promise<Ort> {
  const known = threadsOf.get(runtime);
  const count = threadCount(threads ?? known);
  if (known !== undefined && known !== count) {
    throw new AnnealError(
      `device "${deviceOf[runtime]}" already computes with ${known} threads, so ${count} cannot be had; ` +
        'pass the same number of threads to every backend of a page',
    );
  }
  const ort = await importOrt(runtime);
  threadsOf.set(runtime, count);
  ort.env.wasm.numThreads = count;
  // Every error reaches the caller as a rejection with the same text.
  ort.env.logLevel = 'fatal';
  return ort;
}

async function importOrt(runtime: WebRuntime): Promise<Ort> {
  try {
    // Literal names: bundlers have to find them.
    return runtime === 'wasm' ? await import('onnxruntime-web') : await import('onnxruntime-web/webgpu');
  } catch (cause) {
    throw new AnnealError(
      `device "${deviceOf[runtime]}" needs the package onnxruntime-web, which did not load ` +
        `(${errorText(cause)}); install it: ${installLine}`,
      { cause },
    );
  }
}

function threadCount(wished: number | undefined): number {
  const isIsolated = globalThis.crossOriginIsolated === true;
  if (wished === undefined) return isIsolated ? (globalThis.navigator?.hardwareConcurrency ?? 1) : 1;
  if (!(Number.isInteger(wished) && wished >= 1)) {
    throw new AnnealError(`threads must be a positive integer, got ${wished}`);
  }
  if (wished > 1 && !isIsolated) {
    throw new AnnealError(
      `threads: ${wished} needs a cross-origin isolated page; serve it with the headers ` +
        '"Cross-Origin-Opener-Policy: same-origin" and "Cross-Origin-Embedder-Policy: require-corp", or leave threads out',
    );
  }
  return wished;
}

/** The text of what was thrown; WebAssembly code also throws numbers. */
export const errorText = (error: unknown): string => (error instanceof Error ? error.message : String(error));
