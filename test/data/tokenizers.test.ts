import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteTokenizer } from '../../src/data/byte-tokenizer.js';
import { CharacterTokenizer, characterTokenizer } from '../../src/data/character-tokenizer.js';
import { PretrainedTokenizer, type TokenizerJson } from '../../src/data/pretrained-tokenizer.js';
import { splitSpecial } from '../../src/data/special-tokens.js';
import { tokenizerFromJSON } from '../../src/data/tokenizer-json.js';
import { expectIds, golden } from './golden.js';

describe('bytes', () => {
  it('are written as a tokenizer.json that gives the same ids elsewhere', () => {
    const tokenizer = new ByteTokenizer();
    expect(tokenizer.toJSON()).toEqual(golden.bytes.file);
    expectIds(tokenizer, golden.bytes);
    expect([tokenizer.size, tokenizer.endOfText]).toEqual([257, 256]);
  });

  it('are recognised when they are read', () => {
    const read = tokenizerFromJSON(JSON.parse(JSON.stringify(golden.bytes.file)));
    expect(read).toBeInstanceOf(ByteTokenizer);
    expectIds(read, golden.bytes);
    // The general way gives the same.
    expectIds(new PretrainedTokenizer(golden.bytes.file as TokenizerJson), golden.bytes);
  });

  it('come back from any text, and stream', () => {
    const tokenizer = new ByteTokenizer(['<a>', '<b>']);
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const decoder = tokenizer.decoder();
        const ids = tokenizer.encode(text);
        expect(tokenizer.decode(ids)).toBe(text);
        expect([...ids].map((id) => decoder.push(id)).join('') + decoder.end()).toBe(text);
      }),
    );
    expect([...tokenizer.encode('é<b>', { special: true })]).toEqual([0xc3, 0xa9, 257]);
    expect(tokenizer.encode('<b>').length).toBe(3);
    expect(tokenizer.decode([65, 256, 66])).toBe('AB');
    expect(tokenizer.decode([65, 256, 66], { special: true })).toBe('A<a>B');
    expect([tokenizer.idOf('<b>'), tokenizer.idOf('A'), tokenizer.idOf('Ġ'), tokenizer.idOf(' ')]).toEqual([
      257,
      65,
      32,
      undefined,
    ]);
  });
});

describe('characters', () => {
  it('are written as a tokenizer.json that gives the same ids elsewhere', () => {
    const text = golden.texts.join('');
    const kept = [...text].filter((character) => character.codePointAt(0)! < 0x250);
    const tokenizer = characterTokenizer(kept.join(''), { unknown: true, endOfText: '<|endoftext|>' });
    expect(tokenizer.toJSON()).toEqual(golden.characters.file);
    expectIds(tokenizer, golden.characters);
  });

  it('are recognised when they are read', () => {
    const read = tokenizerFromJSON(JSON.parse(JSON.stringify(golden.characters.file)));
    expect(read).toBeInstanceOf(CharacterTokenizer);
    expectIds(read, golden.characters);
    expect(read.toJSON()).toEqual(golden.characters.file);
    expectIds(new PretrainedTokenizer(golden.characters.file as TokenizerJson), golden.characters);
  });

  it('are those of the text, in the order of their code points', () => {
    const tokenizer = characterTokenizer(['baé', '🙂b']);
    expect([tokenizer.size, tokenizer.endOfText, tokenizer.unknown]).toEqual([4, undefined, undefined]);
    expect([...tokenizer.encode('abé🙂')]).toEqual([0, 1, 2, 3]);
    expect(tokenizer.decode([3, 1])).toBe('🙂b');
    expect(() => tokenizer.encode('abc')).toThrow(
      'character "c" (U+0063) is not among the 4 of the vocabulary; remove it, or build the tokenizer with unknown: true',
    );
  });

  it('that are rare are merged', () => {
    const rare = characterTokenizer('aaabbc', { minCount: 2 });
    expect([rare.size, rare.unknown]).toEqual([3, 2]);
    expect([...rare.encode('abcd')]).toEqual([0, 1, 2, 2]);
    expect(rare.decode([0, 2, 1])).toBe('ab');
    expect(rare.decode([0, 2, 1], { special: true })).toBe('a<unk>b');
    // Of equally frequent ones those of lower code points stay.
    expect([...characterTokenizer('zyxx', { maxCharacters: 2 }).encode('xyz')]).toEqual([0, 1, 2]);
    expect(() => characterTokenizer('abc', { minCount: 2 })).toThrow(
      'no characters are left for a vocabulary',
    );
  });
});

