import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { crossEntropy, grad, int32, program, Rng, sgd, type Value, type Variable } from '../../src/index.js';
import {
  cacheBytesPerToken,
  flopsPerToken,
  type LanguageModelConfig,
  llamaConfig,
  parameterCount,
  presetConfig,
  presets,
  resolveConfig,
  Transformer,
} from '../../src/models/index.js';
import { countParameters, parametersOf, toOutputMajor } from '../../src/nn/index.js';

/** A model recorded by test/golden/record_transformer.py, whose docstring describes the fields. */
interface Recorded {
  name: string;
  config: LanguageModelConfig;
  causal: boolean;
  tokens: number[];
  targets: number[];
  weights: number[];
  documents?: number[][];
  prefix?: number[];
  positions?: number[][];
  logits: number[];
  loss: number;
  grads: Record<string, number[]>;
}

const { models } = JSON.parse(
  readFileSync(new URL('../golden/transformer.json', import.meta.url), 'utf8'),
) as { models: Recorded[] };

/** The weights that the recording script uses. */
function setWeights(parameters: ReadonlyMap<string, Variable>): void {
  [...parameters].forEach(([name, variable], number) => {
    const gain = variable.rank === 1 && name.endsWith('weight') ? 1 : 0;
    for (let i = 0; i < variable.size; i++) {
      const value = 0.4 * Math.sin(0.7 * i + 1.3 * number);
      variable.data[i] = Math.floor(1000 * value + 0.5) / 1000 + gain;
    }
  });
}

function expectClose(got: ArrayLike<number>, want: readonly number[], relative: number, label: string): void {
  expect(got.length, label).toBe(want.length);
  const largest = want.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-3);
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!);
    if (!(error <= relative * largest)) expect.fail(`${label}[${i}]: ${got[i]} against ${want[i]}`);
  }
}

const shape = [2, 6];
const optional = (recorded: Recorded) => {
  const { documents, prefix, positions } = recorded;
  return Object.entries({ documents, prefix, positions }).filter(([, value]) => value);
};

describe('a transformer agrees with PyTorch', () => {
  it.each(models.map((m) => m.name))('%s', async (name) => {
    const recorded = models.find((m) => m.name === name)!;
    const model = new Transformer(recorded.config, { initialize: false });
    const parameters = parametersOf(model);
    expect([...parameters.keys()]).toEqual(Object.keys(recorded.grads));
    setWeights(parameters);
    const extra = optional(recorded);
    const inputs = {
      tokens: int32(shape),
      targets: int32(shape),
      weights: shape,
      ...Object.fromEntries(extra.map(([key]) => [key, int32(key === 'prefix' ? [2] : shape)])),
    };
    const run = program(inputs, ({ tokens, targets, weights, ...rest }) => {
      const logits = model.forward(tokens!, { causal: recorded.causal, ...rest });
      const rows = crossEntropy(logits, targets!, { reduction: 'none' });
      const loss = rows.mul(weights!).mean();
      const grads = grad(loss, Object.fromEntries(parameters));
      return { logits, loss, ...grads };
    });
    const results: Record<string, Value> = await run({
      tokens: Int32Array.from(recorded.tokens),
      targets: Int32Array.from(recorded.targets),
      weights: Float32Array.from(recorded.weights),
      ...Object.fromEntries(
        extra.map(([key, value]) => [key, Int32Array.from((value as number[][]).flat())]),
      ),
    });
    expect(results.logits!.shape).toEqual([2, 6, recorded.config.vocabulary]);
    expectClose(results.logits!.data, recorded.logits, 4e-6, 'logits');
    expectClose(results.loss!.data, [recorded.loss], 2e-6, 'loss');
    for (const [key, want] of Object.entries(recorded.grads))
      expectClose(results[key]!.data, want, 1e-5, key);
    run.dispose();

    // The layout for decoding computes the same.
    toOutputMajor(model);
    const again = program(inputs, ({ tokens, targets: _targets, weights: _weights, ...rest }) => ({
      logits: model.forward(tokens!, { causal: recorded.causal, ...rest }),
    }));
    const feeds = {
      tokens: Int32Array.from(recorded.tokens),
      targets: new Int32Array(12),
      weights: new Float32Array(12),
      ...Object.fromEntries(
        extra.map(([key, value]) => [key, Int32Array.from((value as number[][]).flat())]),
      ),
    };
    expectClose((await again(feeds)).logits!.data, recorded.logits, 4e-6, 'logits, output by output');
    again.dispose();
  });
});

