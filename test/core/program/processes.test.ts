import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { program, runtimeStats, tensor } from '../../../src/index.js';

const dist = fileURLToPath(new URL('../../../dist/index.js', import.meta.url));
const hasBuild = existsSync(dist);
if (!hasBuild) console.log(`skipped: tests in a child process need ${dist}; run npm run build`);

/** Runs a module against the built library in a fresh process; what it prints, as JSON. */
async function child(source: string): Promise<unknown> {
  const code = `import * as anneal from ${JSON.stringify(dist)};\n${source}`;
  const flags = ['--expose-gc', '--input-type=module', '-e', code];
  const { stdout } = await promisify(execFile)(process.execPath, flags, { maxBuffer: 2 ** 24 });
  return JSON.parse(stdout);
}

/** Trains a small network and returns every loss and the final weights, bit for bit. */
async function trainSeeded(anneal: typeof import('../../../src/index.js')): Promise<string[]> {
  const { adamW, crossEntropy, int32, layerNorm, ones, program, Rng, randn, seed, softmax, variable, zeros } =
    anneal;
  seed(42);
  const w = variable(randn([16, 32]), { name: 'w' });
  const v = variable(randn([32, 10], { std: 0.3 }), { name: 'v' });
  const [gain, bias] = [variable(ones([32]), { name: 'gain' }), variable(zeros([32]), { name: 'bias' })];
  const optimizer = adamW({ lr: 0.01, clipNorm: 1 });
  const step = program({ x: [64, 16], y: int32([64]) }, ({ x, y }) => {
    const h = layerNorm(x.matmul(w), gain, bias).tanh();
    const loss = crossEntropy(h.mul(softmax(h)).matmul(v), y);
    optimizer.minimize(loss, [w, v, gain, bias]);
    return { loss };
  });
  const rng = new Rng(7);
  const results: string[] = [];
  const bits = (data: ArrayBufferView) =>
    Array.from(new Uint32Array(data.buffer, data.byteOffset, data.byteLength / 4), (u) =>
      u.toString(16),
    ).join('');
  for (let i = 0; i < 20; i++) {
    const y = Int32Array.from({ length: 64 }, (_, k) => (k + i) % 10);
    results.push(bits((await step({ x: rng.normal(64 * 16), y })).loss.data));
  }
  results.push(...[w, v, gain, bias].map((p) => bits(p.read())));
  step.dispose();
  return results;
}

describe('a seed', () => {
  it('determines every bit, twice in one process', async () => {
    const anneal = await import('../../../src/index.js');
    const first = await trainSeeded(anneal);
    expect(await trainSeeded(anneal)).toEqual(first);
    expect(new Set(first).size).toBeGreaterThan(20);
  });

  it.skipIf(!hasBuild)('determines every bit in a fresh process', async () => {
    const source = `${trainSeeded.toString()}\nconsole.log(JSON.stringify(await trainSeeded(anneal)));`;
    const [here, there] = await Promise.all([
      trainSeeded(await import('../../../src/index.js')),
      child(source),
    ]);
    expect(there).toEqual(here);
  });
});

describe('a thousand programs', () => {
  it('leave nothing behind when disposed of', async () => {
    await tensor([1]).value();
    const before = runtimeStats().cpu!;
    for (let i = 0; i < 300; i++) {
      const run = program({ x: [1] }, ({ x }) => ({ y: x.add(i) }));
      expect((await run({ x: 1 })).y.item()).toBe(i + 1);
      run.dispose();
    }
    // Programs of earlier tests may be collected meanwhile, so that there are even fewer than before.
    expect(runtimeStats().cpu!.executables).toBeLessThanOrEqual(before.executables);
  });

  it.skipIf(!hasBuild)('are collected when dropped', { timeout: 60_000 }, async () => {
    // Each holds 64 KB of constants and a variable of its own: a leak of all would be 128 MB.
    const result = (await child(`
      const { program, randn, variable, runtimeStats } = anneal;
      const collect = async () => { gc(); await new Promise((done) => setImmediate(done)); };
      let start = 0;
      let most = 0;
      const constant = randn([128, 128]);
      for (let i = 0; i < 1000; i++) {
        const w = variable(constant);
        const run = program({ x: [1] }, ({ x }) => { const y = constant.add(x); w.assign(w.add(y)); return { s: y.sum() }; });
        await run({ x: 1 });
        if (i % 25 === 0) await collect();
        most = Math.max(most, runtimeStats().cpu.executables);
        if (i === 200) start = process.memoryUsage().rss;
      }
      for (let i = 0; i < 20 && runtimeStats().cpu.executables > 0; i++) await collect();
      console.log(JSON.stringify({
        grown: process.memoryUsage().rss - start, most, left: runtimeStats().cpu.executables,
      }));
    `)) as { grown: number; most: number; left: number };
    expect(result.left).toBeLessThanOrEqual(1);
    expect(result.most).toBeLessThan(120);
    expect(result.grown).toBeLessThan(50 * 2 ** 20);
  });
});
