import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  broadcastAdvantages,
  discountedReturns,
  gae,
  groupAdvantages,
  mixAdvantages,
  outcomeTokenRewards,
  reinforcePlusPlus,
  rlooAdvantages,
  stepAdvantages,
  whiten,
} from '../../src/rl/index.js';

const close = (actual: ArrayLike<number>, expected: readonly number[], digits = 6) => {
  expect(actual.length).toBe(expected.length);
  expected.forEach((value, i) => {
    expect(actual[i], `element ${i}`).toBeCloseTo(value, digits);
  });
};

describe('groupAdvantages', () => {
  // Group 0: 1, 0, 0, 1: mean 1/2, squares 4 · 1/4 = 1; std √(1/3) = 0.577350 (ddof 1) or √(1/4) = 0.5 (ddof 0).
  // Group 1: 2, 5: mean 3.5, squares 2 · 2.25 = 4.5; std √4.5 = 2.121320 (ddof 1) or 1.5 (ddof 0).
  const rewards = [1, 2, 0, 0, 5, 1];
  const groups = [0, 1, 0, 0, 1, 0];

  it('divides by the unbiased deviation of the group', () => {
    // ±0.5 / 0.577350 = ±0.866025; ±1.5 / 2.121320 = ±0.707107
    const a = groupAdvantages(rewards, groups, { epsilon: 0 });
    close(a, [0.8660254, -Math.SQRT1_2, -0.8660254, -0.8660254, Math.SQRT1_2, 0.8660254]);
  });

  it('divides by the biased deviation with ddof 0', () => {
    const a = groupAdvantages(rewards, groups, { epsilon: 0, ddof: 0 });
    close(a, [1, -1, -1, -1, 1, 1]);
  });

  it('adds epsilon to the deviation', () => {
    // 0.5 / (0.5 + 0.5) and 1.5 / (1.5 + 0.5)
    const a = groupAdvantages(rewards, groups, { epsilon: 0.5, ddof: 0 });
    close(a, [0.5, -0.75, -0.5, -0.5, 0.75, 0.5]);
  });

  it('Dr. GRPO: only subtracts the mean', () => {
    close(groupAdvantages(rewards, groups, { scale: 'none' }), [0.5, -1.5, -0.5, -0.5, 1.5, 0.5]);
  });

  it('divides by the deviation of the whole batch', () => {
    // 1, 2, 0, 0, 5, 1: mean 1.5; squares .25 + .25 + 2.25 + 2.25 + 12.25 + .25 = 17.5; std √(17.5 / 5) = 1.870829
    const a = groupAdvantages(rewards, groups, { scale: 'batch', epsilon: 0 });
    close(a, [0.2672612, -0.8017837, -0.2672612, -0.2672612, 0.8017837, 0.2672612]);
  });

  it('leaves null rewards out of the baseline and gives them 0', () => {
    // Of 3, null, 1: mean 2, std √2; ±1 / √2
    close(groupAdvantages([3, null, 1], [7, 7, 7], { epsilon: 0 }), [Math.SQRT1_2, 0, -Math.SQRT1_2]);
    close(groupAdvantages([null, null], [0, 0]), [0, 0]);
  });

  it('a group of one has no baseline', () => {
    close(groupAdvantages([3, 5], [0, 1]), [0, 0]);
    close(groupAdvantages([3, 5], [0, 1], { single: 'reward' }), [3, 5]);
  });

  it('equal rewards give exactly 0, whatever their mean rounds to', () => {
    expect([...groupAdvantages([0.1, 0.1, 0.1], [0, 0, 0])]).toEqual([0, 0, 0]);
  });

  it('needs a group for every reward', () => {
    expect(() => groupAdvantages([1, 2], [0])).toThrow('2 rewards for 1 groups');
  });

  it('has mean 0 in each group, and does not depend on the order of the samples', () => {
    const sample = fc.tuple(fc.double({ min: -5, max: 5, noNaN: true }), fc.integer({ min: 0, max: 3 }));
    fc.assert(
      fc.property(fc.array(sample, { minLength: 2, maxLength: 20 }), (samples) => {
        const [r, g] = [samples.map(([x]) => x), samples.map(([, x]) => x)];
        const a = groupAdvantages(r, g);
        for (const group of new Set(g)) {
          const own = [...a].filter((_, i) => g[i] === group);
          expect(own.reduce((x, y) => x + y, 0)).toBeCloseTo(0, 4);
        }
        const back = groupAdvantages([...r].reverse(), [...g].reverse());
        close(back.reverse(), [...a], 4);
      }),
      { seed: 1 },
    );
  });
});

