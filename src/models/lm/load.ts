import type { GgufFile } from '../../checkpoint/gguf.js';
import { AnnealError } from '../../core/errors.js';
import { tokenizerFromGguf } from '../../data/gguf-tokenizer.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import { tokenizerFromJSON } from '../../data/tokenizer-json.js';
import { mergeLora } from '../../nn/lora.js';
import { configFromGguf } from './gguf-config.js';
import { configFromHuggingFace, type JsonObject } from './hugging-face.js';
import { Transformer } from './transformer.js';
import { loadParameter, placeParameters } from './weights.js';

/** A language model with all that belongs to it. */
export interface LanguageModelBundle {
  model: Transformer;
  tokenizer: Tokenizer;
  /** Jinja template that turns messages into a prompt, where the model has one. */
  chatTemplate?: string;
  /** Tokens that end an answer. */
  endTokens: number[];
  /** For people: the last part of the path, or what the file calls itself. */
  name: string;
}

/** Options of `loadLanguageModel`. */
export interface LoadOptions {
  /**
   * `float32` (default): every weight as float32, trainable. `packed`: the blocks of a GGUF file stay as small in
   * memory as they are in it; such weights are read-only.
   */
  weights?: 'float32' | 'packed';
}

/** Node's modules, on first use: the folder of models also serves browsers, which have no files. */
const files = async () => ({
  fs: await import('node:fs/promises'),
  path: await import('node:path'),
  ...(await import('../../checkpoint/file-source.js')),
  ...(await import('../../checkpoint/safetensors-files.js')),
});

async function readJson(file: string): Promise<JsonObject | undefined> {
  const { fs, fileError } = await files();
  let text: string;
  try {
    text = await fs.readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fileError('read', file, error);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new AnnealError(`${file} is no JSON; it may be truncated, fetch it again`);
  }
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as JsonObject;
  throw new AnnealError(`${file} holds no JSON object`);
}

const exists = async (file: string): Promise<boolean> => {
  const { fs } = await files();
  return fs.access(file).then(
    () => true,
    () => false,
  );
};

/** Texts among the special tokens of a tokenizer_config.json are strings, or objects with a `content`. */
function tokenText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  const content = (value as { content?: unknown } | null | undefined)?.content;
  return typeof content === 'string' ? content : undefined;
}

/** A template, the one called `default` of several, or that of a file of its own. */
async function chatTemplateOf(folder: string, settings: JsonObject): Promise<string | undefined> {
  const { fs, path } = await files();
  const file = path.join(folder, 'chat_template.jinja');
  if (await exists(file)) return fs.readFile(file, 'utf8');
  const value = settings.chat_template;
  if (!Array.isArray(value)) return typeof value === 'string' ? value : undefined;
  const list = value as { name?: unknown; template?: unknown }[];
  const template = (list.find(({ name }) => name === 'default') ?? list[0])?.template;
  return typeof template === 'string' ? template : undefined;
}

const tokenIds = (value: unknown): number[] =>
  (Array.isArray(value) ? value : [value]).filter((id): id is number => Number.isInteger(id));

async function loadDirectory(folder: string): Promise<LanguageModelBundle> {
  const { path, openSafetensors } = await files();
  const read = (name: string) => readJson(path.join(folder, name));
  const json = await read('config.json');
  if (!json) throw new AnnealError(`${folder} has no config.json; is it a model directory?`);
  const config = configFromHuggingFace(json);
  const description = await read('tokenizer.json');
  if (!description) throw new AnnealError(`${folder} has no tokenizer.json; fetch it too`);
  const settings = (await read('tokenizer_config.json')) ?? {};
  const endOfText = tokenText(settings.eos_token);
  const tokenizer = tokenizerFromJSON(description, endOfText === undefined ? {} : { endOfText });
  const generation = (await read('generation_config.json')) ?? {};
  const endTokens = tokenIds(generation.eos_token_id ?? json.eos_token_id ?? tokenizer.endOfText);

  const single = path.join(folder, 'model.safetensors');
  const index = path.join(folder, 'model.safetensors.index.json');
  const reader = await openSafetensors((await exists(index)) && !(await exists(single)) ? index : single);
  try {
    const model = new Transformer(config, { initialize: false });
    for (const parameter of placeParameters(model, reader, 'huggingFace'))
      await loadParameter(reader, parameter);
    const chatTemplate = await chatTemplateOf(folder, settings);
    return bundle(model, tokenizer, chatTemplate, endTokens, path.basename(path.resolve(folder)));
  } finally {
    await reader.close();
  }
}

function bundle(
  model: Transformer,
  tokenizer: Tokenizer,
  chatTemplate: string | undefined,
  endTokens: number[],
  name: string,
): LanguageModelBundle {
  if (tokenizer.size > model.config.vocabulary) {
    throw new AnnealError(
      `${name}: the tokenizer has ${tokenizer.size} tokens, the model only ${model.config.vocabulary}; they do not belong together`,
    );
  }
  return { model, tokenizer, ...(chatTemplate !== undefined && { chatTemplate }), endTokens, name };
}

/**
 * An adapter in PEFT's format on the base that it names. The update is added to float32 weights, and stays
 * beside packed ones; a template and end tokens in the folder go before the base's.
 */
