import { describe, expect, it } from 'vitest';
import { topological } from '../../src/core/graph.js';
import { makeNode } from '../../src/core/op.js';
import { inputOp } from '../../src/core/ops/leaf.js';
import { optimize, type Pass, passes } from '../../src/core/passes/index.js';
import {
  algebra,
  commonSubexpressions,
  constantFolding,
  gemm,
  markers,
  matmulLayout,
} from '../../src/core/passes/simplify.js';
import { graphText } from '../../src/core/report.js';
import type { Shape } from '../../src/core/shape.js';
import type { Tensor } from '../../src/core/tensor.js';
import {
  accumulate,
  broadcastTo,
  checkpoint,
  constant,
  grad,
  identity,
  interpret,
  matmul,
  mul,
  pad,
  randn,
  stopGradient,
  sub,
  sum,
  tensor,
  transpose,
} from '../../src/index.js';

const leaf = (shape: Shape, name: string): Tensor =>
  makeNode(inputOp as never, [], { dtype: 'float32', shape }, { payload: name }).outputs[0]!;

/** Runs passes over what `build` makes of named inputs: the graph as text, and the nodes that each pass saved. */
function optimised<K extends string>(
  list: readonly Pass[],
  shapes: Record<K, Shape>,
  build: (inputs: Record<K, Tensor>) => readonly Tensor[],
): { text: string; saved: Record<string, number>; roots: Tensor[] } {
  const inputs = Object.fromEntries(
    Object.entries<Shape>(shapes).map(([name, shape]) => [name, leaf(shape, name)]),
  ) as Record<K, Tensor>;
  const names = new Map(Object.entries<Tensor>(inputs).map(([name, t]) => [t, name]));
  const { roots, savings } = optimize(build(inputs), list);
  const results = new Map(roots.map((t, i) => [`y${i}`, t]));
  const saved = Object.fromEntries(savings.map(({ pass, nodes }) => [pass, nodes]));
  return { text: graphText(names, results), saved, roots };
}

const one = { x: [2, 3] };

describe('markers', () => {
  it('drops identities, gradient stops and accumulation marks', () => {
    const { text, saved } = optimised([markers(false)], one, ({ x }) => [
      accumulate(stopGradient(identity(x)).add(1)),
    ]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[2,3] = add(x, 1)
      y0 = %0"
    `);
    expect(saved).toEqual({ markers: 3 });
  });

  it('leaves accumulation marks to programs with micro-batches', () => {
    const { text, saved } = optimised([markers(true)], one, ({ x }) => [accumulate(identity(x).add(1))]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[2,3] = add(x, 1)
      %1: f32[2,3] = accumulate(%0)
      y0 = %1"
    `);
    expect(saved).toEqual({ markers: 1 });
  });
});

