import { afterAll, describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/index.js';
import {
  type Environment,
  episodes,
  evaluatePolicy,
  grpoPhase,
  type Observation,
  type Sample,
  type Turn,
} from '../../src/rl/index.js';
import { grpoOptions, promptsAt, stop, tinyPolicy, wanted } from './tiny-run.js';

const policy = tinyPolicy(4);
afterAll(() => policy.dispose());

/** Writes 9, 8 and how many turns it has answered; ends the episode after a turn that begins with the wanted token. */
const counting: Environment<number> = () => {
  let answered = 0;
  return {
    respond: ({ tokens }: Turn): Observation | null => {
      if (tokens[0] === wanted) return null;
      return { tokens: Int32Array.of(9, 8, 2 + answered++), text: `<${answered}>` };
    },
  };
};

const options = { samples: 6, maxTokens: 24, seed: 5, stopTokens: [stop] };
const roll = (settings = { maxTurns: 3, turnTokens: 4 }, environment = counting, changes = {}) =>
  episodes(policy, environment, settings)(promptsAt(0), { ...options, ...changes });

/** Runs of equal mask values: [value, tokens]. */
function runsOf({ mask, tokens }: Sample<number>): [number, number[]][] {
  const runs: [number, number[]][] = [];
  tokens.forEach((token, t) => {
    const last = runs.at(-1);
    if (last && last[0] === mask![t]) last[1].push(token);
    else runs.push([mask![t]!, [token]]);
  });
  return runs;
}

describe('episodes', () => {
  it('alternate what the policy and the environment say, ids as they are', async () => {
    const samples = await roll();
    expect(samples.map(({ group }) => group)).toEqual(
      Array.from({ length: 18 }, (_, i) => Math.floor(i / 6)),
    );
    const turns = samples.map((sample) => runsOf(sample));
    for (const runs of turns) {
      runs.forEach(([value, tokens], k) => {
        expect(value).toBe(k % 2 === 0 ? 1 : 0);
        if (value === 0) expect(tokens).toEqual([9, 8, 2 + (k - 1) / 2]);
        else expect(tokens.length).toBeLessThanOrEqual(4);
      });
    }
    // Episodes of one turn, which the environment ended, and of all three.
    expect(turns.some((runs) => runs.length === 1 && runs[0]![1][0] === wanted)).toBe(true);
    expect(turns.some((runs) => runs.length === 5)).toBe(true);
  });

  it('have the log-probabilities that the trainer computes from the whole', async () => {
    const samples = await roll();
    const computed = await policy.logprobs(samples);
    samples.forEach(({ tokens, mask, logprobs }, i) => {
      for (let t = 0; t < tokens.length; t++) {
        if (mask![t]) expect(logprobs[t]).toBeCloseTo(computed[i]![t]!, 5);
        else expect(logprobs[t]).toBe(0);
      }
    });
  });

  it('are the same for the same seed, and others for another', async () => {
    const ids = (samples: Sample<number>[]) => samples.map(({ tokens }) => [...tokens]);
    expect(ids(await roll())).toEqual(ids(await roll()));
    expect(ids(await roll(undefined, undefined, { seed: 6 }))).not.toEqual(ids(await roll()));
  });

  it('end at the limit of tokens and turns', async () => {
    const talkative: Environment<number> = () => ({ respond: () => ({ tokens: Int32Array.of(9, 9, 9) }) });
    for (const { tokens, finishReason, mask } of await roll({ maxTurns: 9, turnTokens: 4 }, talkative)) {
      expect(tokens.length).toBeLessThanOrEqual(24);
      expect(finishReason).toBe('length');
      // Never ends with what the environment said.
      expect(mask!.at(-1)).toBe(1);
    }
    const [one] = await roll({ maxTurns: 1, turnTokens: 24 }, talkative);
    expect(runsOf(one!).length).toBe(1);
  });

  it('report a group as soon as its episodes are over, and fail with what that throws', async () => {
    const seen: number[] = [];
    await roll(undefined, undefined, {
      onGroup: (group: Sample<number>[]) => void seen.push(group[0]!.group),
    });
    expect([...seen].sort()).toEqual([0, 1, 2]);
    const failed = roll(undefined, undefined, {
      onGroup: async () => {
        throw new AnnealError('no reward');
      },
    });
    await expect(failed).rejects.toThrow('no reward');
    await expect(
      roll(undefined, () => ({
        respond: () => {
          throw new Error('broken environment');
        },
      })),
    ).rejects.toThrow('broken environment');
  });

  it('are learnt from, but for what the environment said', async () => {
    const phase = grpoPhase(
      grpoOptions(policy, {
        rollout: episodes(policy, counting, { maxTurns: 2, turnTokens: 3 }),
        maxTokens: 12,
        reward: (all) => all.map(({ tokens }) => (tokens[0] === wanted ? 1 : 0)),
        samples: 8,
      }),
    );
    const rewards: number[] = [];
    for (let step = 0; step < 30; step++) {
      const { metrics } = await phase({
        step,
        phase: 'x',
        phaseStep: step,
        policies: {},
        seed: () => step,
        signal: new AbortController().signal,
        emit: () => undefined,
      });
      rewards.push(metrics.reward!);
      expect(metrics.sampleDifference ?? 0).toBeLessThan(1e-5);
    }
    expect(rewards.slice(0, 2).reduce((a, b) => a + b) / 2).toBeLessThan(0.5);
    expect(rewards.slice(-3).reduce((a, b) => a + b) / 3).toBeGreaterThan(0.9);
  });

  it('need turns', () => {
    expect(() => episodes(policy, counting, { maxTurns: 0 })).toThrow('maxTurns is 0');
  });
});

describe('evaluatePolicy', () => {
  it('measures avg, pass and maj at k of sampled answers', async () => {
    const answers: { key: string | null; isCorrect: boolean }[] = [];
    const metrics = await evaluatePolicy(policy, promptsAt(1, 0, 5), {
      samples: 4,
      maxTokens: 3,
      answer: ({ tokens }) => {
        const one = { key: tokens.length < 3 ? null : String(tokens[0]), isCorrect: tokens[0] === wanted };
        answers.push(one);
        return one;
      },
    });
    expect(answers.length).toBe(20);
    const right = answers.filter(({ isCorrect }) => isCorrect).length;
    expect(metrics.accuracy).toBeCloseTo(right / 20, 9);
    expect(metrics.answered).toBeCloseTo(answers.filter(({ key }) => key !== null).length / 20, 9);
    const any = [0, 1, 2, 3, 4].filter((i) =>
      answers.slice(4 * i, 4 * i + 4).some(({ isCorrect }) => isCorrect),
    );
    expect(metrics['pass@4']).toBeCloseTo(any.length / 5, 9);
    expect(Object.keys(metrics)).toEqual(['accuracy', 'answered', 'pass@2', 'pass@4', 'maj@4']);
  });
});
