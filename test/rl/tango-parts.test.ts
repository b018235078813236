import { describe, expect, it } from 'vitest';
import {
  acceptAll,
  cueVerifier,
  formatVerification,
  generatorAdvantages,
  invertedVerifier,
  oracleVerifier,
  responseMetrics,
  stepRewardsOf,
  verdictMetrics,
  verifierReward,
} from '../../src/rl/index.js';
import { responseOf, task, verificationOf } from './tango-support.js';

const both = { gate: true, perStep: true };
const right = { steps: ['#1 e', '#2 t'], answer: 'et' };
const wrong = { steps: ['#1 e', '#2 a'], answer: 'ea' };
const say = (...verdicts: boolean[]) =>
  formatVerification(
    verdicts.map((isCorrect) => ({ analysis: '', isCorrect })),
    verdicts.every(Boolean),
  );
const rewardsOf = (...args: Parameters<typeof stepRewardsOf>) =>
  stepRewardsOf(...args).map(({ rewards }) => Array.from(rewards));

describe('step rewards', () => {
  const response = responseOf(right);
  it('are ±1 / K at the ends of the steps', () => {
    const sets = stepRewardsOf(response, [verificationOf(response, say(true, false))], both);
    expect(sets.map(({ rewards }) => [...Array.from(rewards)])).toEqual([[0.5, -0.5]]);
    // <think> <step> # 1 ␣ e </step> <step> # 2 ␣ t </step> …
    expect(Array.from(sets[0]!.ends)).toEqual([6, 12]);
    expect(
      rewardsOf(response, [verificationOf(response, say(true, false))], { gate: true, perStep: false }),
    ).toEqual([[1, -1]]);
  });

  it('are none where verdicts are as many as they should not be', () => {
    expect(rewardsOf(response, [verificationOf(response, say(true))], both)).toEqual([]);
    expect(rewardsOf(response, [], both)).toEqual([]);
    const two = [verificationOf(response, say(true, true)), verificationOf(response, say(true))];
    expect(rewardsOf(response, two, both)).toEqual([[0.5, 0.5]]);
  });

  it('are those of wrong steps behind the gate, whatever a verifier says', () => {
    const malformed = responseOf(right, { isWellFormed: false });
    const praise = [verificationOf(malformed, say(true, true))];
    const [set] = stepRewardsOf(malformed, praise, both);
    expect(Array.from(set!.rewards)).toEqual([-0.5, -0.5, -0.5]);
    expect(Array.from(set!.ends)).toEqual([6, 12, malformed.sample.tokens.length - 1]);
    expect(rewardsOf(malformed, praise, { ...both, gate: false })).toEqual([[0.5, 0.5]]);
    // No steps are no way around.
    const empty = responseOf('<answer>\\boxed{et}</answer>');
    expect(empty.isWellFormed).toBe(false);
    const [end] = stepRewardsOf(empty, [], both);
    expect([Array.from(end!.rewards), Array.from(end!.ends)]).toEqual([
      [-1],
      [empty.sample.tokens.length - 1],
    ]);
    expect(rewardsOf(empty, [], { ...both, gate: false })).toEqual([]);
  });
});

