import { describe, expect, it } from 'vitest';
import { Rng } from '../../src/core/random.js';
import { majorityCorrect } from '../../src/rl/at-k.js';
import { fullRisePrompts, shortRisePrompts } from '../../src/rl/rise/prompts.js';
import { formatScore, solutionReward, statedScore, verificationReward } from '../../src/rl/rise/rewards.js';
import { selectForVerification } from '../../src/rl/rise/selection.js';
import { selfWeightedVote } from '../../src/rl/rise/voting.js';

describe('rewards of RISE', () => {
  it('score a solution +1, −0.5 or −1', () => {
    const score = (text: string) => solutionReward(text, (answer) => answer === '7');
    expect([score('so \\boxed{7}'), score('so \\boxed{8}'), score('so 7')]).toEqual([1, -0.5, -1]);
    // The last box is the answer; a box that never closes is none.
    expect([score('\\boxed{7} or \\boxed{8}'), score('\\boxed{7'), score('\\boxed{}')]).toEqual([
      -0.5, -1, -0.5,
    ]);
    expect([1, -0.5, -1].map(formatScore)).toEqual(['1.0', '-0.5', '-1.0']);
  });

  it.each([
    ['1.0', 1],
    ['1', 1],
    ['+1.00', 1],
    ['1.', 1],
    ['−0.5', -0.5],
    [' -.5 ', -0.5],
    ['1e0', undefined],
    ['', undefined],
    ['one', undefined],
    ['1.0.0', undefined],
    ['1/2', undefined],
    ['Infinity', undefined],
  ])('read %j as %j', (box, score) => {
    expect(statedScore(`x \\boxed{${box}}`)).toBe(score);
  });

  it('compare labels exactly: no percentages, no tolerance', () => {
    const reward = (box: string, label: number) => verificationReward(`\\boxed{${box}}`, label);
    expect([reward('1.0', 1), reward('-0.5', -0.5), reward('-1', -1)]).toEqual([1, 1, 1]);
    for (const box of ['100', '0.01', '1.0001', '100%', '-1.0', 'good']) expect(reward(box, 1)).toBe(-0.5);
    expect(reward('-50', -0.5)).toBe(-0.5);
    expect(verificationReward('1.0', 1)).toBe(-1);
  });
});

describe('selection', () => {
  const choose = (
    options: Omit<Parameters<typeof selectForVerification>[0], 'problems' | 'samples'>,
    seed = 1,
  ) => selectForVerification({ problems: 8, samples: 4, ...options }, new Rng(seed));
  const problemsOf = (chosen: readonly number[]) => chosen.map((i) => Math.floor(i / 4));

  it('takes one solution of each of the first problems, then more of all', () => {
    expect(problemsOf(choose({ count: 3 }))).toEqual([0, 1, 2]);
    expect(problemsOf(choose({ count: 10 }))).toEqual([0, 0, 1, 1, 2, 3, 4, 5, 6, 7]);
    expect(choose({ count: 32 })).toEqual(Array.from({ length: 32 }, (_, i) => i));
    expect(choose({ count: 0 })).toEqual([]);
    expect(choose({ count: 3 })).toEqual(choose({ count: 3 }));
    // Inside a problem all are equally likely.
    const counts = [0, 0, 0, 0];
    for (let seed = 0; seed < 400; seed++) counts[choose({ count: 1 }, seed)[0]!]!++;
    for (const n of counts) expect(Math.abs(n - 100)).toBeLessThan(35);
  });

  it('spreads over problems', () => {
    const seen = new Set<number>();
    for (let seed = 0; seed < 40; seed++) {
      const chosen = problemsOf(choose({ count: 3, policy: 'spread' }, seed));
      expect(new Set(chosen).size).toBe(3);
      for (const problem of chosen) seen.add(problem);
    }
    expect(seen.size).toBe(8);
  });

  it('balances right and wrong as far as there are any', () => {
    const isCorrect = Array.from({ length: 32 }, (_, i) => i % 8 === 0);
    const right = (count: number) =>
      choose({ count, policy: 'balanced', isCorrect }).filter((i) => isCorrect[i]).length;
    expect([right(2), right(5), right(8), right(20), right(30), right(32)]).toEqual([1, 3, 4, 4, 4, 4]);
    const mostly = isCorrect.map((is) => !is);
    const chosen = choose({ count: 5, policy: 'balanced', isCorrect: mostly });
    expect([chosen.length, chosen.filter((i) => mostly[i]).length]).toEqual([5, 2]);
    expect(choose({ count: 31, policy: 'balanced', isCorrect }).length).toBe(31);
    expect(() => choose({ count: 2, policy: 'balanced' })).toThrow('needs isCorrect of all 32 solutions');
    expect(() => choose({ count: 33 })).toThrow('verification of 33 of 32 solutions');
  });
});

describe('votes weighted by self-verification', () => {
  it('are count · (alpha + scores) / (N + alpha d)', () => {
    const vote = selfWeightedVote([
      { key: 'a', score: 0 },
      { key: 'a', score: 0 },
      { key: 'b', score: 1 },
      { key: 'b', score: 1 },
      { key: null, score: 1 },
    ]);
    // N = 5: b has 2 (2 + 2) / (5 + 4), a has 2 (2 + 0) / 9.
    expect(vote).toEqual([
      { key: 'b', weight: 8 / 9 },
      { key: 'a', weight: 4 / 9 },
    ]);
  });

  it('can overturn a majority, and are it where verification says the same of all', () => {
    const three = [0, 0, 0].map((score) => ({ key: 'a', score }));
    const two = [1, 1].map((score) => ({ key: 'b', score }));
    // 3 (2 + 0) < 2 (2 + 2)
    expect(selfWeightedVote([...three, ...two])[0]!.key).toBe('b');
    const flat = [...three, ...two].map(({ key }) => ({ key, score: 0.5 }));
    expect(selfWeightedVote(flat)[0]!.key).toBe('a');
    expect(majorityCorrect(flat.map(({ key }) => ({ key, isCorrect: key === 'a' })))).toBe(1);
    expect(selfWeightedVote([])).toEqual([]);
    expect(() => selfWeightedVote([], { alpha: -1 })).toThrow('alpha is -1');
  });
});

describe('prompts of RISE', () => {
  it('tell solving from verifying', () => {
    expect(shortRisePrompts.solve('q')).toBe('q\n');
    expect(shortRisePrompts.verify('q', 'r')).toBe('q\nr\n<rate>');
    const prompt = fullRisePrompts.verify('What?', 'This \\boxed{1.0}');
    for (const part of ['-1.0 if the response has no', '1.0 if its boxed', '-0.5 if its boxed', '\nWhat?\n'])
      expect(prompt).toContain(part);
    expect(prompt.endsWith('Rating: ')).toBe(true);
  });
});
