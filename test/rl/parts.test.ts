import { describe, expect, it } from 'vitest';
import {
  alphaSchedule,
  applyOverlong,
  atK,
  binaryMetrics,
  ClassWeights,
  klPenaltyInReward,
  majorityAtK,
  majorityCorrect,
  processBenchF1,
  softOverlongPenalty,
  tokenWeights,
  zeroVarianceGroups,
} from '../../src/rl/index.js';

describe('alphaSchedule', () => {
  it('exponential: halves the logarithm at half the way', () => {
    // 0.1 → 0.001 over 200 updates: √(0.1 · 0.001) = 0.01 at 100
    const alpha = alphaSchedule({ kind: 'exponential', start: 0.1, end: 0.001, updates: 200 });
    expect(alpha(0)).toBe(0.1);
    expect(alpha(100)).toBeCloseTo(0.01, 12);
    expect(alpha(200)).toBe(0.001);
    expect(alpha(1000)).toBe(0.001);
  });

  it('linear and cosine', () => {
    const linear = alphaSchedule({ kind: 'linear', start: 1, end: 0, updates: 4 });
    expect([0, 1, 2, 3, 4, 5].map(linear)).toEqual([1, 0.75, 0.5, 0.25, 0, 0]);
    // ½ (1 + cos(π/3)) = 0.75 at a third of the way
    const cosine = alphaSchedule({ kind: 'cosine', start: 1, end: 0, updates: 3 });
    expect(cosine(0)).toBe(1);
    expect(cosine(1)).toBeCloseTo(0.75, 12);
    expect(cosine(2)).toBeCloseTo(0.25, 12);
    expect(cosine(3)).toBe(0);
    expect(alphaSchedule({ kind: 'constant', start: 0.5 })(17)).toBe(0.5);
  });

  it('refuses what has no value', () => {
    expect(() => alphaSchedule({ kind: 'exponential', start: 0.5, end: 0, updates: 3 })).toThrow('above 0');
    expect(() => alphaSchedule({ kind: 'linear', start: 0.5, end: 0 })).toThrow('updates is undefined');
    expect(() => alphaSchedule({ kind: 'linear', start: 0.5, updates: 2 })).toThrow('to undefined');
  });
});

describe('tokenWeights', () => {
  // Sequences of 1, 3 and 0 tokens that count, in groups 0, 1, 1.
  const masks = [
    [1, 0],
    [1, 1, 1],
    [0, 0],
  ];
  const rows = (options: Parameters<typeof tokenWeights>[1]) =>
    tokenWeights(masks, options).map((row) => [...row].map((w) => Number(w.toFixed(6))));

  it.each([
    // 1/4 each
    [
      'token-mean',
      [
        [0.25, 0],
        [0.25, 0.25, 0.25],
        [0, 0],
      ],
    ],
    // Two groups with tokens: 1/(2 · 1), 1/(2 · 3)
    [
      'group-mean-token-mean',
      [
        [0.5, 0],
        [0.166667, 0.166667, 0.166667],
        [0, 0],
      ],
    ],
    // Two sequences with tokens: 1/(2 · 1), 1/(2 · 3)
    [
      'sequence-mean-token-mean',
      [
        [0.5, 0],
        [0.166667, 0.166667, 0.166667],
        [0, 0],
      ],
    ],
    [
      'sequence-mean-token-sum',
      [
        [0.5, 0],
        [0.5, 0.5, 0.5],
        [0, 0],
      ],
    ],
    // Three sequences, constant 10
    [
      'constant',
      [
        [0.033333, 0],
        [0.033333, 0.033333, 0.033333],
        [0, 0],
      ],
    ],
  ] as const)('%s', (aggregation, expected) => {
    expect(rows({ aggregation, constant: 10, groups: [0, 1, 1] })).toEqual(expected);
  });

  it('groups differ from sequences where a group has several', () => {
    // Group 0 has 1 + 3 tokens, group 1 two: 1/(2 · 4) and 1/(2 · 2); by sequences 1/(3 · 1), 1/(3 · 3), 1/(3 · 2).
    const all = [[1], [1, 1, 1], [1, 1]];
    const group = tokenWeights(all, { aggregation: 'group-mean-token-mean', groups: [0, 0, 1] });
    expect(group.map((row) => row[0])).toEqual([0.125, 0.125, 0.25]);
  });

  it('asks for what an aggregation needs', () => {
    expect(() => tokenWeights(masks, { aggregation: 'constant' })).toThrow('constant is undefined');
    expect(() => tokenWeights(masks, { aggregation: 'group-mean-token-mean' })).toThrow('needs the group');
  });
});

