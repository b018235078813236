/** Our side of batched sampling: a model with starting weights in a generator with a slot for each sequence. */
import { readFileSync } from 'node:fs';
import { configure } from 'anneal';
import { Generator } from 'anneal/generate';
import { Transformer } from 'anneal/models';
import type { SamplingJob } from './sampling.js';
import type { OpenSide } from './side.js';

export const open: OpenSide = async (file) => {
  const { config, sequences, tokens, threads } = JSON.parse(readFileSync(file, 'utf8')) as SamplingJob;
  configure({ threads });
  const generator = new Generator(new Transformer(config), { slots: sequences, blocking: true });
  let seed = 0;
  return {
    about: `anneal, ${threads} threads`,
    operations: {
      sample: async () => {
        const requests = Array.from({ length: sequences }, (_, i) => ({
          prompt: [i % config.vocabulary],
          maxTokens: tokens,
          seed: seed++,
        }));
        const start = performance.now();
        const completions = await generator.generate(requests);
        const seconds = (performance.now() - start) / 1000;
        const short = completions.find((one) => one.tokens.length !== tokens);
        if (short) throw new Error(`a sequence has ${short.tokens.length} tokens instead of ${tokens}`);
        return { type: 'sampled', seconds };
      },
    },
  };
};
