import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { score } from '../../src/generate/index.js';
import { AnnealError, adamW, crossEntropy, grad, int32, program, Rng, sgd, sum } from '../../src/index.js';
import { applyLora } from '../../src/nn/lora.js';
import { parametersOf } from '../../src/nn/module.js';
import { Policy, type PolicyOptions } from '../../src/rl/policy.js';
import { NonFiniteUpdateError, type TrainingSample } from '../../src/rl/policy-update.js';
import type { Sample } from '../../src/rl/sample.js';
import { tokenWeights } from '../../src/rl/token-weights.js';
import { randomTokens, SpellingTokenizer, tinyModel } from '../generate/support.js';

const policies: Policy[] = [];
function make(options: Partial<PolicyOptions> = {}, model = tinyModel()): Policy {
  const policy = new Policy(model, { optimizer: sgd(0.1), slots: 8, ...options });
  policies.push(policy);
  return policy;
}
afterAll(async () => {
  await Promise.all(policies.map((policy) => policy.dispose()));
});

const promptsOf = (lengths: readonly number[], seed = 5) =>
  lengths.map((n, i) => ({ prompt: Int32Array.from(randomTokens(new Rng(seed, i), n)), example: `e${i}` }));

const distance = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i]! - b[i]!));
  return largest;
};
const weightsOf = (policy: Policy) => [...policy.parameters.values()].flatMap((p) => [...p.data]);
const stateOf = (policy: Policy) => [...policy.optimizer.state().values()].flatMap((p) => [...p.data]);

/** Completions of uneven lengths, from three prompts. */
const sampleSome = (policy: Policy, temperature = 1, seed = 3) =>
  policy.rollout(promptsOf([4, 1, 23]), {
    samples: 4,
    maxTokens: 24,
    seed,
    temperature,
    stopTokens: [1, 2, 3],
  });

/** A batch with an advantage of its own for every token. */
function batchOf(samples: readonly Sample[], more: (sample: Sample, i: number) => object = () => ({})) {
  const masks = samples.map(({ tokens }) => new Uint8Array(tokens.length).fill(1));
  const weights = tokenWeights(masks, { aggregation: 'token-mean' });
  return samples.map((sample, i): TrainingSample => {
    const { prompt, tokens, group } = sample;
    const advantages = Float32Array.from(new Rng(8, i).normal(tokens.length, 0, 1));
    return { prompt, tokens, group, advantages, weights: weights[i]!, ...more(sample, i) };
  });
}