describe('the parameters of a model', () => {
  const tiny = presetConfig('tiny');

  it('are named by their paths, a tied head once', () => {
    const model = new Transformer(tiny, { initialize: false });
    const names = [...parametersOf(model).keys()];
    expect(names.slice(0, 3)).toEqual([
      'embedding.weight',
      'layers.0.attentionNorm.weight',
      'layers.0.attention.q.weight',
    ]);
    expect(names.at(-1)).toBe('norm.weight');
    expect(names.filter((name) => /head|rope|config/.test(name))).toEqual([]);
    expect(new Set(names).size).toBe(1 + 9 * 3 + 1);
    const untied = parametersOf(new Transformer({ ...tiny, tied: false }, { initialize: false }));
    expect(untied.get('head.weight')!.shape).toEqual([64, 256]);
    expect(untied.get('layers.2.mlp.down.weight')!.name).toBe('layers.2.mlp.down.weight');
  });

  it('are counted by parameterCount as they are', () => {
    const variants: Partial<LanguageModelConfig>[] = [
      {},
      { tied: false, qkvBias: true, kvHeads: 1 },
      { norm: 'layer', mlp: 'gelu', positions: 'learned' },
      { qkNorm: true, headDim: 20, mlp: 'relu2' },
      { attention: 'alibi', keyConvolution: 3 },
      { attention: 'fox' },
      { attention: 'path' },
      { attention: 'path-fox', kvHeads: 1, qkNorm: true },
      { attention: 'stick-breaking', qkvBias: true },
    ];
    for (const variant of variants) {
      const config = { ...tiny, ...variant };
      expect(parameterCount(config)).toBe(countParameters(new Transformer(config, { initialize: false })));
    }
    // Published sizes.
    expect(parameterCount(presets['smollm2-135m'])).toBe(134_515_008);
    expect(parameterCount(presets['qwen2.5-0.5b'])).toBe(494_032_768);
    expect(parameterCount(presets['qwen3-0.6b'])).toBe(596_049_920);
    expect(parameterCount(presets['llama-3.2-1b'])).toBe(1_235_814_400);
  });

  it('cost what a count by hand gives', () => {
    const config = { vocabulary: 10, dim: 8, layers: 2, heads: 2, kvHeads: 1, hidden: 12, context: 5 };
    // Products of a layer: q 8x8, k and v 8x4 each, o 8x8, three of 8x12; head 8x10. Scores: 1 … 5 keys, 3 on average.
    const products = 2 * (2 * (64 + 32 + 32 + 64 + 3 * 96) + 80);
    const attention = 2 * (2 * 2 * 4 * 3 * 2);
    expect(flopsPerToken(config)).toBe(products + attention);
    expect(flopsPerToken(config, { training: true })).toBe(3 * (products + attention));
    expect(cacheBytesPerToken(config)).toBe(2 * 2 * 4 * 4);
  });
});

describe('a new model', () => {
  const config = llamaConfig({ vocabulary: 300, dim: 96, layers: 8, context: 32 });
  const fingerprint = (model: Transformer) =>
    Object.fromEntries(
      [...parametersOf(model)].map(([name, v]) => [name, Buffer.from(v.read().buffer).toString('base64')]),
    );

  it('starts from the documented distributions', () => {
    const model = new Transformer(
      { ...config, qkvBias: true, tied: false, norm: 'layer', positions: 'learned' },
      { rng: new Rng(4) },
    );
    for (const [name, variable] of parametersOf(model)) {
      const n = variable.size;
      const values = variable.data as Float32Array;
      const mean = values.reduce((s, v) => s + v, 0) / n;
      const std = Math.sqrt(values.reduce((s, v) => s + (v - mean) ** 2, 0) / n);
      if (variable.rank === 1) {
        const value = name.endsWith('.bias') ? 0 : 1;
        expect([mean, std], name).toEqual([value, 0]);
        continue;
      }
      const expected = /attention\.o\.|mlp\.down\./.test(name) ? 0.02 / Math.sqrt(16) : 0.02;
      // Five standard errors of either estimate.
      expect(Math.abs(mean), name).toBeLessThan((5 * expected) / Math.sqrt(n));
      expect(Math.abs(std / expected - 1), name).toBeLessThan(5 / Math.sqrt(2 * n));
    }
  });

  it('is the same for the same seed, and each weight whatever else there is', () => {
    const one = fingerprint(new Transformer(config, { rng: new Rng(4) }));
    expect(fingerprint(new Transformer(config, { rng: new Rng(4) }))).toEqual(one);
    const used = new Rng(4);
    used.normal(10);
    expect(fingerprint(new Transformer(config, { rng: used }))).toEqual(one);
    const other = fingerprint(new Transformer(config, { rng: new Rng(5) }));
    expect(other['layers.0.mlp.up.weight']).not.toEqual(one['layers.0.mlp.up.weight']);
    expect(one['layers.0.mlp.up.weight']).not.toEqual(one['layers.1.mlp.up.weight']);
    // One layer less and a head more: the weights that both have agree, but for what scales with depth.
    const shorter = fingerprint(new Transformer({ ...config, layers: 7, tied: false }, { rng: new Rng(4) }));
    expect(shorter['layers.6.mlp.gate.weight']).toEqual(one['layers.6.mlp.gate.weight']);
    expect(shorter['embedding.weight']).toEqual(one['embedding.weight']);
  });

  it('predicts nothing yet', async () => {
    const model = new Transformer(config);
    const run = program({ tokens: int32([2, 32]), targets: int32([2, 32]) }, ({ tokens, targets }) => ({
      loss: crossEntropy(model.forward(tokens), targets),
    }));
    const rng = new Rng(1);
    const { loss } = await run({ tokens: rng.integers(64, 0, 300), targets: rng.integers(64, 0, 300) });
    expect(Math.abs(loss.item() - Math.log(300))).toBeLessThan(0.1);
    run.dispose();
  });
});

