import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bucketCount, largest, weigh } from '../../src/generate/distribution.js';
import type { SamplingOptions } from '../../src/generate/request.js';
import { Sampler } from '../../src/generate/sampler.js';
import { SamplingState } from '../../src/generate/sampling-state.js';
import { Rng } from '../../src/index.js';

interface Golden {
  prompt: number[];
  generated: number[];
  rows: Record<string, number[]>;
  logprobs: Record<string, number[]>;
  cases: { row: string; options: Record<string, unknown>; tokens: number[]; logprobs: number[] }[];
}
/** Recorded by record_sampling.py with Hugging Face transformers. */
const golden: Golden = JSON.parse(readFileSync(new URL('../golden/sampling.json', import.meta.url), 'utf8'));

function optionsOf(json: Record<string, unknown>): SamplingOptions {
  const { logitBias, ...rest } = json;
  if (!logitBias) return rest;
  const entries = Object.entries(logitBias as Record<string, number>);
  return { ...rest, logitBias: new Map(entries.map(([token, bias]) => [Number(token), bias])) };
}

function stateOf(options: SamplingOptions, vocabulary: number): SamplingState {
  const state = new SamplingState(options, golden.prompt, vocabulary);
  for (const token of golden.generated) state.push(token);
  return state;
}

describe('the distribution that is sampled', () => {
  it(`equals transformers' in ${golden.cases.length} combinations of options`, () => {
    for (const { row, options, tokens, logprobs } of golden.cases) {
      const logits = Float32Array.from(golden.rows[row]!);
      const sampler = new Sampler(logits.length);
      const label = `${row} ${JSON.stringify(options)}`;
      const p = sampler.probabilities(logits, stateOf(optionsOf(options), logits.length));
      const kept = [...p.keys()].filter((token) => p[token]! > 0);
      // Of transformers' tokens, those more than 40 nats down are out of reach here.
      expect(kept, label).toEqual(tokens.filter((_, i) => logprobs[i]! > -40));
      for (const [i, token] of tokens.entries()) {
        if (p[token]! > 0)
          expect(Math.log(p[token]!), `${label}, token ${token}`).toBeCloseTo(logprobs[i]!, 5);
      }
    }
  });

  it('is what the two logprobs of a drawn token speak of', () => {
    const logits = Float32Array.from(golden.rows.usual!);
    const sampler = new Sampler(logits.length);
    for (const { row, options, tokens, logprobs } of golden.cases.filter((c) => c.row === 'usual')) {
      for (let seed = 0; seed < 5; seed++) {
        const state = stateOf({ ...optionsOf(options), seed }, logits.length);
        const drawn = sampler.sample(logits, state);
        expect(tokens, JSON.stringify(options)).toContain(drawn.token);
        expect(drawn.sampledLogprob).toBeCloseTo(logprobs[tokens.indexOf(drawn.token)]!, 5);
        expect(drawn.logprob).toBeCloseTo(golden.logprobs[row]![drawn.token]!, 8);
      }
    }
  });

  it('is that of the draws, by a chi-square test', () => {
    const logits = Float32Array.from(golden.rows.flat!);
    const sampler = new Sampler(logits.length);
    for (const options of [{}, { temperature: 0.5, topP: 0.9 }, { topK: 10, presencePenalty: 1 }]) {
      const p = sampler.probabilities(logits, stateOf(options, logits.length));
      const counts = new Float64Array(logits.length);
      const state = new SamplingState({ ...options, presencePenalty: 0, seed: 5 }, [0], logits.length);
      const draws = 20_000;
      // The state that draws takes no notes, so that the penalties of every draw are the same.
      for (let i = 0; i < draws; i++) {
        const fixed = stateOf(options, logits.length);
        fixed.uniform = () => state.uniform();
        counts[sampler.sample(logits, fixed).token]!++;
      }
      let chiSquare = 0;
      let cells = 0;
      for (const [i, count] of counts.entries()) {
        if (p[i] === 0) expect(count).toBe(0);
        else {
          chiSquare += (count - draws * p[i]!) ** 2 / (draws * p[i]!);
          cells++;
        }
      }
      // Mean cells - 1, variance 2(cells - 1): five standard deviations.
      expect(Math.abs(chiSquare - (cells - 1))).toBeLessThan(5 * Math.sqrt(2 * (cells - 1)));
    }
  });
});

