import { describe, expect, it } from 'vitest';
import {
  adamW,
  constantRate,
  groups,
  type Optimizer,
  program,
  rateAt,
  scaled,
  sgd,
  sum,
  type Tensor,
  tensor,
  type Variable,
  variable,
  warmup,
} from '../../src/index.js';

const start = { a: [1, -2], b: [0.5, 3], c: [-1, 0.25] };
const make = () =>
  Object.entries(start).map(([name, values]) =>
    variable(tensor(Float32Array.from(values), [2]), { name }),
  ) as [Variable, Variable, Variable];

/** A step whose gradients are its inputs. */
function stepOf(optimizer: Optimizer, parameters: readonly Variable[]) {
  const types = Object.fromEntries(parameters.map((p) => [p.name, [2]]));
  return program(types, (g) => {
    const loss = parameters.map((p) => sum(g[p.name]!.mul(p))).reduce((x, y) => x.add(y));
    const { rate, rates, gradNorm } = optimizer.minimize(loss, parameters);
    return { rate, gradNorm, ...rates } as Record<string, Tensor>;
  });
}

const gradients = [
  { a: [3, 0], b: [0, 4], c: [0, 0] },
  { a: [0.1, 0.2], b: [-0.3, 0.1], c: [0.5, -0.2] },
].map((one) => Object.fromEntries(Object.entries(one).map(([name, g]) => [name, Float32Array.from(g)])));

describe('groups', () => {
  it('update each parameter as the optimiser of its group alone would', async () => {
    const together = make();
    const combined = groups([
      { name: 'slow', match: /^a$/, optimizer: sgd(0.01, { momentum: 0.9 }) },
      { name: 'second', match: (p) => p.name === 'b', optimizer: adamW({ lr: 0.1, weightDecay: 0 }) },
      { name: 'rest', optimizer: adamW({ lr: 0.02 }) },
    ]);
    const alone = make();
    const steps = [sgd(0.01, { momentum: 0.9 }), adamW({ lr: 0.1, weightDecay: 0 }), adamW({ lr: 0.02 })].map(
      (optimizer, i) => stepOf(optimizer, [alone[i]!]),
    );
    const step = stepOf(combined, together);
    for (const feeds of gradients) {
      const values = await step(feeds);
      expect(values.slow!.item()).toBeCloseTo(0.01, 7);
      expect(values.rest!.item()).toBeCloseTo(0.02, 7);
      expect(values.rate!.item()).toBe(values.slow!.item());
      for (const [i, p] of alone.entries()) await steps[i]!({ [p.name]: feeds[p.name]! });
    }
    expect(together.map((p) => [...p.data])).toEqual(alone.map((p) => [...p.data]));
  });

  it('are clipped together', async () => {
    const parameters = make();
    const step = stepOf(
      groups(
        [
          { name: 'a', match: /a/, optimizer: sgd(1) },
          { name: 'others', optimizer: sgd(0.5) },
        ],
        { clipNorm: 1 },
      ),
      parameters,
    );
    // The gradient is (3, 0, 0, 4, 0, 0): its length is 5, so it shrinks to a fifth.
    const { gradNorm, rate } = await step(gradients[0]!);
    expect(gradNorm!.item()).toBeCloseTo(5, 6);
    // Of the group with more elements.
    expect(rate!.item()).toBe(0.5);
    const values = parameters.flatMap((p) => [...p.data]);
    [0.4, -2, 0.5, 2.6, -1, 0.25].forEach((expected, i) => {
      expect(values[i]).toBeCloseTo(expected, 5);
    });
  });

  it('name their state after parameters, and counters after the group', async () => {
    const parameters = make();
    const combined = groups([
      { name: 'first', match: /a/, optimizer: adamW({ lr: 1 }) },
      { name: 'second', optimizer: adamW({ lr: 1 }) },
    ]);
    await stepOf(combined, parameters).compile(gradients[0]!);
    expect([...combined.state().keys()].sort()).toEqual([
      'a.adamw.m',
      'a.adamw.v',
      'b.adamw.m',
      'b.adamw.v',
      'c.adamw.m',
      'c.adamw.v',
      'first.adamw.step',
      'second.adamw.step',
    ]);
  });

  it('refuse what cannot be meant', async () => {
    const one = sgd(1);
    expect(() => groups([])).toThrow('at least one group');
    expect(() =>
      groups([
        { name: 'x', optimizer: one },
        { name: 'x', optimizer: sgd(1) },
      ]),
    ).toThrow('two groups are named "x"');
    expect(() =>
      groups([
        { name: 'x', match: /a/, optimizer: one },
        { name: 'y', optimizer: one },
      ]),
    ).toThrow('"y" shares its optimiser');
    const trace = (list: Parameters<typeof groups>[0]) => stepOf(groups(list), make()).compile(gradients[0]!);
    await expect(trace([{ name: 'x', match: /a|b/, optimizer: one }])).rejects.toThrow(
      'no group takes the parameter "c"',
    );
    await expect(
      trace([
        { name: 'all', optimizer: sgd(1) },
        { name: 'none', match: /z/, optimizer: sgd(1) },
      ]),
    ).rejects.toThrow('no parameter is left for the group "none"');
  });
});

describe('scaled', () => {
  it('multiplies a schedule', () => {
    const schedule = scaled(warmup(4, constantRate(0.8)), 0.25);
    expect([0, 1, 3, 9].map((step) => Number(rateAt(schedule, step).toFixed(6)))).toEqual([
      0.05, 0.1, 0.2, 0.2,
    ]);
    expect(() => scaled(schedule, Number.NaN)).toThrow('factor must be a number');
  });
});
