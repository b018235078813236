import { cacheBytesPerToken, flopsPerToken, parameterCount } from '../../models/lm/config.js';
import { configLines, derivedLines } from '../../recipes/format.js';
import type { Quantity } from '../../recipes/recipe.js';
import { loadModel } from '../model.js';
import type { Cli } from '../terminal.js';

/** `anneal info MODEL`. */
export async function info(this: Cli, { json }: { json?: boolean }, path: string): Promise<void> {
  const { model, tokenizer, chatTemplate, endTokens, name } = await loadModel(path);
  const { config } = model;
  const numbers: Quantity[] = [
    { name: 'parameters', value: parameterCount(config), unit: '' },
    { name: 'flopsPerToken', value: flopsPerToken(config, { length: 1 }), unit: 'FLOP' },
    { name: 'cacheBytesPerToken', value: cacheBytesPerToken(config), unit: 'bytes' },
  ];
  if (json) {
    const derived = Object.fromEntries(numbers.map((one) => [one.name, one.value]));
    this.terminal.json({
      name,
      config,
      derived,
      tokens: tokenizer.size,
      endTokens,
      chatTemplate: chatTemplate ?? null,
    });
    return;
  }
  this.terminal.print(name);
  this.terminal.print(configLines(config, Math.min(this.terminal.columns, 110)).join('\n'));
  this.terminal.print(derivedLines(numbers).join('\n'));
  const ends = endTokens.map((id) => tokenizer.decode([id], { special: true })).join(' ');
  const template = chatTemplate === undefined ? 'no chat template' : 'a chat template';
  this.terminal.print(
    `  ${tokenizer.size.toLocaleString('en')} tokens, ${ends ? `ends with ${ends}` : 'no end token'}, ${template}`,
  );
}

/** `anneal tokenize MODEL TEXT…`. */
export async function tokenize(
  this: Cli,
  { json }: { json?: boolean },
  path: string,
  ...texts: string[]
): Promise<void> {
  const { tokenizer } = await loadModel(path);
  for (const text of texts) {
    const tokens = [...tokenizer.encode(text)];
    const pieces = tokens.map((id) => tokenizer.decode([id], { special: true }));
    if (json) this.terminal.json({ text, tokens, pieces });
    else {
      this.terminal.print(`${tokens.length} tokens: ${tokens.join(' ')}`);
      this.terminal.print(pieces.map((piece) => JSON.stringify(piece).slice(1, -1)).join('|'));
    }
  }
}
