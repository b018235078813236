import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import words from '@nkzw/safe-word-list';
import { describe, expect, it } from 'vitest';
import { CharacterTokenizer, characterTokenizer } from '../../src/data/character-tokenizer.js';
import { PretrainedTokenizer, type TokenizerJson } from '../../src/data/pretrained-tokenizer.js';
import { loadTokenizer, saveTokenizer } from '../../src/data/tokenizer-files.js';
import { tokenizerFromJSON } from '../../src/data/tokenizer-json.js';
import { chainArithmetic } from '../../src/rl/tasks/chain-arithmetic.js';
import { solutionExample, verificationExample } from '../../src/rl/tasks/examples.js';
import { lastLetter } from '../../src/rl/tasks/last-letter.js';
import { protocolTokenizer } from '../../src/rl/tasks/tokenizer.js';

/** Written by test/golden/record_phrases.py with Hugging Face's tokenizers. */
const golden = JSON.parse(readFileSync(new URL('../golden/phrases.json', import.meta.url), 'utf8')) as {
  file: TokenizerJson;
  texts: string[];
  ids: number[][];
  decoded: string[];
  withEnd: number[];
};

describe('phrases of a character vocabulary', () => {
  const tokenizer = new CharacterTokenizer(['a', 'b', '}'], {
    phrases: ['<step>', '</step>', '\\boxed{', '\\boxed{a}', 'ab'],
    unknown: '<unk>',
    endOfText: '<|end|>',
  });

  it('are written as a tokenizer.json that gives the same ids elsewhere', () => {
    expect(tokenizer.toJSON()).toEqual(golden.file);
    expect(golden.texts.map((text) => [...tokenizer.encode(text)])).toEqual(golden.ids);
    expect(golden.ids.map((ids) => tokenizer.decode(ids))).toEqual(golden.decoded);
    expect([...tokenizer.encode('ab<|end|>', { special: true })]).toEqual(golden.withEnd);
  });

  it('are recognised when they are read', () => {
    const read = tokenizerFromJSON(JSON.parse(JSON.stringify(golden.file)));
    expect(read).toBeInstanceOf(CharacterTokenizer);
    const general = new PretrainedTokenizer(golden.file);
    for (const one of [read, general])
      expect(golden.texts.map((text) => [...one.encode(text)])).toEqual(golden.ids);
    expect([read.size, read.endOfText, read.idOf('<step>')]).toEqual([10, 9, 3]);
  });

  it('are text: they are decoded, also one by one, and no text can forge a special token', () => {
    const ids = tokenizer.encode('<step>a</step>');
    expect(tokenizer.decode([...ids, tokenizer.endOfText!])).toBe('<step>a</step>');
    const decoder = tokenizer.decoder();
    expect([...ids].map((id) => decoder.push(id))).toEqual(['<step>', 'a', '</step>']);
    expect(tokenizer.encode('<|end|>')).not.toContain(tokenizer.endOfText);
    expect([...tokenizer.specialTokens.keys()]).toEqual(['<unk>', '<|end|>']);
  });

  it('cannot repeat a character or each other', () => {
    const message = 'characters, phrases and special tokens of a vocabulary must be different and not empty';
    expect(() => new CharacterTokenizer(['a'], { phrases: ['a'] })).toThrow(message);
    expect(() => new CharacterTokenizer(['a'], { phrases: ['bb', 'bb'] })).toThrow(message);
    expect(() => characterTokenizer('ab', { phrases: [''] })).toThrow(message);
  });
});

describe('the vocabulary of the tasks', () => {
  const task = lastLetter({ words, count: [2, 4], letters: [3, 6], states: 'letter' });
  const tokenizer = protocolTokenizer([task, chainArithmetic({ count: [1, 3] })]);

  it('has a token for every tag, so that a step costs a handful', () => {
    const text = '<step>#1 e</step><step>#2 t\\boxed{INCORRECT}</step>';
    const tokens = [...tokenizer.encode(text)].map((id) => tokenizer.decode([id]));
    expect(tokens).toEqual([
      '<step>',
      '#',
      '1',
      ' ',
      'e',
      '</step>',
      '<step>',
      '#',
      '2',
      ' ',
      't',
      '\\boxed{INCORRECT}',
      '</step>',
    ]);
  });

  it('spells every example, and comes back from a folder', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'anneal-tokenizer-'));
    try {
      await saveTokenizer(folder, tokenizer);
      const read = await loadTokenizer(folder);
      expect(read.size).toBe(tokenizer.size);
      for (let i = 0; i < 50; i++) {
        for (const make of [solutionExample, verificationExample]) {
          const { prompt, completion } = make(task, i, { seed: 1, accuracy: 0.5 });
          const ids = tokenizer.encode(prompt + completion);
          expect(tokenizer.decode(ids)).toBe(prompt + completion);
          expect(read.encode(prompt + completion)).toEqual(ids);
        }
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
