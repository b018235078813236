import { afterEach, describe, expect, it, vi } from 'vitest';
import { AnnealError } from '../../src/core/errors.js';
import type { Backend } from '../../src/runtime/backend.js';
import { createNodeBackend, listDevices, type NodeDevice } from '../../src/runtime/node/backend.js';
import { loadKoffi } from '../../src/runtime/node/ort-api.js';
import { accumulator, ramp, rejection, slot } from './models.js';

afterEach(() => {
  vi.doUnmock('node:module');
  vi.resetModules();
});

/** The backend module as it is where `missing` is not installed. */
async function withoutPackage(missing: string): Promise<typeof import('../../src/runtime/node/backend.js')> {
  vi.resetModules();
  vi.doMock('node:module', async (original) => {
    const actual = await original<typeof import('node:module')>();
    const createRequire = (from: string | URL) => {
      const real = actual.createRequire(from);
      const guard = (name: string) => {
        if (!name.startsWith(missing)) return;
        throw Object.assign(new Error(`Cannot find module '${name}'`), { code: 'MODULE_NOT_FOUND' });
      };
      const fake = (name: string) => {
        guard(name);
        return real(name);
      };
      const resolve = (name: string) => {
        guard(name);
        return real.resolve(name);
      };
      return Object.assign(fake, { resolve });
    };
    return { ...actual, createRequire };
  });
  return import('../../src/runtime/node/backend.js');
}

describe('devices', () => {
  it('are listed with cpu first', async () => {
    const devices = await listDevices();
    expect(devices[0]).toBe('cpu');
    for (const device of devices) expect(['cpu', 'webgpu', 'cuda']).toContain(device);
  });

  it('that are absent are refused with a list of what there is', async () => {
    const devices = (await listDevices()).join(', ');
    const error = await rejection(createNodeBackend('abacus' as NodeDevice));
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toBe(`device "abacus" is not available here; this machine has: ${devices}`);
  });

  it.runIf(process.platform === 'linux')('do not count as present by name alone', async () => {
    // Every Linux library names CUDA; its kernels are a download of their own.
    const devices = await listDevices();
    if (devices.includes('cuda')) return;
    const error = await rejection(createNodeBackend('cuda'));
    expect(error.message).toBe(
      `device "cuda" is not available here; this machine has: ${devices.join(', ')}`,
    );
  });

  it('compute, or say why they cannot', async () => {
    const others = (await listDevices()).filter((device) => device !== 'webgpu');
    let backend: Backend;
    try {
      backend = await createNodeBackend('webgpu');
    } catch (error) {
      const why = `device "webgpu" is not available here( \\(.+\\))?; this machine has: ${others.join(', ')}`;
      expect((error as Error).message).toMatch(new RegExp(`^${why}$`));
      return;
    }
    expect(backend.device).toBe('webgpu');
    const variable = slot([3000], ramp(3000));
    const add = await backend.compile(accumulator(variable, 'add'));
    const [sum] = await add.run([ramp(3000)]);
    expect(sum).toEqual(ramp(3000, 2));
    expect(add.runSync([ramp(3000)])).toEqual([ramp(3000, 3)]);
    expect(variable.data).toEqual(ramp(3000, 3));
    add.release();
  });
});

describe('threads', () => {
  it('are the same for all backends of a process', async () => {
    expect((await createNodeBackend('cpu', { threads: 2 })).device).toBe('cpu');
    await createNodeBackend('cpu', { threads: 2 });
    await createNodeBackend('cpu');
    const error = await rejection(createNodeBackend('cpu', { threads: 3 }));
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toMatch(/already computes with 2 threads, so 3 cannot be had/);
  });

  it.each([0, -1, 1.5, Number.NaN])('cannot be %d', async (threads) => {
    const error = await rejection(createNodeBackend('cpu', { threads }));
    expect(error.message).toBe(`threads must be a positive integer, got ${threads}`);
  });
});

describe('packages', () => {
  it.each(['koffi', 'onnxruntime-node'])('%s is asked for with the line that installs it', async (name) => {
    const backend = await withoutPackage(name);
    const message = `Anneal needs the package ${name}, which is not installed; run: npm install onnxruntime-node koffi`;
    expect((await rejection(backend.createNodeBackend('cpu'))).message).toBe(message);
    expect((await rejection(backend.listDevices())).message).toBe(message);
  });

  it('koffi gives asynchronous calls a stack that kernels can work on', () => {
    expect(loadKoffi().config().async_stack_size).toBeGreaterThanOrEqual(8 * 2 ** 20);
  });
});
