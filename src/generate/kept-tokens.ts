import type { Completion, GeneratedToken } from './request.js';
import type { SampledToken } from './sampler.js';

/** Tokens that there is room for at first. */
const firstRoom = 64;

/**
 * The tokens of one sequence, in a few arrays that grow. An object for each would live until the sequence has been read,
 * and the garbage collector would copy it twice meanwhile: a good part of what the host does for a token.
 */
export class KeptTokens {
  #length = 0;
  #tokens = new Int32Array(firstRoom);
  /** Pairs: the model's own logprob, and that of the distribution that was drawn from. */
  #logprobs = new Float64Array(2 * firstRoom);
  readonly #texts: string[] = [];
  readonly #top = new Map<number, SampledToken['top']>();

  get length(): number {
    return this.#length;
  }

  push({ token, logprob, sampledLogprob, top }: SampledToken, text: string): void {
    const i = this.#length++;
    if (i === this.#tokens.length) this.#grow();
    this.#tokens[i] = token;
    this.#logprobs[2 * i] = logprob;
    this.#logprobs[2 * i + 1] = sampledLogprob;
    this.#texts.push(text);
    if (top) this.#top.set(i, top);
  }

  /** The token with the number `i`, which there must be. */
  at(i: number): GeneratedToken {
    const top = this.#top.get(i);
    return {
      token: this.#tokens[i]!,
      logprob: this.#logprobs[2 * i]!,
      sampledLogprob: this.#logprobs[2 * i + 1]!,
      text: this.#texts[i]!,
      ...(top && { top }),
    };
  }

  /** All of them, as a completion has them. */
  arrays(): Pick<Completion, 'tokens' | 'logprobs' | 'sampledLogprobs'> {
    const n = this.#length;
    const [logprobs, sampledLogprobs] = [new Float32Array(n), new Float32Array(n)];
    for (let i = 0; i < n; i++) {
      logprobs[i] = this.#logprobs[2 * i]!;
      sampledLogprobs[i] = this.#logprobs[2 * i + 1]!;
    }
    return { tokens: this.#tokens.slice(0, n), logprobs, sampledLogprobs };
  }

  #grow(): void {
    const [tokens, logprobs] = [this.#tokens, this.#logprobs];
    this.#tokens = new Int32Array(2 * tokens.length);
    this.#logprobs = new Float64Array(2 * logprobs.length);
    this.#tokens.set(tokens);
    this.#logprobs.set(logprobs);
  }
}
