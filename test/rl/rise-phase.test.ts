import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { adamW } from '../../src/index.js';
import type { Transformer } from '../../src/models/lm/transformer.js';
import {
  evaluateRatings,
  evaluateRise,
  formatSolution,
  type Policy,
  type PolicyOptions,
  type RiseOptions,
  ratingExample,
  reinforce,
  risePhase,
  solutionExample,
  statedScore,
} from '../../src/rl/index.js';
import { warmStart } from '../../src/rl/warm-start.js';
import { type Coin, smallPolicy, coinTask as task, tokenizer } from './tango-support.js';

const folder = mkdtempSync(path.join(tmpdir(), 'anneal-rise-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A policy that knows both forms and little else. */
async function learnForms(): Promise<Policy> {
  const policy = smallPolicy(1);
  const noisy = { seed: 90, accuracy: 0.8 };
  const examples = Array.from({ length: 300 }, (_, i) =>
    i % 2 ? solutionExample(task, i, noisy) : ratingExample(task, i, { ...noisy, ratingAccuracy: 0.7 }),
  );
  const loop = { steps: 80, batch: 8, lr: 1e-2, progress: false } as const;
  await warmStart(policy.model as Transformer, tokenizer, examples, loop);
  return policy;
}
let learnt: Promise<Policy> | undefined;

/** A new policy with those weights. */
async function warmPolicy(change: Partial<PolicyOptions> = {}): Promise<Policy> {
  learnt ??= learnForms();
  const optimizer = adamW({ lr: 3e-3, clipNorm: 1, weightDecay: 0 });
  const policy = smallPolicy(1, { optimizer, ...change });
  const source = new Map((await learnt).parameters);
  for (const [key, { data }] of policy.parameters)
    (data as Float32Array).set(source.get(key)!.data as Float32Array);
  return policy;
}

async function run(policy: Policy, change: Partial<RiseOptions<Coin>>, steps: number) {
  const directory = mkdtempSync(path.join(folder, 'run-'));
  const player = { policy, maxTokens: 32, prompts: 8, samples: 4 };
  await reinforce({
    policies: { policy },
    phases: { rise: risePhase({ player, task, seed: 3, ratio: 0.5, ...change }) },
    steps,
    seed: 5,
    config: {},
    progress: false,
    directory,
  });
  const lines = (name: string) =>
    readFileSync(path.join(directory, name), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  const metrics = lines('events.jsonl').flatMap(({ kind, metrics }) => (kind === 'train' ? [metrics] : []));
  return { metrics, rows: lines('rollouts/step-1.jsonl') };
}

describe('a step of RISE', () => {
  it('solves and rates in one batch, and learns from both', async () => {
    const policy = await warmPolicy();
    const { metrics, rows } = await run(policy, {}, 1);
    // 8 problems of 4, and half as many solutions with 4 ratings each.
    expect(metrics[0]).toMatchObject({ trajectories: 32 + 16, updates: 1 });
    expect(metrics[0].answered).toBeGreaterThan(0.5);
    const solved = rows.filter((row) => row.kind === 'solve');
    const rated = rows.filter((row) => row.kind === 'verify');
    expect([solved.length, rated.length]).toEqual([32, 16]);
    // The label is the score of the solution; its reward is +1 for that very number.
    for (const { completion, label, reward } of rated) {
      const stated = statedScore(completion);
      const isBoxed = completion.includes('\\boxed{');
      expect(reward).toBe(isBoxed ? (stated === label ? 1 : -0.5) : -1);
    }
    const accuracy = rated.filter(({ completion, label }) => statedScore(completion) === label).length / 16;
    expect(metrics[0].verifyAccuracy).toBeCloseTo(accuracy, 12);
    // Ratings of one solution are a group of their own.
    expect(new Set(rated.map((row) => row.group))).toEqual(new Set([8, 9, 10, 11]));
    for (const group of new Set(rows.map((row) => row.group))) {
      const own = rows.filter((row) => row.group === group);
      expect(own.reduce((total, row) => total + row.advantage, 0)).toBeCloseTo(0, 4);
    }
  });

  it('learns to rate where that is what it is paid for', async () => {
    const policy = await warmPolicy({ optimizer: adamW({ lr: 1e-2, clipNorm: 1, weightDecay: 0 }) });
    const { metrics } = await run(policy, { ratio: 2, selection: 'balanced' }, 12);
    const mean = (list: { verifyAccuracy: number }[]) =>
      list.reduce((total, one) => total + one.verifyAccuracy, 0) / list.length;
    expect(mean(metrics.slice(-3))).toBeGreaterThan(mean(metrics.slice(0, 3)) + 0.1);
  }, 180_000);

  it('has arms without verification, with as many trajectories, and with old solutions', async () => {
    const none = await run(await warmPolicy(), { ratio: 0 }, 1);
    expect(none.metrics[0]).toMatchObject({ trajectories: 32 });
    expect(none.metrics[0].verifyAccuracy).toBeUndefined();
    const matched = await run(await warmPolicy(), { matched: true }, 1);
    expect(matched.metrics[0]).toMatchObject({ trajectories: 48 });
    expect(matched.rows.every((row) => row.kind === 'solve')).toBe(true);
    const text = formatSolution({ steps: ['a', 'a'], answer: 'a' });
    const offline = (_: number, count: number) =>
      Array.from({ length: count }, () => ({ problem: { count: 2 }, text }));
    const old = await run(await warmPolicy(), { offline }, 1);
    expect(old.rows.filter((row) => row.kind === 'verify').map((row) => row.label)).toEqual(
      Array(16).fill(1),
    );
  });

  it.each(['rloo', 'reinforce++'] as const)('runs with %s and a KL in the reward', async (advantage) => {
    const policy = await warmPolicy({ reference: 'initial' });
    const { metrics } = await run(policy, { advantage, klReward: { coefficient: 0.01 } }, 1);
    expect(metrics[0].updates).toBe(1);
  });

  it('refuses what is impossible', async () => {
    const player = { policy: smallPolicy(1), maxTokens: 8 };
    expect(() => risePhase({ player, task, seed: 1, ratio: -1 })).toThrow('rise: ratio is -1');
    expect(() => risePhase({ player, task, seed: 1, ratings: 0 })).toThrow('rise: ratings is 0');
    expect(() => risePhase({ player, task, seed: 1, ratio: 0, matched: true })).toThrow(
      'pass a ratio above 0',
    );
  });
});

describe('an evaluation of RISE', () => {
  it('has accuracies of solving, verifying and voting, the same each time', async () => {
    const policy = await warmPolicy();
    const problems = Array.from({ length: 10 }, (_, i) => task.problem(77, i));
    const evaluate = () => evaluateRise({ player: { policy, maxTokens: 32 }, task, problems, k: 4 });
    const metrics = await evaluate();
    for (const name of ['accuracy', 'majority', 'weighted', 'verifyAccuracy']) {
      expect(metrics[name]).toBeGreaterThan(0);
      expect(metrics[name]).toBeLessThanOrEqual(1);
    }
    expect(await evaluate()).toEqual(metrics);
  });

  it('rates solutions that are given, against the score of the rule', async () => {
    const policy = await warmPolicy();
    const rate = (texts: readonly string[]) => {
      const solutions = texts.map((text, i) => ({ problem: task.problem(77, i), text }));
      return evaluateRatings({ player: { policy, maxTokens: 32 }, task, solutions, ratings: 4 });
    };
    const written = (letter: string) => formatSolution({ steps: [letter, letter], answer: letter });
    const both = await rate(['a', 'b', 'a', 'b', 'a', 'b', 'a', 'b'].map(written));
    expect(both.verifyAccuracy).toBeGreaterThan(0.25);
    expect(both.verifyF1).toBeGreaterThan(0.25);
    // It has never seen the score −1 of a solution without an answer, and says another one.
    const none = await rate(['', '<think>', 'a']);
    expect([none.verifyAccuracy, none.verifyF1]).toEqual([0, 0]);
    expect(await rate([])).toEqual({});
  });

  it('teaches ratings whose steps and score are right', () => {
    for (let i = 0; i < 20; i++) {
      const { prompt, completion } = ratingExample(task, i, { seed: 4 });
      const isRight = !prompt.includes('<step>b</step>');
      expect(statedScore(completion)).toBe(isRight ? 1 : -0.5);
      expect(prompt.endsWith('\n<rate>')).toBe(true);
      expect(statedScore(ratingExample(task, i, { seed: 4, ratingAccuracy: 0 }).completion)).toBe(
        isRight ? -0.5 : 1,
      );
    }
  });

  it('teaches verdicts that follow from what is restated, right or not', () => {
    for (const restatedAccuracy of [0, 1]) {
      for (let i = 0; i < 20; i++) {
        const { prompt, completion } = ratingExample(task, i, { seed: 4, verdicts: true, restatedAccuracy });
        const stated = [...prompt.matchAll(/<step>(.)<\/step>/g)].map(([, letter]) => letter);
        const judged = [...completion.matchAll(/<step>(.) (\w+)<\/step>/g)];
        // Every step should say "a"; a wholly noisy solution says "b".
        expect(judged.map(([, said]) => said)).toEqual(stated.map(() => (restatedAccuracy ? 'a' : 'b')));
        const agree = judged.map(([, said], k) => said === stated[k]);
        expect(judged.map(([, , verdict]) => verdict === 'CORRECT')).toEqual(agree);
        expect(statedScore(completion)).toBe(agree.every(Boolean) ? 1 : -0.5);
      }
    }
  });
});
