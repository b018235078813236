/** The suites that `npm run bench -- SUITE` knows. Each is loaded only when asked for. */
import type { Suite } from './harness.js';

/** One entry of the list of suites. */
export interface SuiteEntry {
  about: string;
  load(): Promise<Suite>;
}

/** Every suite, by name. */
export const suites: Record<string, SuiteEntry> = {
  engine: {
    about: 'train steps, memory, call and start-up costs against PyTorch, jax-js and tfjs',
    load: async () => (await import('./engine.js')).engine,
  },
  attention: {
    about: 'PaTH and stick-breaking against RoPE, RoPE against PyTorch: passes, decoding, memory',
    load: async () => (await import('./attention.js')).attention,
  },
  lm: {
    about:
      'language models: training, sampling, SmolLM2 and its server against PyTorch, transformers and llama.cpp',
    load: async () => (await import('./lm.js')).lm,
  },
  optim: {
    about: "Muon's cost in a training step, and torch.optim.Muon on the same matrices",
    load: async () => (await import('./optim.js')).optim,
  },
  rl: {
    about: 'reinforcement learning: whole GRPO steps against TRL on PyTorch',
    load: async () => (await import('./rl.js')).rl,
  },
  verify: {
    about: 'verifiers: accuracy, speed against Math-Verify, detectors of reward hacking, sandboxes',
    load: async () => (await import('./verify.js')).verify,
  },
};
