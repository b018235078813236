import { mkdir, readdir } from 'node:fs/promises';
import { fileError } from '../../checkpoint/file-source.js';
import { loadLanguageModel } from '../../models/lm/load.js';
import { saveLanguageModel } from '../../models/lm/save.js';
import type { Cli } from '../terminal.js';

interface Flags {
  to: 'onnx' | 'safetensors';
  json?: boolean;
}

/** `anneal export MODEL DIR --to onnx|safetensors`. */
export async function exportModel(
  this: Cli,
  { to, json }: Flags,
  path: string,
  folder: string,
): Promise<void> {
  // Packed weights have no place in either format: they are unpacked to float32.
  const bundle = await loadLanguageModel(path);
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw fileError('make', folder, error);
  });
  if (to === 'safetensors') await saveLanguageModel(folder, bundle);
  else await (await import('../../models/lm/export.js')).exportLanguageModel(folder, bundle);
  const files = (await readdir(folder, { recursive: true })).sort();
  if (json) this.terminal.json({ model: bundle.name, format: to, folder, files });
  else this.terminal.print(`${bundle.name} as ${to} in ${folder}: ${files.join(', ')}`);
}
