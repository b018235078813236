import { afterAll, describe, expect, it } from 'vitest';
import {
  type GrpoOptions,
  grpoPhase,
  type PhaseContext,
  type Policy,
  type PolicyOptions,
  perSample,
  type TrainingSample,
} from '../../src/rl/index.js';
import { grpoOptions, promptsAt, shareOfWanted, tinyPolicy, wanted } from './tiny-run.js';

const policies: Policy[] = [];
const make = (options: Partial<PolicyOptions> = {}): Policy => {
  const policy = tinyPolicy(1, options);
  policies.push(policy);
  return policy;
};
afterAll(async () => {
  for (const policy of policies) await policy.dispose();
});

const contextAt = (step: number, signal = new AbortController().signal): PhaseContext => ({
  step,
  phase: 'grpo',
  phaseStep: step,
  policies: {},
  seed: (...parts) => parts.reduce<number>((n, part) => 31 * n + String(part).length, 1000 + step),
  signal,
  emit: () => undefined,
});

const weightsOf = (policy: Policy) => [...policy.parameters.values()].flatMap((p) => [...p.data]);

/** A policy that also notes the batches of its updates. */
function watched(policy: Policy) {
  const batches: (readonly TrainingSample[])[] = [];
  const watching: GrpoOptions<number>['policy'] = {
    tokenizer: policy.tokenizer,
    loss: policy.loss,
    get updates() {
      return policy.updates;
    },
    rollout: (...args) => policy.rollout(...args),
    logprobs: (...args) => policy.logprobs(...args),
    update: (batch, options) => {
      batches.push(batch);
      return policy.update(batch, options);
    },
  };
  return { watching, batches };
}

interface Row {
  group: number;
  reward: number;
  rewards: Record<string, number>;
  advantage: number | null;
  isUsed: boolean;
  tokens: number;
  finishReason: string;
}
const step = async (options: GrpoOptions<number>, n = 0) => {
  const { metrics, samples } = await grpoPhase(options)(contextAt(n));
  return { metrics, rows: samples as unknown as Row[] };
};

