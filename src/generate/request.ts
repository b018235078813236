/** How tokens are drawn from the model's distribution. */
export interface SamplingOptions {
  /** Divides the logits; 0 takes the most likely token. Default 1. */
  temperature?: number;
  /** Keeps the k most likely tokens. Default 0: all. */
  topK?: number;
  /** Keeps the smallest set of most likely tokens whose probabilities reach this sum. Default 1: all. */
  topP?: number;
  /** Keeps tokens at least this fraction as likely as the most likely one. Default 0: all. */
  minP?: number;
  /** Divides positive and multiplies negative logits of tokens that have occurred, prompt included. Default 1. */
  repetitionPenalty?: number;
  /** Subtracted from the logits of tokens that have been generated (OpenAI). Default 0. */
  presencePenalty?: number;
  /** The same times the number of occurrences. Default 0. */
  frequencyPenalty?: number;
  /** Added to the logits of single tokens. */
  logitBias?: ReadonlyMap<number, number>;
  /** Same seed, same prompt, same model: same tokens, whatever else runs in the batch. Default 0. */
  seed?: number;
}

/** One sequence to continue. */
export interface GenerationRequest extends SamplingOptions {
  /** Token ids of the prompt; at least one. */
  prompt: ArrayLike<number>;
  /** Most tokens to generate. */
  maxTokens: number;
  /** Generation ends before the first of these strings; needs the generator's tokenizer. */
  stop?: readonly string[];
  /** Generation ends after one of these tokens, which is part of `tokens` but not of `text`. */
  stopTokens?: readonly number[];
  /** With every token, also the logprobs of this many most likely tokens. Default 0. */
  topLogprobs?: number;
  /** Ends the generation, e.g. when a client leaves. */
  signal?: AbortSignal;
}

/** Why a sequence ended: a stop token or string, `maxTokens` or the model's context, or its signal. */
export type FinishReason = 'stop' | 'length' | 'cancelled';

/** One generated token. */
export interface GeneratedToken {
  token: number;
  /** Natural logarithm of the token's probability under the model at temperature 1, no filters: what a trainer computes. */
  logprob: number;
  /** Logarithm of the probability with which it was drawn: after temperature, penalties and filters. */
  sampledLogprob: number;
  /** Text that this token completes; '' while a character or a possible stop string is unfinished, or without a tokenizer. */
  text: string;
  /** Most likely tokens first, if the request asks for them. */
  top?: readonly { token: number; logprob: number }[];
}

/** A finished sequence. */
export interface Completion {
  tokens: Int32Array;
  /** See `GeneratedToken.logprob`. */
  logprobs: Float32Array;
  sampledLogprobs: Float32Array;
  /** Without special tokens and without the stop string. '' without a tokenizer. */
  text: string;
  finishReason: FinishReason;
}
