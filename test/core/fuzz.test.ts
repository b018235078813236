import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allocate, type DType } from '../../src/core/dtype.js';
import { makeNode } from '../../src/core/op.js';
import { inputOp } from '../../src/core/ops/leaf.js';
import { optimize, type Pass, passes } from '../../src/core/passes/index.js';
import { type Shape, sizeOf, tryBroadcast } from '../../src/core/shape.js';
import type { Tensor } from '../../src/core/tensor.js';
import * as anneal from '../../src/index.js';
import { grad, interpret, program, Rng } from '../../src/index.js';

/** A recipe for a graph: leaf shapes, and per node an op and numbers that choose its operands and parameters. */
interface Plan {
  leaves: number[][];
  steps: [op: number, a: number, b: number, c: number][];
}

/** A tensor and a bound on its magnitude, by which the generator keeps values in a safe range. */
interface Bounded {
  t: Tensor;
  bound: number;
}

/** What an op of the generator sees. */
interface Context {
  a: Bounded;
  /** Another tensor; `fits` are those that broadcast with `a` to few elements, `a` itself included. */
  b: Bounded;
  fits: readonly Bounded[];
  dtype: DType;
  b0: number;
  c0: number;
}

type Rule = (context: Context) => Bounded;

const at = <T>(list: readonly T[], i: number): T => list[i % list.length]!;
/** Exact in binary, so that folded chains of them are exact, too. */
const factors = [0, 1, 0.5, 2, -1, 0.25, -4];
const largest = 64;

const same =
  (f: (t: Tensor) => Tensor, bound: (b: number) => number = (b) => b): Rule =>
  ({ a }) => ({ t: f(a.t), bound: bound(a.bound) });

/** Puts a value between -1 and 1 before an op that needs it. */
const small = ({ t, bound }: Bounded): Tensor => (bound > 1 ? anneal.tanh(t) : t);

const axisOf = (t: Tensor, i: number) => i % Math.max(t.rank, 1);

function matmulOf({ a, b, b0 }: Context): Bounded {
  const left = a.t.rank < 2 ? anneal.reshape(a.t, [-1, Math.max(a.t.shape.at(-1) ?? 1, 1)]) : a.t;
  const k = left.shape.at(-1)!;
  const fits = b.t.rank >= 2 && tryBroadcast(left.shape.slice(0, -2), b.t.shape.slice(0, -2)) !== undefined;
  if (fits && b.t.shape.at(-2) === k) return { t: anneal.matmul(left, b.t), bound: k * a.bound * b.bound };
  const bound = k * a.bound * b.bound;
  if (fits && b.t.shape.at(-1) === k)
    return b0 % 2
      ? { t: anneal.matmul(left, anneal.transpose(b.t)), bound }
      : { t: anneal.matmul(left, b.t, { transposeB: true, scale: 0.5 }), bound };
  return { t: anneal.matmul(left, anneal.transpose(left)), bound: k * a.bound * a.bound };
}

const pairs = (f: (a: Tensor, b: Tensor) => Tensor, bound: (a: number, b: number) => number): Rule => {
  return ({ a, fits, b0, c0 }) => {
    const other = at(fits, b0);
    const [x, y] = c0 % 2 ? [a, other] : [other, a];
    return { t: f(x.t, y.t), bound: bound(x.bound, y.bound) };
  };
};

