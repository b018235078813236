import { readText } from '../items.js';
import type { Task, TaskKind } from '../task.js';

/** A text to predict. */
export interface NamedText {
  name: string;
  text: string;
}

/** Options of `textPerplexity`. */
export interface TextOptions {
  name?: string;
  items: readonly NamedText[];
  context?: number;
  stride?: number;
}

/** How well a model predicts texts: perplexity and bits per byte, with a sliding window. */
export function textPerplexity({
  name = 'perplexity',
  items,
  context,
  stride,
}: TextOptions): Task<NamedText> {
  return {
    name,
    items,
    prompt: ({ text }) => text,
    score: {
      kind: 'text',
      ...(context !== undefined && { context }),
      ...(stride !== undefined && { stride }),
    },
  };
}

export const textKind: TaskKind = {
  summary: 'perplexity and bits per byte of text files',
  options: {
    file: { type: 'text', required: true, description: 'text file, or several with commas between them' },
    context: {
      type: 'number',
      description: "tokens that the model sees at once (default: the model's context)",
    },
    stride: { type: 'number', description: 'tokens that each window scores (default: half the context)' },
  },
  async load({ file, context, stride }) {
    const files = (file as string).split(',').filter((one) => one !== '');
    const items = await Promise.all(files.map(async (one) => ({ name: one, text: await readText(one) })));
    return textPerplexity({
      items,
      ...(context !== undefined && { context: context as number }),
      ...(stride !== undefined && { stride: stride as number }),
    }) as Task;
  },
};