async function loadAdapted(folder: string, weights: 'float32' | 'packed'): Promise<LanguageModelBundle> {
  const { path } = await files();
  const settings = (await readJson(path.join(folder, 'adapter_config.json'))) ?? {};
  const base = settings.base_model_name_or_path;
  if (typeof base !== 'string' || !(await exists(base))) {
    throw new AnnealError(
      `${folder} is an adapter of ${typeof base === 'string' ? base : 'a model that it does not name'}, which is not here; correct base_model_name_or_path in its adapter_config.json`,
    );
  }
  const loaded = await loadLanguageModel(base, { weights });
  const { loadAdapter } = await import('./adapter.js');
  await loadAdapter(folder, loaded.model);
  if (weights === 'float32') mergeLora(loaded.model);
  const chatTemplate = await chatTemplateOf(
    folder,
    (await readJson(path.join(folder, 'tokenizer_config.json'))) ?? {},
  );
  const generation = (await readJson(path.join(folder, 'generation_config.json'))) ?? {};
  const endTokens = tokenIds(generation.eos_token_id);
  return {
    ...loaded,
    ...(chatTemplate !== undefined && { chatTemplate }),
    ...(endTokens.length > 0 && { endTokens }),
    name: path.basename(path.resolve(folder)),
  };
}

/** The tokenizer that a GGUF file's metadata describe. */
function ggufTokenizer({ metadata, name }: GgufFile): { tokenizer: Tokenizer; endTokens: number[] } {
  const get = (key: string) => metadata[`tokenizer.ggml.${key}`];
  const texts = (key: string): string[] => {
    const value = get(key);
    if (Array.isArray(value)) return value as string[];
    throw new AnnealError(`${name}: the metadata lack "tokenizer.ggml.${key}"`);
  };
  const tokens = texts('tokens');
  const end = get('eos_token_id');
  const endOfText = typeof end === 'number' ? tokens[end] : undefined;
  const tokenizer = tokenizerFromGguf(
    {
      model: String(get('model')),
      pre: get('pre') as string | undefined,
      tokens,
      tokenTypes: get('token_type') as number[] | undefined,
      merges: texts('merges'),
    },
    endOfText === undefined ? {} : { endOfText },
  );
  const endTokens = [...new Set([...tokenIds(end), ...tokenIds(get('eot_token_id'))])];
  return { tokenizer, endTokens };
}

async function loadGguf(file: string, isPacked: boolean): Promise<LanguageModelBundle> {
  const { path } = await files();
  const { openGguf } = await import('../../checkpoint/gguf.js');
  const reader = await openGguf(file);
  try {
    const { config, isInterleaved } = await configFromGguf(reader);
    const { tokenizer, endTokens } = ggufTokenizer(reader);
    const model = new Transformer(config, { initialize: false });
    const parameters = placeParameters(model, reader, 'gguf', isInterleaved);
    const { packParameters } = await import('./pack.js');
    const rest = isPacked ? await packParameters(model, reader, parameters) : parameters;
    for (const parameter of rest) await loadParameter(reader, parameter);
    const template = reader.metadata['tokenizer.chat_template'];
    const chatTemplate = typeof template === 'string' ? template : undefined;
    return bundle(model, tokenizer, chatTemplate, endTokens, path.basename(file, '.gguf'));
  } finally {
    await reader.close();
  }
}

/** The checkpoint of a run's best evaluation where there is one, else the last. */
async function checkpointOf(run: string): Promise<string> {
  const { fs, path } = await files();
  const folder = path.join(run, 'checkpoints');
  const steps = (await fs.readdir(folder))
    .map((name) => Number(/^step-(\d+)$/.exec(name)?.[1] ?? Number.NaN))
    .filter(Number.isFinite);
  if (steps.length === 0) throw new AnnealError(`${run} has no checkpoint yet`);
  const at = (step: number) => path.join(folder, `step-${step}`);
  const last = at(Math.max(...steps));
  const best = (await readJson(path.join(last, 'state.json')))?.best as { step?: unknown } | null | undefined;
  const isKept = typeof best?.step === 'number' && steps.includes(best.step);
  return isKept ? at(best.step as number) : last;
}

/**
 * Loads a language model: a directory in Hugging Face's layout, a `.gguf` file, an adapter in PEFT's format that
 * names its base, or the directory of a run (its best checkpoint, else its last).
 *
 * @throws AnnealError that says what is wrong: no such path; an unknown architecture, feature or element type by its
 * name; a truncated or corrupt file; tensors that are missing, extra or of another shape. Nothing is loaded then.
 */
export async function loadLanguageModel(
  source: string,
  { weights = 'float32' }: LoadOptions = {},
): Promise<LanguageModelBundle> {
  const { fs, path, fileError } = await files();
  const stat = await fs.stat(source).catch((error: unknown) => {
    throw fileError('read', source, error);
  });
  if (!stat.isDirectory()) {
    if (source.endsWith('.gguf')) return loadGguf(source, weights === 'packed');
    throw new AnnealError(`${source} is neither a model directory nor a .gguf file`);
  }
  const folder = (await exists(path.join(source, 'checkpoints'))) ? await checkpointOf(source) : source;
  const isAdapter =
    (await exists(path.join(folder, 'adapter_config.json'))) &&
    !(await exists(path.join(folder, 'config.json')));
  if (isAdapter) return loadAdapted(folder, weights);
  if (weights === 'packed') {
    throw new AnnealError(
      `weights: 'packed' keeps the blocks of a .gguf file; ${source} is a directory, load it as 'float32'`,
    );
  }
  return loadDirectory(folder);
}