const smooth: Rule[] = [
  same(anneal.tanh, () => 1),
  same(anneal.sigmoid, () => 1),
  same(anneal.sin, () => 1),
  same(anneal.neg),
  same((t) => anneal.neg(anneal.neg(t))),
  same(anneal.softplus, (b) => b + 1),
  same(anneal.gelu),
  same(anneal.silu),
  same(anneal.identity),
  same(anneal.accumulate),
  ({ a }) => ({ t: anneal.exp(small(a)), bound: 3 }),
  ({ a }) => ({ t: anneal.log(anneal.add(anneal.square(small(a)), 1)), bound: 1 }),
  ({ a }) => ({ t: anneal.rsqrt(anneal.add(anneal.square(small(a)), 0.5)), bound: 2 }),
  pairs(anneal.add, (a, b) => a + b),
  pairs(anneal.sub, (a, b) => a + b),
  pairs(anneal.mul, (a, b) => a * b),
  pairs(
    (a, b) => anneal.div(a, anneal.add(anneal.square(b), 1)),
    (a) => a,
  ),
  ({ a, b0 }) => ({ t: anneal.mul(a.t, at(factors, b0)), bound: 4 * a.bound }),
  ({ a, b0, c0 }) => ({
    t: anneal.mul(anneal.mul(a.t, at(factors, b0)), at(factors, c0)),
    bound: 16 * a.bound,
  }),
  ({ a, b0 }) => ({ t: anneal.add(a.t, at(factors, b0)), bound: a.bound + 4 }),
  ({ a, b0 }) => ({ t: anneal.sub(at(factors, b0), a.t), bound: a.bound + 4 }),
  ({ a, b0 }) => ({ t: anneal.div(a.t, at([1, 2, -1], b0)), bound: a.bound }),
  ({ a, b0, c0 }) => ({
    t: anneal.sum(a.t, a.t.rank ? axisOf(a.t, b0) : undefined, c0 % 2 === 0),
    bound: a.bound * largest,
  }),
  ({ a, b0, c0 }) => ({
    t: anneal.mean(a.t, a.t.rank ? axisOf(a.t, b0) : undefined, c0 % 2 === 0),
    bound: a.bound,
  }),
  ({ a, b0 }) => ({
    t: a.t.rank ? anneal.cumsum(a.t, axisOf(a.t, b0)) : a.t,
    bound: a.bound * largest,
  }),
  ({ a, b0 }) => ({ t: a.t.rank ? anneal.softmax(a.t, axisOf(a.t, b0)) : a.t, bound: Math.max(1, a.bound) }),
  ({ a, b0 }) => ({
    t: a.t.rank ? anneal.logSoftmax(anneal.tanh(a.t), axisOf(a.t, b0)) : a.t,
    bound: Math.max(8, a.bound),
  }),
  ({ a, b0 }) => ({ t: a.t.rank ? anneal.logSumExp(a.t, axisOf(a.t, b0)) : a.t, bound: a.bound + 5 }),
  ({ a, b0 }) => ({ t: a.t.rank ? anneal.l2Normalize(a.t, axisOf(a.t, b0), 0.1) : a.t, bound: a.bound * 4 }),
  // Views, and views of views.
  ({ a }) => ({ t: anneal.reshape(a.t, [a.t.size]), bound: a.bound }),
  ({ a, b0 }) => ({ t: anneal.expandDims(a.t, b0 % (a.t.rank + 1)), bound: a.bound }),
  ({ a }) => ({ t: anneal.squeeze(a.t), bound: a.bound }),
  ({ a }) => ({
    t: a.t.rank > 1 ? anneal.reshape(a.t, [-1, a.t.shape.at(-1)!]) : a.t,
    bound: a.bound,
  }),
  same((t) => anneal.transpose(t)),
  ({ a, b0 }) => {
    const axes = Array.from({ length: a.t.rank }, (_, i) => (i + b0) % a.t.rank);
    return { t: anneal.transpose(a.t, axes), bound: a.bound };
  },
  ({ a, b0 }) => ({ t: a.t.rank ? anneal.flip(a.t, [axisOf(a.t, b0)]) : a.t, bound: a.bound }),
  ({ a, b0, c0 }) => {
    const axis = axisOf(a.t, b0);
    const ranges = a.t.shape.map((dim, i) => (i === axis ? ([c0 % dim, dim] as const) : null));
    return { t: anneal.slice(a.t, ranges), bound: a.bound };
  },
  ({ a, b0 }) => ({
    t: anneal.pad(
      a.t,
      a.t.shape.map((_, i) => (i === axisOf(a.t, b0) ? ([1, 0] as const) : ([0, 0] as const))),
      0.5,
    ),
    bound: Math.max(a.bound, 0.5),
  }),
  ({ a, b0 }) => ({
    t: a.t.rank ? anneal.concat([a.t, anneal.neg(a.t)], axisOf(a.t, b0)) : a.t,
    bound: a.bound,
  }),
  ({ a, b0 }) => {
    const axis = axisOf(a.t, b0);
    const dim = a.t.shape[axis] ?? 1;
    if (dim < 2) return a;
    const [head, tail] = anneal.split(a.t, [1, dim - 1], axis);
    return { t: anneal.mul(head!, tail!), bound: a.bound * a.bound };
  },
  ({ a }) => ({ t: anneal.broadcastTo(a.t, [2, ...a.t.shape]), bound: a.bound }),
  ({ a, b }) => {
    const wide = anneal.broadcastTo(a.t, [2, ...a.t.shape]);
    return { t: anneal.add(wide, anneal.mean(b.t)), bound: a.bound + b.bound };
  },
  matmulOf,
  matmulOf,
  (c) => {
    const { t, bound } = matmulOf(c);
    return { t: anneal.mul(t, 0.5), bound };
  },
  // What the gemm pass looks for: a residual, a bias, and a sum behind a reshape.
  (c) => {
    const { t, bound } = matmulOf(c);
    return { t: anneal.add(t, anneal.mul(t, t)), bound: bound * bound + bound };
  },
  (c) => {
    const { t, bound } = matmulOf(c);
    const bias = anneal.sum(
      anneal.tanh(t),
      t.shape.slice(0, -1).map((_, i) => i),
    );
    return { t: anneal.add(matmulOf(c).t, bias), bound: bound + largest };
  },
  (c) => {
    const { t, bound } = matmulOf(c);
    const flat = anneal.reshape(t, [-1, t.shape.at(-1)!]);
    return { t: anneal.add(anneal.sin(flat), anneal.reshape(matmulOf(c).t, flat.shape)), bound: bound + 1 };
  },
];

