import { describe, expect, it } from 'vitest';
import { Rng as Generator } from '../../src/core/random.js';
import { score } from '../../src/generate/score.js';
import {
  adamW,
  add,
  gather,
  grad,
  int32,
  mean,
  program,
  type Rng,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  Variable,
} from '../../src/index.js';
import { Transformer } from '../../src/models/lm/transformer.js';
import { Linear, type Projection } from '../../src/nn/linear.js';
import {
  adaptersOf,
  applyLora,
  LoraLinear,
  mergeLora,
  removeLora,
  trainableParameters,
  withoutAdapters,
} from '../../src/nn/lora.js';
import { SwiGLU } from '../../src/nn/mlp.js';
import { parametersOf } from '../../src/nn/module.js';
import { PackedEmbedding, PackedLinear, PackedWeights, unpackData } from '../../src/nn/packed-linear.js';

/** Two MLPs and a head: paths as a transformer has them. */
class Tiny {
  layers: { mlp: SwiGLU }[];
  head: Projection;

  constructor(rng: Rng) {
    this.layers = [0, 1].map(() => ({ mlp: new SwiGLU(6, 10) }));
    this.head = new Linear(6, 4);
    for (const p of parametersOf(this).values()) p.set(rng.normal(p.size, 0, 0.25));
  }

  forward(x: Tensor): Tensor {
    return this.head.apply(this.layers.reduce((h, { mlp }) => add(h, mlp.apply(h)), x));
  }
}

const make = () => new Tiny(new Generator(7));
const x = new Generator(1).normal(18);

async function outputs(forward: (x: Tensor) => Tensor): Promise<Float32Array> {
  const run = program({ x: [3, 6] }, ({ x }) => ({ y: forward(x) }));
  const { y } = await run({ x });
  run.dispose();
  return y.data as Float32Array;
}

const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.max(...Array.from(a, (v, i) => Math.abs(v - b[i]!)));

/** Gives every B values, as training would. */
function perturb(model: object): void {
  const rng = new Generator(3);
  for (const { loraB } of adaptersOf(model).values()) loraB.set(rng.normal(loraB.size, 0, 0.3));
}

describe('LoraLinear', () => {
  it('adds (alpha / rank) · (x A) B, by hand', async () => {
    const base = new Linear(2, 2, { bias: true });
    base.weight.set([1, 2, 3, 4]);
    base.bias!.set([10, 20]);
    const lora = new LoraLinear(base, { rank: 1, alpha: 3, rsLora: false }, new Generator(0));
    lora.loraA.set([1, -1]);
    lora.loraB.set([2, 5]);
    const { data } = await lora.apply(tensor([[1, 3]])).value();
    // Base: [1 + 9 + 10, 2 + 12 + 20]; x A = -2; times 3 times B: [-12, -30].
    expect([...data]).toEqual([20 - 12, 34 - 30]);
  });

  it('starts with A uniform in ±1/√inputs and B zero, as PEFT does', () => {
    const { loraA, loraB } = new LoraLinear(
      new Linear(400, 8),
      { rank: 16, alpha: 16, rsLora: false },
      new Generator(0),
    );
    const a = [...loraA.data] as number[];
    expect(Math.max(...a.map(Math.abs))).toBeLessThanOrEqual(1 / 20);
    expect(Math.max(...a)).toBeGreaterThan(0.049);
    expect(Math.min(...a)).toBeLessThan(-0.049);
    const variance = a.reduce((sum, v) => sum + v * v, 0) / a.length;
    expect(variance).toBeCloseTo(1 / 400 / 3, 4);
    expect(loraB.data.every((v) => v === 0)).toBe(true);
  });
});

