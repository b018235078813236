import { describe, expect, it } from 'vitest';
import {
  add,
  checkpoint,
  concat,
  constant,
  crossEntropy,
  grad,
  int32,
  interpret,
  layerNorm,
  matmul,
  mul,
  program,
  Rng,
  randn,
  rmsNorm,
  silu,
  softmax,
  split,
  square,
  stopGradient,
  sum,
  type Tensor,
  tensor,
  type Variable,
  valueAndGrad,
  variable,
  vjp,
} from '../../src/index.js';

const numbers = (t: Tensor): number[] => [...interpret([t])[0]!.data];

const double = (values: ArrayLike<number>, shape: readonly number[]): Tensor =>
  constant(Float64Array.from(values), shape, 'float64');

function expectClose(got: readonly number[], want: readonly number[], tolerance: number): void {
  expect(got).toHaveLength(want.length);
  got.forEach((value, i) => {
    expect(Math.abs(value - want[i]!), `[${i}]: ${value} against ${want[i]}`).toBeLessThanOrEqual(
      tolerance * Math.max(1, Math.abs(want[i]!)),
    );
  });
}

describe('gradient of a gradient', () => {
  const size = 6;
  const point = Float64Array.from(new Rng(1).uniform(size, -1, 1));
  const direction = Float64Array.from(new Rng(2).normal(size));
  const w = double(new Rng(3).normal(9), [3, 3]);
  const ones = double([1, 0.5, 2], [3]);

  const functions: Record<string, (x: Tensor) => Tensor> = {
    polynomial: (x) => sum(mul(square(x), x)),
    'two layers': (x) => sum(square(matmul(matmul(x, w).tanh(), w).sigmoid())),
    // Reverse rules of these are composites whose inputs depend on each other.
    softmax: (x) => sum(mul(softmax(x), square(softmax(x)))),
    'softmax cubed': (x) => {
      const y = softmax(x);
      return sum(mul(y, mul(y, y)));
    },
    silu: (x) => sum(square(silu(matmul(silu(x), w)))),
    gelu: (x) =>
      sum(square(matmul(x, w)))
        .tanh()
        .add(sum(x.mul(x).sigmoid())),
    rmsNorm: (x) => sum(square(rmsNorm(rmsNorm(x, ones, 0.1).tanh(), ones, 0.1)).mul(x)),
    layerNorm: (x) => sum(layerNorm(x.tanh(), ones, ones, 0.1).mul(square(x))),
  };

  it.each(Object.keys(functions))('is the Hessian times a vector: %s', (name) => {
    const f = functions[name]!;
    const x = double(point, [2, 3]);
    const first = grad(f(x), x);
    const product = numbers(grad(sum(mul(first, double(direction, [2, 3]))), x));
    const step = 1e-5;
    const shifted = (delta: number) => {
      const moved = double(
        point.map((value, i) => value + delta * direction[i]!),
        [2, 3],
      );
      return numbers(grad(f(moved), moved));
    };
    const [up, down] = [shifted(step), shifted(-step)];
    expectClose(
      product,
      up.map((value, i) => (value - down[i]!) / (2 * step)),
      1e-7,
    );
  });

  it('counts a tensor that is several inputs of one op once per input', () => {
    const x = double([0.3, -0.2, 0.5], [3]);
    const y = softmax(x);
    // The vector-Jacobian product with y itself: softmaxGrad(y, y).
    const [g] = vjp([y], [x], [y]);
    const analytic = numbers(grad(sum(mul(g!, double([1, 2, -1], [3]))), x));
    const at = (i: number, delta: number) => {
      const moved = double(
        [0.3, -0.2, 0.5].map((v, k) => (k === i ? v + delta : v)),
        [3],
      );
      const p = softmax(moved);
      return numbers(sum(mul(vjp([p], [moved], [p])[0]!, double([1, 2, -1], [3]))))[0]!;
    };
    expectClose(
      analytic,
      [0, 1, 2].map((i) => (at(i, 1e-5) - at(i, -1e-5)) / 2e-5),
      1e-8,
    );
  });

  it('third derivatives', () => {
    const x = double([2], [1]);
    const fourth = [1, 2, 3].reduce((y) => sum(grad(sum(y), x)), square(square(x)));
    expect(numbers(fourth)).toEqual([48]);
  });
});