describe('a rollout', () => {
  it('has the log-probabilities that the trainer and a scoring pass compute', async () => {
    for (const layout of ['shared', 'rows'] as const) {
      const policy = make({ layout });
      const samples = await sampleSome(policy);
      expect(new Set(samples.map(({ tokens }) => tokens.length)).size).toBeGreaterThan(3);
      const [own, scored] = [
        await policy.logprobs(samples),
        await score(
          policy.model,
          samples.map(({ prompt, tokens }) => [...prompt, ...tokens]),
        ),
      ];
      samples.forEach(({ prompt, logprobs, tokens }, i) => {
        expect(own[i]!.length).toBe(tokens.length);
        expect(distance(own[i]!, logprobs)).toBeLessThan(1e-5);
        expect(distance(own[i]!, scored[i]!.subarray(prompt.length - 1))).toBeLessThan(1e-5);
      });
    }
  });

  it('at a temperature has the log-probabilities of logits divided by it', async () => {
    const policy = make();
    const samples = await sampleSome(policy, 0.7);
    const own = await policy.logprobs(samples, { temperature: 0.7 });
    samples.forEach(({ sampledLogprobs, logprobs }, i) => {
      expect(distance(own[i]!, sampledLogprobs)).toBeLessThan(1e-5);
      expect(distance(sampledLogprobs, logprobs)).toBeGreaterThan(1e-2);
    });
  });

  it('is ordered by prompt and sample, and a function of weights and seed alone', async () => {
    const policy = make({ slots: 3 });
    const [a, b] = [await sampleSome(policy), await sampleSome(make({ slots: 3 }))];
    expect(a.map(({ group, example }) => [group, example])).toEqual(
      [0, 1, 2].flatMap((g) => Array.from({ length: 4 }, () => [g, `e${g}`])),
    );
    expect(b).toEqual(a);
    expect(await sampleSome(policy, 1, 4)).not.toEqual(a);
    // Samples of one prompt differ, and do not depend on how many there are.
    expect(new Set(a.slice(0, 4).map(({ tokens }) => tokens.join())).size).toBe(4);
    const fewer = await policy.rollout(promptsOf([4]), {
      samples: 2,
      maxTokens: 24,
      seed: 3,
      stopTokens: [1, 2, 3],
    });
    expect(fewer.map(({ tokens }) => [...tokens])).toEqual(a.slice(0, 2).map(({ tokens }) => [...tokens]));
  });

  it('reads each prompt once', async () => {
    const policy = make();
    await policy.rollout(promptsOf([20, 30]), { samples: 4, maxTokens: 2, seed: 0 });
    expect(policy.sampling.promptTokens).toBe(19 + 29);
  });

  it('hands over groups while others are still sampled, and fails with what gets them', async () => {
    const policy = make({
      slots: 2,
      tokenizer: new SpellingTokenizer([...'abcdefghijklmnopqrstuvwxyzABCDEFG']),
    });
    const order: [number, number][] = [];
    const samples = await policy.rollout(promptsOf([3, 4, 5]), {
      samples: 2,
      maxTokens: 12,
      seed: 1,
      onGroup: (group) => {
        order.push([group[0]!.group, policy.sampling.generatedTokens]);
        expect(group.every(({ text, tokens }) => text.length === tokens.length)).toBe(true);
      },
    });
    expect(order).toEqual([
      [0, 24],
      [1, 48],
      [2, 72],
    ]);
    expect(samples.length).toBe(6);
    const failing = policy.rollout(promptsOf([3, 4, 5]), {
      samples: 2,
      maxTokens: 12,
      seed: 1,
      onGroup: () => Promise.reject(new Error('no reward')),
    });
    await expect(failing).rejects.toThrow('no reward');
    // What was under way is no more: the next rollout has all slots.
    expect((await policy.rollout(promptsOf([3]), { samples: 2, maxTokens: 3, seed: 1 })).length).toBe(2);
    expect(policy.sampling.active + policy.sampling.waiting).toBe(0);
  });

  it('ends when its signal says so', async () => {
    const policy = make({ slots: 2 });
    const stop = new AbortController();
    const groups: number[] = [];
    const samples = await policy.rollout(promptsOf([3, 4]), {
      samples: 2,
      maxTokens: 60,
      seed: 1,
      signal: stop.signal,
      onGroup: ([one]) => {
        groups.push(one!.group);
        stop.abort();
      },
    });
    expect(groups).toEqual([0]);
    expect(samples.map(({ finishReason }) => finishReason)).toEqual([
      'length',
      'length',
      'cancelled',
      'cancelled',
    ]);
  });

  it('refuses impossible options', async () => {
    const policy = make();
    await expect(policy.rollout(promptsOf([3]), { samples: 0, maxTokens: 5, seed: 1 })).rejects.toThrow(
      /samples is 0/,
    );
    await expect(policy.rollout(promptsOf([200]), { samples: 1, maxTokens: 5, seed: 1 })).rejects.toThrow(
      /leaves no room in the context/,
    );
  });
});

