import { describe, expect, it } from 'vitest';
import {
  adamW,
  add,
  crossEntropy,
  gather,
  int32,
  matmul,
  mul,
  type Optimizer,
  program,
  Rng,
  randn,
  sgd,
  sum,
  variable,
} from '../../../src/index.js';
import { floats, named, ramp } from './helpers.js';

describe('micro-batches', () => {
  const x = new Rng(1).normal(12 * 4);
  const y = Int32Array.from({ length: 12 }, (_, i) => (i * 7) % 3);

  async function train(make: () => Optimizer, microBatches: number) {
    const rng = new Rng(2);
    const w = variable(randn([4, 8], { rng }), { name: 'w' });
    const bias = variable(randn([8], { rng }), { name: 'bias' });
    const head = variable(randn([8, 3], { rng }), { name: 'head' });
    const optimizer = make();
    const step = program(
      { x: [null, 4], y: int32([null]) },
      (inputs) => {
        const h = add(matmul(inputs.x, w), bias).tanh();
        const loss = crossEntropy(matmul(h, head), inputs.y);
        const { gradNorm, rate } = optimizer.minimize(loss, [w, bias, head]);
        return { loss, gradNorm, rate };
      },
      { microBatches },
    );
    const losses: number[] = [];
    for (let i = 0; i < 4; i++) {
      const { loss, gradNorm, rate } = await step({ x, y });
      losses.push(loss.item(), gradNorm.item(), rate.item());
    }
    const text = step.text();
    step.dispose();
    return { losses, weights: [w, bias, head].flatMap((v) => [...v.read()]), text };
  }

  it.each<[string, number, () => Optimizer]>([
    ['SGD', 1e-6, () => sgd(0.5)],
    // Adam divides by the size of the gradient, so that it enlarges the rounding of small ones; a larger
    // epsilon bounds that, and the weights of size 1 still differ by some units of the last place.
    ['AdamW with clipped gradients', 4e-6, () => adamW({ lr: 0.05, clipNorm: 0.3, epsilon: 1e-4 })],
  ])('of any number give the same losses and weights with %s', async (_, bound, make) => {
    const whole = await train(make, 1);
    expect(whole.losses[9]).toBeLessThan(whole.losses[0]!);
    for (const parts of [2, 3, 6]) {
      const { losses, weights } = await train(make, parts);
      losses.forEach((v, i) => {
        expect(Math.abs(v - whole.losses[i]!), `${parts} parts, result ${i}`).toBeLessThan(bound);
      });
      weights.forEach((v, i) => {
        expect(Math.abs(v - whole.weights[i]!), `${parts} parts, weight ${i}`).toBeLessThan(bound);
      });
    }
  });

  it('leave nothing behind when one of them fails', async () => {
    const results = [];
    for (const sync of [undefined, false, true]) {
      const w = named('w', [1, 2, 3, 4]);
      const step = program(
        { index: int32([4]) },
        ({ index }) => {
          const loss = sum(gather(w, index));
          sgd(0.5).minimize(loss, [w]);
          return { loss };
        },
        { microBatches: 2 },
      );
      const good = { index: Int32Array.of(0, 1, 2, 2) };
      await step.compile(good);
      // The second half names a row that does not exist: the first half has been added by then.
      const bad = { index: Int32Array.of(0, 1, 2, 99) };
      if (sync === true) expect(() => step.runSync(bad)).toThrow(/index|indices/i);
      if (sync === false) await expect(step(bad)).rejects.toThrow(/index|indices/i);
      const { loss } = await step(good);
      results.push([loss.item(), ...w.read()]);
      step.dispose();
    }
    // Mean of 1+2 and 3+3; gradients 1/2, 1/2, 1 and 0, times the rate.
    expect(results).toEqual(Array(3).fill([4.5, 0.75, 1.75, 2.5, 4]));
  });

  it('appear as two graphs', async () => {
    const w = named('w', [1, 1]);
    const step = program(
      { x: [4, 2] },
      (inputs) => {
        const loss = sum(mul(inputs.x, w));
        const { rate } = sgd(0.5).minimize(loss, [w]);
        return { loss, rate };
      },
      { microBatches: 2 },
    );
    const { loss, rate } = await step({ x: ramp(8) });
    // Sums of the parts are 10 and 26; gradients [4, 6] and [12, 14].
    expect([loss.item(), rate.item(), w.read()]).toEqual([18, 0.5, floats(1 - 4, 1 - 5)]);
    expect(step.text()).toMatchInlineSnapshot(`
      "# each micro-batch
      %0: f32[2,2] = mul(x, w)
      %1: f32[] = sum(%0) {axes: [0,1]}
      %2: f32[] = add(sum0, %1)
      %3: f32[1,2] = sum(x) {axes: [0], keepDims: true}
      %4: f32[2] = reshape(%3) {shape: [2]}
      %5: f32[2] = add(sum1, %4)
      sum0' = %2
      sum1' = %5

      # update
      %0: f32[] = mul(sum0, 0.5)
      %1: f32[2] = mul(sum1, 0.25)
      %2: f32[2] = sub(w, %1)
      %3: f32[2] = broadcastTo(0) {shape: [2]}
      %4: f32[] = add(sgd.step, 1)
      loss = %0
      rate = 0.5
      sum0' = 0
      w' = %2
      sum1' = %3
      sgd.step' = %4"
    `);
  });

  it('refuse what does not divide, and results of single parts', async () => {
    const w = named('w', [1, 2]);
    const step = program({ x: [null, 2] }, ({ x }) => ({ y: sum(x) }), { name: 'step', microBatches: 4 });
    await expect(step.compile({ x: ramp(6) })).rejects.toThrow(
      'step: input "x" [3,2] does not divide into 4 micro-batches',
    );
    const rowsOut = program({ x: [4, 2] }, ({ x }) => ({ y: x.mul(2) }), { microBatches: 2 });
    await expect(rowsOut.compile({ x: ramp(8) })).rejects.toThrow(
      'output "y" float32[2,2] belongs to a single micro-batch; return a scalar, or run without microBatches',
    );
    const assigns = program(
      { x: [4, 2] },
      ({ x }) => {
        w.assign(x.sum(0));
        return {};
      },
      { microBatches: 2 },
    );
    await expect(assigns.compile({ x: ramp(8) })).rejects.toThrow(
      /^w is assigned a value of a single micro-batch; pass it through accumulate\(\) \(at .*micro-batches\.test\.ts/,
    );
    expect(() => program({}, () => ({}), { microBatches: 0 })).toThrow(
      'microBatches must be a positive integer, not 0',
    );
  });
});