describe('grad', () => {
  it('has the structure of what it differentiates by', () => {
    const a = tensor([1, 2]);
    const b = tensor([3, 4]);
    const loss = sum(mul(a, b));
    expect(numbers(grad(loss, a))).toEqual([3, 4]);
    expect(grad(loss, [a, b]).map(numbers)).toEqual([
      [3, 4],
      [1, 2],
    ]);
    const named = grad(loss, { a, b });
    expect(Object.keys(named)).toEqual(['a', 'b']);
    expect([numbers(named.a), numbers(named.b)]).toEqual([
      [3, 4],
      [1, 2],
    ]);
    expect(grad(loss, [])).toEqual([]);
  });

  it('works by intermediate tensors, by the loss itself and by one tensor twice', () => {
    const x = tensor([1, 2]);
    const y = x.mul(3);
    const loss = sum(square(y));
    expect(grad(loss, [y, x, loss, x]).map(numbers)).toEqual([[6, 12], [18, 36], [1], [18, 36]]);
  });

  it('is zero where nothing depends on a tensor', () => {
    const x = tensor([1, 2]);
    const other = tensor([[1], [2]]);
    const [gx, go] = grad(sum(square(x)), [x, other]);
    expect(numbers(gx)).toEqual([2, 4]);
    expect([numbers(go), go.shape, go.dtype]).toEqual([[0, 0], [2, 1], 'float32']);
  });

  it('takes losses of one element and any rank, and float64', () => {
    const x = tensor([[2, 3]]);
    expect(numbers(grad(matmul(x, x, { transposeB: true }), x))).toEqual([4, 6]);
    const y = double([0.1], []);
    expect(numbers(grad(mul(y, y), y))).toEqual([0.2]);
  });

  it('stops at stopGradient', () => {
    const x = tensor([2, 3]);
    expect(numbers(grad(sum(mul(x, stopGradient(x))), x))).toEqual([2, 3]);
    expect(numbers(grad(sum(stopGradient(square(x))), x))).toEqual([0, 0]);
  });

  it('adds up where paths meet, and takes several outputs of one node', () => {
    const x = tensor([1, 2, 3]);
    const [a, b, c] = split(x, 3);
    // b takes no part; d/dx of x0·x2² + Σ x.
    const loss = add(sum(mul(a!, square(c!))), sum(concat([a!, x.slice([1, 3])])));
    expect(b!.shape).toEqual([1]);
    expect(numbers(grad(loss, x))).toEqual([10, 1, 7]);
  });

  it.each([
    ['a vector', () => tensor([1, 2]), 'float32[2]'],
    ['integers', () => tensor(Int32Array.of(1)), 'int32[1]'],
  ])('refuses %s as the loss, and names the line that made it', (_, make, type) => {
    const loss = make();
    expect(() => grad(loss, tensor([1]))).toThrow(
      new RegExp(`^grad: the loss must be one float, not ${type.replaceAll('[', '\\[')}; reduce it with`),
    );
    expect(() => grad(loss, tensor([1]))).toThrow(/\(at .*test\/core\/autodiff\.test\.ts:\d+:\d+\)$/);
  });

  it('computes only what is asked for', async () => {
    const w = variable(randn([3, 2]), { name: 'w' });
    const step = program({ x: [4, 3] }, ({ x }) => {
      const loss = sum(square(matmul(x, w)));
      return { g: grad(loss, w) };
    });
    await step.compile({ x: new Float32Array(12) });
    // The gradient of x would be one more product, with w transposed.
    expect(step.text()).toMatchInlineSnapshot(`
      "%0: f32[4,2] = matmul(x, w) {alpha: 1}
      %1: f32[4,2] = add(%0, %0)
      %2: f32[3,2] = matmul(x, %1) {transA: true, alpha: 1}
      g = %2"
    `);
  });

  it('goes through no part of the graph that w does not reach', async () => {
    const w = variable(randn([2]), { name: 'w' });
    const step = program({ x: [2] }, ({ x }) => {
      const loss = sum(mul(x.tanh().exp().sigmoid(), w));
      return { g: grad(loss, w) };
    });
    await step.compile({ x: new Float32Array(2) });
    expect(step.text()).toMatchInlineSnapshot(`
      "%0: f32[2] = tanh(x)
      %1: f32[2] = exp(%0)
      %2: f32[2] = sigmoid(%1)
      g = %2"
    `);
  });
});

describe('vjp', () => {
  it('adds the products of several outputs', () => {
    const x = tensor([1, 2]);
    const w = tensor([3, 4]);
    const unused = tensor([0]);
    const outputs = [square(x), mul(x, w)];
    const [gx, gw, none] = vjp(outputs, [x, w, unused], [tensor([1, 10]), tensor([100, 1000])]);
    // 2·x·c₀ + w·c₁ and x·c₁.
    expect([numbers(gx!), numbers(gw!), none]).toEqual([[302, 4040], [100, 2000], undefined]);
  });

  it('takes an output that another output is made of', () => {
    const x = tensor([3]);
    const y = square(x);
    expect(numbers(vjp([y, square(y)], [x], [tensor([1]), tensor([1])])[0]!)).toEqual([6 + 4 * 27]);
  });

  it('refuses cotangents of another shape', () => {
    const x = tensor([1, 2]);
    expect(() => vjp([x], [x], [tensor([1])])).toThrow('vjp: cotangent 0 has shape [1], its output [2]');
  });
});

