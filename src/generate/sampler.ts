import { AnnealError } from '../core/errors.js';
import { argmax, largest, refuse, weigh } from './distribution.js';
import { RankFilter } from './filters.js';
import type { SamplingState } from './sampling-state.js';

/** Below this (as in vLLM) a temperature counts as 0: dividing by it would overflow. */
const smallestTemperature = 1e-5;

/** A drawn token; see `GeneratedToken` for the two logprobs. */
export interface SampledToken {
  token: number;
  logprob: number;
  sampledLogprob: number;
  top?: { token: number; logprob: number }[];
}

/**
 * Draws tokens from rows of logits, on the host. Steps, in the order of Hugging Face transformers (filters) and
 * vLLM (bias and penalties):
 *
 *   1. logit bias  2. repetition penalty  3. presence and frequency penalties  4. temperature
 *   5. top-k  6. top-p of what top-k left  7. min-p  8. one draw
 *
 * Among equal logits the smaller id counts as the more likely one, so top-k keeps exactly k tokens. Tokens more
 * than 40 nats (after temperature) below the most likely one are never drawn. Weights are float64.
 * One sampler serves any number of sequences; its buffers are reused by every call.
 */
export class Sampler {
  readonly #vocabulary: number;
  readonly #adjusted: Float32Array;
  readonly #weights: Float64Array;
  readonly #filter: RankFilter;

  constructor(vocabulary: number) {
    this.#vocabulary = vocabulary;
    this.#adjusted = new Float32Array(vocabulary);
    this.#weights = new Float64Array(vocabulary);
    this.#filter = new RankFilter(vocabulary);
  }

  /**
   * Draws the next token of a sequence and notes it in its state.
   *
   * @param logits [vocabulary], left as they are
   * @param top also return this many most likely tokens
   * @throws AnnealError if a logit is NaN or +Infinity, or all are -Infinity
   */
  sample(logits: Float32Array, state: SamplingState, top = 0): SampledToken {
    if (logits.length !== this.#vocabulary) {
      throw new AnnealError(`got ${logits.length} logits for a vocabulary of ${this.#vocabulary}`);
    }
    const best = argmax(logits);
    const max = logits[best]!;
    const sum = weigh(logits, max, 1, this.#weights);
    if (!(sum > 0)) refuse(logits);
    const logNormalizer = max + Math.log(sum);
    const { token, sampledLogprob } = this.#draw(logits, best, sum, state);
    state.push(token);
    const sampled: SampledToken = { token, logprob: logits[token]! - logNormalizer, sampledLogprob };
    if (top > 0) {
      sampled.top = largest(logits, top).map(({ index, value }) => ({
        token: index,
        logprob: value - logNormalizer,
      }));
    }
    return sampled;
  }

  /**
   * Probabilities [vocabulary] with which `sample` would draw each token next; filtered ones have 0. Draws nothing.
   * @throws AnnealError as `sample`
   */
  probabilities(logits: Float32Array, state: SamplingState): Float64Array {
    const best = argmax(logits);
    const sum = weigh(logits, logits[best]!, 1, this.#weights);
    if (!(sum > 0)) refuse(logits);
    const prepared = this.#prepare(logits, best, sum, state);
    if (typeof prepared === 'number') {
      const certain = new Float64Array(this.#vocabulary);
      certain[prepared] = 1;
      return certain;
    }
    return this.#weights.map((weight) => weight / prepared.sum);
  }

  #draw(logits: Float32Array, best: number, sum: number, state: SamplingState) {
    const prepared = this.#prepare(logits, best, sum, state);
    if (typeof prepared === 'number') return { token: prepared, sampledLogprob: 0 };
    const token = pick(this.#weights, state.uniform() * prepared.sum);
    // From the logit, not the weight, to have all digits.
    const { values, max, scale } = prepared;
    return { token, sampledLogprob: (values[token]! - max) * scale - Math.log(prepared.sum) };
  }

  /**
   * Fills the buffer with the weights of the distribution to draw from; the token itself where only one is left.
   * `best` and `sum` are those of the model's own distribution, whose weights are in the buffer.
   */
  #prepare(logits: Float32Array, best: number, sum: number, state: SamplingState) {
    const { temperature, topK, topP, minP } = state.options;
    let values = logits;
    if (state.isAdjusted) {
      values = this.#adjusted;
      values.set(logits);
      state.adjust(this.#adjusted);
      best = argmax(values);
    }
    if (temperature < smallestTemperature || topK === 1) return best;
    const max = values[best]!;
    const scale = 1 / temperature;
    if (state.isAdjusted || scale !== 1) sum = weigh(values, max, scale, this.#weights);
    if (!(sum > 0)) refuse(values);
    if (topK > 0 || topP < 1 || minP > 0) sum = this.#restrict(values, max, scale, topK, topP, minP);
    return { values, max, scale, sum };
  }

  /** Sets the weights of filtered tokens to 0; returns the sum of the others. */
  #restrict(
    values: Float32Array,
    max: number,
    scale: number,
    topK: number,
    topP: number,
    minP: number,
  ): number {
    const weights = this.#weights;
    const isRanked = topK > 0 || topP < 1;
    const cut = isRanked ? this.#filter.cut(values, weights, max, scale, topK, topP) : undefined;
    const least = cut?.value ?? Number.NEGATIVE_INFINITY;
    const last = cut?.token ?? Number.POSITIVE_INFINITY;
    let sum = 0;
    for (let i = 0; i < weights.length; i++) {
      const value = values[i]!;
      // The most likely token has weight 1, so a weight is the ratio that min-p speaks of.
      if (weights[i]! < minP || value < least || (value === least && i > last)) weights[i] = 0;
      else sum += weights[i]!;
    }
    return sum;
  }
}

/** The token at which the running sum of the weights passes `goal`, which is below their sum. */
function pick(weights: Float64Array, goal: number): number {
  let sum = 0;
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i] === 0) continue;
    last = i;
    sum += weights[i]!;
    if (sum > goal) return i;
  }
  // Only if rounding took `goal` up to the sum.
  return last;
}
