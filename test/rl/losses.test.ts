import { describe, expect, it } from 'vitest';
import { grad, program, Rng, sgd, type Tensor, tensor, variable } from '../../src/index.js';
import {
  type Aggregation,
  type PolicyLossInputs,
  type PolicyLossOptions,
  policyLoss,
  tokenWeights,
} from '../../src/rl/index.js';

/** Values of the loss on one row of tokens, each of weight 1 / n, and the gradient with respect to the log-probabilities. */
async function evaluate(
  rows: {
    ratio: number[][];
    advantages: number[][];
    reference?: number[][];
    entropies?: number[][];
    weights?: number[][];
  },
  options: PolicyLossOptions,
) {
  const shape = [rows.ratio.length, rows.ratio[0]!.length];
  const flat = (values: number[][]) => Float32Array.from(values.flat());
  const size = shape[0]! * shape[1]!;
  // Old log-probabilities are −2, so that new ones are −2 + log ratio.
  const logprobs = variable(tensor(flat(rows.ratio.map((row) => row.map((r) => -2 + Math.log(r)))), shape));
  const fixed = (values?: number[][]) => values && tensor(flat(values), shape);
  const run = program({}, () => {
    const inputs: PolicyLossInputs = {
      logprobs,
      oldLogprobs: fixed(rows.ratio.map((row) => row.map(() => -2)))!,
      advantages: fixed(rows.advantages)!,
      weights: fixed(rows.weights ?? rows.ratio.map((row) => row.map(() => 1)))!,
      ...(rows.reference && { referenceLogprobs: fixed(rows.reference)! }),
      ...(rows.entropies && { entropies: fixed(rows.entropies)! }),
    };
    const losses = policyLoss(inputs, options);
    const outputs: Record<string, Tensor> = { ...losses, gradient: grad(losses.loss, [logprobs])[0]! };
    return outputs;
  });
  const values = await run({});
  const number = (name: string) => values[name]?.item() ?? Number.NaN;
  const gradient = [...(values.gradient!.data as Float32Array)].map((g) => g * size);
  run.dispose();
  return { number, gradient };
}

const near = (actual: readonly number[], expected: readonly number[]) => {
  expect(actual.length).toBe(expected.length);
  expected.forEach((value, i) => {
    expect(actual[i], `element ${i}`).toBeCloseTo(value, 5);
  });
};

