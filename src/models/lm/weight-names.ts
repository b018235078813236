import type { ResolvedConfig } from './config.js';

/** How a tensor of a file becomes a parameter of the model. */
export interface Placement {
  /** Name of the tensor in the file. */
  source: string;
  /** The file holds the matrix [outputs, inputs], the model [inputs, outputs]. */
  transposed: boolean;
  /** Heads whose rows the file holds in llama.cpp's rotary order: pairs of neighbours instead of halves. */
  interleavedHeads?: number;
}

/**
 * Names in our model (left), in Hugging Face's files and in GGUF files. `N` is a layer. Matrices of projections
 * are stored transposed in both; tables and vectors are not.
 */
const table = [
  ['embedding.weight', 'model.embed_tokens.weight', 'token_embd.weight'],
  ['positions.weight', 'model.embed_positions.weight', 'position_embd.weight'],
  ['layers.N.attentionNorm', 'model.layers.N.input_layernorm', 'blk.N.attn_norm'],
  ['layers.N.attention.q', 'model.layers.N.self_attn.q_proj', 'blk.N.attn_q'],
  ['layers.N.attention.k', 'model.layers.N.self_attn.k_proj', 'blk.N.attn_k'],
  ['layers.N.attention.v', 'model.layers.N.self_attn.v_proj', 'blk.N.attn_v'],
  ['layers.N.attention.o', 'model.layers.N.self_attn.o_proj', 'blk.N.attn_output'],
  ['layers.N.attention.qNorm', 'model.layers.N.self_attn.q_norm', 'blk.N.attn_q_norm'],
  ['layers.N.attention.kNorm', 'model.layers.N.self_attn.k_norm', 'blk.N.attn_k_norm'],
  ['layers.N.mlpNorm', 'model.layers.N.post_attention_layernorm', 'blk.N.ffn_norm'],
  ['layers.N.mlp.gate', 'model.layers.N.mlp.gate_proj', 'blk.N.ffn_gate'],
  ['layers.N.mlp.up', 'model.layers.N.mlp.up_proj', 'blk.N.ffn_up'],
  ['layers.N.mlp.down', 'model.layers.N.mlp.down_proj', 'blk.N.ffn_down'],
  ['norm', 'model.norm', 'output_norm'],
  ['head', 'lm_head', 'output'],
] as const;

/** The formats of the table's columns. */
export type Naming = 'huggingFace' | 'gguf';

/** Modules whose `weight` is the matrix of a projection. */
const projection = /(\.(q|k|v|o|gate|up|down)|^head)\.weight$/;

/**
 * Where the parameter `name` of our model lies in a file.
 * Undefined for one that these formats have no name for; the files of other libraries do not hold it.
 */
export function placementOf(
  name: string,
  naming: Naming,
  config: ResolvedConfig,
  isInterleaved = false,
): Placement | undefined {
  const layer = /^layers\.(\d+)\./.exec(name)?.[1];
  const generic = layer === undefined ? name : name.replace(`layers.${layer}.`, 'layers.N.');
  for (const [ours, huggingFace, gguf] of table) {
    const isWhole = generic === ours;
    if (!isWhole && !/^\.(weight|bias)$/.test(generic.startsWith(ours) ? generic.slice(ours.length) : ''))
      continue;
    const theirs = (naming === 'gguf' ? gguf : huggingFace) + generic.slice(ours.length);
    const source = layer === undefined ? theirs : theirs.replace('.N.', `.${layer}.`);
    const placement: Placement = { source, transposed: projection.test(name) };
    const rotated = /\.attention\.([qk])\.(weight|bias)$/.exec(name)?.[1];
    if (isInterleaved && rotated) {
      placement.interleavedHeads = rotated === 'q' ? config.heads : config.kvHeads;
    }
    return placement;
  }
  return undefined;
}

/**
 * The row of the file that is row `row` of the model, where the file's rotary order pairs neighbours: row 2i + j
 * of a head there is row i + j·size/2 here.
 */
export function fileRow(row: number, rows: number, heads: number | undefined): number {
  if (heads === undefined) return row;
  const size = rows / heads;
  const within = row % size;
  const half = size / 2;
  return row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
}