describe('an update', () => {
  /** w - lr · ∇ Σ weights · (-A log p), computed from whole rows without any of the policy's code. */
  async function expectedWeights(batch: readonly TrainingSample[], lr: number): Promise<number[]> {
    const model = tinyModel();
    const parameters = [...parametersOf(model).values()];
    const width = Math.max(...batch.map(({ prompt, tokens }) => prompt.length + tokens.length));
    const shape = [batch.length, width];
    const gradients = program({ tokens: int32(shape), targets: int32(shape), factors: shape }, (inputs) => {
      const losses = crossEntropy(model.forward(inputs.tokens), inputs.targets, { reduction: 'none' });
      const all = grad(sum(losses.mul(inputs.factors)), parameters);
      return Object.fromEntries(all.map((g, i) => [`${i}`, g]));
    });
    const [tokens, targets] = [new Int32Array(batch.length * width), new Int32Array(batch.length * width)];
    const factors = new Float32Array(batch.length * width);
    batch.forEach((sample, row) => {
      const all = [...sample.prompt, ...sample.tokens];
      tokens.set(all, row * width);
      targets.set(all.slice(1), row * width);
      const start = row * width + sample.prompt.length - 1;
      for (let t = 0; t < sample.tokens.length; t++)
        factors[start + t] = sample.weights[t]! * sample.advantages[t]! * (sample.mask?.[t] ?? 1);
    });
    const values = (await gradients({ tokens, targets, factors })) as Record<
      string,
      { data: ArrayLike<number> }
    >;
    gradients.dispose();
    return parameters.flatMap(({ data }, i) => Array.from(data, (w, j) => w - lr * values[`${i}`]!.data[j]!));
  }

  it.each(['shared', 'rows'] as const)('follows the gradient of A log p, with layout %s', async (layout) => {
    const policy = make({ layout });
    const before = weightsOf(policy);
    const samples = await sampleSome(policy);
    const batch = batchOf(samples, ({ tokens }, i) =>
      i === 2 ? { mask: Uint8Array.from(tokens, (_, t) => t % 2) } : {},
    );
    const expected = await expectedWeights(batch, 0.1);
    const report = await policy.update(batch);
    const after = weightsOf(policy);
    expect(distance(after, before)).toBeGreaterThan(1e-3);
    expect(distance(after, expected)).toBeLessThan(2e-6);
    // At ratio 1 the loss is the mean of -A, whatever the model says.
    const value = batch.reduce(
      (total, { advantages, weights, mask }) =>
        total - weights.reduce((sum, w, t) => sum + w * advantages[t]! * (mask?.[t] ?? 1), 0),
      0,
    );
    expect(report.loss).toBeCloseTo(value, 6);
    expect(report.lr).toBeCloseTo(0.1, 7);
    expect(report).toMatchObject({ clipFraction: 0, approximateKl: 0, microBatches: expect.any(Number) });
    expect(policy.updates).toBe(1);
  });

  it('does not depend on how it is split into micro-batches', async () => {
    const results: { weights: number[]; report: object }[] = [];
    for (const microBatchTokens of [100_000, 200, 40]) {
      const policy = make({
        microBatchTokens,
        loss: { entropy: 0.01, kl: { coefficient: 0.1, estimator: 'k3' } },
      });
      const samples = await sampleSome(policy);
      const noisy = ({ logprobs }: Sample, i: number) => ({
        oldLogprobs: logprobs.map((x, t) => x + 0.3 * Math.sin(i + t)),
        referenceLogprobs: logprobs.map((x, t) => x + 0.2 * Math.cos(i + t)),
      });
      const {
        ms: _,
        microBatches,
        computedTokens: __,
        ...report
      } = await policy.update(batchOf(samples, noisy));
      results.push({ weights: weightsOf(policy), report: { ...report, microBatches } });
    }
    const [whole, ...split] = results;
    const parts = results.map(({ report }) => (report as { microBatches: number }).microBatches);
    expect(parts[1]!).toBeGreaterThan(parts[0]!);
    expect(parts[2]).toBe(12);
    for (const { weights, report } of split) {
      expect(distance(weights, whole!.weights)).toBeLessThan(1e-5);
      for (const name of ['loss', 'gradNorm', 'clipFraction', 'approximateKl', 'kl', 'entropy'] as const) {
        const [a, b] = [report, whole!.report].map((one) => (one as Record<string, number>)[name]!);
        expect(a, name).toBeCloseTo(b!, 5);
        expect(Math.abs(b!), name).toBeGreaterThan(1e-3);
      }
    }
  });

  it('on-policy is that of a ratio of old log-probabilities, and says how far the sampler was off', async () => {
    const [a, b] = [make(), make()];
    const samples = await sampleSome(a);
    const old = await b.logprobs(samples);
    const one = await a.update(batchOf(samples, ({ logprobs }) => ({ sampledLogprobs: logprobs })));
    const other = await b.update(batchOf(samples, (_, i) => ({ oldLogprobs: old[i] })));
    expect(distance(weightsOf(a), weightsOf(b))).toBeLessThan(1e-6);
    expect(other.clipFraction).toBe(0);
    expect(Math.abs(other.approximateKl)).toBeLessThan(1e-6);
    expect(one.sampleDifference).toBeLessThan(1e-5);
    expect(other.sampleDifference).toBeUndefined();
    // Shifted on purpose, the difference is seen.
    const shifted = await a.update(
      batchOf(await sampleSome(a), ({ logprobs }, i) => ({
        sampledLogprobs: logprobs.map((x, t) => x + (i === 3 && t === 0 ? 0.25 : 0)),
      })),
    );
    expect(shifted.sampleDifference).toBeCloseTo(0.25, 4);
  });

  it('leaves out what has no part in the gradient, with the same result', async () => {
    const [a, b] = [make(), make({ loss: { entropy: 1e-30 } })];
    const samples = await sampleSome(a);
    const silent = (_: Sample, i: number) =>
      i < 8 ? { advantages: new Float32Array(samples[i]!.tokens.length) } : {};
    const [one, other] = [await a.update(batchOf(samples, silent)), await b.update(batchOf(samples, silent))];
    expect(one.computedTokens).toBeLessThan(other.computedTokens);
    expect(one.loss).toBeCloseTo(other.loss, 6);
    expect(distance(weightsOf(a), weightsOf(b))).toBeLessThan(1e-6);
    const nothing = await a.update(
      batchOf(samples, ({ tokens }) => ({ advantages: new Float32Array(tokens.length) })),
    );
    expect(nothing).toMatchObject({ loss: 0, gradNorm: 0, tokens: 0, microBatches: 0 });
  });

  it('trains the distribution at the temperature of the samples', async () => {
    const policy = make();
    const samples = await sampleSome(policy, 0.5);
    const { entropy } = await policy.update(batchOf(samples), { temperature: 0.5 });
    const plain = await make().update(batchOf(samples));
    expect(entropy).toBeLessThan(plain.entropy - 0.1);
  });

  it('that is not finite changes nothing', async () => {
    const policy = make({ optimizer: adamW({ lr: 0.01 }) });
    const samples = await sampleSome(policy);
    await policy.update(batchOf(samples));
    const [weights, state] = [weightsOf(policy), stateOf(policy)];
    const [reference] = [await policy.logprobs(samples)];
    const spoiled = (value: number) =>
      batchOf(samples).map((one, i) =>
        i === 5 ? { ...one, advantages: one.advantages.map(() => value) } : one,
      );
    // The loss is finite in the second case, the squares of the gradient are not.
    for (const value of [Number.NaN, 1e30]) {
      await expect(policy.update(spoiled(value))).rejects.toThrow(
        /update 2 of the policy: the .* is (NaN|Infinity)/,
      );
      await expect(policy.update(spoiled(value))).rejects.toBeInstanceOf(NonFiniteUpdateError);
      expect(weightsOf(policy)).toEqual(weights);
      expect(stateOf(policy)).toEqual(state);
    }
    expect(policy.updates).toBe(1);
    expect(await policy.logprobs(samples)).toEqual(reference);
    await policy.update(batchOf(samples));
    const other = make({ optimizer: adamW({ lr: 0.01 }) });
    await other.update(batchOf(samples));
    await other.update(batchOf(samples));
    expect(weightsOf(policy)).toEqual(weightsOf(other));
  });

  it('refuses samples that do not fit', async () => {
    const policy = make({ loss: { kl: { coefficient: 1, estimator: 'k3' } } });
    const samples = await sampleSome(policy);
    const fails = (batch: readonly TrainingSample[], message: RegExp) =>
      expect(policy.update(batch)).rejects.toThrow(message);
    await fails(batchOf(samples), /logprobs\(samples, \{ reference: true \}\)/);
    await fails(
      batchOf(samples, ({ logprobs }, i) => (i === 0 ? { referenceLogprobs: logprobs } : {})),
      /only some samples have referenceLogprobs, e.g. not sample 1/,
    );
    await fails(
      batchOf(samples, () => ({ advantages: new Float32Array(1) })),
      /but 1 advantages/,
    );
    await fails(
      batchOf(samples, () => ({ prompt: new Int32Array(90) })),
      /the model's context 96; cut it/,
    );
    await fails(
      batchOf(samples, () => ({ prompt: Int32Array.of(33) })),
      /token 33; ids go from 0 to 32/,
    );
  });

  it('works for kinds of attention that cannot share prompts, and for learned positions', async () => {
    for (const overrides of [
      { attention: 'stick-breaking', context: 50 },
      { positions: 'learned', context: 50 },
    ] as const) {
      const policy = make({}, tinyModel(overrides));
      const samples = await policy.rollout(promptsOf([30, 5]), { samples: 2, maxTokens: 40, seed: 1 });
      const { sampleDifference, gradNorm } = await policy.update(
        batchOf(samples, ({ logprobs }) => ({ sampledLogprobs: logprobs })),
      );
      expect(sampleDifference).toBeLessThan(1e-5);
      expect(gradNorm).toBeGreaterThan(0.01);
    }
    const other = tinyModel({ attention: 'stick-breaking' });
    expect(() => make({ layout: 'shared' }, other)).toThrow(/use 'rows'/);
  });
});

