import { describe, expect, it } from 'vitest';
import {
  AnnealError,
  log,
  matmul,
  program,
  randn,
  sgd,
  sum,
  type Variable,
  variable,
  zeros,
} from '../../../src/index.js';
import { floats, named, rejection } from './helpers.js';

describe("check: 'finite'", () => {
  it('names the op that made the first bad value, and changes nothing', async () => {
    const w = named('w', [1, 2]);
    const optimizer = sgd(0.1, { momentum: 0.9 });
    const step = program(
      { x: [2] },
      ({ x }) => {
        const loss = sum(log(x.mul(w)).exp());
        optimizer.minimize(loss, [w]);
        return { loss };
      },
      { check: 'finite' },
    );
    const { loss } = await step({ x: floats(1, 1) });
    expect(Math.abs(loss.item() - 3)).toBeLessThan(1e-6);
    const before = [w, ...optimizer.state().values()].map((v) => v.read());
    expect(before[0]).not.toEqual(floats(1, 2));
    const error = await rejection(step({ x: floats(-1, 1) }));
    expect(error).toBeInstanceOf(AnnealError);
    expect(error.message).toMatch(
      /^non-finite value first made by log float32\[2\] \(at .*test\/core\/program\/report\.test\.ts:\d+:\d+\)$/,
    );
    expect([w, ...optimizer.state().values()].map((v) => v.read())).toEqual(before);
    // A good batch afterwards goes on from there.
    await step({ x: floats(1, 1) });
    expect(w.read()).not.toEqual(before[0]);
  });

  it.each([
    ['input "x"', [Number.NaN, 1], [1, 1]],
    ['input "x"', [1, Number.POSITIVE_INFINITY], [1, 1]],
    ['variable w', [1, 1], [Number.NaN, 1]],
    ['div', [0, 1], [1, 1]],
  ])('names %s', async (what, x, start) => {
    const w = named('w', start);
    const step = program({ x: [2] }, (inputs) => ({ y: w.div(inputs.x) }), { check: 'finite' });
    await expect(step({ x: Float32Array.from(x) })).rejects.toThrow(
      `non-finite value first made by ${what} float32[2]`,
    );
  });

  it('lets large finite values pass, and returns only what the body returns', async () => {
    const step = program({ x: [2] }, ({ x }) => ({ y: x.mul(1) }), { check: 'finite' });
    const result = await step({ x: floats(3e38, -3e38) });
    expect(Object.keys(result)).toEqual(['y']);
    expect(result.y.data).toEqual(floats(3e38, -3e38));
  });
});

describe('text and report', () => {
  it('describe the optimised program', async () => {
    const w = variable(randn([16, 4]), { name: 'w' });
    const b = variable(zeros([4]), { name: 'b' });
    const run = program({ x: [8, 16] }, ({ x }) => {
      const y = matmul(x, w).add(b);
      b.assign(b.add(y.mean(0)));
      return { y };
    });
    const report = await run.compile({ x: new Float32Array(128) });
    expect(run.text()).toMatchInlineSnapshot(`
      "%0: f32[8,4] = gemm(x, w, b) {alpha: 1}
      %1: f32[4] = mean(%0) {axes: [0]}
      %2: f32[4] = add(b, %1)
      y = %0
      b' = %2"
    `);
    expect(run.report()).toBe(report);
    // The product 2·8·4·16, the mean 8·4, the addition 4.
    expect(report.flops).toBe(1024 + 32 + 4);
    expect(report.nodes).toBe(3);
    // gemm reads x, w, b and writes y; mean reads y and writes 4; add reads 2·4 and writes 4.
    expect(report.bytesMoved).toBe(4 * (128 + 64 + 4 + 32 + (32 + 4) + (8 + 4)));
    expect(report.peakBytes).toBe(4 * (32 + 4 + 4));
    expect(report.modelBytes).toBeGreaterThan(100);
    expect(Object.values(report.times).every((ms) => ms >= 0)).toBe(true);
    expect(Object.fromEntries(report.savings.map(({ pass, nodes }) => [pass, nodes]))).toMatchObject({
      gemm: 1,
    });
  });

  it('count multiply-adds of products twice, batches and transposes included', async () => {
    const of = (shape: number[]) => variable(zeros(shape));
    const flops = async (a: Variable, b: Variable, options = {}) =>
      (await program({}, () => ({ y: matmul(a, b, options) })).compile({})).flops;
    expect(await flops(of([40, 30]), of([30, 20]))).toBe(2 * 40 * 30 * 20);
    expect(await flops(of([3, 40, 30]), of([30, 20]))).toBe(3 * 2 * 40 * 30 * 20);
    const turned = { transposeA: true, transposeB: true };
    expect(await flops(of([30, 40]), of([20, 30]), turned)).toBe(2 * 40 * 30 * 20);
  });

  it('profile counts runs like any others', async () => {
    const w = named('w', [0, 0]);
    const run = program({}, () => {
      w.assign(w.add(1));
      return {};
    });
    const times = await run.profile({}, 3);
    expect(times.map(({ op }) => op)).toContain('Add');
    // Three runs and the warm-up.
    expect(w.read()).toEqual(floats(4, 4));
  });
});