describe('klPenaltyInReward', () => {
  it('by each estimator', () => {
    // d = reference − logprob = −1 and 0.5
    const [logprobs, reference] = [[[-1, -2]], [[-2, -1.5]]];
    const of = (estimator: 'k1' | 'k2' | 'k3') =>
      [...klPenaltyInReward(logprobs, reference, { coefficient: 0.1, estimator })[0]!].map((x) =>
        Number(x.toFixed(6)),
      );
    expect(of('k1')).toEqual([-0.1, 0.05]);
    expect(of('k2')).toEqual([-0.05, -0.0125]);
    // e^−1 + 1 − 1 = 0.367879; e^0.5 − 0.5 − 1 = 0.148721
    expect(of('k3')).toEqual([-0.036788, -0.014872]);
  });

  it('not on tokens of an environment', () => {
    expect(klPenaltyInReward([[-1, -1]], [[-2, -2]], { coefficient: 1 }, [[1, 0]])[0]).toEqual(
      Float32Array.of(-1, 0),
    );
    expect(() => klPenaltyInReward([[-1]], [[]], { coefficient: 1 })).toThrow('sample 0 has 1');
  });
});

describe('overlong completions', () => {
  const rewards = [1, 0.5, null, 1];
  const truncated = [false, true, true, false];
  const lengths = [10, 100, 100, 85];
  const apply = (policy: Parameters<typeof applyOverlong>[0]) =>
    applyOverlong(policy, rewards, truncated, lengths, 100);

  it('soft penalty: a line over the last tokens before the limit', () => {
    const at = (length: number) => softOverlongPenalty(length, { limit: 100, buffer: 20, factor: 0.5 });
    // Free up to 80; 85: −0.5 · 5/20; at the limit −0.5
    expect([10, 80, 85, 90, 100, 200].map(at)).toEqual([0, 0, -0.125, -0.25, -0.5, -0.5]);
    expect(() => softOverlongPenalty(1, { limit: 10, buffer: 11 })).toThrow('buffer is 11');
  });

  it('are trained on, left out, made 0 or penalised', () => {
    const all = [false, false, false, false];
    expect(apply({ kind: 'train' })).toEqual({ rewards, isLeftOut: all });
    expect(apply({ kind: 'mask' })).toEqual({ rewards, isLeftOut: truncated });
    expect(apply({ kind: 'mask', baseline: 'leave' }).rewards).toEqual([1, null, null, 1]);
    expect(apply({ kind: 'zero' })).toEqual({ rewards: [1, 0, 0, 1], isLeftOut: all });
    expect(apply({ kind: 'penalty', buffer: 20 }).rewards).toEqual([1, -0.5, null, 0.75]);
  });
});

describe('zeroVarianceGroups', () => {
  it('finds groups without a signal', () => {
    const rewards = [1, 1, 0, 1, 0.3, 0.1 + 0.2, null, 5, null, null];
    const groups = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4];
    expect([...zeroVarianceGroups(rewards, groups)]).toEqual([0, 2, 3, 4]);
  });
});

describe('ClassWeights', () => {
  it('are those of the square roots of the averaged counts, with mean 1', () => {
    const weights = new ClassWeights();
    // First batch: counts 1 and 4. c = 1, 1/2. s₊ = 5 · 1 / (1 + 4 · ½) = 5/3, s₋ = 5/6.
    const first = weights.weigh([true, false, false, false, false]);
    expect(first.positive).toBeCloseTo(5 / 3, 5);
    expect(first.negative).toBeCloseTo(5 / 6, 5);
    expect([...first.weights].reduce((a, b) => a + b, 0) / 5).toBeCloseTo(1, 6);
    // Second batch: 4 and 1. Averages 0.8 · 1 + 0.2 · 4 = 1.6 and 0.8 · 4 + 0.2 · 1 = 3.4, before weighing.
    // c₊ = 0.790569, c₋ = 0.542326; total 4 · 0.790569 + 0.542326 = 3.704603; s₊ = 1.067009, s₋ = 0.731958.
    const second = weights.weigh([true, true, true, true, false]);
    expect(weights.averages.positive).toBeCloseTo(1.6, 12);
    expect(weights.averages.negative).toBeCloseTo(3.4, 12);
    expect(second.positive).toBeCloseTo(1.067009, 4);
    expect(second.negative).toBeCloseTo(0.731958, 4);
  });

  it('inverse, and none', () => {
    // Counts 1 and 4: c = 1, ¼. s₊ = 5 / (1 + 4 · ¼) = 2.5, s₋ = 0.625.
    const labels = [true, false, false, false, false];
    expect(new ClassWeights({ kind: 'inverse' }).weigh(labels).positive).toBeCloseTo(2.5, 4);
    expect([...new ClassWeights({ kind: 'none' }).weigh(labels).weights]).toEqual([1, 1, 1, 1, 1]);
  });

  it('a batch of one class has weight 1; an empty one none', () => {
    const weights = new ClassWeights();
    const { negative, weights: row } = weights.weigh([false, false]);
    expect(negative).toBeCloseTo(1, 6);
    expect([...row].every((w) => Math.abs(w - 1) < 1e-6)).toBe(true);
    expect(weights.weigh([]).weights.length).toBe(0);
  });

  it('go on after a restore as if they had never stopped', () => {
    const [a, b] = [new ClassWeights(), new ClassWeights()];
    a.weigh([true, false, false]);
    b.restore(JSON.parse(JSON.stringify(a.save())));
    expect(b.weigh([true, true, false])).toEqual(a.weigh([true, true, false]));
    const fresh = new ClassWeights();
    fresh.restore(new ClassWeights().save());
    expect(fresh.save()).toBeNull();
    expect(() => fresh.restore({ positive: 'many' })).toThrow('no state of class weights');
  });
});

