/** What both sides of the suite of optimisers work on: the matrices of the engine suite's larger model. */
import { GPT6, type GptConfig, parameterSpecs } from '../engine/gpt.js';

/** The work, as it is written for both sides. */
export interface OptimJob {
  config: GptConfig;
  /** Matrices inside the layers, [in, out]: what Muon gets. */
  matrices: readonly { name: string; shape: readonly number[] }[];
  threads: number;
}

/** Names of the linear maps inside the layers. */
const isMatrix = /^blocks\.\d+\.(qkv|out|up|down)$/;

/** Whether a parameter of the model is one of them. */
export const isMuons = (name: string): boolean => isMatrix.test(name);

/** The job for a number of threads. */
export function optimJob(threads: number, config: GptConfig = GPT6): OptimJob {
  return { config, matrices: parameterSpecs(config).filter(({ name }) => isMuons(name)), threads };
}
