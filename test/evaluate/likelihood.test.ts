import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteTokenizer } from '../../src/data/byte-tokenizer.js';
import { argmax, encodeChoices, predictChoices, scoreChoices } from '../../src/evaluate/choice.js';
import { modelScorer } from '../../src/evaluate/model.js';
import { perplexity, slidingWindows } from '../../src/evaluate/perplexity.js';
import type { Scorer } from '../../src/evaluate/scorer.js';
import { loadLanguageModel } from '../../src/models/lm/load.js';
import '../../src/index.js';

const golden = fileURLToPath(new URL('../golden/', import.meta.url));
const reference = JSON.parse(await readFile(path.join(golden, 'evaluate.json'), 'utf8')) as {
  choices: {
    context: string;
    choices: string[];
    logprobs: number[];
    raw: number;
    perCharacter: number;
    perByte: number;
  }[];
  perplexity: { tokens: number[]; rows: { context: number; stride: number; tokens: number; nats: number }[] };
  text: { text: string; ids: number[] };
};
const { model, tokenizer } = await loadLanguageModel(path.join(golden, 'tiny-llama'));
const scorer = modelScorer(model);

describe('choices, against lm-evaluation-harness', () => {
  it.each(reference.choices)('after $context', async ({ context, choices, logprobs, ...picks }) => {
    // The harness starts from the model's first special token where there is no context.
    const encoded = encodeChoices(tokenizer, context, choices, { prefix: 0 });
    const [scores] = await scoreChoices(scorer, [encoded]);
    scores!.logprobs.forEach((logprob, i) => {
      expect(Math.abs(logprob - logprobs[i]!)).toBeLessThan(2e-4);
    });
    expect(predictChoices(choices, scores!)).toMatchObject(picks);
  });

  it('are scored alike alone and in a batch of all items', async () => {
    const encoded = reference.choices.map(({ context, choices }) =>
      encodeChoices(tokenizer, context, choices, { prefix: 0 }),
    );
    const together = await scoreChoices(scorer, encoded);
    for (const [i, one] of encoded.entries()) {
      const [alone] = await scoreChoices(scorer, [one]);
      expect(together[i]!.tokens).toEqual(alone!.tokens);
      alone!.logprobs.forEach((logprob, j) => {
        expect(together[i]!.logprobs[j]).toBeCloseTo(logprob, 3);
      });
    }
  });
});

/** Merges "ab" into one token; other characters are tokens of their own. */
const merging = {
  ...new ByteTokenizer(),
  size: 256,
  endOfText: 0,
  encode: (text: string) =>
    Int32Array.from(text.match(/ab|[\s\S]/g) ?? [], (piece) => (piece === 'ab' ? 1 : piece.charCodeAt(0))),
} as never;
const codes = (text: string) => [...text].map((one) => one.charCodeAt(0));

describe('the boundary of context and choice', () => {
  it('lies between tokens where it can', () => {
    const { sequences, shared } = encodeChoices(merging, 'xy', ['z', 'ab']);
    expect(sequences.map((s) => [...s])).toEqual([codes('xyz'), [...codes('xy'), 1]]);
    expect(shared).toBe(2);
  });

  it('moves before a token that spans it, for all choices', () => {
    // "xa" + "b" is x, ab: the scored part starts at "a" for the other choice, too.
    const { sequences, shared } = encodeChoices(merging, 'xa', ['b', 'c']);
    expect(sequences.map((s) => [...s])).toEqual([[...codes('x'), 1], codes('xac')]);
    expect(shared).toBe(1);
  });

  it('starts with the end-of-text token where nothing before it is left', () => {
    for (const context of ['', 'a']) {
      const { sequences, shared } = encodeChoices(merging, context, ['b', 'c']);
      expect(sequences.map(([first]) => first)).toEqual([0, 0]);
      expect(shared).toBe(1);
    }
  });

  it('gives white space at the end of the context to the choices', () => {
    const spaced = encodeChoices(merging, 'x \n', ['b', 'c']);
    expect(spaced.shared).toBe(1);
    expect(spaced).toEqual(encodeChoices(merging, 'x', [' \nb', ' \nc']));
  });

  it('keeps the end of what does not fit', () => {
    const whole = encodeChoices(merging, 'uvwxy', ['z', 'ok'], { limit: 7 });
    expect(whole.shared).toBe(5);
    const { sequences, shared } = encodeChoices(merging, 'uvwxy', ['z', 'ok'], { limit: 4 });
    expect(sequences.map((s) => [...s])).toEqual([codes('xyz'), codes('xyok')]);
    expect(shared).toBe(2);
    expect(() => encodeChoices(merging, 'uvwxy', ['zzzz', 'ok'], { limit: 4 })).toThrow(
      "a choice of 4 tokens does not fit into the model's context of 4",
    );
  });

  it('always leaves tokens to score after the same beginning', () => {
    const text = fc.stringMatching(/^[abx ]{0,6}$/);
    fc.assert(
      fc.property(
        text,
        fc.array(
          text.filter((t) => t !== ''),
          { minLength: 2, maxLength: 4 },
        ),
        (context, choices) => {
          const { sequences, shared } = encodeChoices(merging, context, choices);
          const first = sequences[0]!.subarray(0, shared);
          expect(shared).toBeGreaterThan(0);
          for (const sequence of sequences) {
            expect(sequence.length).toBeGreaterThan(shared);
            expect(sequence.subarray(0, shared)).toEqual(first);
          }
        },
      ),
    );
  });

  it('needs two choices, none empty, and a start', () => {
    expect(() => encodeChoices(merging, 'x', ['a'])).toThrow('an item has 1 choices');
    expect(() => encodeChoices(merging, 'x', [])).toThrow('an item has 0 choices');
    expect(() => encodeChoices(merging, 'x', ['a', ''])).toThrow('choice 2 of an item is empty');
    const endless = { ...(merging as object), endOfText: undefined } as never;
    expect(() => encodeChoices(endless, '', ['a', 'b'])).toThrow('need a token to start from');
  });
});

