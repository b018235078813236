import { AnnealError } from '../../core/errors.js';
import { type MixerKind, mixers } from '../../nn/mixers.js';
import { mlps } from '../../nn/mlp.js';
import { norms } from '../../nn/norm.js';
import { directionRank, hasLowRank } from '../../nn/path.js';
import type { RopeScaling } from '../../nn/rope.js';

export type { RopeScaling } from '../../nn/rope.js';

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
  /** How positions exchange information; a key of `mixers`. Default `softmax`. */
  attention?: MixerKind;
  /** Width of a causal depthwise convolution on the keys (PaTH: on its directions). Default 3 for PaTH, else 1: none. */
  keyConvolution?: number;
  /** `swiglu`: down(silu(gate x) · up x). `gelu` and `relu2`: down(f(up x)). Default swiglu. */
  mlp?: 'swiglu' | 'gelu' | 'relu2';
  /** Default `rms`. */
  norm?: 'rms' | 'layer';
  /** Default 1e-5. */
  normEpsilon?: number;
  /** How positions enter: `rope` (default of softmax), `none` (default of the other kinds), or `learned` (a table of `context` vectors). */
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

/** A config in which every choice is made. */
export type ResolvedConfig = Required<Omit<LanguageModelConfig, 'ropeScaling'>> &
  Pick<LanguageModelConfig, 'ropeScaling'>;

const sizes = [
  'vocabulary',
  'dim',
  'layers',
  'heads',
  'kvHeads',
  'headDim',
  'hidden',
  'context',
  'keyConvolution',
] as const;
const positionKinds = ['rope', 'none', 'learned'] as const;

function checkWord(name: string, value: string, allowed: readonly string[]): void {
  if (allowed.includes(value)) return;
  throw new AnnealError(`model config: ${name} is "${value}"; it must be one of ${allowed.join(', ')}`);
}

function checkScaling(scaling: RopeScaling): void {
  checkWord('ropeScaling.type', scaling.type, ['linear', 'llama3', 'yarn']);
  for (const [name, value] of Object.entries(scaling)) {
    if (name === 'type' || value === undefined) continue;
    if (typeof value !== 'number' || !(value > 0 && Number.isFinite(value)))
      throw new AnnealError(`model config: ropeScaling.${name} is ${value}; it must be a positive number`);
  }
  if (scaling.factor < 1)
    throw new AnnealError(`model config: ropeScaling.factor is ${scaling.factor}; it must be 1 or more`);
  if (scaling.type === 'llama3' && scaling.lowFrequencyFactor >= scaling.highFrequencyFactor) {
    throw new AnnealError(
      `model config: ropeScaling.lowFrequencyFactor is ${scaling.lowFrequencyFactor}; it must be less than highFrequencyFactor ${scaling.highFrequencyFactor}`,
    );
  }
}

/**
 * Fills the defaults of a config.
 * @throws AnnealError that names the field, its value and the remedy, for an unknown field and for a value
 * from which no model can be built.
 */
export function resolveConfig(config: LanguageModelConfig): ResolvedConfig {
  const { dim, heads } = config;
  const defaults = {
    kvHeads: heads,
    headDim: dim / heads,
    attention: 'softmax',
    mlp: 'swiglu',
    norm: 'rms',
    normEpsilon: 1e-5,
    positions: (config.attention ?? 'softmax') === 'softmax' ? 'rope' : 'none',
    keyConvolution: config.attention?.startsWith('path') ? 3 : 1,
    ropeBase: 10000,
    qkvBias: false,
    qkNorm: false,
    tied: true,
  } as const;
  const given = Object.entries(config).filter(([, value]) => value !== undefined);
  const known = new Set<string>([...sizes, ...Object.keys(defaults), 'ropeScaling']);
  for (const [name] of given) {
    if (!known.has(name))
      throw new AnnealError(`model config: unknown field ${name}; the fields are ${[...known].join(', ')}`);
  }
  const resolved = { ...defaults, ...Object.fromEntries(given) } as ResolvedConfig;
  if (config.headDim === undefined && dim % heads !== 0) {
    throw new AnnealError(
      `model config: dim ${dim} does not divide into ${heads} heads; change one of them, or give headDim`,
    );
  }
  for (const name of sizes) {
    if (!Number.isSafeInteger(resolved[name]) || resolved[name] < 1)
      throw new AnnealError(`model config: ${name} is ${resolved[name]}; it must be a positive integer`);
  }
  const { kvHeads, headDim, ropeBase, normEpsilon, positions, ropeScaling } = resolved;
  if (heads % kvHeads !== 0)
    throw new AnnealError(`model config: kvHeads ${kvHeads} must divide heads ${heads}`);
  checkWord('attention', resolved.attention, Object.keys(mixers));
  checkWord('mlp', resolved.mlp, Object.keys(mlps));
  checkWord('norm', resolved.norm, Object.keys(norms));
  checkWord('positions', positions, positionKinds);
  if (positions === 'rope' && headDim % 2 !== 0)
    throw new AnnealError(`model config: headDim ${headDim} is odd; rotary positions need an even one`);
  if (!(ropeBase > 1) || !(normEpsilon > 0)) {
    throw new AnnealError(
      `model config: ropeBase is ${ropeBase} and normEpsilon ${normEpsilon}; they must be more than 1 and 0`,
    );
  }
  if (ropeScaling) checkScaling(ropeScaling);
  return resolved;
}

