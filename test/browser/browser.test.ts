import { existsSync } from 'node:fs';
import path from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as anneal from '../../src/index.js';
import { root, type Site, serve } from './server.js';
import { train } from './training.mjs';

const executable = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((file) =>
  existsSync(file),
);
const isSkipped = !executable && !process.env.CI;
if (isSkipped) {
  console.warn(
    'browser tests are skipped: no Chromium; install the package "chromium" (apt-get install chromium)',
  );
}

const quiet = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Chromium without a window, with a profile folder of its own that goes when it ends. */
function launch(flags: readonly string[]): Promise<Browser> {
  if (!executable)
    throw new Error('no Chromium: install the package "chromium"; CI must run the browser tests');
  return chromium.launch({ executablePath: executable, headless: true, args: [...quiet, ...flags] });
}

async function open(browser: Browser, site: Site, where = '/'): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(site.origin + where);
  return page;
}

/** Imports of pages, as text: the test runner would rewrite an import() that it can see. */
const library = "const anneal = await import('anneal');";
const trainer = "const { train } = await import('/test/browser/training.mjs');";

/** What `body`, the statements of an async function, returns in the page. */
const within = <T>(page: Page, body: string): Promise<T> => page.evaluate(`(async () => { ${body} })()`);

const trainIn = (page: Page, device: string): Promise<number[]> =>
  within(page, `${library} ${trainer} return train(anneal, '${device}');`);

const largestDifference = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

/** Counts in `dispatches` how often the page starts a shader. */
const countDispatches = `
  globalThis.dispatches = 0;
  for (const name of ['dispatchWorkgroups', 'dispatchWorkgroupsIndirect']) {
    const original = GPUComputePassEncoder.prototype[name];
    GPUComputePassEncoder.prototype[name] = function (...sizes) {
      dispatches++;
      return original.apply(this, sizes);
    };
  }`;

/** Fails unless `losses` fall and stay within `tolerance` of Node's. */
function checkLosses(device: string, losses: number[], expected: number[], tolerance: number): void {
  expect(losses).toHaveLength(30);
  expect(losses.at(-1)).toBeLessThan(losses[0]! / 2);
  const difference = largestDifference(losses, expected);
  console.info(`${device}: loss ${losses[0]} -> ${losses.at(-1)}, off Node's by at most ${difference}`);
  expect(difference).toBeLessThan(tolerance);
}

/** What semantics.mjs sees of a backend. */
interface Observations {
  device: string;
  storage: { sent: unknown[]; got: unknown[]; isFresh: boolean }[];
  outside: number[];
  order: { isInPlace: boolean; value: number[] };
  failure: Record<string, unknown>;
  otherThreads: string;
  stats: object;
}

/** Runs semantics.mjs on the backend of `runtime`. */
const observe = (page: Page, runtime: string): Promise<Observations> =>
  within(
    page,
    `const { observe } = await import('/test/browser/semantics.mjs');
     const { createWebBackend } = await import('/dist/runtime/web/backend.js');
     const { encodeModel } = await import('/dist/onnx/model.js');
     return observe(createWebBackend, encodeModel, '${runtime}');`,
  );

function checkSemantics({ storage, outside, order, failure, otherThreads, stats }: Observations): void {
  for (const { sent, got, isFresh } of storage) {
    expect(got).toEqual(sent);
    expect(isFresh).toBe(true);
  }
  // Weights outside the model: (1, 2) + (10, 20) - 0.5.
  expect(outside).toEqual([10.5, 21.5]);
  // From (1, 2): doubled, plus 1, doubled twice, plus 1.
  expect(order).toEqual({ isInPlace: true, value: [13, 21] });
  expect(failure).toEqual({
    wrong: expect.stringMatching(/^Error: reshape: .*Reshape/s),
    after: [1, 2],
    short: 'Error: reshape: feed x has 4 bytes, not 8',
    sync: expect.stringMatching(/^AnnealError: reshape: runSync/),
    profile: expect.stringMatching(/^AnnealError: reshape: .*profile the program in Node/),
    released: 'AnnealError: reshape: run after release',
    invalid: expect.stringMatching(/^Error: nonsense: .*NoSuchOperator/),
    value: [3, 4],
  });
  expect(otherThreads).toMatch(/^AnnealError: .*already computes with 2 threads/);
  expect(stats).toEqual({ executables: 2, liveBytes: 0, runs: 15 });
}

describe.skipIf(isSkipped)('in Chromium', () => {
  let site: Site;
  let browser: Browser;
  let expected: number[];

  beforeAll(async () => {
    if (!existsSync(path.join(root, 'dist/browser.js'))) {
      throw new Error('dist/browser.js is missing: run "npm run build" first ("npm test" does)');
    }
    site = await serve();
    browser = await launch(['--disable-gpu']);
    expected = await train(anneal, 'cpu');
  }, 60_000);

  afterAll(async () => {
    await browser?.close();
    await site?.close();
  });

  // Both sum in float32 (epsilon 6e-8), each in an order of its own; 30 steps add up to some 1e-7 and leave
  // room below 1e-5, while a wrong gradient or update shows in the second digit.
  it.each(['/', '/bundled', '/shared'])('trains as Node does on page %s', async (where) => {
    const page = await open(browser, site, where);
    expect(await page.evaluate('crossOriginIsolated')).toBe(where !== '/shared');
    checkLosses(`cpu on ${where}`, await trainIn(page, 'cpu'), expected, 1e-5);
    expect(await within<string[]>(page, `${library} return anneal.listDevices();`)).toContain('cpu');
    await page.close();
  });

  it('keeps the promises of a backend', async () => {
    const page = await open(browser, site);
    const seen = await observe(page, 'wasm');
    expect(seen.device).toBe('cpu');
    checkSemantics(seen);
    await page.close();
  });

  it('says what is missing', async () => {
    const bare = await open(browser, site, '/bare');
    await expect(trainIn(bare, 'cpu')).rejects.toThrow(
      /device "cpu" needs the package onnxruntime-web.*npm install onnxruntime-web/,
    );
    const shared = await open(browser, site, '/shared');
    const threads = `${library} ${trainer} anneal.configure({ threads: 2 }); return train(anneal, 'cpu');`;
    await expect(within(shared, threads)).rejects.toThrow(/threads: 2 needs a cross-origin isolated page/);
    await bare.close();
    await shared.close();
  });

  it('trains on WebGPU', async (context) => {
    // Without graphics hardware, Chromium's software driver serves as the adapter.
    const gpuBrowser = await launch(['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader']);
    try {
      const page = await open(gpuBrowser, site);
      if (!(await page.evaluate('(async () => !!(await navigator.gpu?.requestAdapter()))()'))) {
        console.warn('WebGPU in the browser is not tested: Chromium offers no adapter on this machine');
        return context.skip('no WebGPU adapter');
      }
      await page.evaluate(countDispatches);
      // Shaders may use faster, coarser exp, erf and tanh than the CPU's.
      checkLosses('webgpu', await trainIn(page, 'webgpu'), expected, 1e-3);
      // Nodes that the provider lacks run on the CPU; a training step must not do so as a whole.
      const dispatches = await page.evaluate('dispatches');
      console.info(`webgpu: ${dispatches} dispatches`);
      expect(dispatches).toBeGreaterThan(30);
      expect(await within(page, `${library} return anneal.listDevices();`)).toEqual(['cpu', 'webgpu']);
      const seen = await observe(await open(gpuBrowser, site), 'webgpu');
      expect(seen.device).toBe('webgpu');
      checkSemantics(seen);
    } finally {
      await gpuBrowser.close();
    }
  });
});
