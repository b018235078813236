import type { SaveAdapterOptions } from '../../checkpoint/adapter.js';
import type { LoraLinear } from '../../nn/lora.js';
import type { Transformer } from './transformer.js';
import { placementOf } from './weight-names.js';

/** On first use: the folder of models also serves browsers, which have no files. */
const files = () => import('../../checkpoint/adapter.js');

/** What transformers calls the projection at a path of ours. */
const naming = (model: Transformer) => (path: string) =>
  placementOf(`${path}.weight`, 'huggingFace', model.config)?.source.replace(/\.weight$/, '');

/**
 * Writes the adapter of a model (see `applyLora`) into a folder, in the format of Hugging Face's PEFT:
 * `PeftModel.from_pretrained(base, folder)` reads it.
 * @throws AnnealError if the model has no adapter
 */
export async function saveAdapter(
  folder: string,
  model: Transformer,
  options: SaveAdapterOptions = {},
): Promise<void> {
  await (await files()).writeAdapter(folder, model, naming(model), options);
}

/**
 * Reads a LoRA adapter in PEFT's format and applies it to a model, which is frozen by that.
 * @throws AnnealError if a file is missing or damaged, the adapter is no plain LoRA, or does not fit; then nothing has changed
 */
export async function loadAdapter(folder: string, model: Transformer): Promise<Map<string, LoraLinear>> {
  return (await files()).readAdapter(folder, model, naming(model));
}
