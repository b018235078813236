import type { GenerationRequest } from '../generate/index.js';
import type { Engine } from './engine.js';
import { ApiError } from './errors.js';
import type { ChatBody, CompletionBody } from './schemas.js';

/** No token of a real vocabulary is longer than this on average, so longer texts need not be encoded to be refused. */
const mostCharactersPerToken = 64;

/** What a handler works with. */
export interface Job {
  engine: Engine;
  /** Fires when the client leaves or time is up. */
  signal: AbortSignal;
  /** What to say when `signal` has fired and the client is still there. */
  interruption: () => ApiError;
  /** Stops the clock, when all is done. */
  release: () => void;
}

/** @throws ApiError 400 with the code that clients know for it */
export function refuseLength(what: string, context: number): never {
  throw new ApiError(
    400,
    `this model's maximum context length is ${context} tokens, prompt and completion together; the prompt has ${what}`,
    'context_length_exceeded',
    'prompt',
  );
}

/** @throws ApiError 400 if a text is too long to be worth encoding */
export function checkTextLength(characters: number, context: number): void {
  if (characters > mostCharactersPerToken * context) refuseLength(`${characters} characters`, context);
}

/** @throws ApiError 400 if a prompt leaves no room for a token, or has ids that the model lacks */
export function checkPrompt(prompt: Int32Array, { generator, served }: Engine): void {
  if (prompt.length === 0) throw new ApiError(400, 'the prompt is empty', 'invalid_value', 'prompt');
  if (prompt.length >= generator.context) refuseLength(`${prompt.length} tokens`, generator.context);
  const { vocabulary } = served.model.config;
  const wrong = prompt.find((token) => token >= vocabulary);
  if (wrong !== undefined) {
    throw new ApiError(
      400,
      `token ${wrong} is not in the vocabulary of ${vocabulary}`,
      'invalid_value',
      'prompt',
    );
  }
}

/** The part of a generation request that both endpoints share; the n-th sample gets the n-th seed from `seed` on. */
export function requestsOf(
  body: CompletionBody | ChatBody,
  { engine, signal }: Job,
  prompts: readonly Int32Array[],
  specific: { maxTokens: number; topLogprobs: number },
): GenerationRequest[] {
  const n = body.n ?? 1;
  // Repeatable only if the client wants it.
  const seed = body.seed ?? Math.floor(Math.random() * 2 ** 48);
  const { endTokens } = engine.served;
  return prompts.flatMap((prompt) =>
    Array.from({ length: n }, (_, i) => ({
      prompt,
      ...specific,
      signal,
      stop: body.stop,
      stopTokens: endTokens,
      seed: seed + i,
      temperature: body.temperature ?? 1,
      topP: body.top_p ?? 1,
      topK: body.top_k ?? 0,
      minP: body.min_p ?? 0,
      repetitionPenalty: body.repetition_penalty ?? 1,
      presencePenalty: body.presence_penalty ?? 0,
      frequencyPenalty: body.frequency_penalty ?? 0,
      logitBias: body.logit_bias,
    })),
  );
}

/** Tokens of prompts and completions. */
export const usageOf = (promptTokens: number, completionTokens: number) => ({
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
});

/** OpenAI's name for the end of a sequence. */
export const finishReasonOf = (reason: string): 'stop' | 'length' => (reason === 'stop' ? 'stop' : 'length');