describe('special tokens in text', () => {
  const special = new Map([
    ['<s>', { id: 1 }],
    ['<s>>', { id: 2 }],
    ['<l>', { id: 3, stripBefore: true }],
    ['<r>', { id: 4, stripAfter: true }],
    ['W', { id: 5, wholeWord: true }],
  ]);
  const split = (text: string) =>
    splitSpecial(text, special).map((section) => (typeof section === 'string' ? section : section.id));

  it.each([
    ['', []],
    ['a<s>b', ['a', 1, 'b']],
    ['<s>><s>', [2, 1]],
    ['a <l> b', ['a', 3, ' b']],
    ['a <r> b', ['a ', 4, 'b']],
    ['<r>  <s>', [4, 1]],
    ['a W, aW Wa W', ['a ', 5, ', aW Wa ', 5]],
  ])('%j', (text, sections) => {
    expect(split(text)).toEqual(sections);
  });
});

describe('a tokenizer that is not byte-level', () => {
  // In the manner of Llama 2: spaces as ▁, characters outside the vocabulary as bytes.
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
  const pieces = ['<unk>', '<s>', '</s>', ...bytes, '▁', 'a', 'b', '▁a', '▁ab'];
  const tokenizer = tokenizerFromJSON({
    added_tokens: pieces.slice(0, 3).map((content, id) => ({ id, content, special: true })),
    normalizer: null,
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      byte_fallback: true,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges: ['▁ a', '▁a b'],
    },
  });
  const id = (piece: string) => tokenizer.idOf(piece)!;

  it('encodes and decodes', () => {
    expect([...tokenizer.encode('ab aé')]).toEqual([id('▁ab'), id('▁a'), id('<0xC3>'), id('<0xA9>')]);
    expect([...tokenizer.encode('ab</s>', { special: true })]).toEqual([id('▁ab'), 2]);
    expect([...tokenizer.encode('</s>')]).not.toContain(2);
    expect(tokenizer.decode([id('▁ab'), 2, id('▁a'), id('<0xC3>'), id('<0xA9>')])).toBe('ab aé');
    expect(tokenizer.decode([id('▁ab'), 2], { special: true })).toBe('ab</s>');
    expect([tokenizer.decode([]), tokenizer.decode([2]), tokenizer.encode('').length]).toEqual(['', '', 0]);
    expect(tokenizer.endOfText).toBe(2);
  });

  it('streams whole characters', () => {
    const decoder = tokenizer.decoder();
    const ids = ['▁ab', '▁a', '<0xC3>', '<0xA9>', '</s>', '▁ab', '<0xF0>'].map(id);
    expect(ids.map((one) => decoder.push(one))).toEqual(['ab', ' a', '', 'é', '', ' ab', '']);
    expect(decoder.end()).toBe('\ufffd');
  });
});

it.each([
  [null, 'this is no tokenizer.json: it has no "model" with a "type"'],
  [{ model: {} }, 'this is no tokenizer.json: it has no "model" with a "type"'],
  [{ model: { type: 'Odd' } }, 'this tokenizer.json cannot be used: '],
])('refuses %j as a tokenizer', (json, message) => {
  expect(() => tokenizerFromJSON(json)).toThrow(message);
});
