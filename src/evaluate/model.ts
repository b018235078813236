import type { Tokenizer } from '../data/tokenizer.js';
import type { GenerativeModel } from '../generate/model.js';
import { score } from '../generate/score.js';
import type { Scorer } from './scorer.js';

/** A language model with all that an evaluation needs of it; what `loadLanguageModel` returns is one. */
export interface EvaluatedModel {
  readonly model: GenerativeModel;
  readonly tokenizer: Tokenizer;
  /** Jinja template that turns messages into a prompt, where the model has one. */
  readonly chatTemplate?: string;
  /** Tokens that end an answer. */
  readonly endTokens: readonly number[];
  readonly name: string;
}

/** Log-likelihoods from a model: padded batches, one program per shape. */
export const modelScorer = (model: GenerativeModel): Scorer => ({
  context: model.config.context,
  logprobs: (sequences) => score(model, sequences),
});
