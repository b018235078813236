import { expect, it } from 'vitest';
import { program, sgd, sum, variable, zeros } from '../../src/index.js';
import { adjustableRate } from '../../src/rl/index.js';

it('a rate that the host sets acts from the next update on', async () => {
  const rate = adjustableRate(0.5);
  const w = variable(zeros([2]), { name: 'w' });
  const optimizer = sgd(rate.schedule);
  const step = program({}, () => ({ rate: optimizer.minimize(sum(w), [w]).rate }));
  expect((await step({})).rate.item()).toBe(0.5);
  rate.set(0.25);
  expect((await step({})).rate.item()).toBe(0.25);
  expect([...w.data]).toEqual([-0.75, -0.75]);
  expect(() => rate.set(-1)).toThrow('the learning rate is -1');
});