describe('micro-batches', () => {
  it.each([2, 4])('%i give the loss and the update of the whole batch, with weighted tokens', async (n) => {
    const rng = new Rng(9);
    const [rows, length] = [4, 8];
    // Weights whose mean over the whole batch is 1, very unequal between its parts.
    const raw = rng.uniform(rows * length).map((w, i) => (i < length ? 0 : w * (i / length)));
    const mean = raw.reduce((s, w) => s + w, 0) / raw.length;
    const feeds = {
      tokens: rng.integers(rows * length, 0, 256),
      targets: rng.integers(rows * length, 0, 256),
      weights: raw.map((w) => w / mean),
    };
    const update = async (microBatches: number) => {
      const model = new Transformer(presetConfig('tiny', { layers: 2 }), { rng: new Rng(2) });
      const optimizer = sgd(1);
      const step = program(
        { tokens: int32([rows, length]), targets: int32([rows, length]), weights: [rows, length] },
        ({ tokens, targets, weights }) => {
          const rows = crossEntropy(model.forward(tokens), targets, { reduction: 'none' });
          const loss = rows.mul(weights).mean();
          optimizer.minimize(loss, [...parametersOf(model).values()]);
          return { loss };
        },
        { microBatches },
      );
      const { loss } = await step(feeds);
      step.dispose();
      return { loss: loss.item(), parameters: parametersOf(model) };
    };
    const [whole, parts] = [await update(1), await update(n)];
    expect(Math.abs(whole.loss - parts.loss)).toBeLessThan(1e-5);
    for (const [name, variable] of whole.parameters) {
      const other = parts.parameters.get(name)!.data;
      const worst = (variable.data as Float32Array).reduce(
        (m, v, i) => Math.max(m, Math.abs(v - other[i]!)),
        0,
      );
      expect(worst, name).toBeLessThan(1e-5);
    }
  });
});

describe('mistakes are named', () => {
  const config = presetConfig('tiny');
  const faults: [Partial<LanguageModelConfig> & Record<string, unknown>, RegExp][] = [
    [{ heads: 3 }, /dim 64 does not divide into 3 heads/],
    [{ heads: 4, kvHeads: 3 }, /kvHeads 3 must divide heads 4/],
    [{ layers: 0 }, /layers is 0; it must be a positive integer/],
    [{ hidden: 2.5 }, /hidden is 2.5/],
    [{ headDim: 5 }, /headDim 5 is odd/],
    [{ mlp: 'swish' as never }, /mlp is "swish"; it must be one of swiglu, gelu, relu2/],
    [{ attention: 'linear' as never }, /attention is "linear"/],
    [{ norm: 'batch' as never }, /norm is "batch"/],
    [{ positions: 'alibi' as never }, /positions is "alibi"/],
    [{ ropeBase: 0 }, /ropeBase is 0/],
    [{ ropeScaling: { type: 'linear', factor: 0.5 } }, /ropeScaling.factor is 0.5; it must be 1 or more/],
    [{ ropeScaling: { type: 'ntk' as never, factor: 2 } }, /ropeScaling.type is "ntk"/],
    [{ ropeScaling: { type: 'yarn', factor: 2, originalContext: -1 } }, /ropeScaling.originalContext is -1/],
    [{ width: 3 }, /unknown field width/],
  ];

  it.each(faults)('config %j', (change, message) => {
    expect(() => resolveConfig({ ...config, ...change } as LanguageModelConfig)).toThrow(message);
  });

  it('presets and inputs', async () => {
    expect(() => presetConfig('gpt-9')).toThrow(/no model preset "gpt-9"; there are tiny,/);
    const model = new Transformer({ ...config, positions: 'learned', context: 4 }, { initialize: false });
    const trace = (shape: number[], options: object, type = int32(shape)) =>
      program({ tokens: type }, ({ tokens }) => ({ y: model.forward(tokens, options) })).compile({
        tokens: type.dtype === 'int32' ? new Int32Array(shape[0]! * shape[1]!) : new Float32Array(2),
      });
    await expect(trace([1, 5], {})).rejects.toThrow(
      /5 tokens in a row, but the model has learned 4 positions/,
    );
    await expect(trace([1, 2], {}, { dtype: 'float32', shape: [1, 2] })).rejects.toThrow(
      /tokens must be int32 \[B, T\]/,
    );
  });
});