describe('applyLora', () => {
  it('changes nothing until B is trained, and wraps the targets only', async () => {
    const model = make();
    const before = await outputs((x) => model.forward(x));
    const adapters = applyLora(model, { rank: 2, targets: ['up', /layers\.1\.mlp\.down$/] });
    expect([...adapters.keys()]).toEqual(['layers.0.mlp.up', 'layers.1.mlp.up', 'layers.1.mlp.down']);
    expect(await outputs((x) => model.forward(x))).toEqual(before);
    perturb(model);
    expect(largestDifference(await outputs((x) => model.forward(x)), before)).toBeGreaterThan(0.01);
  });

  it('takes every projection but the head by default', () => {
    expect([...applyLora(make(), { rank: 1 }).keys()]).toEqual(
      [0, 1].flatMap((i) => ['gate', 'up', 'down'].map((name) => `layers.${i}.mlp.${name}`)),
    );
    expect([...applyLora(make(), { rank: 1, targets: ['head'] }).keys()]).toEqual(['head']);
  });

  it('scales by alpha / rank, and by alpha / √rank with rsLora', () => {
    const scaleOf = (options: object) =>
      [...applyLora(make(), { rank: 4, targets: ['head'], ...options }).values()][0]!.scale;
    expect(scaleOf({ alpha: 12 })).toBe(3);
    expect(scaleOf({ alpha: 12, rsLora: true })).toBe(6);
    expect(scaleOf({})).toBe(2);
  });

  it('depends on seed and path only', () => {
    const read = (seed: number) =>
      [...applyLora(make(), { rank: 2, seed }).values()].map(({ loraA }) => [...loraA.data]);
    const [first, second] = read(1);
    expect(read(1)[0]).toEqual(first);
    expect(read(2)[0]).not.toEqual(first);
    expect(second).not.toEqual(first);
    const alone = applyLora(make(), { rank: 2, seed: 1, targets: ['layers.0.mlp.up'] });
    expect([...alone.get('layers.0.mlp.up')!.loraA.data]).toEqual(second);
  });

  it('wraps a shared projection once', () => {
    const shared = new Linear(3, 3);
    const model = { one: { p: shared }, two: { p: shared } };
    expect(applyLora(model, { rank: 1 }).size).toBe(1);
    expect(model.one.p).toBe(model.two.p);
    expect(model.one.p).toBeInstanceOf(LoraLinear);
  });

  it('names parameters after their path and freezes the rest', () => {
    const model = make();
    applyLora(model, { rank: 2, targets: ['down'] });
    const trainable = trainableParameters(model);
    expect([...trainable.keys()]).toEqual(
      [0, 1].flatMap((i) => [`layers.${i}.mlp.down.loraA`, `layers.${i}.mlp.down.loraB`]),
    );
    expect([...trainable.values()].map((p) => p.name)).toEqual([...trainable.keys()]);
    expect(model.layers[0]!.mlp.up.outputs).toBe(10);
    removeLora(model);
    expect([...trainableParameters(model).values()]).toEqual([...parametersOf(model).values()]);
    expect([...parametersOf(model).values()].map((p) => p.name)).toEqual([...parametersOf(model).keys()]);
  });

  it('keeps what was frozen before frozen afterwards', () => {
    const model = make();
    parametersOf(model).get('head.weight')!.trainable = false;
    applyLora(model, { rank: 2 });
    mergeLora(model);
    expect([...trainableParameters(model).keys()]).not.toContain('head.weight');
    expect(trainableParameters(model).size).toBe(6);
  });

  it('refuses what it cannot do', () => {
    expect(() => applyLora(make(), { rank: 0 })).toThrow('rank is 0');
    expect(() => applyLora(make(), { rank: 1.5 })).toThrow('rank is 1.5');
    expect(() => applyLora(make(), { rank: 2, alpha: 0 })).toThrow('alpha is 0');
    expect(() => applyLora(make(), { rank: 2, targets: ['up', 'q_proj'] })).toThrow(
      'no projection matches the target "q_proj"; the model has head, gate, up, down',
    );
    expect(() => applyLora({ nothing: 1 }, { rank: 2 })).toThrow('no projection to adapt');
    const model = make();
    applyLora(model, { rank: 2 });
    expect(() => applyLora(model, { rank: 2 })).toThrow('has an adapter already');
    expect(() => mergeLora(make())).toThrow('no adapter');
  });
});

