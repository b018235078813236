import { AnnealError } from '../../core/errors.js';
import { type LanguageModelConfig, type ResolvedConfig, type RopeScaling, resolveConfig } from './config.js';

/** The contents of a JSON file that should be an object. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Reads fields of a config.json and says what is wrong with them. */
class Fields {
  constructor(
    private readonly json: JsonObject,
    private readonly what: string,
  ) {}

  fail(message: string): AnnealError {
    return new AnnealError(`${this.what}: ${message}`);
  }

  has(name: string): boolean {
    return this.json[name] !== undefined && this.json[name] !== null;
  }

  number(name: string, fallback?: number): number {
    const value = this.has(name) ? this.json[name] : fallback;
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    throw this.fail(`"${name}" is ${JSON.stringify(value) ?? 'missing'}; it must be a number`);
  }

  /** Refuses a feature that this library does not compute, unless the field is absent or has one of these values. */
  require(name: string, allowed: readonly unknown[], feature: string): void {
    if (!this.has(name) || allowed.includes(this.json[name])) return;
    throw this.fail(`"${name}": ${JSON.stringify(this.json[name])} (${feature}) is not supported`);
  }

  object(name: string): JsonObject | undefined {
    if (!this.has(name)) return undefined;
    const value = this.json[name];
    if (typeof value === 'object' && !Array.isArray(value)) return value as JsonObject;
    throw this.fail(`"${name}" is no object`);
  }

  get(name: string): unknown {
    return this.json[name];
  }
}

/** Rotary base and scaling, in the old spelling (`rope_theta`, `rope_scaling`) or the new (`rope_parameters`). */
function readRope(fields: Fields): Pick<LanguageModelConfig, 'ropeBase' | 'ropeScaling'> {
  const block = fields.object('rope_parameters') ?? fields.object('rope_scaling');
  const rope = new Fields(block ?? {}, 'config.json, rotary scaling');
  const ropeBase = rope.has('rope_theta') ? rope.number('rope_theta') : fields.number('rope_theta', 10000);
  for (const source of [fields, rope])
    source.require('partial_rotary_factor', [1], 'rotation of a part of each head');
  const kind = rope.get('rope_type') ?? rope.get('type') ?? 'default';
  if (kind === 'default') return { ropeBase };
  return { ropeBase, ropeScaling: readScaling(String(kind), rope, fields) };
}

function readScaling(kind: string, rope: Fields, fields: Fields): RopeScaling {
  const factor = rope.number('factor');
  switch (kind) {
    case 'linear':
      return { type: 'linear', factor };
    case 'llama3':
      return {
        type: 'llama3',
        factor,
        lowFrequencyFactor: rope.number('low_freq_factor'),
        highFrequencyFactor: rope.number('high_freq_factor'),
        originalContext: rope.number('original_max_position_embeddings'),
      };
    case 'yarn': {
      for (const name of ['mscale', 'mscale_all_dim']) rope.require(name, [], "YaRN with DeepSeek's scales");
      rope.require('truncate', [true], 'YaRN without rounding');
      const optional = (name: string, key: 'betaFast' | 'betaSlow' | 'attentionFactor') =>
        rope.has(name) ? { [key]: rope.number(name) } : {};
      return {
        type: 'yarn',
        factor,
        originalContext: rope.number(
          'original_max_position_embeddings',
          fields.number('max_position_embeddings'),
        ),
        ...optional('beta_fast', 'betaFast'),
        ...optional('beta_slow', 'betaSlow'),
        ...optional('attention_factor', 'attentionFactor'),
      };
    }
    default:
      throw rope.fail(`the type "${kind}" is not supported, only linear, llama3 and yarn`);
  }
}

/** What distinguishes the architectures that are read and written. */
const architectures = {
  LlamaForCausalLM: { modelType: 'llama', qkvBias: false, qkNorm: false, epsilon: 1e-6, tied: false },
  Qwen2ForCausalLM: { modelType: 'qwen2', qkvBias: true, qkNorm: false, epsilon: 1e-6, tied: false },
  Qwen3ForCausalLM: { modelType: 'qwen3', qkvBias: false, qkNorm: true, epsilon: 1e-6, tied: false },
} as const;

/** Our own models that are none of those: the config is stored as it is. */
const ownArchitecture = 'AnnealForCausalLM';

function architectureOf(json: JsonObject): keyof typeof architectures {
  const names = Array.isArray(json.architectures) ? (json.architectures as unknown[]) : [];
  const known = Object.keys(architectures) as (keyof typeof architectures)[];
  const found = known.find(
    (name) => names[0] === name || (names.length === 0 && json.model_type === architectures[name].modelType),
  );
  if (found) return found;
  const got = names.length > 0 ? names.join(', ') : `model_type ${JSON.stringify(json.model_type)}`;
  throw new AnnealError(`config.json: the architecture ${got} is not supported, only ${known.join(', ')}`);
}

