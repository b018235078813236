import { configToHuggingFace } from './hugging-face.js';
import type { LanguageModelBundle } from './load.js';
import { weightEntries } from './weights.js';

const pretty = (json: unknown): string => `${JSON.stringify(json, null, 2)}\n`;

/**
 * The small files of a model directory in Hugging Face's layout, by name: everything but the weights.
 */
export function modelFiles(bundle: Omit<LanguageModelBundle, 'name'>): Map<string, string> {
  const { model, tokenizer, chatTemplate, endTokens } = bundle;
  const [end] = endTokens;
  const endOfText = end ?? tokenizer.endOfText;
  const settings = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    model_max_length: model.config.context,
    clean_up_tokenization_spaces: false,
    ...(endOfText !== undefined && { eos_token: tokenizer.decode([endOfText], { special: true }) }),
    ...(chatTemplate !== undefined && { chat_template: chatTemplate }),
  };
  const generation = endTokens.length > 0 ? { eos_token_id: endTokens.length === 1 ? end : endTokens } : {};
  return new Map([
    ['config.json', pretty(configToHuggingFace(model.config, endTokens))],
    ['generation_config.json', pretty(generation)],
    ['tokenizer_config.json', pretty(settings)],
    ['tokenizer.json', pretty(tokenizer.toJSON())],
  ]);
}

/**
 * Writes a model directory that Hugging Face's libraries read: config.json, model.safetensors (float32),
 * tokenizer.json and their settings. Each file is replaced as a whole, the weights first.
 * @throws AnnealError if a file cannot be written, a full disk among the reasons; the old file stays intact then.
 */
export async function saveLanguageModel(
  folder: string,
  bundle: Omit<LanguageModelBundle, 'name'>,
): Promise<void> {
  const path = await import('node:path');
  const { writeSafetensors } = await import('../../checkpoint/safetensors-files.js');
  const { writeFileAtomically } = await import('../../checkpoint/atomic.js');
  await writeSafetensors(path.join(folder, 'model.safetensors'), weightEntries(bundle.model), {
    format: 'pt',
  });
  for (const [name, text] of modelFiles(bundle)) await writeFileAtomically(path.join(folder, name), text);
}
