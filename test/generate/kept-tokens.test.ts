import { describe, expect, it } from 'vitest';
import { KeptTokens } from '../../src/generate/kept-tokens.js';

describe('the tokens of a sequence', () => {
  // More than there is room for at first, twice over.
  const pushed = Array.from({ length: 200 }, (_, i) => ({
    token: (i * 7919) % 65_537,
    logprob: -Math.PI * i,
    sampledLogprob: i % 5 === 0 ? Number.NEGATIVE_INFINITY : -Math.E / (1 + i),
    ...(i % 50 === 3 && { top: [{ token: i, logprob: -0.1 }] }),
  }));
  const textOf = (i: number) => (i % 3 === 0 ? `t${i}` : '');
  const kept = new KeptTokens();
  pushed.forEach((one, i) => {
    kept.push(one, textOf(i));
  });

  it('are given back as they came, to the last digit', () => {
    expect(kept.length).toBe(200);
    expect(pushed.map((_, i) => kept.at(i))).toEqual(pushed.map((one, i) => ({ ...one, text: textOf(i) })));
    // A token without alternatives has no such property at all.
    expect('top' in kept.at(0)).toBe(false);
  });

  it('are arrays of their own in a completion, rounded to float32', () => {
    const { tokens, logprobs, sampledLogprobs } = kept.arrays();
    expect([...tokens]).toEqual(pushed.map(({ token }) => token));
    expect([...logprobs]).toEqual(pushed.map(({ logprob }) => Math.fround(logprob)));
    expect([...sampledLogprobs]).toEqual(pushed.map((one) => Math.fround(one.sampledLogprob)));
    tokens[0] = -1;
    expect(kept.at(0).token).toBe(pushed[0]!.token);
    expect(new KeptTokens().arrays().tokens).toHaveLength(0);
  });
});