describe('policyLoss', () => {
  it('clips the ratio only where that lowers the objective', async () => {
    // Limits 0.8 and 1.2. Losses max(−Aρ, −A clip ρ):
    // A = 1: ρ 0.5 → max(−0.5, −0.8) = −0.5 (free); 1.1 → −1.1 (inside); 1.5 → max(−1.5, −1.2) = −1.2 (clipped).
    // A = −1: ρ 0.5 → max(0.5, 0.8) = 0.8 (clipped); 1.1 → 1.1; 1.5 → max(1.5, 1.2) = 1.5 (free).
    const ratio = [[0.5, 1.1, 1.5, 0.5, 1.1, 1.5]];
    const { number, gradient } = await evaluate({ ratio, advantages: [[1, 1, 1, -1, -1, -1]] }, {});
    expect(number('loss')).toBeCloseTo((-0.5 - 1.1 - 1.2 + 0.8 + 1.1 + 1.5) / 6, 5);
    expect(number('clipFraction')).toBeCloseTo(2 / 6, 5);
    // ∂(−Aρ)/∂log p = −Aρ; a clipped token has none.
    near(gradient, [-0.5, -1.1, 0, 0, 1.1, 1.5]);
    // k3 of the old policy's samples: ρ − 1 − log ρ.
    const k3 = (r: number) => r - 1 - Math.log(r);
    expect(number('approximateKl')).toBeCloseTo((k3(0.5) + k3(1.1) + k3(1.5)) / 3, 5);
  });

  it('takes asymmetric limits', async () => {
    // 1.25 lies below 1.28 and above 1.2; 0.75 below 0.8.
    const { number, gradient } = await evaluate(
      { ratio: [[1.25, 1.5, 0.75]], advantages: [[1, 1, -2]] },
      { clip: { low: 0.2, high: 0.28 } },
    );
    expect(number('loss')).toBeCloseTo((-1.25 - 1.28 + 1.6) / 3, 5);
    near(gradient, [-1.25, 0, 0]);
  });

  it('dual clip bounds the loss of negative advantages', async () => {
    // A = −1, ρ = 5: max(5, 1.2) = 5, but at most 3. ρ = 2: 2. A = 1, ρ = 5: −1.2, untouched.
    const { number, gradient } = await evaluate(
      { ratio: [[5, 2, 5]], advantages: [[-1, -1, 1]] },
      { clip: { low: 0.2, high: 0.2, dual: 3 } },
    );
    expect(number('loss')).toBeCloseTo((3 + 2 - 1.2) / 3, 5);
    expect(number('clipFraction')).toBeCloseTo(2 / 3, 5);
    near(gradient, [0, 2, 0]);
  });

  it('without limits is importance sampling', async () => {
    const { number, gradient } = await evaluate(
      { ratio: [[5, 0.1]], advantages: [[1, -1]] },
      { clip: 'none' },
    );
    expect(number('loss')).toBeCloseTo((-5 + 0.1) / 2, 5);
    near(gradient, [-5, 0.1]);
  });

  it('CISPO keeps the gradient of clipped tokens', async () => {
    // Factor clip(ρ) is a constant: gradient −A clip(ρ) everywhere.
    const { number, gradient } = await evaluate(
      { ratio: [[1.5, 0.5, 1]], advantages: [[1, 1, -1]] },
      { surrogate: 'cispo' },
    );
    near(gradient, [-1.2, -0.8, 1]);
    expect(number('clipFraction')).toBeCloseTo(2 / 3, 5);
    const logp = [1.5, 0.5, 1].map((r) => -2 + Math.log(r));
    expect(number('loss')).toBeCloseTo((-1.2 * logp[0]! - 0.8 * logp[1]! + logp[2]!) / 3, 4);
  });

  it('GSPO: one ratio a sequence, over the tokens that count', async () => {
    // Row 0: ratios 2 and ½ have the geometric mean 1; row 1: 1.5, and a token that does not count.
    // Losses: −1 · 1 for both tokens of row 0; row 1: A = 1: clipped to −1.2.
    const { number, gradient } = await evaluate(
      {
        ratio: [
          [2, 0.5],
          [1.5, 9],
        ],
        advantages: [
          [1, 1],
          [1, 1],
        ],
        weights: [
          [1, 1],
          [2, 0],
        ],
      },
      { ratio: 'sequence' },
    );
    expect(number('loss')).toBeCloseTo((-1 - 1 - 2 * 1.2) / 4, 5);
    // Each token of row 0 moves s = exp(mean log ρ) by s/2, and s enters two losses: −(½ + ½).
    near(gradient, [-1, -1, 0, 0]);
  });

  it.each([
    // d = reference − log p = −1 and 0.5; advantages 0. Gradients: k1: 1; k2: −d; k3: −(e^d − 1).
    ['k1', [1, -0.5], [1, 1]],
    ['k2', [0.5, 0.125], [1, -0.5]],
    ['k3', [Math.exp(-1), Math.exp(0.5) - 1.5], [1 - Math.exp(-1), 1 - Math.exp(0.5)]],
  ] as const)('adds the KL by %s', async (estimator, terms, slopes) => {
    const { number, gradient } = await evaluate(
      { ratio: [[1, 1]], advantages: [[0, 0]], reference: [[-3, -1.5]] },
      { kl: { coefficient: 0.1, estimator } },
    );
    expect(number('kl')).toBeCloseTo((terms[0] + terms[1]) / 2, 5);
    expect(number('loss')).toBeCloseTo((0.1 * (terms[0] + terms[1])) / 2, 5);
    near(
      gradient,
      slopes.map((slope) => 0.1 * slope),
    );
  });

  it('subtracts the entropy', async () => {
    const { number } = await evaluate(
      { ratio: [[1, 1]], advantages: [[1, -1]], entropies: [[0.5, 1.5]], weights: [[2, 0]] },
      { entropy: 0.1 },
    );
    // (−2 · 1 + 0) / 2 − 0.1 · (2 · 0.5) / 2
    expect(number('loss')).toBeCloseTo(-1 - 0.05, 5);
    expect(number('entropy')).toBeCloseTo(0.5, 5);
  });

  it('says what is missing', () => {
    const t = tensor(new Float32Array(2), [1, 2]);
    const inputs = { logprobs: t, advantages: t, weights: t };
    expect(() => policyLoss(inputs, { kl: { coefficient: 1, estimator: 'k3' } })).toThrow(
      'referenceLogprobs',
    );
    expect(() => policyLoss(inputs, { entropy: 1 })).toThrow('entropies');
    expect(() => policyLoss({ ...inputs, weights: tensor(new Float32Array(2), [2, 1]) })).toThrow(
      'weights [2,1]',
    );
    expect(() => policyLoss(inputs, { clip: { low: 0.2, high: 0.2, dual: 1 } })).toThrow('dual 1');
  });
});

const rng = new Rng(3);
const [B, T] = [8, 6];
const lengths = [6, 1, 3, 0, 5, 2, 6, 4];
const masks = lengths.map((n) => Float32Array.from({ length: T }, (_, t) => (t < n ? 1 : 0)));
const table = rng.split('table').normal(T * 5);
const batch = {
  features: rng.split('features').normal(B * T * 5),
  old: rng
    .split('old')
    .normal(B * T)
    .map((x) => -2 + 0.3 * x),
  reference: rng
    .split('reference')
    .normal(B * T)
    .map((x) => -2 + 0.3 * x),
  advantages: rng.split('advantages').normal(B * T),
};

