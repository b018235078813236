import { AnnealError } from '../../core/errors.js';
import { add, greaterEqual, minimum, where } from '../../core/ops/elementwise.js';
import { arange, gather } from '../../core/ops/indexing.js';
import { concat } from '../../core/ops/join.js';
import { scalar } from '../../core/ops/leaf.js';
import { full, maskedScore, zeros } from '../../core/ops/masks.js';
import { slice } from '../../core/ops/slice.js';
import { broadcastTo, reshape } from '../../core/ops/view.js';
import { Rng } from '../../core/random.js';
import { formatShape, sameShape } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { CacheShape, KVCache } from '../../nn/cache.js';
import { Embedding, type TokenEmbedding } from '../../nn/embedding.js';
import { initialize } from '../../nn/init.js';
import { Linear, type Projection } from '../../nn/linear.js';
import { attentionMask } from '../../nn/mask.js';
import type { MixingContext, PromptKeys, SequenceMixer } from '../../nn/mixer.js';
import { mixers } from '../../nn/mixers.js';
import { type FeedForward, mlps } from '../../nn/mlp.js';
import { type Norm, norms } from '../../nn/norm.js';
import { Rope } from '../../nn/rope.js';
import { type LanguageModelConfig, type ResolvedConfig, resolveConfig } from './config.js';

/** Options of a forward pass; B rows of T tokens. */
export interface ForwardOptions {
  /** int32 [B, T]: position of each token. Default: 0 … T-1, or behind what the cache holds. */
  positions?: Tensor;
  /** int32 [B, T]: number of the document that a token belongs to; attention stays inside it. */
  documents?: Tensor;
  /** int32 [B]: the first n positions of a row see each other both ways. */
  prefix?: Tensor;
  /** Added to the scores; broadcasts to [B, H, T, T]. */
  mask?: Tensor;
  /** False: every position sees every other. Default true. */
  causal?: boolean;
  /**
   * Continues sequences: `lengths` int32 [B] tokens of each row are in the cache, whose variables are assigned.
   * `counts` int32 [B]: the first tokens of each row that are no padding (default: all); a stateful cache needs it.
   */
  cache?: { cache: KVCache; lengths: Tensor; counts?: Tensor };
  /** The rows continue prompts, each of which is computed once for all rows that share it; see `sharesPrompts`. */
  prompts?: SharedPrompts;
}

/** P prompts, padded on the right to S tokens, and which of them each row continues. */
export interface SharedPrompts {
  /** int32 [P, S] */
  tokens: Tensor;
  /** int32 [P]: tokens of each that are no padding; may be 0. */
  lengths: Tensor;
  /** int32 [B] */
  owners: Tensor;
}

/** Options of a new model. */
export interface TransformerOptions {
  /** Source of the starting values. Default: seed 0. */
  rng?: Rng;
  /** Standard deviation of the starting weights; see `initialize`. Default 0.02. */
  std?: number | 'fan-in';
  /** False leaves the weights zero and the gains 1, for a model that is loaded next. Default true. */
  initialize?: boolean;
}

/** One layer: x + mixer(norm x), then x + mlp(norm x). */
export class Layer {
  readonly attentionNorm: Norm;
  attention: SequenceMixer;
  readonly mlpNorm: Norm;
  mlp: FeedForward;

  constructor(config: ResolvedConfig) {
    const { dim, hidden, normEpsilon } = config;
    this.attentionNorm = norms[config.norm](dim, normEpsilon);
    this.attention = mixers[config.attention](config);
    this.mlpNorm = norms[config.norm](dim, normEpsilon);
    this.mlp = mlps[config.mlp](dim, hidden);
  }

  /** [B·T, dim] → [B·T, dim]. */
  apply(x: Tensor, context: MixingContext): Tensor {
    const mixed = add(x, this.attention.apply(this.attentionNorm.apply(x), context));
    return add(mixed, this.mlp.apply(this.mlpNorm.apply(mixed)));
  }
}

/**
 * A decoder-only transformer of the Llama family, as its config describes it:
 *
 *     tokens int32 [B, T] → embedding (+ learned positions)       [B·T, dim]
 *     each layer          → x + attention(norm x), x + mlp(norm x) [B·T, dim]
 *     norm                → hidden                                 [B, T, dim]
 *     head                → logits                                 [B, T, vocabulary]
 *
 * `hidden` and `logits` are separate because the logits of a wide vocabulary are the largest tensor by far:
 * compute them only for the positions that are needed.
 */