describe('a reference', () => {
  it('is the weights at the beginning', async () => {
    const policy = make({ reference: 'initial' });
    const samples = await sampleSome(policy);
    const before = await policy.logprobs(samples);
    await policy.update(batchOf(samples));
    const [own, reference] = [
      await policy.logprobs(samples),
      await policy.logprobs(samples, { reference: true }),
    ];
    expect(reference).toEqual(before);
    expect(
      distance(
        own.flatMap((x) => [...x]),
        before.flatMap((x) => [...x]),
      ),
    ).toBeGreaterThan(0.01);
    expect(await policy.logprobs(samples)).toEqual(own);
  });

  it('is the model without its adapter', async () => {
    const model = tinyModel();
    applyLora(model, { rank: 2 });
    const policy = make({ reference: 'adapter-off' }, model);
    expect([...policy.parameters.keys()].every((name) => /lora[AB]$/.test(name))).toBe(true);
    const samples = await sampleSome(policy);
    await policy.update(batchOf(samples));
    await policy.update(batchOf(samples));
    const plain = await make().logprobs(samples);
    const [own, reference] = [
      await policy.logprobs(samples),
      await policy.logprobs(samples, { reference: true }),
    ];
    const flat = (lists: readonly Float32Array[]) => lists.flatMap((x) => [...x]);
    expect(distance(flat(reference), flat(plain))).toBeLessThan(1e-6);
    expect(distance(flat(own), flat(plain))).toBeGreaterThan(1e-3);
  });

  it('has to be there', async () => {
    expect(() => make({ reference: 'adapter-off' })).toThrow(/needs a model with an adapter/);
    const policy = make();
    const samples = await sampleSome(policy);
    await expect(policy.logprobs(samples, { reference: true })).rejects.toThrow(/has no reference/);
  });
});

