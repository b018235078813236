import { AnnealError } from '../core/errors.js';
import type { GenerativeModel } from '../generate/model.js';
import { modelScorer } from './model.js';
import { type Scorer, sumFrom } from './scorer.js';

/** Options of `perplexity`. */
export interface PerplexityOptions {
  /** Tokens that the model sees at once. Default: the model's context. */
  context?: number;
  /**
   * Tokens that the window moves by, and that each window after the first scores; the others are only context.
   * Smaller is slower and closer to the true perplexity. Default: half the context.
   */
  stride?: number;
  /** Length of the text in UTF-8 bytes: with it, bits per byte are reported. */
  bytes?: number;
  /** Windows that are scored in one call. Default 8. */
  batch?: number;
  /** Called after each batch with the number of windows done and their total. */
  onProgress?: (done: number, total: number) => void;
}

/** How well a model predicts a text. */
export interface PerplexityResult {
  /** Mean negative log-likelihood of a scored token, in nats. */
  nats: number;
  /** exp(nats). */
  perplexity: number;
  /** Nats of a token in bits, over its mean length in bytes: comparable between tokenizers. Needs `bytes`. */
  bitsPerByte?: number;
  /** Tokens that were scored: all but the first of the text (and of windows that do not overlap). */
  tokens: number;
}

/** Tokens `begin` … `end`-1 are seen, those from `from` on are scored. */
export interface Window {
  begin: number;
  end: number;
  from: number;
}

/**
 * Windows over `length` tokens as Hugging Face's page on perplexity of fixed-length models has them: they begin at
 * multiples of `stride`, and each scores what no earlier window did. The first token of a window has nothing
 * before it and is never scored; with stride < context that is only the first of the text.
 */
export function slidingWindows(length: number, context: number, stride: number): Window[] {
  const windows: Window[] = [];
  let scored = 0;
  for (let begin = 0; scored < length; begin += stride) {
    const end = Math.min(begin + context, length);
    windows.push({ begin, end, from: Math.max(scored, begin + 1) });
    scored = end;
  }
  // A last window that holds one token, which has nothing before it, scores nothing.
  return windows.filter(({ from, end }) => from < end);
}

/**
 * Perplexity of a token sequence with a sliding window. Every scored token counts once: the mean is over tokens, not
 * over windows.
 * @throws AnnealError for fewer than two tokens, or an impossible context or stride
 */
export async function perplexity(
  model: GenerativeModel | Scorer,
  tokens: ArrayLike<number>,
  options: PerplexityOptions = {},
): Promise<PerplexityResult> {
  const scorer = 'logprobs' in model ? model : modelScorer(model);
  const { context = scorer.context, batch = 8, bytes, onProgress } = options;
  const { stride = Math.max(1, Math.floor(context / 2)) } = options;
  if (tokens.length < 2)
    throw new AnnealError(`perplexity of ${tokens.length} tokens; a text needs two tokens or more`);
  if (!Number.isInteger(context) || context < 2 || context > scorer.context)
    throw new AnnealError(
      `perplexity: context is ${context}; pass 2 … ${scorer.context}, the model's context`,
    );
  if (!Number.isInteger(stride) || stride < 1 || stride > context)
    throw new AnnealError(`perplexity: stride is ${stride}; pass 1 … ${context}, the context`);
  const windows = slidingWindows(tokens.length, context, stride);
  const all = Int32Array.from(tokens);
  let total = 0;
  let count = 0;
  for (let at = 0; at < windows.length; at += batch) {
    const part = windows.slice(at, at + batch);
    const logprobs = await scorer.logprobs(part.map(({ begin, end }) => all.subarray(begin, end)));
    part.forEach(({ begin, end, from }, i) => {
      // Entry j of a window's logprobs is that of its token j + 1.
      total -= sumFrom(logprobs[i]!, from - begin - 1);
      count += end - from;
    });
    onProgress?.(Math.min(at + batch, windows.length), windows.length);
  }
  const nats = total / count;
  const result = { nats, perplexity: Math.exp(nats), tokens: count };
  // Over the mean length of all tokens, so that the unscored first one biases nothing.
  return bytes === undefined ? result : { ...result, bitsPerByte: (nats * tokens.length) / bytes / Math.LN2 };
}
