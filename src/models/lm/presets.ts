import { AnnealError } from '../../core/errors.js';
import type { LanguageModelConfig } from './config.js';

/** What `llamaConfig` cannot choose by itself, and anything that it should not choose. */
export type LlamaOptions = Pick<LanguageModelConfig, 'vocabulary' | 'dim' | 'layers' | 'context'> &
  Partial<LanguageModelConfig>;

/**
 * A Llama-style model of a given width and depth: heads of 64 (or 32 in narrow models), SwiGLU of 8/3 the width
 * rounded up to a multiple of 32, RMSNorm, rotary positions, a tied head. Every field can be overridden.
 */
export function llamaConfig(options: LlamaOptions): LanguageModelConfig {
  const { dim } = options;
  const heads = Math.max(1, Math.round(dim / (dim < 256 ? 32 : 64)));
  return { heads, hidden: Math.ceil((8 * dim) / 3 / 32) * 32, ...options };
}

/** Known models, as data. */
export const presets = {
  /** For tests and first steps: bytes, 0.2 M parameters. */
  tiny: { vocabulary: 256, dim: 64, layers: 3, heads: 2, hidden: 192, context: 128 },
  /** nanoGPT's CPU example on characters: LayerNorm, GELU, learned positions. 0.8 M. */
  'nanogpt-cpu': {
    vocabulary: 65,
    dim: 128,
    layers: 4,
    heads: 4,
    hidden: 512,
    context: 64,
    mlp: 'gelu',
    norm: 'layer',
    positions: 'learned',
  },
  /** nanoGPT's GPU example on characters in a Llama's parts. 10.7 M. */
  'char-10m': { vocabulary: 65, dim: 384, layers: 6, heads: 6, hidden: 1024, context: 256 },
  'smollm2-135m': {
    vocabulary: 49152,
    dim: 576,
    layers: 30,
    heads: 9,
    kvHeads: 3,
    hidden: 1536,
    context: 8192,
    ropeBase: 100000,
  },
  'qwen2.5-0.5b': {
    vocabulary: 151936,
    dim: 896,
    layers: 24,
    heads: 14,
    kvHeads: 2,
    hidden: 4864,
    context: 32768,
    normEpsilon: 1e-6,
    ropeBase: 1000000,
    qkvBias: true,
  },
  'qwen3-0.6b': {
    vocabulary: 151936,
    dim: 1024,
    layers: 28,
    heads: 16,
    kvHeads: 8,
    headDim: 128,
    hidden: 3072,
    context: 40960,
    normEpsilon: 1e-6,
    ropeBase: 1000000,
    qkNorm: true,
  },
  'llama-3.2-1b': {
    vocabulary: 128256,
    dim: 2048,
    layers: 16,
    heads: 32,
    kvHeads: 8,
    hidden: 8192,
    context: 131072,
    ropeBase: 500000,
    ropeScaling: {
      type: 'llama3',
      factor: 32,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContext: 8192,
    },
  },
} as const satisfies Record<string, LanguageModelConfig>;

/** The config of a preset, with fields replaced. Throws AnnealError that lists the presets for another name. */
export function presetConfig(
  name: string,
  overrides: Partial<LanguageModelConfig> = {},
): LanguageModelConfig {
  if (!Object.hasOwn(presets, name)) {
    throw new AnnealError(`no model preset "${name}"; there are ${Object.keys(presets).join(', ')}`);
  }
  return { ...presets[name as keyof typeof presets], ...overrides };
}
