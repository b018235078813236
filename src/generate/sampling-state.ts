import { AnnealError } from '../core/errors.js';
import { absorb, type Identity, writeBlock } from '../core/philox.js';
import type { SamplingOptions } from './request.js';

/** Sampling options with every default filled in. */
export type ResolvedSampling = Required<Omit<SamplingOptions, 'logitBias' | 'seed'>> & {
  logitBias: ReadonlyMap<number, number>;
  seed: number;
};

/** One block of random words; draws are synchronous, so all sequences share it. */
const words = new Uint32Array(4);

function check(isValid: boolean, name: string, value: unknown, wanted: string): void {
  if (!isValid) throw new AnnealError(`${name} is ${value}; it must be ${wanted}`);
}

/**
 * Fills in defaults and checks every option.
 * @throws AnnealError naming the option, its value and what it must be.
 */
export function resolveSampling(options: SamplingOptions, vocabulary: number): ResolvedSampling {
  const resolved = {
    temperature: options.temperature ?? 1,
    topK: options.topK ?? 0,
    topP: options.topP ?? 1,
    minP: options.minP ?? 0,
    repetitionPenalty: options.repetitionPenalty ?? 1,
    presencePenalty: options.presencePenalty ?? 0,
    frequencyPenalty: options.frequencyPenalty ?? 0,
    logitBias: options.logitBias ?? new Map<number, number>(),
    seed: options.seed ?? 0,
  };
  const { temperature, topK, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty } = resolved;
  check(temperature >= 0 && Number.isFinite(temperature), 'temperature', temperature, 'a number from 0');
  check(Number.isInteger(topK) && topK >= 0, 'topK', topK, 'a whole number from 0 (0: all tokens)');
  check(topP > 0 && topP <= 1, 'topP', topP, 'above 0 and at most 1');
  check(minP >= 0 && minP <= 1, 'minP', minP, 'from 0 to 1');
  check(
    repetitionPenalty > 0 && Number.isFinite(repetitionPenalty),
    'repetitionPenalty',
    repetitionPenalty,
    'a positive number (1: none)',
  );
  check(Number.isFinite(presencePenalty), 'presencePenalty', presencePenalty, 'a finite number');
  check(Number.isFinite(frequencyPenalty), 'frequencyPenalty', frequencyPenalty, 'a finite number');
  for (const [token, bias] of resolved.logitBias) {
    const isToken = Number.isInteger(token) && token >= 0 && token < vocabulary;
    check(isToken, 'a token of logitBias', token, `an id from 0 to ${vocabulary - 1}`);
    const isBias = !Number.isNaN(bias) && bias !== Number.POSITIVE_INFINITY;
    check(isBias, `the logitBias of token ${token}`, bias, 'a number or -Infinity');
  }
  check(
    Number.isSafeInteger(resolved.seed) && resolved.seed >= 0,
    'seed',
    resolved.seed,
    'a whole number from 0',
  );
  return resolved;
}

/**
 * What one sequence carries from token to token: its options, its random numbers and the tokens that have occurred.
 * The n-th draw reads Philox at (seed, n): it does not depend on what else is sampled.
 */
export class SamplingState {
  readonly options: ResolvedSampling;
  readonly #stream: Identity;
  #draws = 0;
  /** Tokens that have occurred, with how often they were generated; only kept where a penalty needs it. */
  readonly #occurrences: Map<number, number> | undefined;
  /** The logits that are sampled differ from the model's. */
  readonly isAdjusted: boolean;

  /** @throws AnnealError on an option out of range. */
  constructor(options: SamplingOptions, prompt: ArrayLike<number>, vocabulary: number) {
    this.options = resolveSampling(options, vocabulary);
    const { seed } = this.options;
    this.#stream = [...absorb([0, 0], 'sampling'), seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
    const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = this.options;
    const isPenalized = repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
    this.isAdjusted = isPenalized || logitBias.size > 0;
    if (isPenalized) this.#occurrences = new Map();
    for (let i = 0; isPenalized && i < prompt.length; i++) this.#occurrences!.set(prompt[i]!, 0);
  }

  /** The next number in [0, 1). */
  uniform(): number {
    // A block for each draw, without the bookkeeping of an Rng: this runs for every token of every sequence.
    writeBlock(this.#draws++, 0, this.#stream, words, 0);
    return ((words[0]! >>> 5) * 2 ** 26 + (words[1]! >>> 6)) / 2 ** 53;
  }

  /** Takes note of a token that was drawn. */
  push(token: number): void {
    this.#occurrences?.set(token, (this.#occurrences.get(token) ?? 0) + 1);
  }

  /** Applies bias and penalties to `logits`, in place. */
  adjust(logits: Float32Array): void {
    const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = this.options;
    for (const [token, bias] of logitBias) logits[token]! += bias;
    if (!this.#occurrences) return;
    for (const [token, count] of this.#occurrences) {
      let logit = logits[token]!;
      logit = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      if (count > 0) logit -= presencePenalty + count * frequencyPenalty;
      logits[token] = logit;
    }
  }
}