const isPath = ({ attention }: ResolvedConfig): boolean => attention === 'path' || attention === 'path-fox';
const hasGates = ({ attention }: ResolvedConfig): boolean => attention === 'fox' || attention === 'path-fox';

/** Weights that multiply activations in one layer: what the FLOPs of a token are made of. */
function layerMatrixSize(config: ResolvedConfig): number {
  const { dim, heads, kvHeads, headDim, hidden, mlp } = config;
  const attention = dim * headDim * (2 * heads + 2 * kvHeads);
  const width = kvHeads * headDim;
  const directions = hasLowRank(config) ? directionRank * (dim + width) : dim * width;
  const reflections = isPath(config) ? directions + dim * kvHeads : 0;
  const gates = hasGates(config) ? dim * heads : 0;
  return attention + reflections + gates + (mlp === 'swiglu' ? 3 : 2) * dim * hidden;
}

/** Parameters of one layer's attention that multiply no matrix. */
function smallMixerSize(config: ResolvedConfig): number {
  const { heads, kvHeads, headDim, qkvBias, qkNorm, keyConvolution } = config;
  const biases = qkvBias ? headDim * (heads + 2 * kvHeads) : 0;
  const norms = qkNorm ? 2 * headDim : 0;
  const taps = keyConvolution > 1 ? keyConvolution * kvHeads * headDim : 0;
  return biases + norms + taps + (isPath(config) ? kvHeads : 0) + (hasGates(config) ? heads : 0);
}

/** Number of parameters; a tied head counts once. */
export function parameterCount(config: LanguageModelConfig): number {
  const c = resolveConfig(config);
  const perNorm = c.dim * (c.norm === 'layer' ? 2 : 1);
  const tables =
    c.vocabulary * c.dim * (c.tied ? 1 : 2) + (c.positions === 'learned' ? c.context * c.dim : 0);
  return tables + c.layers * (layerMatrixSize(c) + smallMixerSize(c) + 2 * perNorm) + perNorm;
}

/**
 * Floating-point operations per token of a sequence of `length` tokens (default: the context), for the forward
 * pass or for training (forward and backward: three times that). A multiply-add counts as two; causal attention
 * as what is below the diagonal; norms, activations and softmax are left out, as is usual for MFU.
 */
export function flopsPerToken(
  config: LanguageModelConfig,
  options: { length?: number; training?: boolean } = {},
): number {
  const c = resolveConfig(config);
  const { length = c.context, training = false } = options;
  const products = 2 * (c.layers * layerMatrixSize(c) + c.vocabulary * c.dim);
  const visible = (length + 1) / 2;
  // PaTH also carries every query across every block: as much again as its scores, with blocks as long as heads are wide.
  const attention = (isPath(c) ? 6 : 4) * c.layers * c.heads * c.headDim * visible;
  return (training ? 3 : 1) * (products + attention);
}

/** Bytes of float32 keys and values that a token occupies in the KV cache. */
export function cacheBytesPerToken(config: LanguageModelConfig): number {
  const { layers, kvHeads, headDim } = resolveConfig(config);
  return 2 * 4 * layers * kvHeads * headDim;
}
