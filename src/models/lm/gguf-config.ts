import type { GgufFile } from '../../checkpoint/gguf.js';
import { AnnealError } from '../../core/errors.js';
import { ropeFrequencies } from '../../nn/rope.js';
import type { LanguageModelConfig, RopeScaling } from './config.js';

/** Architectures that are read, and what their metadata leave unsaid. llama.cpp rotates neighbours for `llama` only. */
const architectures = {
  llama: { qkvBias: false, qkNorm: false, isInterleaved: true },
  qwen2: { qkvBias: true, qkNorm: false, isInterleaved: false },
  qwen3: { qkvBias: false, qkNorm: true, isInterleaved: false },
} as const;

/** The config of a GGUF file, and whether the rows of its queries and keys are in llama.cpp's rotary order. */
export interface GgufConfig {
  config: LanguageModelConfig;
  isInterleaved: boolean;
}

/**
 * The frequencies of Llama 3.1 and later, which a GGUF file holds as a tensor of divisors. Only `factor` differs
 * between those models, and it is the largest divisor.
 */
async function llama3Scaling(
  file: GgufFile,
  headDim: number,
  base: number,
): Promise<RopeScaling | undefined> {
  if (!file.tensors.has('rope_freqs.weight')) return undefined;
  const divisors = await file.readFloat32('rope_freqs.weight');
  const scaling: RopeScaling = {
    type: 'llama3',
    factor: divisors.reduce((a, b) => Math.max(a, b), 1),
    lowFrequencyFactor: 1,
    highFrequencyFactor: 4,
    originalContext: 8192,
  };
  const plain = ropeFrequencies({ headDim, base }).frequencies;
  const scaled = ropeFrequencies({ headDim, base, scaling }).frequencies;
  const agrees =
    divisors.length === plain.length &&
    divisors.every((d, i) => Math.abs(plain[i]! / scaled[i]! / d - 1) < 1e-4);
  if (agrees) return scaling;
  throw new AnnealError(
    `${file.name}: the rotary frequencies in "rope_freqs.weight" are not those of Llama 3, the only ones supported`,
  );
}

/** Scaling that the metadata describe. */
function metadataScaling(number: (key: string, fallback?: number) => number, text: (key: string) => unknown) {
  const kind = text('rope.scaling.type') ?? 'none';
  if (kind === 'none') return undefined;
  const factor = number('rope.scaling.factor');
  if (kind === 'linear') return { type: 'linear', factor } as const;
  const originalContext = number('rope.scaling.original_context_length');
  if (kind === 'yarn') return { type: 'yarn', factor, originalContext } as const;
  throw new AnnealError(`rotary scaling "${String(kind)}" of the GGUF file is not supported`);
}

/**
 * The model that a GGUF file describes: Llama, Qwen2 and Qwen3.
 * @throws AnnealError that names an architecture or a feature that is not supported, or a key that is missing.
 */
export async function configFromGguf(file: GgufFile): Promise<GgufConfig> {
  const { metadata } = file;
  const architecture = metadata['general.architecture'];
  const known = Object.keys(architectures);
  if (typeof architecture !== 'string' || !Object.hasOwn(architectures, architecture)) {
    throw new AnnealError(
      `${file.name}: the architecture "${String(architecture)}" is not supported, only ${known.join(', ')}`,
    );
  }
  const kind = architectures[architecture as keyof typeof architectures];
  const get = (key: string) => metadata[`${architecture}.${key}`];
  const number = (key: string, fallback?: number): number => {
    const value = get(key) ?? fallback;
    if (typeof value === 'number' || typeof value === 'bigint') return Number(value);
    throw new AnnealError(`${file.name}: the metadata lack "${architecture}.${key}"`);
  };
  if (number('expert_count', 0) > 0)
    throw new AnnealError(`${file.name}: mixtures of experts are not supported`);
  const heads = number('attention.head_count');
  const dim = number('embedding_length');
  const headDim = number('attention.key_length', dim / heads);
  if (number('rope.dimension_count', headDim) !== headDim)
    throw new AnnealError(`${file.name}: rotation of a part of each head is not supported`);
  const table = file.tensors.get('token_embd.weight');
  if (!table) throw new AnnealError(`${file.name} lacks "token_embd.weight"`);
  const ropeBase = number('rope.freq_base', 10000);
  const ropeScaling = (await llama3Scaling(file, headDim, ropeBase)) ?? metadataScaling(number, get);
  const config: LanguageModelConfig = {
    vocabulary: table.shape[0]!,
    dim,
    layers: number('block_count'),
    heads,
    kvHeads: number('attention.head_count_kv', heads),
    headDim,
    hidden: number('feed_forward_length'),
    context: number('context_length'),
    // Stored in float32; the value that was meant has few digits.
    normEpsilon: Number(number('attention.layer_norm_rms_epsilon').toPrecision(6)),
    ropeBase,
    ...(ropeScaling && { ropeScaling }),
    qkvBias: kind.qkvBias,
    qkNorm: kind.qkNorm,
    tied: !file.tensors.has('output.weight'),
  };
  return { config, isInterleaved: kind.isInterleaved };
}
