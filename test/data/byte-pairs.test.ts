import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { spellBytes } from '../../src/data/byte-level.js';
import { type BpeModelEntry, BytePairs } from '../../src/data/byte-pairs.js';
import { Library } from '../../src/data/tokenizers-library.js';
import { golden } from './golden.js';

const { merges } = golden.trained.gpt2;
const vocab = { ...(golden.bytes.file as { model: { vocab: Record<string, number> } }).model.vocab };
for (const merge of merges) vocab[merge.replace(' ', '')] = Object.keys(vocab).length;
const model = { type: 'BPE', vocab, merges };
const pairs = BytePairs.from(model)!;
const library = new Library(
  { model, added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null },
  {},
).model;

const utf8 = (text: string) => new TextEncoder().encode(text);

describe('byte pairs', () => {
  it('are merged as @huggingface/tokenizers merges them, in words of any length', () => {
    // Few different letters make many merges possible.
    const word = fc.oneof(
      fc.string({ unit: fc.constantFrom('t', 'h', 'e', ' ', 's', 'é', 'a', 'n'), maxLength: 120 }),
      fc.string({ unit: 'binary', maxLength: 60 }),
    );
    fc.assert(
      fc.property(word, (text) => {
        const expected = library._call([spellBytes(utf8(text))]).map((token) => vocab[token]!);
        expect([...pairs.encode(utf8(text))]).toEqual(expected);
      }),
      { numRuns: 1000 },
    );
  });

  it('drop bytes without a token before merging, as `tokenizers` does', () => {
    const few = BytePairs.from({ vocab: { a: 0, b: 1, ab: 2 }, merges: [['a', 'b']] })!;
    expect([...few.encode(utf8('a\u0004b'))]).toEqual([2]);
    expect([...few.encode(utf8('\u0004'))]).toEqual([]);
    expect([...few.encode(utf8('ab\u0004\u0004ab'))]).toEqual([2, 2]);
  });

  it('of a long word are not compared each with each', () => {
    const bytes = utf8('the'.repeat(100_000));
    const start = performance.now();
    expect(pairs.encode(bytes).length).toBe(100_000);
    // A fraction of a second; minutes, if the time grew with the square of the length.
    expect(performance.now() - start).toBeLessThan(15_000);
  });

  it.each([
    ['an unknown token', { unk_token: 'a' }],
    ['suffixes', { end_of_word_suffix: '</w>' }],
    ['merges of absent tokens', { merges: ['a c'] }],
  ])('are not all of a model with %s', (_, more) => {
    expect(
      BytePairs.from({ vocab: { a: 0, b: 1, ab: 2 }, merges: ['a b'], ...more } as BpeModelEntry),
    ).toBeUndefined();
  });
});
