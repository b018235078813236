import { AnnealError } from '../core/errors.js';
import type { StreamDecoder, Tokenizer } from '../data/tokenizer.js';
import { GenerationStream } from './generation.js';
import type { FinishReason, GenerationRequest } from './request.js';
import type { Sampler } from './sampler.js';
import { SamplingState } from './sampling-state.js';
import { StopMatcher } from './stop.js';

/** What a request is checked against. */
export interface SequenceLimits {
  vocabulary: number;
  /** Most tokens of prompt and completion together. */
  context: number;
  tokenizer: Tokenizer | undefined;
}

function checkRequest(request: GenerationRequest, { vocabulary, context, tokenizer }: SequenceLimits): void {
  const { prompt, maxTokens, stop = [], topLogprobs = 0 } = request;
  const fail = (message: string): never => {
    throw new AnnealError(message);
  };
  if (prompt.length === 0) fail('the prompt is empty; it needs at least one token');
  if (prompt.length >= context) {
    fail(
      `the prompt of ${prompt.length} tokens leaves no room in the context of ${context}; shorten it to ${context - 1} at most`,
    );
  }
  for (let i = 0; i < prompt.length; i++) {
    const token = prompt[i]!;
    if (!(Number.isInteger(token) && token >= 0 && token < vocabulary)) {
      fail(`token ${i} of the prompt is ${token}; ids go from 0 to ${vocabulary - 1}`);
    }
  }
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    fail(`maxTokens is ${maxTokens}; it must be a positive whole number`);
  }
  if (!Number.isInteger(topLogprobs) || topLogprobs < 0 || topLogprobs > vocabulary) {
    fail(`topLogprobs is ${topLogprobs}; it must be a whole number from 0 to ${vocabulary}`);
  }
  if (stop.length > 0 && !tokenizer) fail('stop strings need a tokenizer; give the generator one');
  if (stop.includes('')) fail('a stop string is empty; leave it out');
}

/** One request on its way through the generator. */
export class Sequence {
  readonly stream: GenerationStream;
  /** Equal for equal prompts: their keys and values are computed once. */
  readonly promptKey: string;
  readonly promptLength: number;
  /** Slot, once it has one. */
  row = -1;
  /** Tokens whose keys and values are in the cache. */
  cached = 0;
  /** Prompt and completion, in an array that grows. */
  #tokens: Int32Array;
  #length: number;
  /** Length at which the sequence ends. */
  readonly #end: number;
  readonly #sampling: SamplingState;
  readonly #stopTokens: ReadonlySet<number>;
  readonly #decoder: StreamDecoder | undefined;
  readonly #matcher: StopMatcher;
  readonly #top: number;

  /** @throws AnnealError if the request is impossible. */
  constructor(request: GenerationRequest, limits: SequenceLimits, onCancel: (sequence: Sequence) => void) {
    checkRequest(request, limits);
    const { prompt, maxTokens, stop = [], stopTokens = [], topLogprobs = 0 } = request;
    this.#sampling = new SamplingState(request, prompt, limits.vocabulary);
    this.stream = new GenerationStream(() => onCancel(this));
    this.promptLength = prompt.length;
    this.#length = prompt.length;
    this.#end = Math.min(prompt.length + maxTokens, limits.context);
    this.#tokens = new Int32Array(Math.min(this.#end, prompt.length + 256));
    this.#tokens.set(prompt);
    this.promptKey = this.#tokens.subarray(0, prompt.length).join();
    this.#stopTokens = new Set(stopTokens);
    this.#decoder = limits.tokenizer?.decoder();
    this.#matcher = new StopMatcher(stop);
    this.#top = topLogprobs;
  }

  /** Prompt tokens that are still to be read before the first token can be decoded; the last one is decoded. */
  get unread(): number {
    return Math.max(0, this.promptLength - 1 - this.cached);
  }

  /** The newest token, whose successor the next decoding step gives. */
  get last(): number {
    return this.#tokens[this.#length - 1]!;
  }

  /** Tokens of the prompt from `start` on. */
  promptTokens(start: number, end: number): Int32Array {
    return this.#tokens.subarray(start, Math.min(end, this.promptLength));
  }

  /** Draws the next token from its logits [vocabulary] and passes it on; true if the sequence has ended. */
  advance(sampler: Sampler, logits: Float32Array): boolean {
    const sampled = sampler.sample(logits, this.#sampling, this.#top);
    this.#append(sampled.token);
    const { text, reason } = this.#read(sampled.token);
    this.stream.push(sampled, text);
    if (reason) this.stream.finish(reason);
    return reason !== undefined;
  }

  /** Ends the sequence with what it has. */
  cancel(): void {
    const rest = this.#matcher.push(this.#decoder?.end() ?? '');
    this.stream.finish('cancelled', rest.stopped ? rest.text : rest.text + this.#matcher.end());
  }

  #append(token: number): void {
    if (this.#length === this.#tokens.length) {
      const longer = new Int32Array(Math.min(this.#end, 2 * this.#length));
      longer.set(this.#tokens);
      this.#tokens = longer;
    }
    this.#tokens[this.#length++] = token;
  }

  /** The text that a token completes, and why the sequence ends with it, if it does. */
  #read(token: number): { text: string; reason: FinishReason | undefined } {
    const isStop = this.#stopTokens.has(token);
    let { text, stopped } = this.#matcher.push(isStop ? '' : (this.#decoder?.push(token) ?? ''));
    let reason: FinishReason | undefined;
    if (stopped || isStop) reason = 'stop';
    else if (this.#length === this.#end) reason = 'length';
    if (reason && !stopped) {
      // Nothing can follow: an unfinished character and a beginning of a stop string are text after all.
      const rest = this.#matcher.push(this.#decoder?.end() ?? '');
      text += rest.stopped ? rest.text : rest.text + this.#matcher.end();
    }
    return { text, reason };
  }
}