export class Transformer {
  readonly config: ResolvedConfig;
  embedding: TokenEmbedding;
  /** Learned positions [context, dim], where the config asks for them. */
  readonly positions: Embedding | undefined;
  readonly layers: Layer[];
  readonly norm: Norm;
  /** Absent where the head is tied to the embedding. */
  head: Projection | undefined;
  readonly #rope: Rope | undefined;

  /** @throws AnnealError if the config is impossible (see `resolveConfig`). */
  constructor(config: LanguageModelConfig, options: TransformerOptions = {}) {
    const resolved = resolveConfig(config);
    const { vocabulary, dim, layers, context, positions, headDim, ropeBase, ropeScaling } = resolved;
    this.config = resolved;
    this.embedding = new Embedding(vocabulary, dim);
    this.positions = positions === 'learned' ? new Embedding(context, dim) : undefined;
    this.layers = Array.from({ length: layers }, () => new Layer(resolved));
    this.norm = norms[resolved.norm](dim, resolved.normEpsilon);
    this.head = resolved.tied ? undefined : new Linear(dim, vocabulary, { role: 'head' });
    this.#rope =
      positions === 'rope' ? new Rope({ headDim, base: ropeBase, scaling: ropeScaling }) : undefined;
    if (options.initialize !== false)
      initialize(this, { rng: options.rng ?? new Rng(0), layers, std: options.std ?? 0.02 });
  }

  /** Hidden states [B, T, dim] of int32 tokens [B, T], after the last norm. */
  hidden(tokens: Tensor, options: ForwardOptions = {}): Tensor {
    const [rows, length] = this.#check(tokens, options);
    const { dim } = this.config;
    const { cache, documents, prefix, mask, causal, prompts } = options;
    const lengths = cache?.lengths ?? (prompts && gather(prompts.lengths, prompts.owners));
    const positions = options.positions ?? (lengths && following(lengths, length));
    // No position may lie beyond this: the tables end there.
    const padded = (prompts?.tokens.shape[1] ?? 0) + length;
    const limit = Math.max(this.config.context, cache?.cache.capacity ?? 0, padded);
    const rope = positions ? this.#rope?.at(positions, limit) : this.#rope?.upTo(length);
    const isCausal = causal !== false && !prefix;
    const visible = prompts
      ? { causal: true, mask: promptMask(lengths!, prompts.tokens.shape[1]!, length) }
      : attentionMask(length, { causal, documents, prefix, mask });
    const context = { rows, length, rope, documents, isCausal, ...visible };
    const pasts = prompts && this.#promptKeys(prompts);
    let x = reshape(this.#embed(tokens, positions), [rows * length, dim]);
    this.layers.forEach((layer, i) => {
      const own = cache && {
        ...cache.cache.layers[i]!,
        lengths: cache.lengths,
        isFollowing: options.positions === undefined,
        counts: cache.counts ?? full([rows], length, 'int32'),
      };
      x = layer.apply(x, { ...context, cache: own, past: pasts?.[i] });
    });
    return reshape(this.norm.apply(x), [rows, length, dim]);
  }

  /** Logits [..., vocabulary] of hidden states [..., dim]. */
  logits(hidden: Tensor): Tensor {
    return this.head ? this.head.apply(hidden) : this.embedding.logits(hidden);
  }

  /** Logits [B, T, vocabulary] of int32 tokens [B, T]. */
  forward(tokens: Tensor, options: ForwardOptions = {}): Tensor {
    return this.logits(this.hidden(tokens, options));
  }

  /** What a KV cache for this model looks like, but for its rows and capacity. */
  cacheShape(): CacheShape {
    const { layers, kvHeads, headDim } = this.config;
    const { cacheExtras = {}, isStateful = false } = this.layers[0]!.attention;
    return { layers, kvHeads, headDim, extras: cacheExtras, isStateful };
  }

  /** Whether rows can share prompts that are computed once: every layer needs only keys and values of what came before. */
  get sharesPrompts(): boolean {
    return this.layers.every(({ attention }) => attention.continuesPrompts);
  }

  /** Keys and values of prompts in every layer. What the last one computes beyond them is dropped by the compiler. */
  #promptKeys({ tokens, owners }: SharedPrompts): PromptKeys[] {
    const [rows, length] = tokens.shape as [number, number];
    const context = {
      rows,
      length,
      rope: this.#rope?.upTo(length),
      isCausal: true,
      causal: true,
      mask: undefined,
    };
    let x = reshape(this.#embed(tokens, undefined), [rows * length, this.config.dim]);
    return this.layers.map((layer) => {
      let found: PromptKeys | undefined;
      const onKeys = (keys: Tensor, values: Tensor) => {
        found = { keys, values, owners };
      };
      x = layer.apply(x, { ...context, onKeys });
      return found!;
    });
  }

  #embed(tokens: Tensor, positions: Tensor | undefined): Tensor {
    const x = this.embedding.apply(tokens);
    if (!this.positions) return x;
    const [, length] = tokens.shape as [number, number];
    // Padding may lie behind the last position that was learned.
    const last = this.config.context - 1;
    const learned = positions
      ? this.positions.apply(minimum(positions, scalar(last, 'int32')))
      : slice(this.positions.weight, [[0, length]]);
    return add(x, learned);
  }