describe('grpoPhase', () => {
  it.each(['grpo', 'dr-grpo', 'rloo', 'reinforce++'] as const)(
    '%s learns what is rewarded',
    async (advantage) => {
      const phase = grpoPhase(grpoOptions(make(), { advantage, samples: 8 }));
      const rewards: number[] = [];
      for (let n = 0; n < 40; n++) {
        const { metrics } = await phase(contextAt(n));
        rewards.push(metrics.reward!);
        // What the sampler said is what the trainer computes.
        expect(metrics.sampleDifference).toBeLessThan(1e-5);
      }
      // By chance a twelfth of the tokens are the wanted one.
      expect(rewards.slice(0, 3).reduce((a, b) => a + b, 0) / 3).toBeLessThan(0.3);
      expect(rewards.slice(-3).reduce((a, b) => a + b, 0) / 3).toBeGreaterThan(0.8);
    },
    60_000,
  );

  it('gives the update what the estimators say', async () => {
    const { watching, batches } = watched(make());
    const { rows } = await step(grpoOptions(watching as Policy, { advantage: 'dr-grpo' }));
    const [batch] = batches as [readonly TrainingSample[]];
    expect(batch.length).toBe(12);
    for (const group of [0, 1, 2]) {
      const own = rows.filter((row) => row.group === group);
      const mean = own.reduce((sum, { reward }) => sum + reward, 0) / 4;
      batch.forEach((sample, i) => {
        if (sample.group !== group) return;
        expect(sample.oldLogprobs).toBeUndefined();
        for (let t = 0; t < sample.tokens.length; t++) {
          expect(sample.advantages[t]).toBeCloseTo(rows[i]!.reward - mean, 6);
          // Dr. GRPO: 12 samples, a constant of 6 tokens.
          expect(sample.weights[t]).toBeCloseTo(1 / (12 * 6), 7);
        }
      });
    }
  });

  it('has a row for every sample, with every component of its reward', async () => {
    const options = grpoOptions(make(), {
      reward: {
        wanted: shareOfWanted,
        short: { reward: perSample(({ tokens }) => (tokens.length > 3 ? null : 1)), weight: 0.5 },
      },
      row: ({ example }) => ({ example }),
    });
    const { metrics, rows } = await step(options);
    expect(rows.length).toBe(12);
    for (const row of rows) {
      const { wanted: share, short } = row.rewards;
      expect(row.reward).toBeCloseTo(share! + 0.5 * (short ?? 0), 9);
      expect(row).toMatchObject({ example: row.group, isUsed: true });
    }
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    expect(metrics.reward).toBeCloseTo(mean(rows.map(({ reward }) => reward)), 9);
    expect(metrics['reward.wanted']).toBeCloseTo(mean(rows.map(({ rewards }) => rewards.wanted!)), 9);
    expect(metrics['reward.short']).toBe(1);
    expect(metrics.length).toBeCloseTo(mean(rows.map(({ tokens }) => tokens)), 9);
    expect(metrics.truncated).toBeCloseTo(rows.filter((row) => row.finishReason === 'length').length / 12, 9);
    for (const name of ['ms.rollout', 'ms.reward', 'ms.update', 'gradNorm', 'entropy', 'lr', 'loss'])
      expect(metrics[name], name).toBeTypeOf('number');
  });

  it('scores groups while others are still being sampled', async () => {
    const policy = make();
    const running: number[] = [];
    const reward = (samples: readonly unknown[]) => {
      const { active, waiting } = policy.sampling;
      running.push(active + waiting);
      return samples.map(() => 1);
    };
    await step(grpoOptions(policy, { reward, prompts: () => promptsAt(0, 0, 6) }));
    expect(running.length).toBe(6);
    expect(running[0]).toBeGreaterThan(0);
  });

  it('with several updates a rollout measures ratios against the policy that sampled', async () => {
    const { watching, batches } = watched(make({ loss: { clip: { low: 0.05, high: 0.05 } } }));
    const { metrics } = await step(
      grpoOptions(watching as Policy, { updatesPerRollout: 2, miniBatches: 3, samples: 8 }),
    );
    expect(metrics.updates).toBe(6);
    // Each mini-batch holds one whole group, with weights of its own.
    expect(batches.map((batch) => [...new Set(batch.map(({ group }) => group))])).toEqual([
      [0],
      [1],
      [2],
      [0],
      [1],
      [2],
    ]);
    for (const batch of batches) {
      const total = batch.flatMap(({ weights }) => [...weights]).reduce((a, b) => a + b, 0);
      expect(total).toBeCloseTo(1, 5);
      expect(batch.every(({ oldLogprobs }) => oldLogprobs)).toBe(true);
    }
    expect(metrics.clipFraction).toBeGreaterThan(0);
    expect(metrics.approximateKl).toBeGreaterThan(0);
    // Only of the first update, before the weights moved.
    expect(metrics.sampleDifference).toBeLessThan(1e-5);
  });

  it('at another temperature trains the distribution that was sampled', async () => {
    const { watching, batches } = watched(make());
    await step(grpoOptions(watching as Policy, { sampling: { temperature: 0.7 }, updatesPerRollout: 2 }));
    // The weights that sampled, once more.
    const same = make();
    const [plain, warm] = [
      await same.logprobs(batches[0]!),
      await same.logprobs(batches[0]!, { temperature: 0.7 }),
    ];
    batches[0]!.forEach(({ oldLogprobs, sampledLogprobs }, i) => {
      expect(sampledLogprobs).toBeUndefined();
      oldLogprobs!.forEach((value, t) => {
        expect(value).toBeCloseTo(warm[i]![t]!, 5);
      });
    });
    expect(warm[0]![0]).not.toBeCloseTo(plain[0]![0]!, 3);
  });

  it('puts a KL to the reference into the loss, or into the reward', async () => {
    const loss = make({ reference: 'initial', loss: { kl: { coefficient: 0.1, estimator: 'k3' } } });
    const options = grpoOptions(loss);
    const first = (await step(options, 0)).metrics.kl!;
    const later = (await step(options, 1)).metrics.kl!;
    expect(first).toBeCloseTo(0, 6);
    expect(later).toBeGreaterThan(1e-5);

    const { watching, batches } = watched(make({ reference: 'initial' }));
    const inReward = grpoOptions(watching as Policy, {
      advantage: 'dr-grpo',
      klReward: { coefficient: 0.5 },
      reward: perSample(() => 1),
    });
    await step(inReward, 0);
    // The policy is its reference, and all rewards are equal: nothing to learn.
    expect(batches[0]!.flatMap(({ advantages }) => [...advantages]).every((a) => Math.abs(a) < 1e-5)).toBe(
      true,
    );
    await step({ ...inReward, reward: shareOfWanted }, 1);
    await step(inReward, 2);
    const last = batches[2]!.flatMap(({ advantages }) => [...advantages]);
    expect(Math.max(...last.map(Math.abs))).toBeGreaterThan(1e-4);
  });
});

