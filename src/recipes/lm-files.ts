import path from 'node:path';
import { openSafetensorsFile } from '../checkpoint/safetensors-files.js';
import type { Tokenizer } from '../data/index.js';
import { saveLanguageModel } from '../models/lm/save.js';
import type { Transformer } from '../models/lm/transformer.js';
import { loadParameter, placeParameters } from '../models/lm/weights.js';
import type { ModelFiles } from '../train/index.js';

/** Checkpoints of a run as model directories in Hugging Face's layout, so that every tool opens them. */
export function modelFilesOf(model: Transformer, tokenizer: Tokenizer): ModelFiles {
  const endTokens = tokenizer.endOfText === undefined ? [] : [tokenizer.endOfText];
  return {
    write: (folder) => saveLanguageModel(folder, { model, tokenizer, endTokens }),
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