it('valueAndGrad gives the value and the gradients of all arguments', () => {
  const f = valueAndGrad((a: Tensor, b: Tensor) => sum(mul(square(a), b)));
  const { value, grads } = f(tensor([1, 2]), tensor([3, 5]));
  expect(numbers(value)).toEqual([23]);
  expect(grads.map(numbers)).toEqual([
    [6, 20],
    [1, 4],
  ]);
});

describe('checkpoint', () => {
  const width = 16;
  const rows = 512;
  const blocks = 6;

  /** An MLP of six residual blocks; each runs through `wrap`. */
  function mlp(wrap: (body: () => Tensor) => Tensor) {
    const rng = new Rng(4);
    const weight = (i: number, name: string, shape: number[]): Variable =>
      variable(randn(shape, { std: 0.2, rng }), { name: `${name}${i}` });
    const weights = Array.from({ length: blocks }, (_, i) => [
      weight(i, 'up', [width, 4 * width]),
      weight(i, 'down', [4 * width, width]),
    ]);
    const head = weight(0, 'head', [width, 10]);
    const all = [...weights.flat(), head];
    return program(
      { x: [rows, width], y: int32([rows]) },
      ({ x, y }) => {
        let h = x;
        for (const [up, down] of weights) {
          h = wrap(() => add(h, matmul(silu(matmul(h, up!)).tanh(), down!)));
        }
        const loss = crossEntropy(matmul(h, head), y);
        const grads = grad(loss, all);
        grads.forEach((g, i) => {
          all[i]!.assign(all[i]!.sub(g.mul(0.1)));
        });
        const outputs: Record<string, Tensor> = { loss };
        grads.forEach((g, i) => {
          outputs[all[i]!.name] = g;
        });
        return outputs;
      },
      { name: 'mlp' },
    );
  }

  const feeds = {
    x: new Rng(5).normal(rows * width),
    y: Int32Array.from({ length: rows }, (_, i) => i % 10),
  };

  it('changes no value and saves memory', async () => {
    const plain = mlp((body) => body());
    const saving = mlp(checkpoint);
    for (let i = 0; i < 3; i++) {
      const [a, b] = [await plain(feeds), await saving(feeds)];
      expect(Object.keys(b)).toEqual(Object.keys(a));
      for (const name of Object.keys(a)) expect(b[name]!.data, name).toEqual(a[name]!.data);
    }
    const [all, kept] = [plain.report(), saving.report()];
    // Without: two tensors of [rows, 4·width] per block. With: the blocks' inputs, and one block's tensors.
    expect(kept.peakBytes).toBeLessThan(0.6 * all.peakBytes);
    expect(kept.flops).toBeGreaterThan(1.15 * all.flops);
    plain.dispose();
    saving.dispose();
  });

  it('computes the forward pass twice, the second time after the gradient has arrived', async () => {
    const plain = mlp((body) => body());
    const saving = mlp(checkpoint);
    await Promise.all([plain.compile(feeds), saving.compile(feeds)]);
    const count = (text: string, op: string) => text.match(new RegExp(`= ${op}\\(`, 'g'))?.length ?? 0;
    expect([count(plain.text(), 'silu'), count(saving.text(), 'silu')]).toEqual([blocks, 2 * blocks]);
    expect([count(plain.text(), 'tanh'), count(saving.text(), 'tanh')]).toEqual([blocks, 2 * blocks]);
    expect([count(plain.text(), 'after'), count(saving.text(), 'after')]).toEqual([0, blocks]);
    // All first computations come before all second ones.
    const lines = saving.text().split('\n');
    const where = lines.flatMap((line, i) => (line.includes('= silu(') ? [i] : []));
    const firstAfter = lines.findIndex((line) => line.includes('= after('));
    expect(where.filter((i) => i < firstAfter)).toHaveLength(blocks);
    plain.dispose();
    saving.dispose();
  });

  it('nests: an inner region is part of the outer one', () => {
    const x = double([0.5, -0.25], [2]);
    const inner = (t: Tensor) => checkpoint(() => t.tanh().exp());
    const loss = sum(checkpoint(() => square(inner(inner(x)).sigmoid())));
    const same = sum(square(x.tanh().exp().tanh().exp().sigmoid()));
    expect(numbers(loss)).toEqual(numbers(same));
    expectClose(numbers(grad(loss, x)), numbers(grad(same, x)), 1e-15);
  });

  it('differentiates twice', () => {
    const x = double([0.5, -0.25], [2]);
    const f = (wrap: typeof checkpoint) => sum(wrap(() => square(x.tanh()).exp()));
    const hessian = (loss: Tensor) => numbers(grad(sum(square(grad(loss, x))), x));
    expectClose(hessian(f(checkpoint)), hessian(f((body) => body())), 1e-14);
  });

  it('takes regions deeper than the call stack', () => {
    const x = double([1], [1]);
    const deep = checkpoint(() => {
      let y = x;
      for (let i = 0; i < 20_000; i++) y = add(y, x);
      return y;
    });
    expect(numbers(grad(sum(deep), x))).toEqual([20_001]);
  });
});
