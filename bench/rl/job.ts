/** The work that both sides do. */

/** A model, prompts and completions; both sides open it as a JSON file. */
export interface GrpoJob {
  config: {
    vocabulary: number;
    dim: number;
    layers: number;
    heads: number;
    hidden: number;
    context: number;
  };
  prompts: number;
  promptLength: number;
  /** Completions of each prompt. */
  samples: number;
  /** Tokens of each completion; none ends earlier. */
  tokens: number;
  learningRate: number;
  threads: number;
}

/** A job of peers' size: Llama-style, four heads, an MLP of four times the width, an untied head. */
export const grpoJob = (dim: number, threads: number): GrpoJob => ({
  config: { vocabulary: 96, dim, layers: 4, heads: 4, hidden: 4 * dim, context: 128 },
  prompts: 8,
  promptLength: 44,
  samples: 8,
  tokens: 64,
  learningRate: 1e-4,
  threads,
});

/** Width of the models by the id of their row. */
export const DIMS = { 'grpo-1m': 128, 'grpo-4m': 256 } as const;