/** One update of a small model by a real program, in some micro-batches; the weights after it. */
async function update(aggregation: Aggregation, microBatches: number, options: PolicyLossOptions) {
  const w = variable(tensor(Float32Array.from(table.subarray(0, 5)), [5]), { name: 'w' });
  const optimizer = sgd(0.5);
  const shape = [null, T] as const;
  const step = program(
    { features: [null, T, 5], old: shape, reference: shape, advantages: shape, weights: shape },
    ({ features, old, reference, advantages, weights }) => {
      const logprobs = features.mul(w).sum(-1).mul(0.1).sub(2);
      const entropies = logprobs.mul(-0.5);
      const inputs = {
        logprobs,
        oldLogprobs: old,
        referenceLogprobs: reference,
        advantages,
        weights,
        entropies,
      };
      const losses = policyLoss(inputs, options);
      const { gradNorm } = optimizer.minimize(losses.loss, [w]);
      return { ...losses, gradNorm } as Record<string, Tensor>;
    },
    { microBatches },
  );
  const groups = [0, 0, 0, 0, 1, 1, 1, 1];
  const weights = tokenWeights(masks, { aggregation, constant: T, groups });
  const values = await step({
    ...batch,
    weights: Float32Array.from(weights.flatMap((row) => [...row])).map((x) => x * B * T),
  });
  step.dispose();
  return {
    loss: values.loss!.item(),
    gradNorm: values.gradNorm!.item(),
    kl: values.kl?.item() ?? 0,
    w: [...w.data],
  };
}

describe('micro-batches', () => {
  const options: PolicyLossOptions = { kl: { coefficient: 0.1, estimator: 'k3' }, entropy: 0.01 };

  it.each([
    'token-mean',
    'group-mean-token-mean',
    'sequence-mean-token-mean',
    'sequence-mean-token-sum',
    'constant',
  ] as const)(
    '%s: no split changes loss, gradient or update, though the parts have different numbers of tokens',
    async (aggregation) => {
      const whole = await update(aggregation, 1, options);
      for (const parts of [2, 4, 8]) {
        const split = await update(aggregation, parts, options);
        expect(split.loss).toBeCloseTo(whole.loss, 6);
        expect(split.gradNorm).toBeCloseTo(whole.gradNorm, 6);
        expect(split.kl).toBeCloseTo(whole.kl, 6);
        near(split.w as number[], whole.w as number[]);
      }
      // A mean over each part's own tokens would differ: the parts of 2 hold 10 and 17 tokens.
      expect(whole.gradNorm).toBeGreaterThan(1e-3);
    },
  );

  it('the whole is the weighted sum over tokens that the host computes', async () => {
    const { loss } = await update('token-mean', 4, {});
    let expected = 0;
    const total = lengths.reduce((a, b) => a + b, 0);
    masks.forEach((mask, i) => {
      for (let t = 0; t < T; t++) {
        if (mask[t] === 0) continue;
        const at = i * T + t;
        let logprob = -2;
        for (let k = 0; k < 5; k++) logprob += 0.1 * batch.features[5 * at + k]! * table[k]!;
        const r = Math.exp(logprob - batch.old[at]!);
        const a = batch.advantages[at]!;
        expected += Math.max(-a * r, -a * Math.min(1.2, Math.max(0.8, r))) / total;
      }
    });
    expect(loss).toBeCloseTo(expected, 5);
  });
});

describe('at ratio 1', () => {
  const gradients = async (make: (logprobs: Tensor, advantages: Tensor) => Tensor) => {
    const logits = variable(tensor(rng.split('logits').normal(12), [3, 4]));
    const run = program({ advantages: [3, 4] }, ({ advantages }) => ({
      gradient: grad(make(logits.sigmoid().log(), advantages), [logits])[0]!,
    }));
    const values = await run({ advantages: batch.advantages.subarray(0, 12) });
    run.dispose();
    return [...(values.gradient.data as Float32Array)];
  };
  const weights = tensor(new Float32Array(12).fill(1), [3, 4]);
  // REINFORCE: the gradient of −mean(A log p).
  const reinforce = () => gradients((logprobs, advantages) => advantages.mul(logprobs).mean().neg());

  it.each([
    ['the clipped surrogate', {}],
    ['dual clip', { clip: { low: 0.2, high: 0.28, dual: 3 } }],
    ['CISPO', { surrogate: 'cispo' }],
  ] as [string, PolicyLossOptions][])('%s has the gradient of REINFORCE', async (_, options) => {
    const actual = await gradients(
      (logprobs, advantages) => policyLoss({ logprobs, advantages, weights }, options).loss,
    );
    near(actual, await reinforce());
  });

  it('has the value −mean(A), and clips nothing', async () => {
    const run = program({ logprobs: [1, 2], advantages: [1, 2] }, ({ logprobs, advantages }) => {
      const { loss, clipFraction, approximateKl } = policyLoss({
        logprobs,
        advantages,
        weights: tensor(new Float32Array([1, 1]), [1, 2]),
      });
      return { loss, clipFraction, approximateKl };
    });
    const values = await run({ logprobs: Float32Array.of(-3, -1), advantages: Float32Array.of(1, -3) });
    expect([values.loss.item(), values.clipFraction.item(), values.approximateKl.item()]).toEqual([1, 0, 0]);
    run.dispose();
  });
});