describe('constants', () => {
  it('computes what depends on constants only', () => {
    const { text, saved } = optimised([constantFolding], one, ({ x }) => [
      x.mul(
        tensor([1, 4, 9])
          .sqrt()
          .add(tensor([1, 1, 1])),
      ),
    ]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[2,3] = mul(x, constant f32[3])
      y0 = %0"
    `);
    // Three constants and two nodes became one constant.
    expect(saved).toEqual({ constants: 3 });
  });

  it('keeps the values, rounded to the dtype', () => {
    const { roots } = optimised([constantFolding], one, () => [
      tensor([1, 2]).div(tensor([3, 3])),
      tensor(Int32Array.of(5, -5)).div(tensor(Int32Array.of(2, 2))),
      tensor([1, 2, 3]).greater(2),
    ]);
    expect(roots.map((t) => t.node.payload)).toEqual([
      Float32Array.of(1 / 3, 2 / 3),
      Int32Array.of(2, -2),
      Uint8Array.of(0, 0, 1),
    ]);
  });

  it('folds no more than 1,024 elements, and no broadcasts', () => {
    const big = optimised([constantFolding], {}, () => [randn([32, 33]).add(1)]);
    expect(big.text).toMatchInlineSnapshot(`
      "%0: f32[32,33] = add(constant f32[32,33], 1)
      y0 = %0"
    `);
    const wide = optimised([constantFolding], {}, () => [broadcastTo(tensor([1]), [4])]);
    expect(wide.text).toMatchInlineSnapshot(`
      "%0: f32[4] = broadcastTo(1) {shape: [4]}
      y0 = %0"
    `);
    expect([big.saved, wide.saved]).toEqual([{ constants: 0 }, { constants: 0 }]);
  });
});

describe('algebra', () => {
  it('drops neutral scalars', () => {
    const { text, saved } = optimised([algebra], one, ({ x }) => [
      x.mul(1).add(0).sub(0).div(1).tanh(),
      mul(1, x).sigmoid(),
      tensor(0).add(x).exp(),
    ]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[2,3] = tanh(x)
      %1: f32[2,3] = sigmoid(x)
      %2: f32[2,3] = exp(x)
      y0 = %0
      y1 = %1
      y2 = %2"
    `);
    expect(saved).toEqual({ algebra: 12 });
  });

  it('keeps a neutral scalar that changes the shape, and 0 - x and 1 / x', () => {
    const { text, saved } = optimised([algebra], { s: [], x: [2] }, ({ s, x }) => [
      s.mul(tensor([[1]])),
      sub(0, x),
      tensor(1).div(x),
      x.sub(1),
      x.mul(0),
    ]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[1,1] = mul(s, 1)
      %1: f32[2] = sub(0, x)
      %2: f32[2] = div(1, x)
      %3: f32[2] = sub(x, 1)
      %4: f32[2] = mul(x, 0)
      y0 = %0
      y1 = %1
      y2 = %2
      y3 = %3
      y4 = %4"
    `);
    expect(saved).toEqual({ algebra: 0 });
  });

  it('joins chains of factors', () => {
    const { text, saved } = optimised([algebra], one, ({ x }) => [mul(0.5, x.mul(3).mul(4)).tanh()]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[2,3] = mul(x, 6)
      %1: f32[2,3] = tanh(%0)
      y0 = %1"
    `);
    expect(saved).toEqual({ algebra: 4 });
  });

  it('joins views of views and double negations', () => {
    const { text, saved } = optimised([algebra], { x: [2, 3, 4] }, ({ x }) => [
      x.reshape([6, 4]).reshape([24]).tanh(),
      x.transpose([1, 2, 0]).transpose([1, 2, 0]).tanh(),
      x.transpose([1, 2, 0]).transpose([2, 0, 1]).exp(),
      x.reshape([24]).reshape([2, 3, 4]).sigmoid(),
      x.neg().neg().sqrt(),
    ]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[24] = reshape(x) {shape: [24]}
      %1: f32[24] = tanh(%0)
      %2: f32[4,2,3] = transpose(x) {permutation: [2,0,1]}
      %3: f32[4,2,3] = tanh(%2)
      %4: f32[2,3,4] = exp(x)
      %5: f32[2,3,4] = sigmoid(x)
      %6: f32[2,3,4] = sqrt(x)
      y0 = %1
      y1 = %3
      y2 = %4
      y3 = %5
      y4 = %6"
    `);
    expect(saved).toEqual({ algebra: 8 });
  });

  it('drops a broadcast that the next op does anyway', () => {
    const { text, saved } = optimised([algebra], { x: [2, 3], b: [3] }, ({ x, b }) => [
      x.add(broadcastTo(b, [2, 3])),
      broadcastTo(b, [2, 3]).div(x),
      broadcastTo(b, [2, 3]).mul(b),
    ]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[2,3] = add(x, b)
      %1: f32[2,3] = div(b, x)
      %2: f32[2,3] = broadcastTo(b) {shape: [2,3]}
      %3: f32[2,3] = mul(%2, b)
      y0 = %0
      y1 = %1
      y2 = %3"
    `);
    expect(saved).toEqual({ algebra: 2 });
  });
});