  #check(tokens: Tensor, options: ForwardOptions): [rows: number, length: number] {
    if (tokens.dtype !== 'int32' || tokens.rank !== 2)
      throw new AnnealError(`tokens must be int32 [B, T], not ${tokens.dtype}${formatShape(tokens.shape)}`);
    const [rows, length] = tokens.shape as [number, number];
    const { context, positions } = this.config;
    if (positions === 'learned' && length > context) {
      throw new AnnealError(
        `${length} tokens in a row, but the model has learned ${context} positions; shorten the rows`,
      );
    }
    if (options.positions && !sameShape(options.positions.shape, tokens.shape)) {
      throw new AnnealError(
        `positions must be int32${formatShape(tokens.shape)} like the tokens, not ${formatShape(options.positions.shape)}`,
      );
    }
    const { cache, documents, prefix, mask, causal, prompts } = options;
    if (!cache && !prompts) return [rows, length];
    if (documents || prefix || mask || causal === false) {
      throw new AnnealError(
        `a pass with ${cache ? 'a KV cache' : 'shared prompts'} is causal; documents, prefix, mask and causal: false need one without`,
      );
    }
    if (prompts) this.#checkPrompts(prompts, rows, options);
    if (!cache) return [rows, length];
    if (cache.cache.rows !== rows) {
      throw new AnnealError(`the KV cache has ${cache.cache.rows} rows, the tokens ${rows}`);
    }
    return [rows, length];
  }

  #checkPrompts({ tokens, lengths, owners }: SharedPrompts, rows: number, options: ForwardOptions): void {
    if (options.cache || options.positions)
      throw new AnnealError('shared prompts take no KV cache and no positions; leave them out');
    if (!this.sharesPrompts) {
      throw new AnnealError(
        `attention "${this.config.attention}" with a key convolution of ${this.config.keyConvolution} cannot share prompts; give it whole rows`,
      );
    }
    if (
      tokens.rank !== 2 ||
      lengths.shape.join() !== `${tokens.shape[0]}` ||
      owners.shape.join() !== `${rows}`
    ) {
      throw new AnnealError(
        `shared prompts need tokens [P, S], lengths [P] and owners [${rows}], not ${[tokens, lengths, owners].map((t) => formatShape(t.shape)).join(', ')}`,
      );
    }
  }
}

/** 0 where a row sees a key of its prompt, padded to `padded` tokens, or one of its own: additive [B, 1, 1, padded + length]. */
function promptMask(lengths: Tensor, padded: number, length: number): Tensor {
  const isPadding = greaterEqual(reshape(arange(padded), [1, 1, 1, padded]), reshape(lengths, [-1, 1, 1, 1]));
  const own = zeros([lengths.size, 1, 1, length]);
  return concat([where(isPadding, scalar(maskedScore), 0), own], -1);
}

/** Positions int32 [B, T] of `length` tokens that follow `lengths` [B]. */
function following(lengths: Tensor, length: number): Tensor {
  const start = reshape(lengths, [-1, 1]);
  return length === 1 ? start : add(start, broadcastTo(arange(length), [lengths.size, length]));
}