/**
 * The config of a model in Hugging Face's layout, from its config.json: Llama (SmolLM among them), Qwen2 and Qwen3.
 * @throws AnnealError that names an unknown architecture, a missing field, or a feature that is not supported.
 */
export function configFromHuggingFace(json: JsonObject): LanguageModelConfig {
  if (Array.isArray(json.architectures) && json.architectures[0] === ownArchitecture)
    return json.anneal as LanguageModelConfig;
  const kind = architectures[architectureOf(json)];
  const fields = new Fields(json, 'config.json');
  fields.require('hidden_act', ['silu', 'swish'], 'an activation other than SiLU');
  fields.require('quantization_config', [], 'quantised weights');
  fields.require('mlp_bias', [false], 'biases in the MLP');
  fields.require('attention_bias', [kind.qkvBias, false], 'biases of all attention projections');
  fields.require('use_sliding_window', [false], 'sliding-window attention');
  const types = fields.get('layer_types');
  if (Array.isArray(types) && types.some((type) => type !== 'full_attention'))
    throw fields.fail(`"layer_types" has ${JSON.stringify(types.find((t) => t !== 'full_attention'))}`);
  const heads = fields.number('num_attention_heads');
  const dim = fields.number('hidden_size');
  const headDim = fields.number('head_dim', kind.modelType === 'qwen3' ? 128 : dim / heads);
  const tied = json.tie_word_embeddings ?? kind.tied;
  return {
    vocabulary: fields.number('vocab_size'),
    dim,
    layers: fields.number('num_hidden_layers'),
    heads,
    kvHeads: fields.number('num_key_value_heads', heads),
    headDim,
    hidden: fields.number('intermediate_size'),
    context: fields.number('max_position_embeddings'),
    normEpsilon: fields.number('rms_norm_eps', kind.epsilon),
    ...readRope(fields),
    qkvBias: kind.qkvBias,
    qkNorm: kind.qkNorm,
    tied: tied === true,
  };
}

function writeScaling(scaling: RopeScaling): JsonObject {
  switch (scaling.type) {
    case 'linear':
      return { rope_type: 'linear', factor: scaling.factor };
    case 'llama3':
      return {
        rope_type: 'llama3',
        factor: scaling.factor,
        low_freq_factor: scaling.lowFrequencyFactor,
        high_freq_factor: scaling.highFrequencyFactor,
        original_max_position_embeddings: scaling.originalContext,
      };
    case 'yarn':
      return {
        rope_type: 'yarn',
        factor: scaling.factor,
        original_max_position_embeddings: scaling.originalContext,
        ...(scaling.betaFast !== undefined && { beta_fast: scaling.betaFast }),
        ...(scaling.betaSlow !== undefined && { beta_slow: scaling.betaSlow }),
        ...(scaling.attentionFactor !== undefined && { attention_factor: scaling.attentionFactor }),
      };
  }
}

/** The fields of a config as an architecture spells them; whether it means the same is checked by reading it back. */
function writeAs(name: keyof typeof architectures, config: ResolvedConfig): JsonObject {
  return {
    architectures: [name],
    model_type: architectures[name].modelType,
    vocab_size: config.vocabulary,
    hidden_size: config.dim,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    intermediate_size: config.hidden,
    max_position_embeddings: config.context,
    rms_norm_eps: config.normEpsilon,
    rope_theta: config.ropeBase,
    ...(config.ropeScaling && { rope_scaling: writeScaling(config.ropeScaling) }),
    ...(name === 'Qwen3ForCausalLM' && { attention_bias: false }),
    tie_word_embeddings: config.tied,
    hidden_act: 'silu',
    torch_dtype: 'float32',
  };
}

/** Text that two configs share only if they are equal, in whatever order their fields were set. */
const configKey = (config: object): string =>
  JSON.stringify(
    Object.entries(config)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [
        key,
        typeof value === 'object' ? configKey(value as object) : (value as unknown),
      ])
      .sort(),
  );

/**
 * The config.json of a model. A config that is no Llama, Qwen2 or Qwen3 is written as an architecture of our own,
 * which other libraries refuse by its name.
 */
export function configToHuggingFace(config: ResolvedConfig, endTokens: readonly number[] = []): JsonObject {
  const end = endTokens.length === 1 ? endTokens[0] : endTokens;
  const common = { dtype: 'float32', ...(endTokens.length > 0 && { eos_token_id: end }) };
  for (const name of Object.keys(architectures) as (keyof typeof architectures)[]) {
    const json = writeAs(name, config);
    if (configKey(resolveConfig(configFromHuggingFace(json))) === configKey(config))
      return { ...json, ...common };
  }
  return { architectures: [ownArchitecture], model_type: 'anneal', anneal: config, ...common };
}