describe('common', () => {
  it('makes equal nodes and equal constants one', () => {
    const { text, saved } = optimised([commonSubexpressions], one, ({ x }) => [
      x.add(2).tanh().mul(x.add(2).tanh()),
      x.sum(0),
      x.sum(1),
      x.sum(0),
    ]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[2,3] = add(x, 2)
      %1: f32[2,3] = tanh(%0)
      %2: f32[2,3] = mul(%1, %1)
      %3: f32[3] = sum(x) {axes: [0]}
      %4: f32[2] = sum(x) {axes: [1]}
      y0 = %2
      y1 = %3
      y2 = %4
      y3 = %3"
    `);
    expect(saved).toEqual({ common: 4 });
  });

  it('does not merge recomputed nodes with the originals', () => {
    const { text, saved } = optimised([markers(false), commonSubexpressions], { x: [3] }, ({ x }) => {
      const y = checkpoint(() => x.tanh().sigmoid());
      return [y, grad(sum(y), x)];
    });
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[3] = tanh(x)
      %1: f32[3] = sigmoid(%0)
      %2: f32[1] = reshape(1) {shape: [1]}
      %3: f32[3] = broadcastTo(%2) {shape: [3]}
      %4: f32[3] = after(x, %3)
      %5: f32[3] = tanh(%4)
      %6: f32[3] = sigmoid(%5)
      %7: f32[3] = sub(1, %6)
      %8: f32[3] = mul(%6, %7)
      %9: f32[3] = mul(%3, %8)
      %10: f32[3] = mul(%5, %5)
      %11: f32[3] = sub(1, %10)
      %12: f32[3] = mul(%9, %11)
      y0 = %1
      y1 = %12"
    `);
    // Two of the three constants 1; no node.
    expect(saved).toEqual({ markers: 0, common: 2 });
  });

  it('merges nodes that one recomputation makes', () => {
    const { text, saved } = optimised([commonSubexpressions], { x: [3] }, ({ x }) => {
      const y = checkpoint(() => x.tanh().add(x.tanh()).exp());
      return [grad(sum(y), x)];
    });
    expect(text.match(/= tanh/g)).toHaveLength(1);
    expect(saved.common).toBeGreaterThan(0);
  });

  it('tells apart attributes and constants that print alike', () => {
    const { roots } = optimised([commonSubexpressions], { x: [1] }, ({ x }) => [
      pad(x, [[1, 0]], Number.NEGATIVE_INFINITY),
      pad(x, [[1, 0]], Number.POSITIVE_INFINITY),
      x.div(tensor([0])),
      x.div(tensor([-0])),
    ]);
    expect(new Set(roots).size).toBe(4);
    const [x] = roots[0]!.node.inputs;
    expect(interpret(roots, new Map([[x!, [3]]])).map(({ data }) => [...data])).toEqual([
      [-Infinity, 3],
      [Infinity, 3],
      [Infinity],
      [-Infinity],
    ]);
  });
});