describe('rlooAdvantages', () => {
  it('subtracts the mean of the others', () => {
    // 1 − (0 + 4)/2 = −1; 0 − (1 + 4)/2 = −2.5; 4 − (1 + 0)/2 = 3.5
    close(rlooAdvantages([1, 0, 4], [0, 0, 0]), [-1, -2.5, 3.5]);
  });

  it('leaves nulls out; one alone has no baseline', () => {
    // 1 − 4 = −3 and 4 − 1 = 3
    close(rlooAdvantages([1, null, 4, 9], [0, 0, 0, 1]), [-3, 0, 3, 0]);
    close(rlooAdvantages([9], [1], { single: 'reward' }), [9]);
  });
});

describe('whiten', () => {
  it('shifts and scales what counts', () => {
    // 1, 3, 5: mean 3, unbiased variance (4 + 0 + 4) / 2 = 4
    const [a, b] = whiten(
      [
        [1, 99],
        [3, 5],
      ],
      [[1, 0], undefined],
      { epsilon: 0 },
    );
    close(a!, [-1, 0]);
    close(b!, [0, 1]);
  });

  it('equal values become 0', () => {
    expect(whiten([[0.1, 0.1, 0.1]])[0]).toEqual(new Float32Array(3));
  });
});

describe('REINFORCE++', () => {
  it('discounts from token to token', () => {
    // G_2 = 4; G_1 = 2 + 0.5 · 4 = 4; G_0 = 1 + 0.5 · 4 = 3
    close(discountedReturns([1, 2, 4], { gamma: 0.5 }), [3, 4, 4]);
  });

  it('does not discount over tokens of an environment', () => {
    // G_3 = 8; tokens 2 and 1 are no steps: 8; G_0 = 0 + 0.5 · 8 = 4
    close(discountedReturns([0, 0, 0, 8], { gamma: 0.5 }, [1, 0, 0, 1]), [4, 8, 8, 8]);
  });

  it('whitens returns over the whole batch', () => {
    // Outcomes 1 and 0 on two and one tokens: returns 1, 1, 0: mean 2/3, variance (1/9 + 1/9 + 4/9) / 2 = 1/3
    const rows = reinforcePlusPlus(outcomeTokenRewards([1, 0], [2, 1]), undefined, { epsilon: 0 });
    // (1/3) / √(1/3) = 0.577350; (−2/3) / √(1/3) = −1.154701
    close(rows[0]!, [0.5773503, 0.5773503]);
    close(rows[1]!, [-1.1547005]);
  });

  it('an empty completion has no reward to place', () => {
    expect(outcomeTokenRewards([1, null, 2], [0, 1, 2])).toEqual([
      new Float32Array(0),
      new Float32Array([0]),
      new Float32Array([0, 2]),
    ]);
  });
});

describe('gae', () => {
  it('follows the recursion', () => {
    // gamma 0.5, lambda 0.5; rewards 1, 0, 2; values 0.5, 1, 1.
    // δ_2 = 2 + 0 − 1 = 1; δ_1 = 0 + 0.5 · 1 − 1 = −0.5; δ_0 = 1 + 0.5 · 1 − 0.5 = 1.
    // A_2 = 1; A_1 = −0.5 + 0.25 · 1 = −0.25; A_0 = 1 + 0.25 · −0.25 = 0.9375.
    const { advantages, returns } = gae([1, 0, 2], [0.5, 1, 1], { gamma: 0.5, lambda: 0.5 });
    close(advantages, [0.9375, -0.25, 1]);
    close(returns, [1.4375, 0.75, 2]);
  });

  it('takes the value after the last token where the episode goes on', () => {
    // δ = 1 + 0.5 · 4 − 2 = 1
    close(gae([1], [2, 4], { gamma: 0.5 }).advantages, [1]);
    expect(() => gae([1], [])).toThrow('0 values for 1 rewards');
  });

  it('with gamma and lambda 1 is the return minus the value', () => {
    const number = fc.double({ min: -3, max: 3, noNaN: true });
    fc.assert(
      fc.property(fc.array(fc.tuple(number, number), { minLength: 1, maxLength: 12 }), (pairs) => {
        const [rewards, values] = [pairs.map(([r]) => r), pairs.map(([, v]) => v)];
        const returns = discountedReturns(rewards);
        close(
          gae(rewards, values).advantages,
          values.map((v, t) => returns[t]! - v),
          4,
        );
      }),
      { seed: 2 },
    );
  });
});