describe('binaryMetrics', () => {
  it('counts unreadable verdicts as "incorrect"', () => {
    // Truth  + + + − − ; verdict + − ? + − : TP 1, FN 2, FP 1, TN 1.
    const m = binaryMetrics([true, false, null, true, false], [true, true, true, false, false]);
    expect(m).toEqual({
      accuracy: 2 / 5,
      balancedAccuracy: (1 / 3 + 1 / 2) / 2,
      f1: 2 / 5, // 2 · 1 / (2 + 1 + 2)
      precision: 1 / 2,
      recall: 1 / 3,
      parsed: 4 / 5,
      predictedPositive: 2 / 5,
      actualPositive: 3 / 5,
      count: 5,
    });
  });

  it('shows what accuracy hides: always "incorrect" on 1 correct solution of 20', () => {
    const actual = Array.from({ length: 20 }, (_, i) => i === 0);
    const m = binaryMetrics(
      actual.map(() => false),
      actual,
    );
    expect([m.accuracy, m.balancedAccuracy, m.f1]).toEqual([0.95, 0.5, 0]);
  });

  it('of a single class is balanced over that class; of nothing is an error', () => {
    expect(binaryMetrics([true, false], [true, true]).balancedAccuracy).toBe(0.5);
    expect(() => binaryMetrics([], [])).toThrow('at least one');
  });
});

describe('processBenchF1', () => {
  it('is the harmonic mean of both accuracies', () => {
    // Errors: 1 of 2 found exactly; right ones: 2 of 3. F1 = 2 · ½ · ⅔ / (½ + ⅔) = 4/7.
    const { errorAccuracy, correctAccuracy, f1 } = processBenchF1([
      { label: 2, predicted: 2 },
      { label: 1, predicted: 0 },
      { label: -1, predicted: -1 },
      { label: -1, predicted: -1 },
      { label: -1, predicted: null },
    ]);
    expect([errorAccuracy, correctAccuracy]).toEqual([1 / 2, 2 / 3]);
    expect(f1).toBeCloseTo(4 / 7, 12);
  });

  it('is 0 where nothing is right, and not known without a class', () => {
    const wrong = { label: 1, predicted: -1 };
    expect(processBenchF1([wrong, { label: -1, predicted: 0 }]).f1).toBe(0);
    expect(processBenchF1([wrong]).f1).toBeNaN();
  });
});

describe('votes', () => {
  const right = { key: '7', isCorrect: true };
  const wrong = { key: '8', isCorrect: false };
  const none = { key: null, isCorrect: false };

  it('the majority, ties shared, unanswered ones without a vote', () => {
    expect(majorityCorrect([right, right, wrong])).toBe(1);
    expect(majorityCorrect([right, wrong, none, none, none])).toBe(0.5);
    expect(majorityCorrect([none])).toBe(0);
    expect(majorityCorrect([right, wrong, wrong], [3, 1, 1])).toBe(1);
  });

  it('maj@k over subsets', () => {
    const answers = [right, right, wrong];
    expect(majorityAtK(answers, 3)).toBe(1);
    // k = 1: 2/3. k = 2: pairs rr (1), rw, rw (½ each): 2/3. Means over 4,000 draws have a deviation below 0.008.
    expect(majorityAtK(answers, 1, { draws: 4000 })).toBeCloseTo(2 / 3, 1);
    expect(Math.abs(majorityAtK(answers, 2, { draws: 4000 }) - 2 / 3)).toBeLessThan(0.03);
    expect(majorityAtK(answers, 2, { seed: 4 })).toBe(majorityAtK(answers, 2, { seed: 4 }));
    expect(() => majorityAtK(answers, 4)).toThrow('maj@4 of 3 samples');
  });

  it('avg@n, pass@k and maj@k over items', () => {
    // Items with 2 of 3 and 0 of 3 correct: avg 1/3. pass@2: 1 − C(1,2)/C(3,2) = 1 and 0: 0.5. maj@3: 1 and 0.
    const { average, pass, majority } = atK(
      [
        [right, right, wrong],
        [wrong, wrong, none],
      ],
      [2, 3],
    );
    expect(average).toBeCloseTo(1 / 3, 12);
    expect(pass).toEqual({ 2: 0.5, 3: 0.5 });
    expect(majority[3]).toBe(0.5);
  });
});
