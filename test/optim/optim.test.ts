import { describe, expect, it } from 'vitest';
import {
  adamW,
  clipByGlobalNorm,
  constantRate,
  cosine,
  globalNorm,
  interpret,
  linear,
  type Optimizer,
  program,
  rateAt,
  type Schedule,
  sgd,
  sum,
  type Tensor,
  tensor,
  type Variable,
  variable,
  warmup,
  warmupStableDecay,
} from '../../src/index.js';

function expectClose(got: ArrayLike<number>, want: readonly number[], tolerance = 1e-6): void {
  expect(got.length).toBe(want.length);
  want.forEach((value, i) => {
    expect(Math.abs(got[i]! - value), `[${i}]: ${got[i]} against ${value}`).toBeLessThanOrEqual(tolerance);
  });
}

/** A step whose gradient is its input `g`. */
const stepOf = (optimizer: Optimizer, parameter: Variable) =>
  program({ g: parameter.shape }, ({ g }) => {
    const { rate, gradNorm } = optimizer.minimize(sum(g.mul(parameter)), [parameter]);
    return { rate, gradNorm };
  });

const start = [1, -2, 0.5];
const gradients = [
  [0.1, 0.2, -0.3],
  [0.5, -0.4, 0.2],
  [-0.2, 0.1, 0.7],
];

/** Runs the three gradients through an optimiser and through plain arithmetic on each element. */
async function compare(
  optimizer: Optimizer,
  shape: number[],
  one: () => (w: number, g: number) => number,
): Promise<void> {
  const w = variable(tensor(Float32Array.from(start), shape), { name: 'w' });
  const step = stepOf(optimizer, w);
  const models = start.map(() => one());
  let want = start;
  for (const g of gradients) {
    await step({ g: Float32Array.from(g) });
    want = want.map((value, i) => models[i]!(value, g[i]!));
    expectClose(w.read(), want);
  }
  expect(
    optimizer
      .state()
      .get([...optimizer.state().keys()].find((k) => k.endsWith('.step'))!)!
      .read(),
  ).toEqual(Float32Array.of(3));
  step.dispose();
}

describe('sgd', () => {
  it('subtracts lr · g', () => compare(sgd(0.1), [3], () => (w, g) => w - 0.1 * g));

  it('keeps momentum', () =>
    compare(sgd(0.1, { momentum: 0.9 }), [3], () => {
      let v = 0;
      return (w, g) => {
        v = 0.9 * v + g;
        return w - 0.1 * v;
      };
    }));

  it('looks ahead with nesterov', () =>
    compare(sgd(0.1, { momentum: 0.9, nesterov: true }), [3], () => {
      let v = 0;
      return (w, g) => {
        v = 0.9 * v + g;
        return w - 0.1 * (g + 0.9 * v);
      };
    }));

  it('adds weight decay to the gradient, before the momentum', () =>
    compare(sgd(0.1, { momentum: 0.5, weightDecay: 0.01 }), [3], () => {
      let v = 0;
      return (w, g) => {
        v = 0.5 * v + g + 0.01 * w;
        return w - 0.1 * v;
      };
    }));

  it('keeps a velocity per parameter only with momentum', async () => {
    const w = variable(tensor(start), { name: 'layer.w' });
    const [plain, heavy] = [sgd(0.1), sgd(0.1, { momentum: 0.9 })];
    for (const optimizer of [plain, heavy]) await stepOf(optimizer, w)({ g: new Float32Array(3) });
    expect([...plain.state().keys()]).toEqual(['sgd.step']);
    expect([...heavy.state().keys()].sort()).toEqual(['layer.w.sgd.velocity', 'sgd.step']);
    expect(heavy.state().get('layer.w.sgd.velocity')!.trainable).toBe(false);
  });

  it.each([-0.1, 1, Number.NaN])('refuses momentum %f', (momentum) => {
    expect(() => sgd(0.1, { momentum })).toThrow(`sgd: momentum must be in [0, 1), not ${momentum}`);
  });
});

