import { int32 } from '../core/feeds.js';
import { crossEntropy } from '../core/ops/cross-entropy.js';
import { add, sub } from '../core/ops/elementwise.js';
import { pick, topK } from '../core/ops/indexing.js';
import { concat } from '../core/ops/join.js';
import { slice } from '../core/ops/slice.js';
import { expandDims, reshape } from '../core/ops/view.js';
import { type Program, program } from '../core/program.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import { parametersOf } from '../nn/module.js';
import type { GenerativeModel } from './model.js';

/** Logits that exist at a time, in elements: 64 MB. A long sequence over a wide vocabulary would have gigabytes. */
const mostLogits = 2 ** 24;

/** A compiled pass over [rows, length] tokens; `values` and `indices` [rows·length, top] are there if top > 0. */
export type ScorePass = Program<'tokens' | 'targets', 'losses' | 'values' | 'indices'>;

interface Passes {
  /** What the programs were traced over. */
  variables: readonly Variable[];
  byShape: Map<string, ScorePass>;
}

/** Programs of a model by shape, kept as long as the model. */
const compiled = new WeakMap<GenerativeModel, Passes>();

/** The model's programs; new ones once its variables are others, as after an adapter was applied, merged or removed. */
export function passesOf(model: GenerativeModel): Map<string, ScorePass> {
  const variables = [...parametersOf(model).values()];
  const known = compiled.get(model);
  if (known?.variables.length === variables.length && variables.every((v, i) => v === known.variables[i]))
    return known.byShape;
  for (const pass of known?.byShape.values() ?? []) pass.dispose();
  const fresh = { variables, byShape: new Map<string, ScorePass>() };
  compiled.set(model, fresh);
  return fresh.byShape;
}

/** Losses [n] of some positions, and with `top` the largest logprobs [n, top] and their tokens. */
function scorePart(model: GenerativeModel, hidden: Tensor, targets: Tensor, top: number) {
  const logits = model.logits(hidden);
  const losses = crossEntropy(logits, targets, { reduction: 'none' });
  if (top === 0) return { losses };
  const { values, indices } = topK(logits, top);
  // The normaliser, from the one token whose loss is known.
  const normalizer = add(losses, pick(logits, targets));
  return { losses, values: sub(values, expandDims(normalizer, -1)), indices };
}

/** The pass for a shape, compiled on its first run. */
export function passFor(
  passes: Map<string, ScorePass>,
  model: GenerativeModel,
  rows: number,
  length: number,
  top: number,
): ScorePass {
  const key = `${rows}x${length} top ${top}`;
  const known = passes.get(key);
  if (known) return known;
  const shape = [rows, length];
  const count = rows * length;
  const step = Math.max(16, Math.floor(mostLogits / model.config.vocabulary));
  const pass = program(
    { tokens: int32(shape), targets: int32(shape) },
    ({ tokens, targets }) => {
      const hidden = reshape(model.hidden(tokens), [count, -1]);
      const wanted = reshape(targets, [count]);
      const parts = Array.from({ length: Math.ceil(count / step) }, (_, i) => {
        const range = [i * step, Math.min(count, (i + 1) * step)] as const;
        return scorePart(model, slice(hidden, [range]), slice(wanted, [range]), top);
      });
      const losses = concat(parts.map((part) => part.losses));
      const joined = (name: 'values' | 'indices') => concat(parts.map((part) => part[name]!));
      return top > 0
        ? { losses, values: joined('values'), indices: joined('indices') }
        : ({ losses } as Record<'losses' | 'values' | 'indices', Tensor>);
    },
    { name: `score ${key}` },
  );
  passes.set(key, pass);
  return pass;
}