/** Ops with kinks or without a true derivative: left out where gradients are checked by differences. */
const rough: Rule[] = [
  same(anneal.relu),
  same(anneal.abs),
  same(anneal.stopGradient),
  same(
    (t) => anneal.clip(t, -0.5, 0.75),
    () => 1,
  ),
  pairs(anneal.maximum, Math.max),
  pairs(anneal.minimum, Math.max),
  pairs(
    (a, b) => anneal.where(anneal.less(a, b), a, anneal.mul(b, 2)),
    (a, b) => Math.max(a, 2 * b),
  ),
  ({ a, b0, c0 }) => ({
    t: anneal.max(a.t, a.t.rank ? axisOf(a.t, b0) : undefined, c0 % 2 === 0),
    bound: a.bound,
  }),
];

/** Builds the plan's graph over `leaves`; the results are every tensor that no other one was made of. */
function build(plan: Plan, leaves: readonly Tensor[], rules: readonly Rule[], constants: boolean): Tensor[] {
  const { dtype } = leaves[0]!;
  const list: Bounded[] = leaves.map((t) => ({ t, bound: 1.5 }));
  if (constants) {
    const data = allocate(dtype, 3);
    data.set([0.5, -1.25, 0.75]);
    list.push({ t: anneal.constant(data, [3], dtype), bound: 1.5 });
  }
  for (const [op, a, b, c] of plan.steps) {
    const first = at(list, list.length - 1 - (a % Math.min(list.length, 5)));
    const fits = list.filter(({ t }) => {
      const shape = tryBroadcast(t.shape, first.t.shape);
      return shape !== undefined && sizeOf(shape) <= largest;
    });
    const context: Context = { a: first, b: at(list, b), fits, dtype, b0: b, c0: c };
    const made = at(rules, op)(context);
    let { t, bound } = made;
    while (t.size > largest || t.rank > 4) t = anneal.mean(t, 0);
    if (bound > 20) [t, bound] = [anneal.tanh(t), 1];
    list.push({ t, bound });
  }
  const used = new Set(list.flatMap(({ t }) => t.node.inputs));
  const ends = list.map(({ t }) => t).filter((t) => !used.has(t) && t.node.inputs.length > 0);
  return ends.length > 0 ? ends : [anneal.tanh(list[0]!.t)];
}

const dims = fc.constantFrom(1, 2, 3, 3, 4);
const plans: fc.Arbitrary<Plan> = fc.record({
  leaves: fc.array(fc.array(dims, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 }),
  steps: fc.array(fc.tuple(fc.nat(999), fc.nat(99), fc.nat(99), fc.nat(99)), { minLength: 3, maxLength: 14 }),
});

const leaf = (shape: Shape, dtype: DType, name: string): Tensor =>
  makeNode(inputOp as never, [], { dtype, shape }, { payload: name }).outputs[0]!;

const inputsOf = (plan: Plan, dtype: DType) => plan.leaves.map((shape, i) => leaf(shape, dtype, `x${i}`));

/** float32 values, whatever the dtype: all precisions see the same numbers. */
function feedsOf(leaves: readonly Tensor[]): Map<Tensor, Float32Array> {
  const rng = new Rng(5);
  return new Map(leaves.map((t) => [t, rng.uniform(t.size, -1.5, 1.5)]));
}

/** One number that depends on every result. */
const lossOf = (results: readonly Tensor[]): Tensor =>
  results.map((t) => anneal.sum(anneal.sin(t))).reduce((a, b) => anneal.add(a, b));

function expectClose(got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number, what: string): void {
  expect(got.length, what).toBe(want.length);
  let scale = 1;
  for (let i = 0; i < want.length; i++) scale = Math.max(scale, Math.abs(want[i]!));
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!);
    if (!(error <= tolerance * scale)) expect.fail(`${what}[${i}]: ${got[i]} against ${want[i]}`);
  }
}