describe('adamW', () => {
  const lr = 0.1;
  const adam = (decay: number, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8) => {
    return () => {
      let [m, v, t] = [0, 0, 0];
      return (w: number, g: number) => {
        t++;
        m = beta1 * m + (1 - beta1) * g;
        v = beta2 * v + (1 - beta2) * g * g;
        const mHat = m / (1 - beta1 ** t);
        const vHat = v / (1 - beta2 ** t);
        return w - lr * decay * w - (lr * mHat) / (Math.sqrt(vHat) + epsilon);
      };
    };
  };

  it('does not decay vectors by default', () => compare(adamW({ lr }), [3], adam(0)));
  it('decays matrices by default', () => compare(adamW({ lr }), [3, 1], adam(0.01)));
  it('decays by its own coefficient', () => compare(adamW({ lr, weightDecay: 0.3 }), [1, 3], adam(0.3)));
  it('decays what it is told to', () =>
    compare(adamW({ lr, weightDecay: 0.3, decays: ({ name }) => name === 'w' }), [3], adam(0.3)));
  it('takes other betas and epsilon', () =>
    compare(adamW({ lr, beta1: 0.5, beta2: 0.9, epsilon: 0.1 }), [3], adam(0, 0.5, 0.9, 0.1)));

  it('moves every element by the rate at the first step, whatever the gradient', async () => {
    const w = variable(tensor([0, 0, 0]), { name: 'w' });
    await stepOf(adamW({ lr: 0.25 }), w)({ g: Float32Array.of(1e-3, -7, 2) });
    expectClose(w.read(), [-0.25, 0.25, -0.25], 1e-5);
  });

  it('names its state after the parameter', async () => {
    const w = variable(tensor(start), { name: 'w' });
    const optimizer = adamW({ lr });
    await stepOf(optimizer, w)({ g: Float32Array.of(1, 2, 4) });
    expect([...optimizer.state().keys()].sort()).toEqual(['adamw.step', 'w.adamw.m', 'w.adamw.v']);
    expectClose(optimizer.state().get('w.adamw.m')!.read(), [0.1, 0.2, 0.4]);
    expectClose(optimizer.state().get('w.adamw.v')!.read(), [0.001, 0.004, 0.016]);
    for (const [name, v] of optimizer.state()) expect([v.name, v.trainable]).toEqual([name, false]);
  });

  it('shares its state between programs', async () => {
    const [a, b] = [start, start].map((values) => variable(tensor(values), { name: 'w' }));
    const [shared, single] = [adamW({ lr }), adamW({ lr })];
    const first = stepOf(shared, a!);
    const second = stepOf(shared, a!);
    const only = stepOf(single, b!);
    for (const [i, g] of gradients.entries()) {
      await (i % 2 ? first : second)({ g: Float32Array.from(g) });
      await only({ g: Float32Array.from(g) });
    }
    expect(a!.read()).toEqual(b!.read());
  });

  it.each([-0.1, 1])('refuses beta %f', (beta) => {
    expect(() => adamW({ lr, beta1: beta })).toThrow(`adamW: beta1 must be in [0, 1), not ${beta}`);
    expect(() => adamW({ lr, beta2: beta })).toThrow(`adamW: beta2 must be in [0, 1), not ${beta}`);
  });
});

describe('every optimiser', () => {
  const optimisers: [string, () => Optimizer][] = [
    ['sgd', () => sgd(0.1, { momentum: 0.5 })],
    ['adamw', () => adamW({ lr: 0.1 })],
  ];

  it.each(optimisers)('%s refuses two parameters with one name', async (name, make) => {
    const [a, b] = [1, 2].map((v) => variable(tensor([v]), { name: 'w' }));
    const step = program({}, () => {
      make().minimize(sum(a!.mul(b!)), [a!, b!]);
      return {};
    });
    await expect(step({})).rejects.toThrow(
      `${name}: two parameters are named "w"; give each variable its own name`,
    );
  });

  it.each(optimisers)('%s refuses an unequal number of gradients', async (name, make) => {
    const a = variable(tensor([1]), { name: 'a' });
    const step = program({}, () => {
      make().apply([], [a]);
      return {};
    });
    await expect(step({})).rejects.toThrow(`${name}: 0 gradients for 1 parameters`);
  });

  it('scales gradients down together', async () => {
    const a = variable(tensor([1, 1]), { name: 'a' });
    const b = variable(tensor([1]), { name: 'b' });
    const step = program({ ga: [2], gb: [1] }, ({ ga, gb }) => {
      const { gradNorm } = sgd(1, { clipNorm: 6.5 }).minimize(sum(ga.mul(a)).add(sum(gb.mul(b))), [a, b]);
      return { gradNorm };
    });
    // ‖(3, 4, 12)‖ = 13: halved. ‖(0.3, 0.4, 1.2)‖ = 1.3: left alone.
    const large = await step({ ga: Float32Array.of(3, 4), gb: Float32Array.of(12) });
    expect(large.gradNorm.item()).toBe(13);
    expectClose(a.read(), [1 - 1.5, 1 - 2]);
    expectClose(b.read(), [1 - 6]);
    const low = await step({ ga: Float32Array.of(0.3, 0.4), gb: Float32Array.of(1.2) });
    expectClose(low.gradNorm.data, [1.3]);
    expectClose(a.read(), [-0.8, -1.4]);
    expectClose(b.read(), [-6.2]);
  });
});

