import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  adamW,
  crossEntropy,
  gelu,
  int32,
  type Optimizer,
  program,
  sgd,
  tensor,
  variable,
} from '../../src/index.js';

interface Stored {
  shape: number[];
  data: number[];
}

type Name = 'w1' | 'b1' | 'w2' | 'b2';
const names: readonly Name[] = ['w1', 'b1', 'w2', 'b2'];

interface Run {
  losses: number[];
  weights: Record<Name, Stored>;
}

/** Written by test/golden/record_trajectory.py, whose docstring describes the network. */
const golden = JSON.parse(readFileSync(new URL('../golden/trajectory.json', import.meta.url), 'utf8')) as {
  x: Stored;
  y: number[];
  initial: Record<Name, Stored>;
  sgd: Run;
  adamW: Run;
};

/** Largest absolute error of a loss of the 50 steps, or of a final weight; both sides compute in float32. */
const tolerance = 1e-4;

const load = (name: Name) => {
  const { shape, data } = golden.initial[name];
  return variable(tensor(Float32Array.from(data), shape), { name });
};

function expectClose(actual: ArrayLike<number>, expected: readonly number[], label: string): void {
  expect(actual).toHaveLength(expected.length);
  expected.forEach((x, i) => {
    const error = Math.abs(actual[i]! - x);
    if (!(error <= tolerance)) expect.fail(`${label}, element ${i}: ${actual[i]}, PyTorch has ${x}`);
  });
}

/** Trains from the recorded weights and compares every loss and every final weight. */
async function follow(run: Run, optimizer: Optimizer): Promise<void> {
  const w = { w1: load('w1'), b1: load('b1'), w2: load('w2'), b2: load('b2') };
  const step = program({ x: golden.x.shape, y: int32([golden.y.length]) }, ({ x, y }) => {
    const hidden = gelu(x.matmul(w.w1).add(w.b1));
    const loss = crossEntropy(hidden.matmul(w.w2).add(w.b2), y);
    optimizer.minimize(loss, Object.values(w));
    return { loss };
  });
  const feeds = { x: Float32Array.from(golden.x.data), y: Int32Array.from(golden.y) };
  const losses: number[] = [];
  for (const _ of run.losses) losses.push((await step(feeds)).loss.item());
  step.dispose();
  expectClose(losses, run.losses, 'loss');
  for (const name of names) expectClose(w[name].read(), run.weights[name].data, name);
}

describe('training follows PyTorch', () => {
  it('with SGD and momentum', () => follow(golden.sgd, sgd(0.1, { momentum: 0.9 })));

  it('with AdamW, weight decay on every parameter and clipped gradients', () =>
    follow(
      golden.adamW,
      adamW({ lr: 1e-2, beta1: 0.9, beta2: 0.95, weightDecay: 0.1, clipNorm: 1, decays: () => true }),
    ));
});