function expectPreserved(list: readonly Pass[], roots: readonly Tensor[], feeds: Map<Tensor, Float32Array>) {
  const want = interpret(roots, feeds);
  const apart = list.map((pass) => [pass]);
  for (const selection of [[...list], ...apart]) {
    const names = selection.map((pass) => pass.name).join('+');
    const optimised = optimize(roots, selection).roots;
    interpret(optimised, feeds).forEach((got, i) => {
      expect(got.shape).toEqual(want[i]!.shape);
      expectClose(got.data, want[i]!.data, 1e-9, `${names}: result ${i}`);
    });
  }
}

const every = [...smooth, ...rough];

describe('random graphs', () => {
  it('keep their values in every pass, with gradients, in float64', () => {
    const property = fc.property(plans, (plan) => {
      const leaves = inputsOf(plan, 'float64');
      const results = build(plan, leaves, every, true);
      const roots = [...results, ...grad(lossOf(results), leaves)];
      expectPreserved(passes(), roots, feedsOf(leaves));
    });
    fc.assert(property, { seed: 1, numRuns: 100 });
  });

  // The gemm pass works on float32 only. No constants here: folding rounds to float32.
  it('keep their values in every pass in float32', () => {
    const property = fc.property(plans, (plan) => {
      const leaves = inputsOf(plan, 'float32');
      expectPreserved(passes(), build(plan, leaves, every, false), feedsOf(leaves));
    });
    fc.assert(property, { seed: 2, numRuns: 100 });
  });

  it('give the same as a compiled program as in the interpreter', async () => {
    const property = fc.asyncProperty(plans, async (plan) => {
      const spec = Object.fromEntries(plan.leaves.map((shape, i) => [`x${i}`, shape]));
      let leaves: Tensor[] = [];
      let roots: Tensor[] = [];
      const run = program(spec, (inputs) => {
        leaves = Object.values(inputs);
        const results = build(plan, leaves, every, true);
        roots = [...results, ...grad(lossOf(results), leaves)];
        return Object.fromEntries(roots.map((t, i) => [`y${i}`, t]));
      });
      const data = [...feedsOf(plan.leaves.map((shape) => leaf(shape, 'float32', 'x'))).values()];
      const values = await run(Object.fromEntries(data.map((array, i) => [`x${i}`, array])));
      const want = interpret(roots, new Map(leaves.map((t, i) => [t, data[i]!])));
      want.forEach((value, i) => {
        const got = values[`y${i}`]!;
        expect(got.shape).toEqual(value.shape);
        expectClose(got.data, value.data, 2e-5, `y${i}`);
      });
      run.dispose();
    });
    await fc.assert(property, { seed: 3, numRuns: 40 });
  });

  it('have the gradients that central differences give', () => {
    const property = fc.property(plans, (plan) => {
      const leaves = inputsOf(plan, 'float64');
      const loss = lossOf(build(plan, leaves, smooth, true));
      const feeds = new Map<Tensor, ArrayLike<number>>(feedsOf(leaves));
      const grads = interpret(grad(loss, leaves), feeds);
      const step = 1e-5;
      leaves.forEach((t, k) => {
        const data = Float64Array.from(feeds.get(t)!);
        const moved = (i: number, delta: number) => {
          const changed = data.slice();
          changed[i] = changed[i]! + delta;
          return interpret([loss], new Map(feeds).set(t, changed))[0]!.data[0]!;
        };
        const numeric = Float64Array.from(data, (_, i) => (moved(i, step) - moved(i, -step)) / (2 * step));
        expectClose(grads[k]!.data, numeric, 1e-6, `d/dx${k}`);
      });
    });
    fc.assert(property, { seed: 4, numRuns: 40 });
  });

  it('have the second derivatives that differences of their gradients give', () => {
    const property = fc.property(plans, (plan) => {
      const leaves = inputsOf(plan, 'float64');
      const loss = lossOf(build({ ...plan, steps: plan.steps.slice(0, 6) }, leaves, smooth, true));
      const x = leaves[0]!;
      const first = grad(loss, x);
      const direction = anneal.constant(Float64Array.from(new Rng(9).normal(x.size)), x.shape, 'float64');
      const product = grad(anneal.sum(anneal.mul(first, direction)), x);
      const feeds = new Map<Tensor, ArrayLike<number>>(feedsOf(leaves));
      const step = 1e-5;
      const shifted = (delta: number) => {
        const v = direction.node.payload as Float64Array;
        const data = Float64Array.from(feeds.get(x)!, (value, i) => value + delta * v[i]!);
        return interpret([first], new Map(feeds).set(x, data))[0]!.data;
      };
      const [up, down] = [shifted(step), shifted(-step)];
      const numeric = up.map((value, i) => (value - down[i]!) / (2 * step));
      expectClose(interpret([product], feeds)[0]!.data, numeric, 1e-5, 'Hessian·v');
    });
    fc.assert(property, { seed: 5, numRuns: 200 });
  });
});
