import { describe, expect, it } from 'vitest';
import { vjp } from '../../src/core/autodiff.js';
import { isFloat } from '../../src/core/dtype.js';
import { interpret } from '../../src/core/interpret.js';
import { isComposite, makeNode, type Op, type OpCase, ops } from '../../src/core/op.js';
import { inputOp } from '../../src/core/ops/leaf.js';
import type { Tensor } from '../../src/core/tensor.js';
import { program, Rng } from '../../src/index.js';
import { describeInputs, type Operand, operand } from '../support/cases.js';

const leaf = ({ dtype, shape }: Operand, name: string): Tensor =>
  makeNode(inputOp as never, [], { dtype, shape }, { payload: name }).outputs[0]!;

const attributesOf = (c: OpCase) => c.attributes ?? {};
const leaves = new Set(['constant', 'input', 'variable']);
const declared = [...ops.values()].filter((op) => !leaves.has(op.name));

/** Σ outputs·weights with fixed random weights: one number that depends on every output element. */
function weighted(outputs: readonly Float64Array[], weights: readonly Float64Array[]): number {
  return outputs.reduce((sum, y, i) => sum + y.reduce((s, v, j) => s + v * weights[i]![j]!, 0), 0);
}

/** Compares the reverse rule with central differences of the reference interpreter, in float64. */
function checkGradient(op: Op, c: OpCase): void {
  const rng = new Rng(7);
  const operands = c.inputs.map((input) => operand(input, 'float64', rng));
  const inputs = operands.map((o, i) => leaf(o, `x${i}`));
  const outputs = makeNode(op, inputs, attributesOf(c)).outputs.filter((t) => isFloat(t.dtype));
  const weights = outputs.map((t) => Float64Array.from(rng.normal(t.size)));
  const cotangents = outputs.map((t, i) =>
    leaf({ dtype: t.dtype, shape: t.shape, data: weights[i]! }, `g${i}`),
  );
  const wrt = inputs.filter((t) => isFloat(t.dtype));
  const feeds = new Map<Tensor, ArrayLike<number>>();
  inputs.forEach((t, i) => {
    feeds.set(t, operands[i]!.data);
  });
  cotangents.forEach((t, i) => {
    feeds.set(t, weights[i]!);
  });
  const grads = vjp(outputs, wrt, cotangents);
  const present = grads.filter((g): g is Tensor => g !== undefined);
  const values = interpret(present, feeds);
  const step = 1e-5;
  wrt.forEach((t, k) => {
    const g = grads[k];
    const analytic = g ? values[present.indexOf(g)]!.data : new Float64Array(t.size);
    const data = feeds.get(t) as Float64Array;
    for (let i = 0; i < t.size; i++) {
      const at = (delta: number) => {
        const moved = Float64Array.from(data);
        moved[i] = moved[i]! + delta;
        const results = interpret(outputs, new Map(feeds).set(t, moved));
        return weighted(
          results.map((r) => r.data),
          weights,
        );
      };
      const numeric = (at(step) - at(-step)) / (2 * step);
      expect(
        Math.abs(analytic[i]! - numeric),
        `d/dx${k}[${i}]: ${analytic[i]} against ${numeric}`,
      ).toBeLessThan(2e-7 * Math.max(1, Math.abs(numeric)) + 1e-8);
    }
  });
}

/** Compares the compiled program, in float32, with the reference interpreter. */
async function checkForward(op: Op, c: OpCase): Promise<void> {
  const rng = new Rng(11);
  const operands = c.inputs.map((input) => operand(input, 'float32', rng));
  const spec = Object.fromEntries(operands.map((o, i) => [`x${i}`, { dtype: o.dtype, shape: o.shape }]));
  let outputs: readonly Tensor[] = [];
  let inputs: Tensor[] = [];
  const run = program(spec, (named) => {
    inputs = Object.values(named);
    outputs = makeNode(op, inputs, attributesOf(c)).outputs;
    return Object.fromEntries(outputs.map((t, i) => [`y${i}`, t]));
  });
  const results = await run(Object.fromEntries(operands.map((o, i) => [`x${i}`, o.data])));
  const expected = interpret(outputs, new Map(inputs.map((t, i) => [t, operands[i]!.data])));
  expected.forEach((want, k) => {
    const got = results[`y${k}`]!;
    expect(got.shape).toEqual(want.shape);
    const scale = want.data.reduce((m, v) => (Number.isFinite(v) ? Math.max(m, Math.abs(v)) : m), 1e-3);
    const tolerance = (c.tolerance ?? 2e-6) * scale;
    want.data.forEach((v, i) => {
      const error = Object.is(got.data[i], v) || got.data[i] === v ? 0 : Math.abs(got.data[i]! - v);
      if (Number.isNaN(v) && Number.isNaN(got.data[i]!)) return;
      expect(error, `y${k}[${i}]: ${got.data[i]} against ${v}`).toBeLessThanOrEqual(tolerance);
    });
  });
  run.dispose();
}

describe.each(declared)('$name', (op) => {
  it('has test cases', () => expect(op.cases.length).toBeGreaterThan(0));

  for (const c of op.cases) {
    const title = `${describeInputs(c.inputs)} ${JSON.stringify(attributesOf(c))}`;
    it(`forward ${title}`, () => checkForward(op, c));
    const differentiable = (isComposite(op) || op.vjp !== null) && c.gradient !== false;
    if (differentiable) it(`gradient ${title}`, () => checkGradient(op, c));
  }
});

describe('composites with a closed-form reverse rule', () => {
  const closed = declared.filter((op) => isComposite(op) && op.vjp);
  it.each(closed)('$name: the rule equals the gradient of the decomposition', (op) => {
    if (!isComposite(op)) return;
    for (const c of op.cases) {
      const rng = new Rng(3);
      const operands = c.inputs.map((input) => operand(input, 'float64', rng));
      const inputs = operands.map((o, i) => leaf(o, `x${i}`));
      const node = makeNode(op, inputs, attributesOf(c)).outputs;
      const parts = op.decompose(inputs, attributesOf(c));
      const floatsOnly = node.map((t) => isFloat(t.dtype));
      const wrt = inputs.filter((t) => isFloat(t.dtype));
      const feeds = new Map<Tensor, ArrayLike<number>>(inputs.map((t, i) => [t, operands[i]!.data]));
      const cotangents = node
        .filter((_, i) => floatsOnly[i])
        .map((t, i) => {
          const g = leaf({ dtype: t.dtype, shape: t.shape, data: new Float64Array() }, `g${i}`);
          feeds.set(g, Float64Array.from(rng.normal(t.size)));
          return g;
        });
      const [a, b] = [node, parts].map((list) =>
        vjp(
          list.filter((_, i) => floatsOnly[i]),
          wrt,
          cotangents,
        ),
      );
      wrt.forEach((_, k) => {
        if (!a![k] && !b![k]) return;
        const [x, y] = interpret([a![k]!, b![k]!], feeds);
        x!.data.forEach((v, i) => {
          expect(Math.abs(v - y!.data[i]!)).toBeLessThan(1e-9 * Math.max(1, Math.abs(v)));
        });
      });
    }
  });
});