describe('layout', () => {
  it('folds transposes of the last two axes into products', () => {
    const { text, saved } = optimised([matmulLayout], { a: [3, 2], b: [4, 3] }, ({ a, b }) => [
      matmul(transpose(a), transpose(b)),
      matmul(transpose(a), b, { transposeB: true }),
    ]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[2,4] = matmul(a, b) {transA: true, transB: true, alpha: 1}
      %1: f32[2,4] = matmul(a, b) {transA: true, transB: true, alpha: 1}
      y0 = %0
      y1 = %1"
    `);
    expect(saved).toEqual({ layout: 3 });
  });

  it('cancels two transposes, and leaves permutations of other axes alone', () => {
    const { text, saved } = optimised([matmulLayout], { a: [2, 3], b: [2, 2, 2] }, ({ a, b }) => [
      matmul(transpose(a), transpose(a), { transposeA: true }),
      matmul(b, transpose(b, [1, 2, 0])),
      matmul(b, transpose(b, [0, 2, 1])),
    ]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[2,2] = matmul(a, a) {transB: true, alpha: 1}
      %1: f32[2,2,2] = transpose(b) {permutation: [1,2,0]}
      %2: f32[2,2,2] = matmul(b, %1) {alpha: 1}
      %3: f32[2,2,2] = matmul(b, b) {transB: true, alpha: 1}
      y0 = %0
      y1 = %2
      y2 = %3"
    `);
    expect(saved).toEqual({ layout: 3 });
  });

  it('folds a factor into a product that is used once', () => {
    const { text, saved } = optimised([matmulLayout], { a: [2, 3], b: [3, 2] }, ({ a, b }) => {
      const shared = a.matmul(b);
      return [matmul(a, b, { scale: 2 }).mul(0.25), mul(3, b.matmul(a)), shared.mul(2), shared.tanh()];
    });
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[2,2] = matmul(a, b) {alpha: 0.5}
      %1: f32[3,3] = matmul(b, a) {alpha: 3}
      %2: f32[2,2] = matmul(a, b) {alpha: 1}
      %3: f32[2,2] = mul(%2, 2)
      %4: f32[2,2] = tanh(%2)
      y0 = %0
      y1 = %1
      y2 = %3
      y3 = %4"
    `);
    // The second product and its factor: a node and a constant each.
    expect(saved).toEqual({ layout: 4 });
  });
});

describe('gemm', () => {
  const shapes = { x: [5, 3], w: [3, 4], c: [5, 4], b: [4] };

  it('merges a residual or a bias into the product before it', () => {
    const { text, saved } = optimised([gemm], shapes, ({ x, w, c, b }) => [
      x.matmul(w).add(c),
      b.add(x.matmul(w)),
      matmul(x, w, { scale: 0.5 }).add(c),
    ]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[5,4] = gemm(x, w, c) {alpha: 1}
      %1: f32[5,4] = gemm(x, w, b) {alpha: 1}
      %2: f32[5,4] = gemm(x, w, c) {alpha: 0.5}
      y0 = %0
      y1 = %1
      y2 = %2"
    `);
    expect(saved).toEqual({ gemm: 3 });
  });

  it('does so for batches of rows, by reshapes that cost nothing', () => {
    const { text } = optimised([gemm], { x: [2, 5, 3], w: [3, 4], c: [2, 5, 4] }, ({ x, w, c }) => [
      x.matmul(w).add(c),
    ]);
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[10,3] = reshape(x) {shape: [10,3]}
      %1: f32[10,4] = reshape(c) {shape: [10,4]}
      %2: f32[10,4] = gemm(%0, w, %1) {alpha: 1}
      %3: f32[2,5,4] = reshape(%2) {shape: [2,5,4]}
      y0 = %3"
    `);
  });

  it('leaves products alone that others use, that have two batches, or whose addend is a column', () => {
    const all = { ...shapes, column: [5, 1], p: [2, 5, 3], q: [2, 3, 4] };
    const { saved, roots } = optimised([gemm], all, ({ x, w, c, column, p, q }) => {
      const shared = x.matmul(w);
      return [shared.add(c), shared, x.matmul(w).add(column), p.matmul(q).add(c)];
    });
    expect(saved).toEqual({ gemm: 0 });
    expect(topological(roots).some(({ op }) => op.name === 'gemm')).toBe(false);
  });

  it('does not compute a product twice that stands behind a reshape and is used elsewhere', () => {
    const { roots } = optimised([gemm], { x: [2, 3, 4], c: [6, 5], w: [4, 5] }, ({ x, c, w }) => {
      const y = x.matmul(w);
      return [y.reshape([6, 5]).add(c), y];
    });
    const products = topological(roots).filter(({ op }) => op.name === 'matmul' || op.name === 'gemm');
    expect(products).toHaveLength(1);
  });

  it('takes products without columns', () => {
    const { roots } = optimised([gemm], { x: [2, 3], w: [3, 0], c: [2, 0] }, ({ x, w, c }) => [
      x.matmul(w).add(c),
    ]);
    expect(roots[0]!.shape).toEqual([2, 0]);
  });

  it('takes float32 only', () => {
    const wide = () => constant(new Float64Array(4), [2, 2], 'float64');
    const { saved } = optimised([gemm], {}, () => [wide().matmul(wide()).add(wide())]);
    expect(saved).toEqual({ gemm: 0 });
  });
});

describe('all passes', () => {
  it('leave two products in the gradient of a product', () => {
    const { text, saved } = optimised(passes(), { x: [5, 3], w: [3, 4] }, ({ x, w }) => {
      const loss = x.matmul(w).tanh().mean();
      return grad(loss, [x, w]);
    });
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[5,4] = matmul(x, w) {alpha: 1}
      %1: f32[5,4] = tanh(%0)
      %2: f32[5,4] = mul(%1, %1)
      %3: f32[5,4] = sub(1, %2)
      %4: f32[5,4] = mul(0.05000000074505806, %3)
      %5: f32[5,3] = matmul(%4, w) {transB: true, alpha: 1}
      %6: f32[3,4] = matmul(x, %4) {transA: true, alpha: 1}
      y0 = %5
      y1 = %6"
    `);
    expect(saved).toMatchInlineSnapshot(`
      {
        "algebra": 1,
        "common": 0,
        "constants": 3,
        "gemm": 0,
        "layout": 0,
        "markers": 0,
      }
    `);
  });

  it('leave two products in the gradient of a batched product with a weight', () => {
    const { text } = optimised(passes(), { x: [2, 5, 3], w: [3, 4] }, ({ x, w }) => {
      const loss = x.matmul(w).tanh().sum();
      return grad(loss, [x, w]);
    });
    expect(text).toMatchInlineSnapshot(`
      "%0: f32[2,5,4] = matmul(x, w) {alpha: 1}
      %1: f32[2,5,4] = tanh(%0)
      %2: f32[2,5,4] = mul(%1, %1)
      %3: f32[2,5,4] = sub(1, %2)
      %4: f32[2,5,3] = matmul(%3, w) {transB: true, alpha: 1}
      %5: f32[10,3] = reshape(x) {shape: [10,3]}
      %6: f32[10,4] = reshape(%3) {shape: [10,4]}
      %7: f32[3,4] = matmul(%5, %6) {transA: true, alpha: 1}
      y0 = %4
      y1 = %7"
    `);
  });

  it('do not fold a chain of factors into one that the dtype cannot hold', () => {
    const { roots } = optimised(passes(), { x: [1] }, ({ x }) => [x.mul(1e30).mul(1e30)]);
    const x = topological(roots).find(({ op }) => op.name === 'input')!.outputs[0]!;
    const value = interpret(roots, new Map([[x, [1e-30]]]))[0]!.data[0]!;
    expect(Math.abs(value / 1e30 - 1)).toBeLessThan(1e-6);
  });
});