describe('clipByGlobalNorm', () => {
  const numbers = (t: Tensor) => interpret([t])[0]!.data;

  it('limits the length of all tensors as one vector', () => {
    const tensors = [tensor([3, 4]), tensor([[12]])];
    const { clipped, norm } = clipByGlobalNorm(tensors, 1);
    expect(numbers(norm)).toEqual(Float64Array.of(13));
    expect(numbers(globalNorm(tensors))).toEqual(Float64Array.of(13));
    expectClose(numbers(clipped[0]!), [3 / 13, 4 / 13]);
    expectClose(numbers(clipped[1]!), [12 / 13]);
    expect(clipped[1]!.shape).toEqual([1, 1]);
  });

  it('leaves shorter gradients as they are, zeros too', () => {
    expect(numbers(clipByGlobalNorm([tensor([3, 4])], 5.01).clipped[0]!)).toEqual(Float64Array.of(3, 4));
    expect(numbers(clipByGlobalNorm([tensor([0, 0])], 1).clipped[0]!)).toEqual(Float64Array.of(0, 0));
  });

  it('refuses limits that are not positive, and nothing to clip', () => {
    expect(() => clipByGlobalNorm([tensor([1])], 0)).toThrow('the limit must be positive, not 0');
    expect(() => clipByGlobalNorm([], 1)).toThrow('globalNorm: needs at least one tensor');
  });
});

describe('schedules', () => {
  /** Rates by step. */
  const cases: [string, Schedule, Record<number, number>][] = [
    ['constantRate', constantRate(0.3), { 0: 0.3, 7: 0.3, 1e6: 0.3 }],
    ['linear', linear(1, 0.2, 8), { 0: 1, 2: 0.8, 4: 0.6, 8: 0.2, 9: 0.2, 1000: 0.2 }],
    ['linear upwards', linear(0, 1, 10), { 0: 0, 3: 0.3, 10: 1, 20: 1 }],
    ['linear over no steps', linear(1, 0.5, 0), { 0: 1, 1: 0.5, 2: 0.5 }],
    [
      'cosine',
      cosine(1, 100, 0.1),
      {
        0: 1,
        25: 0.1 + 0.45 * (1 + Math.cos(Math.PI / 4)),
        50: 0.55,
        99: 0.1 + 0.45 * (1 + Math.cos(0.99 * Math.PI)),
        100: 0.1,
        101: 0.1,
        500: 0.1,
      },
    ],
    ['cosine to zero', cosine(2, 10), { 0: 2, 5: 1, 10: 0, 11: 0 }],
    [
      'warmupStableDecay',
      warmupStableDecay(0.5, 10, 5, 0.1),
      { 0: 0.5, 9: 0.5, 10: 0.5, 11: 0.42, 14: 0.18, 15: 0.1, 100: 0.1 },
    ],
    ['warmup', warmup(4, constantRate(1)), { 0: 0.25, 1: 0.5, 2: 0.75, 3: 1, 4: 1, 100: 1 }],
    ['warmup of nothing', warmup(0, constantRate(0.7)), { 0: 0.7, 5: 0.7 }],
    // The cosine counts from the first update.
    [
      'warmup of cosine',
      warmup(2, cosine(1, 10)),
      { 0: 0.5, 1: (1 + Math.cos(0.1 * Math.PI)) / 2, 5: 0.5, 10: 0 },
    ],
  ];

  it.each(cases)('%s', (_, schedule, rates) => {
    for (const [step, rate] of Object.entries(rates)) {
      expect(Math.abs(rateAt(schedule, Number(step)) - rate), `at ${step}`).toBeLessThan(2e-7);
    }
  });

  it.each([
    ['linear', () => linear(1, 0, -1), 'linear: steps must be a number ≥ 0, not -1'],
    ['cosine', () => cosine(1, Number.NaN), 'cosine: steps must be a number ≥ 0, not NaN'],
    ['warmup', () => warmup(-2, constantRate(1)), 'warmup: steps must be a number ≥ 0, not -2'],
    ['warmupStableDecay', () => warmupStableDecay(1, -1, 2), 'stable must be a number ≥ 0, not -1'],
  ])('%s refuses bad numbers of steps', (_, make, message) => expect(make).toThrow(message));

  it('drive the rate inside a program', async () => {
    const schedule = warmup(3, cosine(0.5, 6, 0.05));
    const w = variable(tensor([1]), { name: 'w' });
    const step = stepOf(sgd(schedule), w);
    let want = 1;
    for (let i = 0; i < 9; i++) {
      const { rate, gradNorm } = await step({ g: Float32Array.of(0.25) });
      expect(Math.abs(rate.item() - rateAt(schedule, i)), `update ${i}`).toBeLessThan(1e-6);
      expect(gradNorm.item()).toBe(0.25);
      want -= rateAt(schedule, i) * 0.25;
      expectClose(w.read(), [want]);
    }
  });

  it('may be written by hand', async () => {
    const w = variable(tensor([0]), { name: 'w' });
    const step = stepOf(adamW({ lr: (n) => n.add(1).pow(-0.5) }), w);
    const rates: number[] = [];
    for (let i = 0; i < 4; i++) rates.push((await step({ g: Float32Array.of(1) })).rate.item());
    expectClose(rates, [1, 1 / Math.sqrt(2), 1 / Math.sqrt(3), 0.5]);
  });
});
