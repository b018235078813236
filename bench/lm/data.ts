/** Texts and models that a suite does not bring along. */
import { existsSync } from 'node:fs';
import path from 'node:path';

/** Where a file is, or why it is not there. */
export type Found = { file: string } | { reason: string };

/** Tiny Shakespeare, 1,115,394 characters. */
export const SHAKESPEARE = 'tinyshakespeare.txt';

/** SmolLM2-135M-Instruct with 4-bit weights. */
export const SMOLLM2 = 'SmolLM2-135M-Instruct.Q4_1.gguf';

/** Looks for a file in the folder of `--data`, and in its subfolders data and models. */
export function findFile(folder: string | null, name: string): Found {
  if (folder === null) return { reason: `needs ${name}: name the folder that holds it with --data DIR` };
  const places = ['', 'data', 'models'].map((sub) => path.resolve(folder, sub, name));
  const file = places.find((place) => existsSync(place));
  return file === undefined ? { reason: `${name} is not in ${folder}` } : { file };
}
