import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tokenizerFromJSON } from '../../src/data/tokenizer-json.js';
import { trainBpe } from '../../src/data/train-bpe.js';
import { expectIds, golden, goldenCorpus } from './golden.js';

const special = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'];
const corpus = goldenCorpus();

describe.each(['gpt2', 'gpt4'] as const)('BPE trained with the pre-split of %s', (preSplit) => {
  const expected = golden.trained[preSplit];
  const trained = trainBpe([corpus], { vocabularySize: 1024, special, preSplit });

  it("has the merges of Hugging Face's trainer", async () => {
    const json = (await trained).toJSON() as { model: { merges: string[]; vocab: Record<string, number> } };
    expect(json.model.merges).toEqual(expected.merges);
    expect(Object.keys(json.model.vocab).length).toBe(1024);
  });

  it('gives the same ids and texts', async () => {
    const tokenizer = await trained;
    expectIds(tokenizer, expected);
    expect(tokenizer.encode(corpus).length).toBe(expected.corpusTokens);
    expect(tokenizer.size).toBe(1024);
    expect(tokenizer.endOfText).toBe(0);
    expect(tokenizer.idOf('<|im_end|>')).toBe(2);
  });

  it('survives its tokenizer.json', async () => {
    const written = JSON.stringify((await trained).toJSON());
    const read = tokenizerFromJSON(JSON.parse(written));
    expectIds(read, expected);
    expect(JSON.stringify(read.toJSON())).toBe(written);
  });
});

describe('training', () => {
  it('depends on the words, not on how they are spread over texts', async () => {
    const options = { vocabularySize: 400, minFrequency: 1 };
    const words = ['low', 'lower', 'newest', 'widest', 'newest', 'low', 'newest'];
    const merges = async (texts: string[]) =>
      ((await trainBpe(texts, options)).toJSON() as { model: { merges: string[] } }).model.merges;
    const one = await merges(words);
    expect(await merges([...words].reverse())).toEqual(one);
    // By hand: 'es', 'st' and 'we' occur 4 times, and e comes first; then 'est' still does. Of those that occur 3
    // times, 'ew' has the lowest left token, then 'lo'.
    expect(one.slice(0, 4)).toEqual(['e s', 'es t', 'e w', 'l o']);
  });

  it('stops where nothing is frequent enough', async () => {
    const tokenizer = await trainBpe(['ab ab cd'], { vocabularySize: 5000, special: [] });
    // 'a b' twice; ' ab' and ' cd' occur once.
    expect((tokenizer.toJSON() as { model: { merges: string[] } }).model.merges).toEqual(['a b']);
    expect(tokenizer.size).toBe(257);
    expect(tokenizer.endOfText).toBeUndefined();
  });

  it('merges runs from the left', async () => {
    const tokenizer = await trainBpe(['aaaaa aaaaa'], { vocabularySize: 257, special: [] });
    const [aa] = tokenizer.encode('aa');
    const a = tokenizer.idOf('a')!;
    expect([...tokenizer.encode('aaaaa')]).toEqual([aa, aa, a]);
  });

  it.each([
    [[], { vocabularySize: 300 }, 'there is no text to train a tokenizer on'],
    [
      ['x'],
      { vocabularySize: 256 },
      'vocabularySize is 256; pass an integer of at least 257: 256 bytes and 1 special tokens',
    ],
    [
      ['x'],
      { vocabularySize: 300, special: ['a', 'a'] },
      'special tokens ["a","a"]: pass different, non-empty strings',
    ],
    [['x'], { vocabularySize: 300, preSplit: ['('] }, /^the pre-split \/\(\/ is no regular expression: /],
  ])('refuses %j with %j', async (texts, options, message) => {
    await expect(trainBpe(texts as string[], options as never)).rejects.toThrow(message);
  });
});

describe('any text', () => {
  const tokenizer = tokenizerFromJSON(trainedFile());

  it('survives encoding and decoding', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }),
      { numRuns: 300 },
    );
  });

  it('streams as it decodes, whole characters at a time', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(tokenizer.size - 1), { maxLength: 40 }), (ids) => {
        const decoder = tokenizer.decoder();
        const pieces = ids.map((id) => decoder.push(id));
        expect(pieces.join('') + decoder.end()).toBe(tokenizer.decode(ids));
      }),
      { numRuns: 300 },
    );
    const decoder = tokenizer.decoder();
    const ids = tokenizer.encode('🙂é');
    const pieces = [...ids].map((id) => decoder.push(id));
    expect(ids.length).toBeGreaterThan(2);
    expect(pieces.filter(Boolean)).toEqual(['🙂', 'é']);
    expect(decoder.end()).toBe('');
  });

  it('ends a stream that breaks off inside a character with U+FFFD', () => {
    const decoder = tokenizer.decoder();
    const [first] = tokenizer.encode('🙂');
    expect(decoder.push(first!)).toBe('');
    expect(decoder.end()).toBe('\ufffd');
  });
});

/** The file of the golden tokenizer with GPT-2's split, from its merges. */
function trainedFile(): unknown {
  const { merges } = golden.trained.gpt2;
  const vocab = { ...(golden.bytes.file as { model: { vocab: Record<string, number> } }).model.vocab };
  for (const merge of merges) vocab[merge.replace(' ', '')] = Object.keys(vocab).length;
  return {
    added_tokens: special.map((content, i) => ({ id: 3000 + i, content, special: true })),
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab, merges },
  };
}
