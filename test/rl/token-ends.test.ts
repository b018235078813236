import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tokenAt, tokenEnds } from '../../src/rl/token-ends.js';
import { SpellingTokenizer } from '../generate/support.js';

const euro = new TextEncoder().encode('€');
const tokenizer = new SpellingTokenizer([
  'a',
  '</st',
  'ep>\n',
  euro.subarray(0, 1),
  euro.subarray(1, 2),
  euro.subarray(2),
  '',
  '🙂x',
]);

describe('tokenEnds', () => {
  it('counts UTF-16 units; an unfinished character belongs to the token that finishes it', () => {
    // a | </st | ep>\n | € in three pieces | special | 🙂x
    expect([...tokenEnds(tokenizer, [0, 1, 2, 3, 4, 5, 6, 7])]).toEqual([1, 5, 9, 9, 9, 10, 10, 13]);
  });

  it('gives what never gets finished to the last token', () => {
    expect([...tokenEnds(tokenizer, [0, 3])]).toEqual([1, 2]);
    expect(tokenizer.decode([0, 3])).toBe('a\ufffd');
    expect([...tokenEnds(tokenizer, [])]).toEqual([]);
  });

  it('names the token that completes a tag, although its text goes on', () => {
    const ends = tokenEnds(tokenizer, [0, 1, 2, 0]);
    const text = tokenizer.decode([0, 1, 2, 0]);
    expect(tokenAt(ends, text.indexOf('</step>') + '</step>'.length)).toBe(2);
    expect(tokenAt(ends, 1)).toBe(0);
    expect(tokenAt(ends, 2)).toBe(1);
    expect(tokenAt(ends, text.length + 1)).toBe(-1);
  });

  it('never falls, and ends at the length of the whole text', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 1 }), (tokens) => {
        const ends = tokenEnds(tokenizer, tokens);
        for (let i = 1; i < ends.length; i++) expect(ends[i]!).toBeGreaterThanOrEqual(ends[i - 1]!);
        expect(ends.at(-1)).toBe(tokenizer.decode(tokens).length);
      }),
    );
  });
});
