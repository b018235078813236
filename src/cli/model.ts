// Registers the devices of Node.
import '../index.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { Generator } from '../generate/index.js';
import { type LanguageModelBundle, loadLanguageModel } from '../models/lm/load.js';

/** A language model that is ready to generate. */
export interface OpenModel {
  name: string;
  generator: Generator;
  tokenizer: Tokenizer;
  /** Tokens that end an answer or a document. */
  endTokens: readonly number[];
  /** Jinja template of conversations, if the model has one. */
  chatTemplate: string | undefined;
}

/**
 * Loads a run directory, model directory or .gguf file. Weights of a GGUF file that are 4-bit stay 4-bit in memory.
 * @throws AnnealError if it is none of them, or damaged.
 */
export const loadModel = (path: string): Promise<LanguageModelBundle> =>
  loadLanguageModel(path, { weights: path.endsWith('.gguf') ? 'packed' : 'float32' });

/** Loads a model and makes it generate. */
export async function openModel(
  path: string,
  options: { slots: number; capacity?: number },
): Promise<OpenModel> {
  const { model, tokenizer, endTokens, chatTemplate, name } = await loadModel(path);
  const generator = new Generator(model, { ...options, tokenizer });
  return { name, generator, tokenizer, endTokens, chatTemplate };
}
