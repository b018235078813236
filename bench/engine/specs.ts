/** Who takes part in the engine suite, and how each is started. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ContestantSpec, PEERS, pythonSpec } from '../contestant.js';

const CHILD = fileURLToPath(new URL('./child.js', import.meta.url));

/** Anneal itself. */
export function oursSpec(folder: string): ContestantSpec {
  const module = fileURLToPath(new URL('./ours.js', import.meta.url));
  return { name: 'anneal', command: process.execPath, args: [CHILD, folder, module] };
}

/** PyTorch, eager or compiled. */
export function torchSpec(folder: string, mode: 'eager' | 'compile'): ContestantSpec {
  const args = [folder, ...(mode === 'compile' ? ['--compile'] : [])];
  return pythonSpec(`torch ${mode}`, 'gpt_torch.py', args);
}

/** A JavaScript peer: a module of bench/peers that exports `createGpt`. */
export function nodePeerSpec(folder: string, name: 'jaxjs' | 'tfjs'): ContestantSpec {
  const dependency = name === 'jaxjs' ? '@jax-js/jax' : '@tensorflow/tfjs-backend-wasm';
  const args = [CHILD, folder, path.join(PEERS, `gpt_${name}.mjs`)];
  return { name, command: process.execPath, args, requires: path.join(PEERS, 'node_modules', dependency) };
}