describe('filters', () => {
  const arbitraryLogits = fc.array(fc.double({ min: -60, max: 60, noNaN: true }), {
    minLength: 2,
    maxLength: 200,
  });

  it('keep what a full sort keeps, ties included', () => {
    const arbitrary = fc.record({
      values: fc.oneof(arbitraryLogits, fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 2 })),
      topK: fc.integer({ min: 0, max: 50 }),
      topP: fc.double({ min: 0.01, max: 1, noNaN: true }),
      temperature: fc.double({ min: 0.05, max: 5, noNaN: true }),
    });
    fc.assert(
      fc.property(arbitrary, ({ values, topK, topP, temperature }) => {
        const logits = Float32Array.from(values);
        const state = new SamplingState({ topK, topP, temperature }, [0], logits.length);
        const p = new Sampler(logits.length).probabilities(logits, state);
        const ranked = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
        const max = logits[ranked[0]!]!;
        const weightOf = (token: number) => Math.exp((logits[token]! - max) / temperature);
        let kept = topK > 0 ? ranked.slice(0, topK) : ranked;
        const total = kept.reduce((sum, token) => sum + weightOf(token), 0);
        if (topP < 1) {
          let mass = 0;
          // Ends where the set reaches topP, unless that is a matter of rounding.
          const end = kept.findIndex((token) => {
            mass += weightOf(token);
            return mass >= topP * total;
          });
          fc.pre(Math.abs(mass - topP * total) > 1e-7 * total || end === kept.length - 1);
          kept = kept.slice(0, end === -1 ? kept.length : end + 1);
        }
        kept = kept.filter((token) => max - logits[token]! < 39 * temperature);
        const sum = kept.reduce((all, token) => all + weightOf(token), 0);
        for (const token of kept) expect(p[token]).toBeCloseTo(weightOf(token) / sum, 8);
        expect(p.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 9);
      }),
    );
  });

  it('leave exactly k of equal logits', () => {
    const p = new Sampler(50).probabilities(new Float32Array(50), new SamplingState({ topK: 7 }, [0], 50));
    expect([...p]).toEqual(Array.from({ length: 50 }, (_, i) => (i < 7 ? 1 / 7 : 0)));
  });
});