describe('a stored policy', () => {
  it('goes on bit for bit, with its optimiser, reference and counter', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'policy-'));
    const fresh = () =>
      make({ optimizer: adamW({ lr: (step) => step.add(1).mul(1e-3) }), reference: 'initial', slots: 3 });
    const step = async (policy: Policy, seed: number) => {
      const samples = await sampleSome(policy, 1, seed);
      const reference = await policy.logprobs(samples, { reference: true });
      const { ms: _, ...report } = await policy.update(
        batchOf(samples, (__, i) => ({ referenceLogprobs: reference[i] })),
      );
      return { samples, reference, report };
    };
    try {
      const first = fresh();
      await step(first, 0);
      await step(first, 1);
      await first.save(folder);
      const expected = [await step(first, 2), await step(first, 3)];
      const second = fresh();
      // What it had done before must not matter.
      await step(second, 9);
      await second.restore(folder);
      expect(second.updates).toBe(2);
      expect([await step(second, 2), await step(second, 3)]).toEqual(expected);
      expect(weightsOf(second)).toEqual(weightsOf(first));
      expect(stateOf(second)).toEqual(stateOf(first));
      expect(expected[1]!.report.lr).toBeCloseTo(4e-3, 8);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('is refused where files are missing', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'policy-'));
    const policy = make();
    await expect(policy.restore(folder)).rejects.toThrow(/policy.json cannot be read/);
    await expect(policy.restore(folder)).rejects.toBeInstanceOf(AnnealError);
    await rm(folder, { recursive: true });
  });
});

describe('a policy', () => {
  it('needs something to train', () => {
    const model = tinyModel();
    for (const parameter of parametersOf(model).values()) parameter.trainable = false;
    expect(() => make({}, model)).toThrow(/nothing to train/);
    expect(() => make({ microBatchTokens: 0 })).toThrow(/microBatchTokens is 0/);
  });

  it('refuses updates during a rollout', async () => {
    const policy = make();
    const samples = await sampleSome(policy);
    const running = sampleSome(policy);
    await expect(policy.update(batchOf(samples))).rejects.toThrow(/await the rollout first/);
    await running;
  });
});
