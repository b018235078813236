/** Scaling of rotary angles beyond the trained context, as in Hugging Face's `rope_scaling`. */
export type RopeScaling =
  | { type: 'linear'; factor: number }
  | {
      type: 'llama3';
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      originalContext: number;
    }
  | {
      type: 'yarn';
      factor: number;
      originalContext: number;
      betaFast?: number;
      betaSlow?: number;
      attentionFactor?: number;
    };

/** A decoder-only transformer as data: everything that the shape and the arithmetic of a model depend on. */
export interface LanguageModelConfig {
  /** Number of token ids. */
  vocabulary: number;
  /** Width of the residual stream. */
  dim: number;
  layers: number;
  heads: number;
  /** Key and value heads (grouped-query attention). Default: `heads`. */
  kvHeads?: number;
  /** Size of a head. Default: dim / heads. */
  headDim?: number;
  /** Inner width of the MLP. */
  hidden: number;
  /** Longest sequence that the model is made for. */
  context: number;
  /** `swiglu`: down(silu(gate x) · up x). `gelu` and `relu2`: down(f(up x)). Default swiglu. */
  mlp?: 'swiglu' | 'gelu' | 'relu2';
  /** Default `rms`. */
  norm?: 'rms' | 'layer';
  /** Default 1e-5. */
  normEpsilon?: number;
  /** How positions enter. `rope` (default), `none`, or `learned` (a table of `context` vectors). */
  positions?: 'rope' | 'none' | 'learned';
  /** Default 10000. */
  ropeBase?: number;
  ropeScaling?: RopeScaling;
  /** Biases of the query, key and value projections (Qwen2). Default false. */
  qkvBias?: boolean;
  /** RMSNorm of each query and key head before the rotation (Qwen3). Default false. */
  qkNorm?: boolean;
  /** The output head is the embedding's transpose. Default true. */
  tied?: boolean;
}
