import { alignArrays } from './core/dtype.js';
import { registerDevice } from './library.js';
import { bytesToLine } from './runtime/node/alignment.js';

// The runtime is loaded by the first program that runs: importing the library stays cheap.
for (const device of ['cpu', 'webgpu', 'cuda'] as const) {
  registerDevice(device, async (options) => {
    const { createNodeBackend } = await import('./runtime/node/backend.js');
    return createNodeBackend(device, options);
  });
}

alignArrays(bytesToLine);

export * from './library.js';

/** Devices that the installed runtime can use on this machine. */
export async function listDevices(): Promise<string[]> {
  const runtime = await import('./runtime/node/backend.js');
  return runtime.listDevices();
}
