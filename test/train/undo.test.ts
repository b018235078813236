import { describe, expect, it } from 'vitest';
import { adamW, mean, program, Rng, randn, square, variable } from '../../src/index.js';

function setup(microBatches: number, keepPrevious = true) {
  const w = variable(randn([6, 4], { rng: new Rng(1) }), { name: 'w' });
  const optimizer = adamW({ lr: 0.1, clipNorm: 1 });
  const step = program(
    { x: [8, 6] },
    ({ x }) => {
      const loss = mean(square(x.matmul(w)));
      optimizer.minimize(loss, [w]);
      return { loss };
    },
    { microBatches, keepPrevious },
  );
  const state = () => [w, ...optimizer.state().values()].map((v) => [...v.read()]);
  return { step, state };
}
const batch = (n: number) => ({ x: new Rng(2).split(n).normal(48) });

describe.each([1, 4])('undo of a program of %i micro-batches', (parts) => {
  it('gives every variable its value before the last call', async () => {
    const { step, state } = setup(parts);
    await step(batch(0));
    const before = state();
    const { loss } = await step(batch(1));
    const after = state();
    expect(after).not.toEqual(before);
    step.undo();
    expect(state()).toEqual(before);
    // What comes next does not know that anything was taken back.
    expect((await step(batch(1))).loss.item()).toBe(loss.item());
    expect(state()).toEqual(after);
    step.runSync(batch(2));
    step.undo();
    expect(state()).toEqual(after);
  });

  it('takes back what is not finite, sums over micro-batches included', async () => {
    const { step, state } = setup(parts);
    const twin = setup(parts);
    await step(batch(0));
    await twin.step(batch(0));
    const bad = batch(1);
    bad.x[3] = Number.NaN;
    expect((await step(bad)).loss.item()).toBeNaN();
    step.undo();
    await step(batch(2));
    await twin.step(batch(2));
    expect(state()).toEqual(twin.state());
  });

  it('works once per call, and only where it was asked for', async () => {
    const { step, state } = setup(parts);
    expect(() => step.undo()).toThrow('no call to undo');
    await step(batch(0));
    const after = state();
    // A call that is refused leaves nothing to take back, and takes back nothing older.
    await expect(step({ x: new Float32Array(47) })).rejects.toThrow();
    expect(state()).toEqual(after);
    await step(batch(1));
    step.undo();
    expect(() => step.undo()).toThrow('each can be taken back once');
    expect(state()).toEqual(after);
    const plain = setup(parts, false);
    await plain.step(batch(0));
    expect(() => plain.step.undo()).toThrow('undo needs the option keepPrevious: true');
    const running = step(batch(2));
    expect(() => step.undo()).toThrow('undo while a program runs');
    await running;
  });
});
