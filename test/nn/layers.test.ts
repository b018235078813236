import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AnnealError, grad, interpret, program, Rng, type Tensor, tensor, zeros } from '../../src/index.js';
import {
  Embedding,
  initialize,
  LayerNorm,
  Linear,
  MLP,
  modulesOf,
  OutputMajorLinear,
  parameter,
  parametersOf,
  RMSNorm,
  SwiGLU,
  timesTransposed,
  toOutputMajor,
} from '../../src/nn/index.js';

const values = (t: Tensor) => [...interpret([t])[0]!.data];
const close = (got: number[], want: number[], digits = 6) => {
  expect(got.length).toBe(want.length);
  got.forEach((v, i) => {
    expect(v).toBeCloseTo(want[i]!, digits);
  });
};

describe('layers', () => {
  it('Linear multiplies by [in, out] and adds its bias', () => {
    const layer = new Linear(2, 3, { bias: true });
    layer.weight.set([1, 2, 3, 4, 5, 6]);
    layer.bias!.set([10, 20, 30]);
    expect(values(layer.apply(tensor([[1, 1]])))).toEqual([15, 27, 39]);
    expect(layer.apply(zeros([4, 5, 2])).shape).toEqual([4, 5, 3]);
    expect(() => layer.apply(zeros([4, 3]))).toThrow(
      /a projection from 2 to 3 was given \[4,3\]; its last axis must be 2/,
    );
    expect([...parametersOf(new Linear(2, 3)).keys()]).toEqual(['weight']);
  });

  it('Embedding looks up, and multiplies with every vector as a head', () => {
    const table = new Embedding(3, 2);
    table.weight.set([1, 2, 3, 4, 5, 6]);
    expect(values(table.apply(tensor(Int32Array.of(2, 0))))).toEqual([5, 6, 1, 2]);
    expect(values(table.logits(tensor([[1, -1]])))).toEqual([-1, -1, -1]);
  });

  it('norms start as plain normalisations', () => {
    close(values(new RMSNorm(2, 1e-9).apply(tensor([[3, 4]]))), [3 / Math.sqrt(12.5), 4 / Math.sqrt(12.5)]);
    close(values(new LayerNorm(2, 1e-9).apply(tensor([[3, 5]]))), [-1, 1]);
  });

  it('MLPs compute their formulas', () => {
    const gated = new SwiGLU(1, 2);
    const parameters = parametersOf(gated);
    expect([...parameters.keys()]).toEqual(['gate.weight', 'up.weight', 'down.weight']);
    parameters.get('gate.weight')!.set([1, -1]);
    parameters.get('up.weight')!.set([2, 3]);
    parameters.get('down.weight')!.set([1, 10]);
    const silu = (v: number) => v / (1 + Math.exp(-v));
    close(values(gated.apply(tensor([[0.5]]))), [silu(0.5) * 1 + 10 * silu(-0.5) * 1.5]);
    const plain = new MLP(1, 2, (x) => x.mul(x));
    expect([...parametersOf(plain).keys()]).toEqual(['up.weight', 'down.weight']);
    parametersOf(plain).get('up.weight')!.set([1, 2]);
    parametersOf(plain).get('down.weight')!.set([1, 1]);
    expect(values(plain.apply(tensor([[3]])))).toEqual([45]);
  });
});

describe('weights stored output by output', () => {
  it('give the same products and gradients for every number of rows', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 120 }),
        fc.integer({ min: 1, max: 9 }),
        fc.constantFrom(1, 5, 16384),
        async (rows, inputs, outputs) => {
          const rng = new Rng(rows);
          const [x, w] = [rng.normal(rows * inputs), rng.normal(outputs * inputs)];
          const run = program({ x: [rows, inputs], w: [outputs, inputs] }, ({ x, w }) => {
            const y = timesTransposed(x, w);
            const plain = x.matmul(w.transpose());
            const grads = [y, plain].map((t) => grad(t.mul(t).mean(), [x, w]));
            const error = (a: Tensor, b: Tensor) => a.sub(b).abs().max();
            return {
              y: error(y, plain),
              x: error(grads[0]![0]!, grads[1]![0]!),
              w: error(grads[0]![1]!, grads[1]![1]!),
            };
          });
          const errors = await run({ x, w });
          run.dispose();
          for (const name of ['y', 'x', 'w'] as const) expect(errors[name].item()).toBeLessThan(1e-4);
        },
      ),
      { numRuns: 20, seed: 1 },
    );
  });

  it('replace all linear layers of a model, keeping names, biases and other modules', () => {
    const model = {
      first: new Linear(2, 3, { bias: true }),
      inner: { list: [new Linear(3, 1)] },
      e: new Embedding(2, 2),
    };
    initialize(model, { rng: new Rng(1) });
    const { bias } = model.first;
    const x = tensor([[0.3, -2]]);
    const before = values(model.first.apply(x));
    const names = [...parametersOf(model).keys()];
    expect(toOutputMajor(model)).toBe(2);
    expect([...parametersOf(model).keys()]).toEqual(names);
    expect([...parametersOf(model).values()].map((v) => v.name)).toEqual(names);
    expect(model.first.weight.role).toBe('matrix');
    expect(model.first).toBeInstanceOf(OutputMajorLinear);
    expect(model.first.weight.shape).toEqual([3, 2]);
    expect(model.first.bias).toBe(bias);
    close(values(model.first.apply(x)), before, 7);
    expect(toOutputMajor(model)).toBe(0);
  });
});

describe('initialize', () => {
  it('scales what writes into the residual stream by 1/sqrt(2 layers)', () => {
    const model = { plain: new Linear(100, 100), residual: new Linear(100, 100, { residual: true }) };
    initialize(model, { rng: new Rng(1), std: 0.5, layers: 8 });
    const std = (layer: Linear) =>
      Math.sqrt((layer.weight.data as Float32Array).reduce((s, v) => s + v ** 2, 0) / 1e4);
    expect(std(model.plain)).toBeCloseTo(0.5, 1);
    expect(std(model.residual) / std(model.plain)).toBeCloseTo(0.25, 1);
  });

  it('refuses a parameter that it has no rule for', () => {
    const odd = { part: { scale: parameter([3, 3], 'matrix') } };
    expect(() => initialize(odd, { rng: new Rng(0) })).toThrow(AnnealError);
    expect(() => initialize(odd, { rng: new Rng(0) })).toThrow(/no rule for the parameter part.scale/);
  });
});

describe('modules', () => {
  it('are walked by path, shared ones once', () => {
    const shared = new Linear(2, 2);
    const model = { a: [shared, new Linear(2, 2)], b: { again: shared }, note: 'text' };
    expect([...parametersOf(model).keys()]).toEqual(['a.0.weight', 'a.1.weight']);
    expect([...modulesOf(model).keys()]).toEqual(['', 'a', 'a.0', 'a.1', 'b']);
    expect(parametersOf(model).get('a.1.weight')!.name).toBe('a.1.weight');
  });
});
