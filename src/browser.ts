import { registerDevice } from './library.js';

// The runtime is loaded by the first program that runs: importing the library stays cheap.
for (const [device, runtime] of [
  ['cpu', 'wasm'],
  ['webgpu', 'webgpu'],
] as const) {
  registerDevice(device, async (options) => {
    const { createWebBackend } = await import('./runtime/web/backend.js');
    return createWebBackend(runtime, options);
  });
}

export * from './library.js';

/** Devices of this browser: `cpu` (WebAssembly), and `webgpu` where the browser has it. */
export async function listDevices(): Promise<string[]> {
  const runtime = await import('./runtime/web/backend.js');
  return runtime.webDevices();
}