describe('sampling', () => {
  it('takes the first of the largest logits at temperature 0', () => {
    const sampler = new Sampler(4);
    const state = new SamplingState({ temperature: 0 }, [0], 4);
    const { token, logprob, sampledLogprob } = sampler.sample(Float32Array.of(1, 3, 3, 0), state);
    expect([token, sampledLogprob]).toEqual([1, 0]);
    expect(logprob).toBeCloseTo(3 - Math.log(Math.E + 2 * Math.E ** 3 + 1), 9);
  });

  it('depends on seed and position only', () => {
    const vocabulary = 1000;
    const logits = new Rng(3).normal(vocabulary);
    const drawn = (seed: number, others: number) => {
      const sampler = new Sampler(vocabulary);
      const state = new SamplingState({ seed }, [0], vocabulary);
      const other = new SamplingState({ seed: 99 }, [0], vocabulary);
      return Array.from({ length: 20 }, () => {
        for (let i = 0; i < others; i++) sampler.sample(logits, other);
        return sampler.sample(logits, state).token;
      });
    };
    expect(drawn(1, 0)).toEqual(drawn(1, 3));
    expect(drawn(1, 0)).not.toEqual(drawn(2, 0));
  });

  it('applies penalties to what it has drawn itself', () => {
    const sampler = new Sampler(3);
    const state = new SamplingState({ temperature: 0, frequencyPenalty: 1 }, [2], 3);
    const logits = Float32Array.of(2.5, 2, 0.9);
    const tokens = Array.from({ length: 6 }, () => sampler.sample(logits, state).token);
    expect(tokens).toEqual([0, 1, 0, 1, 2, 0]);
  });

  it('lists the most likely tokens of the model, not of the options', () => {
    const state = new SamplingState({ temperature: 0, logitBias: new Map([[3, 100]]) }, [0], 5);
    const { token, top } = new Sampler(5).sample(Float32Array.of(0, 2, 1, -1, 2), state, 3);
    expect(token).toBe(3);
    expect(top!.map((one) => one.token)).toEqual([1, 4, 2]);
    const logNormalizer = Math.log(1 + 2 * Math.exp(2) + Math.E + Math.exp(-1));
    expect(top![0]!.logprob).toBeCloseTo(2 - logNormalizer, 9);
  });

  it('refuses logits that are no numbers, by token', () => {
    const state = new SamplingState({}, [0], 3);
    const sampler = new Sampler(3);
    expect(() => sampler.sample(Float32Array.of(0, Number.NaN, 1), state)).toThrow(/token 1 is NaN/);
    expect(() => sampler.sample(Float32Array.of(Number.NaN, 0, 1), state)).toThrow(/token 0 is NaN/);
    expect(() => sampler.sample(Float32Array.of(0, 0, Number.POSITIVE_INFINITY), state)).toThrow(
      /token 2 is Infinity/,
    );
    const never = Float32Array.of(-Infinity, -Infinity, -Infinity);
    expect(() => sampler.sample(never, state)).toThrow(/every logit is -Infinity/);
    expect(() => sampler.sample(new Float32Array(2), state)).toThrow(/2 logits for a vocabulary of 3/);
    const banned = new SamplingState({ logitBias: new Map([0, 1, 2].map((t) => [t, -Infinity])) }, [0], 3);
    expect(() => sampler.sample(new Float32Array(3), banned)).toThrow(/allow at least one in logitBias/);
  });

  it.each([
    [{ temperature: -1 }, /temperature is -1/],
    [{ topK: 1.5 }, /topK is 1.5/],
    [{ topP: 0 }, /topP is 0/],
    [{ minP: 2 }, /minP is 2/],
    [{ repetitionPenalty: 0 }, /repetitionPenalty is 0/],
    [{ presencePenalty: Number.NaN }, /presencePenalty is NaN/],
    [{ frequencyPenalty: Number.POSITIVE_INFINITY }, /frequencyPenalty is Infinity/],
    [{ logitBias: new Map([[9, 1]]) }, /logitBias is 9; it must be an id from 0 to 8/],
    [{ logitBias: new Map([[1, Number.NaN]]) }, /token 1 is NaN/],
    [{ seed: -3 }, /seed is -3/],
  ])('refuses %o', (options: SamplingOptions, message) => {
    expect(() => new SamplingState(options, [0], 9)).toThrow(message);
  });
});

describe('helpers', () => {
  it('weigh to 1e-10 of the exponential', () => {
    const values = Float64Array.from({ length: 5000 }, (_, i) => -i * 0.0079);
    const weights = new Float64Array(values.length);
    const sum = weigh(values, 0, 1, weights);
    for (const [i, w] of weights.entries())
      expect(Math.abs(w / Math.exp(values[i]!) - 1)).toBeLessThan(1e-10);
    expect(sum).toBeCloseTo(
      weights.reduce((a, b) => a + b, 0),
      9,
    );
    expect(weigh([-40, -41], 0, 1, weights)).toBe(0);
    expect(bucketCount).toBe(1281);
  });

  it('find the largest of any values', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 1 }),
        fc.integer({ min: 1, max: 8 }),
        (v, n) => {
          const ranked = v
            .map((value, index) => ({ index, value }))
            .sort((a, b) => b.value - a.value || a.index - b.index);
          expect(largest(v, n)).toEqual(ranked.slice(0, n));
        },
      ),
    );
  });
});