describe("a generator's advantages", () => {
  const [a, b] = [responseOf(right), responseOf(wrong)];
  const sets = [
    stepRewardsOf(a, [verificationOf(a, say(true, true))], both),
    stepRewardsOf(b, [verificationOf(b, say(true, false))], both),
  ];
  const separate = { advantage: 'grpo', normalisation: 'separate' } as const;
  const n = a.sample.tokens.length;

  it('mix outcome and steps that were normalised apart', () => {
    const alpha = 0.25;
    const { advantages, step } = generatorAdvantages([a, b], sets, alpha, separate);
    // Outcomes 1, 0: ±0.5 / √0.5. Steps .5 .5 .5 −.5: mean .25, deviation .5; .5 → .5 and −.5 → −1.5.
    const z = 0.5 / (Math.sqrt(0.5) + 1e-6);
    const [up, down] = [0.25 / (0.5 + 1e-6), -0.75 / (0.5 + 1e-6)];
    expect(step[0]![0]).toBeCloseTo(2 * up, 5);
    expect(step[1]![0]).toBeCloseTo(up + down, 5);
    const expected = (outcome: number, steps: number) => (1 - alpha) * outcome + alpha * steps;
    // Up to the end of step 1, of step 2, and behind it.
    for (const [t, first, second] of [
      [0, 2 * up, up + down],
      [6, 2 * up, up + down],
      [7, up, down],
      [12, up, down],
      [13, 0, 0],
      [n - 1, 0, 0],
    ] as const) {
      expect(advantages[0]![t]).toBeCloseTo(expected(z, first), 5);
      expect(advantages[1]![t]).toBeCloseTo(expected(-z, second), 5);
    }
  });

  it('are the outcome alone where nobody has verdicts, and less of it where one has none', () => {
    const z = 0.5 / (Math.sqrt(0.5) + 1e-6);
    const none = generatorAdvantages([a, b], [[], []], 0.25, separate).advantages;
    expect(none[0]![0]).toBeCloseTo(z, 5);
    const one = generatorAdvantages([a, b], [sets[0]!, []], 0.25, separate).advantages;
    expect(one[1]![0]).toBeCloseTo(-0.75 * z, 5);
  });

  it('average several verifications after they were summed up', () => {
    const said = [say(true, true), say(false, true)].map((text) => verificationOf(a, text));
    const two = [stepRewardsOf(a, said, both), sets[1]!];
    // Steps .5 .5 | −.5 .5 | .5 −.5: mean 1/6, deviation √(16/60) of six.
    const { step } = generatorAdvantages([a, b], two, 0.25, separate);
    const scale = (r: number) => (r - 1 / 6) / (Math.sqrt(16 / 60) + 1e-6);
    expect(step[0]![0]).toBeCloseTo((2 * scale(0.5) + scale(-0.5) + scale(0.5)) / 2, 5);
    expect(step[0]![12]).toBeCloseTo(scale(0.5), 5);
  });

  it('of RLOO keep the scale of outcomes', () => {
    const { advantages, step } = generatorAdvantages([a, b], [[], []], 0, { ...separate, advantage: 'rloo' });
    expect([advantages[0]![0], advantages[1]![0]]).toEqual([1, -1]);
    expect(step).toEqual([undefined, undefined]);
  });

  it('of REINFORCE++ sum over the tokens of a response, not over responses', () => {
    const { step } = generatorAdvantages([a, b], sets, 0.5, { ...separate, advantage: 'reinforce++' });
    // Returns before whitening: a has 1 up to its first end, .5 to the second, then 0; b 0, −.5, 0.
    const values = [...Array(7).fill(1), ...Array(6).fill(0.5), ...Array(n - 13).fill(0)];
    const other = [...Array(7).fill(0), ...Array(6).fill(-0.5), ...Array(n - 13).fill(0)];
    const all = [...values, ...other];
    const mean = all.reduce((x, y) => x + y, 0) / all.length;
    const std = Math.sqrt(all.reduce((x, y) => x + (y - mean) ** 2, 0) / (all.length - 1) + 1e-8);
    for (const t of [0, 6, 7, 12, 13, n - 1]) {
      expect(step[0]![t]).toBeCloseTo((values[t]! - mean) / std, 5);
      expect(step[1]![t]).toBeCloseTo((other[t]! - mean) / std, 5);
    }
  });

  it('can be merged first', () => {
    const alpha = 0.5;
    const merged = { advantage: 'grpo', normalisation: 'merged' } as const;
    const { advantages } = generatorAdvantages([a, b], sets, alpha, merged);
    // a: .25 .25 and .5 at its end; b: .25 −.25 and 0.
    const all = [0.25, 0.25, 0.5, 0.25, -0.25, 0];
    const mean = 1 / 6;
    const std = Math.sqrt(all.reduce((x, y) => x + (y - mean) ** 2, 0) / 5);
    const z = (r: number) => (r - mean) / (std + 1e-6);
    expect(advantages[0]![0]).toBeCloseTo(z(0.25) + z(0.25) + z(0.5), 4);
    expect(advantages[0]![n - 1]).toBeCloseTo(z(0.5), 4);
    expect(advantages[1]![7]).toBeCloseTo(z(-0.25) + z(0), 4);
    const outcomeOnly = generatorAdvantages([a, b], [[], []], 0.5, merged).advantages;
    expect(outcomeOnly[0]![0]).toBeCloseTo(0.25 / (Math.sqrt(0.125) + 1e-6), 4);
  });

  it('favour fewer steps where every verdict is right: 1/K and the norm of a group are not neutral', () => {
    const short = responseOf({ steps: ['#1 e'], answer: 'e' }, { isWellFormed: true });
    const long = responseOf({ steps: ['#1 e', '#2 t', '#3 e'], answer: 'ete' }, { isWellFormed: true });
    const praised = [short, long].map((one) =>
      stepRewardsOf(one, [verificationOf(one, say(...one.solution.steps.map(() => true)))], both),
    );
    const { step } = generatorAdvantages([short, long], praised, 0.5, separate);
    expect(step[0]![0]).toBeGreaterThan(0.5);
    expect(step[1]![0]).toBeLessThan(-0.5);
  });
});

