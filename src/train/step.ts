import { AnnealError } from '../core/errors.js';
import { feedShape, type InputSpec, specType } from '../core/feeds.js';
import { type Program, program } from '../core/program.js';
import { Tensor } from '../core/tensor.js';
import type { Value } from '../core/value.js';
import type { Variable } from '../core/variable.js';
import type { Feeds } from '../data/batch-source.js';
import type { Optimizer } from '../optim/optimizer.js';
import type { WeightAverage } from './average.js';
import type { Losses } from './options.js';

type AnyProgram = Program<string, string>;
type LossFunction = (batch: Record<string, Tensor>, mode: 'train' | 'evaluate') => Losses;

/** What one update reports. */
export interface StepValues {
  loss: number;
  gradNorm: number;
  lr: number;
  /** Other scalars of the loss function, and the rates of parameter groups as `lr.<group>`. */
  metrics: Record<string, number>;
}

/** What the programs of a run are made of. */
export interface StepParts {
  inputs: Readonly<Record<string, InputSpec>>;
  loss: LossFunction;
  trainable: readonly Variable[];
  optimizer: Optimizer;
  average: WeightAverage | undefined;
  keepPrevious: boolean;
}

function scalarsOf(losses: Losses): Record<string, Tensor> & { loss: Tensor } {
  const scalars = losses instanceof Tensor ? { loss: losses } : losses;
  for (const [name, t] of Object.entries(scalars)) {
    if (!(t instanceof Tensor) || t.size !== 1)
      throw new AnnealError(`train: the loss function's "${name}" must be one number`);
  }
  return scalars;
}

/** The program of an update: loss, gradients, optimiser, average of the weights. */
export function updateProgram(parts: StepParts, microBatches: number, keepPrevious: boolean): AnyProgram {
  const { inputs, loss, trainable, optimizer, average } = parts;
  return program(
    inputs,
    (batch) => {
      const { loss: total, ...others } = scalarsOf(loss(batch as Record<string, Tensor>, 'train'));
      const { rate, rates = {}, gradNorm } = optimizer.minimize(total, trainable);
      average?.update();
      const outputs: Record<string, Tensor> = { loss: total, gradNorm, lr: rate };
      for (const [name, t] of Object.entries(others)) outputs[`metric.${name}`] = t;
      for (const [name, t] of Object.entries(rates)) outputs[`metric.lr.${name}`] = t;
      return outputs;
    },
    { name: 'train', microBatches, keepPrevious },
  ) as AnyProgram;
}

/** The program of an evaluation: the loss function's scalars, nothing assigned. */
export function evaluationProgram({ inputs, loss }: StepParts): AnyProgram {
  return program(inputs, (batch) => scalarsOf(loss(batch as Record<string, Tensor>, 'evaluate')), {
    name: 'evaluate',
  }) as AnyProgram;
}

const metricPrefix = 'metric.';

/** The outputs of the update's program as numbers. */
export function stepValues(values: Readonly<Record<string, Value>>): StepValues {
  const metrics: Record<string, number> = {};
  for (const name in values) {
    if (name.startsWith(metricPrefix)) metrics[name.slice(metricPrefix.length)] = values[name]!.item();
  }
  const number = (name: string) => values[name]!.item();
  return { loss: number('loss'), gradNorm: number('gradNorm'), lr: number('lr'), metrics };
}

/** Sizes of the leading axes of a batch; 0 for an input without axes, which cannot be cut. */
export function leadingSizes(inputs: StepParts['inputs'], feeds: Feeds): number[] {
  return Object.entries(inputs).map(([name, spec]) => feedShape(name, specType(spec), feeds[name]!)[0] ?? 0);
}

/** Numbers of equal parts that a batch can be cut into, ascending. */
export function possibleParts(inputs: StepParts['inputs'], feeds: Feeds): number[] {
  const sizes = leadingSizes(inputs, feeds);
  if (sizes.length === 0 || sizes.includes(0)) return [1];
  const smallest = Math.min(...sizes);
  return Array.from({ length: smallest }, (_, i) => i + 1).filter((parts) =>
    sizes.every((size) => size % parts === 0),
  );
}

/** Milliseconds of the faster of two updates, each taken back, after one that warms up. */
async function timeOf(candidate: AnyProgram, feeds: Feeds): Promise<number> {
  await candidate.compile(feeds);
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    await candidate(feeds);
    if (i > 0) best = Math.min(best, performance.now() - start);
    candidate.undo();
  }
  return best;
}

/** Two splits in a row this much slower than the best end the search. */
const hopeless = 1.3;

/**
 * Times the splits of a batch, from few parts to many, and returns the fastest with the times. Every update is taken
 * back, so that no variable changes.
 */
export async function fastestSplit(
  parts: StepParts,
  feeds: Feeds,
): Promise<{ microBatches: number; milliseconds: Record<number, number> }> {
  const milliseconds: Record<number, number> = {};
  let best = { count: 1, time: Number.POSITIVE_INFINITY };
  let slowerInARow = 0;
  for (const count of possibleParts(parts.inputs, feeds)) {
    const candidate = updateProgram(parts, count, true);
    const time = await timeOf(candidate, feeds);
    candidate.dispose();
    milliseconds[count] = Math.round(time * 100) / 100;
    if (time < best.time) best = { count, time };
    slowerInARow = time > hopeless * best.time ? slowerInARow + 1 : 0;
    if (slowerInARow === 2) break;
  }
  return { microBatches: best.count, milliseconds };
}
