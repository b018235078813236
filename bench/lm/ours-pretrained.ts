/** Our side of a pretrained model: prompts, decoding and perplexity. */
import { readFileSync } from 'node:fs';
import { configure } from 'anneal';
import { modelScorer, perplexity } from 'anneal/evaluate';
import { Generator } from 'anneal/generate';
import { loadLanguageModel } from 'anneal/models';
import { toOutputMajor } from 'anneal/nn';
import type { PretrainedJob } from './pretrained.js';
import type { OpenSide } from './side.js';

export const open: OpenSide = async (file) => {
  const {
    model: source,
    weights,
    context,
    chunk,
    threads,
  } = JSON.parse(readFileSync(file, 'utf8')) as PretrainedJob;
  configure({ threads });
  const { model } = await loadLanguageModel(source, { weights });
  toOutputMajor(model);
  const generator = new Generator(model, { slots: 1, capacity: context, chunk });
  return {
    about: `anneal, ${weights} weights, ${threads} threads`,
    operations: {
      generate: async (request) => {
        const [prompt] = request.prompts as number[][];
        const start = performance.now();
        let first = 0;
        let count = 0;
        const options = { prompt: prompt!, maxTokens: Number(request.tokens), temperature: 0 };
        for await (const _ of generator.submit(options)) if (count++ === 0) first = performance.now();
        if (count !== request.tokens) throw new Error(`${count} tokens instead of ${request.tokens}`);
        const end = performance.now();
        return {
          type: 'generated',
          promptSeconds: (first - start) / 1000,
          decodeSeconds: (end - first) / 1000,
        };
      },
      perplexity: async (request) => {
        const windows = request.windows as number[][];
        const length = windows[0]!.length;
        // Side by side, so that each window scores all of its tokens but the first.
        const options = { context: length, stride: length, batch: 1 };
        const { nats } = await perplexity(modelScorer(model), windows.flat(), options);
        return { type: 'scored', nats };
      },
    },
  };
};
