import { type InputSpec, int32 } from '../core/feeds.js';
import { crossEntropy } from '../core/ops/cross-entropy.js';
import { abs, exp, greater, mul, neg, sub, where } from '../core/ops/elementwise.js';
import { gather } from '../core/ops/indexing.js';
import { max, sum } from '../core/ops/reduce.js';
import { logSoftmax } from '../core/ops/softmax.js';
import { reshape } from '../core/ops/view.js';
import { type Program, program } from '../core/program.js';
import type { Tensor } from '../core/tensor.js';
import type { GenerativeModel } from '../generate/model.js';
import type { SharedPrompts } from '../models/lm/transformer.js';
import type { PassShape } from './micro-batches.js';

/** What a policy needs of its model; `Transformer` is one. */
export interface PolicyModel extends GenerativeModel {
  hidden(
    tokens: Tensor,
    options?: Parameters<GenerativeModel['hidden']>[1] & { prompts?: SharedPrompts },
  ): Tensor;
  /** Whether `hidden` takes `prompts`. */
  readonly sharesPrompts?: boolean;
}

/** A compiled pass; which feeds and results there are depends on what it was made for. */
export type AnyPass = Program<string, string>;

/** Inputs of a pass over sequences. */
export function sequenceInputs(shape: PassShape): Record<string, InputSpec> {
  const { layout, prompts, promptLength, rows, length } = shape;
  const targets = int32([rows, length]);
  if (layout === 'rows')
    return { tokens: int32([rows, promptLength]), places: int32([rows, length]), targets };
  return {
    tokens: int32([rows, length]),
    prompts: int32([prompts, promptLength]),
    promptLengths: int32([prompts]),
    owners: int32([rows]),
    targets,
  };
}

/** Hidden states [B · T, dim] at the positions whose successors are the completions' tokens. */
function completionHidden(model: PolicyModel, shape: PassShape, inputs: Record<string, Tensor>): Tensor {
  const { rows, length, layout, promptLength } = shape;
  if (layout === 'rows') {
    const hidden = reshape(model.hidden(inputs.tokens!), [rows * promptLength, -1]);
    return gather(hidden, reshape(inputs.places!, [rows * length]));
  }
  const prompts = { tokens: inputs.prompts!, lengths: inputs.promptLengths!, owners: inputs.owners! };
  return reshape(model.hidden(inputs.tokens!, { prompts }), [rows * length, -1]);
}

/** Log-probabilities [B, T] of the completions' tokens, and the entropies of the distributions that they come from. */
export function completionLogprobs(
  model: PolicyModel,
  shape: PassShape,
  inputs: Record<string, Tensor>,
  temperature: number,
): { logprobs: Tensor; entropies: Tensor } {
  const { rows, length } = shape;
  const raw = model.logits(completionHidden(model, shape, inputs));
  const logits = temperature === 1 ? raw : mul(raw, 1 / temperature);
  const losses = crossEntropy(logits, reshape(inputs.targets!, [rows * length]), { reduction: 'none' });
  const all = logSoftmax(logits, -1);
  return {
    logprobs: reshape(neg(losses), [rows, length]),
    entropies: reshape(neg(sum(mul(exp(all), all), -1)), [rows, length]),
  };
}

/** The pass that only computes log-probabilities. `traced` calls the body, with the adapters on or off. */
export function logprobPass(
  model: PolicyModel,
  shape: PassShape,
  temperature: number,
  traced: <T>(body: () => T) => T,
): AnyPass {
  return program(
    sequenceInputs(shape),
    (inputs) => traced(() => ({ logprobs: completionLogprobs(model, shape, inputs, temperature).logprobs })),
    { name: `logprobs ${shape.rows} x ${shape.length}` },
  );
}

/** The largest distance of two log-probabilities among the tokens that count. */
export const largestDifference = (a: Tensor, b: Tensor, counts: Tensor): Tensor =>
  max(where(greater(counts, 0), abs(sub(a, b)), 0));
