import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { openSafetensorsFile } from '../checkpoint/safetensors-files.js';
import { AnnealError, type Variable } from '../index.js';
import { loadAdapter, saveAdapter } from '../models/lm/adapter.js';
import { defaultChatTemplate } from '../models/lm/chat-template.js';
import { type LanguageModelBundle, loadLanguageModel } from '../models/lm/load.js';
import { modelFiles, saveLanguageModel } from '../models/lm/save.js';
import { loadParameter, placeParameters } from '../models/lm/weights.js';
import { applyLora, mergeLora, trainableParameters } from '../nn/lora.js';
import type { ModelFiles } from '../train/index.js';
import type { SftConfig } from './sft-settings.js';

/** Settings of the model and of what is trained; those of every recipe that trains a chat model have them. */
export type ModelSettings = Pick<
  SftConfig,
  'model' | 'template' | 'method' | 'weights' | 'lora' | 'export' | 'seed'
>;

/** A model with the chat template that is trained, and the tokens that end its answers. */
export type ChatBundle = LanguageModelBundle & { chatTemplate: string };

/** The model with the template and end tokens that training uses. */
export async function loadModel(config: ModelSettings): Promise<ChatBundle> {
  if (config.weights === 'packed' && config.method === 'full')
    throw new AnnealError('weights=packed cannot be trained; use method=lora, or weights=float32');
  if (config.weights === 'packed' && config.export === 'merged')
    throw new AnnealError('an adapter cannot be merged into packed weights; set export=adapter');
  const bundle = await loadLanguageModel(config.model, { weights: config.weights });
  const { template } = config;
  const given =
    template === undefined
      ? undefined
      : await readFile(template, 'utf8').catch((error: NodeJS.ErrnoException) => {
          throw new AnnealError(`template ${template} cannot be read (${error.code ?? error.message})`);
        });
  const own = given ?? bundle.chatTemplate;
  if (own !== undefined) return { ...bundle, chatTemplate: own };
  const made = defaultChatTemplate(bundle.tokenizer);
  return {
    ...bundle,
    chatTemplate: made.template,
    endTokens: [...new Set([made.endToken, ...bundle.endTokens])],
  };
}

/** Spelling of the token that ends texts, for templates that write it. */
export const eosTokenOf = ({ tokenizer }: LanguageModelBundle): string | undefined =>
  tokenizer.endOfText === undefined ? undefined : tokenizer.decode([tokenizer.endOfText], { special: true });

/** Weights that an adapter of the settings has. */
export function adapterSize({ lora }: Pick<ModelSettings, 'lora'>, { model }: LanguageModelBundle): number {
  const { dim, heads, kvHeads, headDim, hidden, layers, mlp } = model.config;
  const sizes: Record<string, number> = {
    q: dim + heads * headDim,
    k: dim + kvHeads * headDim,
    v: dim + kvHeads * headDim,
    o: heads * headDim + dim,
    ...(mlp === 'swiglu' && { gate: dim + hidden }),
    up: dim + hidden,
    down: hidden + dim,
  };
  const isTarget = (name: string) =>
    !lora.targets || lora.targets.some((t) => t === name || t.endsWith(`.${name}`));
  const perLayer = Object.entries(sizes).reduce((sum, [name, size]) => sum + (isTarget(name) ? size : 0), 0);
  return layers * lora.rank * perLayer;
}

/** Applies an adapter where the settings say so. @returns what is trained, by name */
export function trainedParameters(
  config: ModelSettings,
  { model }: LanguageModelBundle,
): Map<string, Variable> {
  if (config.method === 'lora') {
    const { rank, alpha, targets, rsLora } = config.lora;
    applyLora(model, {
      rank,
      rsLora,
      seed: config.seed,
      ...(alpha && { alpha }),
      ...(targets && { targets }),
    });
  }
  return trainableParameters(model);
}

/** Files of a model directory that an adapter needs, too, to be used for chats. */
const besideAdapter = ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json'];

async function writeAdapterFolder(folder: string, config: ModelSettings, bundle: LanguageModelBundle) {
  await saveAdapter(folder, bundle.model, { base: path.resolve(config.model) });
  for (const [name, text] of modelFiles(bundle))
    if (besideAdapter.includes(name)) await writeFileAtomically(path.join(folder, name), text);
}

/** Checkpoints as adapters in PEFT's format, or as whole model directories. */
export function filesOf(config: ModelSettings, bundle: LanguageModelBundle): ModelFiles {
  const { model } = bundle;
  if (config.method === 'lora') {
    return {
      write: (folder) => writeAdapterFolder(folder, config, bundle),
      read: async (folder) => void (await loadAdapter(folder, model)),
    };
  }
  return {
    write: (folder) => saveLanguageModel(folder, bundle),
    async read(folder) {
      const reader = await openSafetensorsFile(path.join(folder, 'model.safetensors'));
      try {
        for (const parameter of placeParameters(model, reader, 'huggingFace'))
          await loadParameter(reader, parameter);
      } finally {
        await reader.close();
      }
    },
  };
}

/** Writes the finished model, or its adapter. @returns its folder */
export async function exportModel(
  config: ModelSettings,
  bundle: LanguageModelBundle,
  directory: string,
  checkpoint: string | undefined,
): Promise<string> {
  // Full checkpoints are model directories already: a copy would only take room.
  if (config.method === 'full' && checkpoint) return checkpoint;
  if (config.method === 'lora' && config.export === 'adapter') {
    const folder = path.join(directory, 'adapter');
    await writeAdapterFolder(folder, config, bundle);
    return folder;
  }
  if (config.method === 'lora') mergeLora(bundle.model);
  const folder = path.join(directory, 'model');
  await saveLanguageModel(folder, bundle);
  return folder;
}