describe('picks', () => {
  it('differ by the way to count lengths', () => {
    const choices = ['ab', 'cdef', '\u00e9\u00e9'];
    // Per character: -3, -2, -2.5. Per byte: -3, -2, -1.25. Per token: -6, -2, -5.
    const scores = { logprobs: [-6, -8, -5], tokens: [1, 4, 1] };
    expect(predictChoices(choices, scores)).toEqual({ raw: 2, perCharacter: 1, perByte: 2, perToken: 1 });
  });

  it('count code points, as Python does', () => {
    // One code point but two UTF-16 units: -1 per unit would beat -1.5.
    const scores = { logprobs: [-2, -3], tokens: [1, 1] };
    expect(predictChoices(['\u{1f600}', 'xy'], scores).perCharacter).toBe(1);
  });

  it('take the first of equals', () => {
    expect(argmax([-1, -1])).toBe(0);
    expect(argmax([-2, -1, -1])).toBe(1);
    expect(argmax([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY])).toBe(0);
  });
});

describe('perplexity, against the loop of transformers', () => {
  const { tokens, rows } = reference.perplexity;
  it.each(rows)(
    'with context $context and stride $stride',
    async ({ context, stride, tokens: count, nats }) => {
      const result = await perplexity(model, tokens, { context, stride, bytes: 406 });
      expect(result.tokens).toBe(count);
      expect(Math.abs(result.nats - nats)).toBeLessThan(1e-5);
      expect(result.perplexity).toBeCloseTo(Math.exp(result.nats), 8);
      // 203 tokens of 2 bytes each.
      expect(result.bitsPerByte).toBeCloseTo(result.nats / Math.LN2 / 2, 10);
    },
  );
});

/** A model that gives every token the probability 1/4, and counts what it is asked. */
const uniform = () => {
  const calls: number[][] = [];
  const made: Scorer = {
    context: 8,
    async logprobs(sequences) {
      calls.push(sequences.map(({ length }) => length));
      return sequences.map(({ length }) => new Float32Array(length - 1).fill(-Math.log(4)));
    },
  };
  return { made, calls };
};

describe('sliding windows', () => {
  it('score every token but the first once where they overlap', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 60 }),
        fc.integer({ min: 2, max: 12 }),
        fc.nat(11),
        (length, context, s) => {
          const stride = 1 + (s % context);
          const scored = new Uint8Array(length);
          for (const { begin, end, from } of slidingWindows(length, context, stride)) {
            expect(end - begin).toBeLessThanOrEqual(context);
            expect(from).toBeGreaterThan(begin);
            for (let i = from; i < end; i++) scored[i]!++;
          }
          for (let i = 0; i < length; i++) {
            // Without overlap each window's first token has nothing before it.
            const isFirst = i === 0 || (stride === context && i % context === 0);
            expect(scored[i]).toBe(isFirst ? 0 : 1);
          }
        },
      ),
    );
  });

  it('go to the scorer in batches, and progress is reported', async () => {
    const { made, calls } = uniform();
    const progress: number[][] = [];
    const result = await perplexity(made, new Int32Array(20), {
      stride: 4,
      batch: 2,
      onProgress: (...p) => progress.push(p),
    });
    expect(calls).toEqual([
      [8, 8],
      [8, 8],
    ]);
    expect(progress).toEqual([
      [2, 4],
      [4, 4],
    ]);
    expect(result.tokens).toBe(19);
    expect(result.perplexity).toBeCloseTo(4, 5);
    expect(result).not.toHaveProperty('bitsPerByte');
  });

  it('refuse what they cannot do', async () => {
    const { made } = uniform();
    await expect(perplexity(made, [1])).rejects.toThrow('perplexity of 1 tokens');
    await expect(perplexity(made, [])).rejects.toThrow('perplexity of 0 tokens');
    await expect(perplexity(made, [1, 2, 3], { context: 9 })).rejects.toThrow('context is 9; pass 2 … 8');
    await expect(perplexity(made, [1, 2, 3], { stride: 0 })).rejects.toThrow('stride is 0; pass 1 … 8');
    await expect(perplexity(made, [1, 2, 3], { context: 4, stride: 5 })).rejects.toThrow('stride is 5');
  });
});
