import { AnnealError } from '../../core/errors.js';
import { crossEntropy } from '../../core/ops/cross-entropy.js';
import { mul } from '../../core/ops/elementwise.js';
import { mean } from '../../core/ops/reduce.js';
import { formatShape, sameShape } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Transformer } from './transformer.js';

/** The tensors of a language-model batch (see `LanguageBatch`), B rows of T positions. */
export interface LanguageModelInputs {
  /** int32 [B, T] */
  tokens: Tensor;
  /** int32 [B, T] */
  targets: Tensor;
  /** float32 [B, T]: 0 where nothing is to be learnt; their mean over the whole batch is 1. Default: all count. */
  weights?: Tensor;
  /** int32 [B, T]: attention stays inside a document. */
  documents?: Tensor;
  /** int32 [B, T]: position within the document. */
  positions?: Tensor;
}

/**
 * Cross-entropy in nats of targets int32 [B, T] under logits [B, T, vocabulary], as mean(weights · loss): with weights
 * of mean 1, the mean over the targets that count. A target of weight 0 has no gradient at all.
 * @throws AnnealError if the shapes differ
 */
export function weightedCrossEntropy(logits: Tensor, targets: Tensor, weights: Tensor): Tensor {
  if (!sameShape(targets.shape, weights.shape)) {
    throw new AnnealError(
      `targets ${formatShape(targets.shape)} and weights ${formatShape(weights.shape)} differ in shape`,
    );
  }
  return mean(mul(crossEntropy(logits, targets, { reduction: 'none' }), weights));
}

/** The loss of a model on a batch: mean cross-entropy of the targets that count, in nats. */
export function languageModelLoss(model: Transformer, batch: LanguageModelInputs): Tensor {
  const { tokens, targets, weights, documents, positions } = batch;
  const logits = model.forward(tokens, {
    ...(documents && { documents }),
    ...(positions && { positions }),
  });
  return weights ? weightedCrossEntropy(logits, targets, weights) : crossEntropy(logits, targets);
}