describe('groups without a signal', () => {
  const flat = perSample<number>(() => 0.25);

  it('all of them, kept: no gradient', async () => {
    const policy = make();
    const { metrics, rows } = await step(grpoOptions(policy, { reward: flat }));
    expect(metrics).toMatchObject({ zeroVariance: 1, updates: 1, gradNorm: 0, rounds: 1 });
    expect(rows.every(({ advantage }) => advantage === 0)).toBe(true);
  });

  it('all of them, dropped: no update, and the policy stays as it is', async () => {
    const policy = make({ loss: { entropy: 0.1 } });
    const before = weightsOf(policy);
    const { metrics, rows } = await step(grpoOptions(policy, { reward: flat, zeroVariance: 'drop' }));
    expect(metrics).toMatchObject({ zeroVariance: 1, updates: 0, reward: 0.25 });
    expect(metrics.loss).toBeUndefined();
    expect(policy.updates).toBe(0);
    expect(weightsOf(policy)).toEqual(before);
    expect(rows.every(({ isUsed, advantage }) => !isUsed && advantage === null)).toBe(true);
  });

  it('are sampled again, up to the cap', async () => {
    const asked: number[] = [];
    const prompts = (n: number, round: number) => {
      asked.push(round);
      return promptsAt(n, round);
    };
    const { metrics, rows } = await step(
      grpoOptions(make(), { reward: flat, zeroVariance: { resample: 2 }, prompts }),
    );
    expect(asked).toEqual([0, 1, 2]);
    expect(metrics).toMatchObject({ rounds: 3, updates: 0, zeroVariance: 1 });
    expect(new Set(rows.map(({ group }) => group)).size).toBe(9);
  });

  it('are replaced by groups that teach something', async () => {
    // Rewards differ in groups of example 1 only; three of them are wanted, one comes a round.
    const reward = perSample<number>(({ example, tokens }) => (example === 1 ? tokens[0]! : 0));
    const { watching, batches } = watched(make());
    const { metrics, rows } = await step(
      grpoOptions(watching as Policy, { reward, zeroVariance: { resample: 5 } }),
    );
    expect(metrics.rounds).toBe(3);
    expect([...new Set(batches[0]!.map(({ group }) => group))]).toEqual([1, 4, 7]);
    expect(rows.filter(({ isUsed }) => isUsed).length).toBe(12);
    // No token of the others counts.
    const total = batches[0]!.flatMap(({ weights }) => [...weights]).reduce((a, b) => a + b, 0);
    expect(total).toBeCloseTo(1, 5);
  });
});