describe('stepAdvantages', () => {
  it('normalises over all steps of the group and cumulates backwards', () => {
    // Group of two: sample 0 has steps +1/2, −1/2 ending at 1 and 3 of 5 tokens; sample 1 has one step +1 ending at 0 of 2.
    // {1/2, −1/2, 1}: mean 1/3, squares 1/36 + 25/36 + 16/36 = 42/36; std √(42/72) = 0.763763.
    // normalised: 0.1666667 / 0.763763 = 0.2182179; −0.8333333 / 0.763763 = −1.0910895; 0.6666667 / 0.763763 = 0.8728716.
    // Sample 0: tokens 0, 1: 0.2182179 − 1.0910895 = −0.8728716; tokens 2, 3: −1.0910895; token 4: 0.
    const [a, b] = stepAdvantages(
      [
        { rewards: [0.5, -0.5], ends: [1, 3] },
        { rewards: [1], ends: [0] },
      ],
      [0, 0],
      [5, 2],
      { epsilon: 0 },
    );
    close(a!, [-0.8728716, -0.8728716, -1.0910895, -1.0910895, 0]);
    close(b!, [0.8728716, 0]);
  });

  it('a set of a single reward stays as it is', () => {
    const [a, none] = stepAdvantages([{ rewards: [-1], ends: [1] }, undefined], [0, 1], [3, 3]);
    close(a!, [-1, -1, 0]);
    expect(none).toBeUndefined();
  });

  it('has the known bias towards fewer steps where all verdicts are "correct"', () => {
    // K = 1: one reward of 1; K = 2: two of 1/2. Mean 2/3, std √((1/9 + 1/36 + 1/36) / 2) = 0.288675.
    // First token: K = 1: (1/3) / 0.288675 = 1.154701; K = 2: 2 · (−1/6) / 0.288675 = −1.154701.
    const [short, long] = stepAdvantages(
      [
        { rewards: [1], ends: [2] },
        { rewards: [0.5, 0.5], ends: [1, 2] },
      ],
      [0, 0],
      [3, 3],
      { epsilon: 0 },
    );
    expect(short![0]).toBeCloseTo(1.1547005, 6);
    expect(long![0]).toBeCloseTo(-1.1547005, 6);
  });

  it.each([
    [{ rewards: [1, 1], ends: [2] }, 'has 2 rewards for 1 steps'],
    [{ rewards: [1], ends: [3] }, 'ends at token 3'],
    [{ rewards: [1, 1], ends: [2, 1] }, 'step 1 of sample 0 ends at token 1'],
  ])('refuses ends outside of the completion or out of order', (steps, message) => {
    expect(() => stepAdvantages([steps], [0], [3])).toThrow(message);
  });
});

describe('mixAdvantages', () => {
  const outcome = broadcastAdvantages([1, -1], [2, 3]);

  it('weighs outcome and steps', () => {
    // 0.75 · 1 + 0.25 · 2 = 1.25; 0.75 · 1 + 0 = 0.75. Sample 1 has no steps: 0.75 · −1.
    const mixed = mixAdvantages(outcome, [Float32Array.of(2, 0), undefined], 0.25);
    close(mixed[0]!, [1.25, 0.75]);
    close(mixed[1]!, [-0.75, -0.75, -0.75]);
  });

  it('takes the outcome unscaled where no completion has steps', () => {
    expect(mixAdvantages(outcome, [undefined, undefined], 0.25)).toEqual(outcome);
  });

  it('refuses steps of another length', () => {
    expect(() => mixAdvantages(outcome, [new Float32Array(3), undefined], 0.5)).toThrow(
      'sample 0 has 2 tokens',
    );
  });
});
