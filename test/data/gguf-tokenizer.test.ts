import { existsSync, readFileSync } from 'node:fs';
import { gguf } from '@huggingface/gguf';
import { describe, expect, it } from 'vitest';
import { tokenizerFromGguf } from '../../src/data/gguf-tokenizer.js';
import { tokenizerFromJSON } from '../../src/data/tokenizer-json.js';
import { expectIds, golden } from './golden.js';

const special = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'];

/** Metadata as a GGUF file would have them, with the vocabulary that was trained for the golden file. */
function metadata(pre: string, vocabulary: 'gpt2' | 'gpt4') {
  const { merges } = golden.trained[vocabulary];
  const bytes = Object.keys((golden.bytes.file as { model: { vocab: object } }).model.vocab).sort();
  const tokens = [...special, ...bytes, ...merges.map((merge) => merge.replace(' ', ''))];
  const tokenTypes = tokens.map((_, id): number => (id < special.length ? 3 : 1));
  return { model: 'gpt2', pre, tokens, tokenTypes, merges };
}

describe.each(Object.entries(golden.pre))('the pre-tokenizer %s', (pre, expected) => {
  it("gives the ids of the original model's tokenizer.json", () => {
    const tokenizer = tokenizerFromGguf(metadata(pre, expected.vocabulary));
    expectIds(tokenizer, expected);
    expectIds(tokenizerFromJSON(JSON.parse(JSON.stringify(tokenizer.toJSON()))), expected);
  });
});

it('reads user-defined tokens as ordinary ones', () => {
  const data = metadata('smollm', 'gpt2');
  data.tokens.push('<think>');
  data.tokenTypes.push(4);
  const tokenizer = tokenizerFromGguf(data);
  expect(tokenizer.encode('a<think>b')).toContain(data.tokens.length - 1);
  expect(tokenizer.decode(tokenizer.encode('a<think>b'))).toBe('a<think>b');
});

it('refuses what it does not know, by name', () => {
  expect(() => tokenizerFromGguf(metadata('deepseek-llm', 'gpt2'))).toThrow(
    'the GGUF file\'s pre-tokenizer "deepseek-llm" is unknown; known are gpt-2, smollm, llama-bpe, llama-v3, llama3, qwen2',
  );
  expect(() => tokenizerFromGguf({ ...metadata('smollm', 'gpt2'), model: 'llama' })).toThrow(
    'the GGUF file\'s tokenizer is of kind "llama"; only "gpt2" (byte-level BPE) can be read',
  );
});

const folder = new URL('../../../shared/models/', import.meta.url);
const file = new URL('SmolLM2-135M-Instruct.Q4_1.gguf', folder);
const isThere = existsSync(file);
if (!isThere) console.log(`skipped: ${file.pathname} is absent`);

describe.skipIf(!isThere)('the tokenizer of SmolLM2', () => {
  const read = async () => {
    const { metadata: all } = await gguf(file.pathname, { allowLocalFile: true });
    const of = (name: string) => (all as Record<string, unknown>)[`tokenizer.ggml.${name}`];
    return tokenizerFromGguf({
      model: of('model') as string,
      pre: of('pre') as string,
      tokens: of('tokens') as string[],
      tokenTypes: of('token_type') as number[],
      merges: of('merges') as string[],
    });
  };

  it('gives the ids and texts of transformers', async () => {
    const tokenizer = await read();
    const { tokenize } = JSON.parse(readFileSync(new URL('smollm2-golden.json', folder), 'utf8')) as {
      tokenize: { text: string; ids: number[]; decoded: string }[];
    };
    expect(tokenize.length).toBeGreaterThan(5);
    for (const { text, ids, decoded } of tokenize) {
      expect([...tokenizer.encode(text, { special: true })]).toEqual(ids);
      expect(tokenizer.decode(ids, { special: true })).toBe(decoded);
    }
    expect([tokenizer.size, tokenizer.endOfText, tokenizer.idOf('<|im_end|>')]).toEqual([49152, 0, 2]);
  });
});