describe('an adapter', () => {
  it('merges into the same outputs to 1e-5', async () => {
    const model = make();
    applyLora(model, { rank: 3, alpha: 5 });
    perturb(model);
    const unmerged = await outputs((x) => model.forward(x));
    mergeLora(model);
    expect(adaptersOf(model).size).toBe(0);
    expect(largestDifference(await outputs((x) => model.forward(x)), unmerged)).toBeLessThan(1e-5);
  });

  it('comes off and leaves the base bit for bit', async () => {
    const model = make();
    const before = await outputs((x) => model.forward(x));
    applyLora(model, { rank: 3 });
    perturb(model);
    removeLora(model);
    expect(await outputs((x) => model.forward(x))).toEqual(before);
  });

  it('is off inside withoutAdapters, beside the adapted model in one program', async () => {
    const model = make();
    const before = await outputs((x) => model.forward(x));
    applyLora(model, { rank: 3 });
    perturb(model);
    const run = program({ x: [3, 6] }, ({ x }) => ({
      reference: withoutAdapters(model, () => model.forward(x)),
      adapted: model.forward(x),
    }));
    const { reference, adapted } = await run({ x });
    expect(reference.data).toEqual(before);
    expect(largestDifference(adapted.data, before)).toBeGreaterThan(0.01);
    expect(() =>
      withoutAdapters(model, () => {
        throw new Error('inside');
      }),
    ).toThrow('inside');
    expect([...adaptersOf(model).values()].every(({ enabled }) => enabled)).toBe(true);
  });

  it('learns by itself while the base stays bit for bit', async () => {
    const model = make();
    const goal = new Tiny(new Generator(7));
    // A target within reach: the same model with another update of the same rank.
    applyLora(goal, { rank: 2, seed: 9, targets: ['head'] });
    perturb(goal);
    applyLora(model, { rank: 2, targets: ['head'] });
    const frozen = [...parametersOf(model).values()].filter((p) => !p.trainable);
    const before = frozen.map((p) => p.read());
    const optimizer = adamW({ lr: 2e-2, weightDecay: 0 });
    const step = program({ x: [64, 6] }, ({ x }) => {
      const loss = mean(square(sub(model.forward(x), goal.forward(x))));
      optimizer.minimize(loss, [...trainableParameters(model).values()]);
      return { loss };
    });
    const rng = new Generator(5);
    const losses: number[] = [];
    for (let i = 0; i < 500; i++) losses.push((await step({ x: rng.normal(384) })).loss.item());
    expect(losses[0]).toBeGreaterThan(0.05);
    expect(losses.at(-1)).toBeLessThan(1e-4 * losses[0]!);
    frozen.forEach((p, i) => {
      expect(p.data).toEqual(before[i]);
    });
    expect(optimizer.state().size).toBe(1 + 2 * 2);
  });

  it('sits on any projection, but merges only into float32 weights', async () => {
    /** Doubles its input: a projection without a weight, as packed ones are. */
    class Double implements Projection {
      readonly inputs = 3;
      readonly outputs = 3;
      apply = (x: Tensor) => add(x, x);
    }
    const model = { layer: { a: new Double() as Projection, b: new Linear(3, 3) as Projection } };
    applyLora(model, { rank: 1, alpha: 1 });
    perturb(model);
    const [a, b] = [...adaptersOf(model).values()];
    const { data } = await model.layer.a.apply(tensor([[1, 0, 0]])).value();
    const expected = [2, 0, 0].map((v, j) => v + a!.loraA.data[0]! * a!.loraB.data[j]!);
    expect(largestDifference(data, expected)).toBeLessThan(1e-6);
    const untouched = (b!.base as Linear).weight.read();
    expect(() => mergeLora(model)).toThrow('layer.a has no float32 weight');
    expect((b!.base as Linear).weight.data).toEqual(untouched);
    expect(adaptersOf(model).size).toBe(2);
  });

  it('over packed weights computes and learns as over the same weights unpacked', async () => {
    const rng = new Generator(8);
    const values = Uint8Array.from(rng.integers(8 * 16, 0, 256));
    const data = {
      bits: 4 as const,
      block: 16,
      inputs: 32,
      outputs: 8,
      values,
      scales: rng.uniform(16, 0.01, 0.1),
    };
    const packed = new PackedLinear(new PackedWeights({ ...data, minima: rng.normal(16, 0, 0.1) }, false));
    const dense = new Linear(32, 8);
    const unpacked = unpackData(packed.weight); // [outputs, inputs]
    dense.weight.set(
      Float32Array.from({ length: 256 }, (_, i) => unpacked[(i % 8) * 32 + Math.floor(i / 8)]!),
    );
    const x = rng.normal(96);
    const measure = async (base: Projection) => {
      const model = { table: new PackedEmbedding(packed.weight), layer: { p: base } };
      expect([...applyLora(model, { rank: 2 }).keys()]).toEqual(['layer.p']);
      perturb(model);
      const parameters = [...trainableParameters(model).values()];
      expect(parameters).toHaveLength(2);
      const input = new Variable(x, 'float32', [3, 32]);
      const run = program({}, () => {
        const y = model.layer.p.apply(input);
        const [a, b, toInput] = grad(sum(square(y)), [...parameters, input]);
        return { y, a: a!, b: b!, toInput: toInput! };
      });
      return run({});
    };
    const [ours, wanted] = [await measure(packed), await measure(dense)];
    for (const name of ['y', 'a', 'b', 'toInput'] as const) {
      const scale = Math.max(...wanted[name].data.map(Math.abs));
      expect(largestDifference(ours[name].data, wanted[name].data)).toBeLessThan(1e-5 * scale);
    }
  });

  it('is seen by scores at once: applied, trained, merged and removed', async () => {
    const config = { vocabulary: 11, dim: 16, layers: 1, heads: 2, hidden: 24, context: 8 };
    const model = new Transformer(config, { rng: new Generator(1) });
    const scores = async () => (await score(model, [[1, 2, 3, 4]]))[0]!;
    const before = await scores();
    applyLora(model, { rank: 2 });
    expect(await scores()).toEqual(before);
    perturb(model);
    const adapted = await scores();
    expect(largestDifference(adapted, before)).toBeGreaterThan(1e-3);
    mergeLora(model);
    expect(largestDifference(await scores(), adapted)).toBeLessThan(1e-5);
    applyLora(model, { rank: 2 });
    perturb(model);
    removeLora(model);
    expect(largestDifference(await scores(), adapted)).toBeLessThan(1e-5);
  });

  it('passes gradients to its input', async () => {
    const model = make();
    applyLora(model, { rank: 2 });
    perturb(model);
    const merged = make();
    applyLora(merged, { rank: 2 });
    perturb(merged);
    mergeLora(merged);
    const table = new Variable(new Generator(2).normal(30), 'float32', [5, 6]);
    const gradient = async (m: Tiny) => {
      const run = program({ index: int32([3]) }, ({ index }) => {
        const [g] = grad(sum(square(m.forward(gather(table, index)))), [table]);
        return { g: g! };
      });
      return (await run({ index: Int32Array.of(1, 4, 2) })).g.data;
    };
    const [ours, reference] = [await gradient(model), await gradient(merged)];
    expect(largestDifference(ours, reference)).toBeLessThan(1e-3);
    expect(Math.max(...reference)).toBeGreaterThan(0.1);
  });
});
