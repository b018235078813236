// Registers the devices of Node.
import '../index.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { Generator } from '../generate/index.js';
import { type LanguageModelBundle, loadLanguageModel } from '../models/lm/load.js';
import { toOutputMajor } from '../nn/index.js';

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

/** How a model is to be loaded. */
export interface ModelFlags {
  /** Keep the blocks of a .gguf file as small in memory as they are in it. */
  packed?: boolean;
}

/**
 * Loads a run directory, model directory or .gguf file.
 * @throws AnnealError if it is none of them, or damaged; if `packed` is asked of what is no .gguf file.
 */
export const loadModel = (path: string, { packed }: ModelFlags = {}): Promise<LanguageModelBundle> =>
  loadLanguageModel(path, { weights: packed ? 'packed' : 'float32' });

/** The same for a model that is neither trained nor saved from here on: in the layout that decoding reads fastest. */
export async function loadForGeneration(path: string, flags: ModelFlags = {}): Promise<LanguageModelBundle> {
  const bundle = await loadModel(path, flags);
  toOutputMajor(bundle.model);
  return bundle;
}

/** Loads a model and makes it generate. */
export async function openModel(
  path: string,
  { packed, ...options }: ModelFlags & { slots: number; capacity?: number },
): Promise<OpenModel> {
  const bundle = await loadForGeneration(path, packed ? { packed } : {});
  const { model, tokenizer, endTokens, chatTemplate, name } = bundle;
  const generator = new Generator(model, { ...options, tokenizer });
  return { name, generator, tokenizer, endTokens, chatTemplate };
}
