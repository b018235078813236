/** What computes log-likelihoods: a model behind a program, or anything else that can. */
export interface Scorer {
  /** Longest sequence that it takes. */
  readonly context: number;
  /**
   * For each sequence of n token ids, n − 1 natural logprobs: entry i is that of token i + 1 after tokens 0 … i.
   * Sequences have 2 … `context` tokens.
   */
  logprobs(sequences: readonly ArrayLike<number>[]): Promise<readonly Float32Array[]>;
}

/** Σ of entries from `from` on, in float64. */
export function sumFrom(logprobs: ArrayLike<number>, from: number): number {
  let total = 0;
  for (let i = from; i < logprobs.length; i++) total += logprobs[i]!;
  return total;
}