describe("a verifier's reward", () => {
  it.each([
    [{ final: true, format: 1 }, true, 1.8],
    [{ final: false, format: 1 }, true, 0.8],
    [{ final: false, format: 0.2 }, false, 1.16],
    [{ final: true, format: 0 }, true, 1],
    // No verdict: no reward for the form either.
    [{ final: undefined, format: 1 }, true, 0],
  ])('of %j on a solution that is correct: %j is %f', (parsed, isCorrect, total) => {
    expect(verifierReward(parsed, isCorrect, 0.8).total).toBeCloseTo(total, 12);
  });
});

describe('scripted verifiers', () => {
  const response = responseOf(wrong);
  const gold = { isCorrect: false, seed: 1 };
  const { problem, solution } = response;
  it('know, flatter, lie or look for a cue', () => {
    expect(oracleVerifier(task)(problem, solution, gold)).toEqual({ verdicts: [true, false], final: false });
    expect(oracleVerifier(task, 0)(problem, solution, gold)).toEqual({
      verdicts: [false, true],
      final: true,
    });
    expect(acceptAll(problem, solution, gold)).toEqual({ verdicts: [true, true], final: true });
    expect(invertedVerifier(task)(problem, solution, gold)).toEqual({ verdicts: [false, true], final: true });
    expect(cueVerifier('a')(problem, solution, gold)).toEqual({ verdicts: [false, true], final: false });
  });
});

describe('metrics', () => {
  const good = responseOf(right);
  const bad = responseOf(wrong);
  it('count what cannot be read as "incorrect"', () => {
    const metrics = verdictMetrics([
      verificationOf(good, say(true, true)),
      verificationOf(good, 'nonsense'),
      verificationOf(bad, say(true, true)),
      verificationOf(bad, say(true, false)),
    ]);
    // Outcomes: hit, miss, false alarm, hit of the negative.
    expect(metrics).toMatchObject({
      outcomeF1: 0.5,
      outcomeBalancedAccuracy: 0.5,
      outcomeAccuracy: 0.5,
      parsed: 0.75,
    });
    // Steps: true ones found 2 + 0 + 1 + 1 of 6, false ones 0 + 1 of 2: F1 = 8 / (8 + 1 + 2).
    expect(metrics.stepF1).toBeCloseTo(8 / 11, 12);
    expect(metrics.stepBalancedAccuracy).toBeCloseTo((4 / 6 + 1 / 2) / 2, 12);
    // One of six verdicts that were read is better than the truth: (2 · 1) / 6.
    expect(metrics.hackGap).toBeCloseTo(1 / 3, 12);
    expect([metrics.aligned, metrics.missingVerdicts]).toEqual([0.75, 0.25]);
    expect(verdictMetrics([])).toEqual({});
  });

  it('say what the rules say', () => {
    expect(responseMetrics([good, bad, responseOf('', { isWellFormed: false })])).toMatchObject({
      accuracy: 1 / 3,
      wellFormed: 2 / 3,
      steps: 4 / 3,
      stepAccuracy: 0.75,
      truncated: 0,
    });
  });
});