describe('extreme completions', () => {
  it('empty ones: a stop token at once', async () => {
    // Every token but 0 ends: nearly all completions are one token long.
    const stopTokens = Array.from({ length: 11 }, (_, i) => i + 1);
    const reward = perSample<number>(({ tokens }) => (tokens[0] === wanted ? 1 : 0));
    const options = grpoOptions(make(), { sampling: { stopTokens }, reward, samples: 8 });
    const { metrics } = await step(options);
    expect(metrics.lengthMin).toBe(1);
    expect(Number.isFinite(metrics.gradNorm)).toBe(true);
  });

  it('truncated ones: all left out make no update; penalised and zeroed they change the reward', async () => {
    const { watching, batches } = watched(make());
    const options = grpoOptions(watching as Policy, { maxTokens: 2, sampling: {} });
    const masked = await step({ ...options, overlong: { kind: 'mask' } });
    expect(masked.metrics).toMatchObject({ truncated: 1, updates: 0, lengthMin: 2, lengthMax: 2 });
    expect(masked.rows.every(({ isUsed }) => !isUsed)).toBe(true);
    expect(batches.length).toBe(0);
    const zero = await step({ ...options, overlong: { kind: 'zero' } });
    expect(zero.metrics).toMatchObject({ reward: 0, zeroVariance: 1 });
    const soft = await step({
      ...options,
      reward: perSample(() => 1),
      overlong: { kind: 'penalty', buffer: 1 },
    });
    // The limit itself costs 1.
    expect(soft.metrics.reward).toBe(0);
  });

  it('a single sample a group teaches nothing', async () => {
    const { metrics } = await step(grpoOptions(make(), { samples: 1, zeroVariance: 'drop' }));
    expect(metrics).toMatchObject({ zeroVariance: 1, updates: 0 });
  });
});

describe('rewards that fail', () => {
  it.each([
    [
      'throws',
      perSample<number>(() => {
        throw new Error('broken');
      }),
      'failed: broken',
    ],
    ['hangs', perSample<number>(() => new Promise(() => undefined)), 'gave no answer within 30 ms'],
    ['is NaN', perSample<number>(() => Number.NaN), 'is NaN'],
  ])(
    'one that %s ends the step with an error that names the sample; nothing has changed',
    async (_, reward, message) => {
      const policy = make();
      const before = weightsOf(policy);
      const failed = step(grpoOptions(policy, { reward: { quality: reward }, rewardTimeoutMs: 30 }));
      await expect(failed).rejects.toThrow(`reward "quality" ${message}`);
      await expect(failed).rejects.toThrow(/on sample 0 of prompt \d/);
      expect(weightsOf(policy)).toEqual(before);
      // The policy can go on.
      expect((await step(grpoOptions(policy))).metrics.updates).toBe(1);
    },
  );

  it('null for everything: nothing to learn, nothing to report', async () => {
    const { metrics } = await step(
      grpoOptions(make(), { reward: perSample(() => null), zeroVariance: 'drop' }),
    );
    expect(metrics.reward).toBeUndefined();
    expect(metrics.updates).toBe(0);
  });

  it('refuses impossible settings', async () => {
    await expect(step(grpoOptions(policies[0]!, { prompts: () => [] }), 7)).rejects.toThrow(
      'no prompts for step 7',
    );
    expect(() => grpoPhase(grpoOptions(policies[0]!, { updatesPerRollout: 0 }))).toThrow('updatesPerRollout');
    expect(() => grpoPhase(grpoOptions(policies[0]!, { samples: 1.5 }))).toThrow('samples');
  });

  it('a run that ends does not update', async () => {
    const end = new AbortController();
    const policy = make();
    const reward = perSample<number>(() => {
      end.abort(new Error('the end'));
      return 1;
    });
    await expect(grpoPhase(grpoOptions(policy, { reward }))(contextAt(0, end.signal))).rejects.toThrow(
      'the end',
    );
    expect(policy.updates).toBe(0);
  });
});
