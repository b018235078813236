/** A judge behind an OpenAI-compatible API: limits, retries, budget. */
import { AnnealError } from '../../core/errors.js';
import { JudgeBudget } from './budget.js';
import {
  type ChatCall,
  type ChatModel,
  type ChatReply,
  type ChatRequest,
  estimatePrompt,
  JudgeError,
  PromptTooLong,
} from './chat.js';
import { Limiter } from './limit.js';
import { BadReply, type ParsedReply, parseReply, parseStream } from './reply.js';
import { backoff, pause, type RetryOptions, retryAfter } from './retry.js';

export interface EndpointOptions extends RetryOptions {
  /** Address of the API, such as `http://127.0.0.1:8000/v1` or `https://api.openai.com/v1`. */
  url: string;
  /** What the endpoint calls the model. */
  model: string;
  /** Sent as bearer key; never part of a message or of the cache. */
  apiKey?: string;
  /** Calls that run at once; more wait. Default 8. */
  concurrency?: number;
  /** Longest silence in milliseconds: until the whole reply, or with `stream` until its next piece. Default 120 000. */
  timeoutMs?: number;
  /** Streams replies, so that a long one is not taken for a hanging server. Default false. */
  stream?: boolean;
  /** What may be spent in all. Default: without limit. */
  budget?: JudgeBudget;
  /** How the API calls the limit of a reply; newer models of OpenAI know `max_completion_tokens` only. */
  tokenField?: 'max_tokens' | 'max_completion_tokens';
  /** More fields of the request's body, such as `{ chat_template_kwargs: { enable_thinking: false } }`. */
  body?: Readonly<Record<string, unknown>>;
  headers?: Readonly<Record<string, string>>;
}

/** One try went wrong: how, and whether another one may go better. */
interface Trouble {
  error: JudgeError;
  again: boolean;
  /** Milliseconds that the server asks to wait. */
  waitMs?: number | undefined;
}

const whole = (name: string, value: number, least: number) => {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new AnnealError(`the judge's ${name} is ${value}; pass a whole number from ${least}`);
};

/** Address of the chat completions under a base address. */
function chatUrl(url: string): string {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw new AnnealError(
      `the judge's url "${url}" is no address; pass one such as http://127.0.0.1:8000/v1`,
    );
  }
  if (!/^https?:$/.test(parsed.protocol))
    throw new AnnealError(`the judge's url "${url}" must begin with http:// or https://`);
  if (parsed.username || parsed.password)
    throw new AnnealError("the judge's url holds a name or a password; pass the key as apiKey");
  const path = parsed.pathname.replace(/\/+$/, '');
  parsed.pathname = path.endsWith('/chat/completions') ? path : `${path}/chat/completions`;
  return parsed.href;
}

/** Whether a 4xx says that the prompt is longer than the model's context. */
const saysTooLong = (body: string) =>
  /context_length_exceeded|maximum context length|context (?:window|length|size)|prompt is too long|too many tokens/i.test(
    body,
  );

/** Whether a 4xx says that the host's filter refuses the text. */
const saysFiltered = (body: string) => /content_filter|content management policy/i.test(body);

/**
 * A model behind an OpenAI-compatible `/chat/completions`: OpenAI, vLLM, llama.cpp, Ollama, or `anneal serve`.
 *
 * Tried again, with growing pauses or after what `Retry-After` asks for: no connection, broken or garbled replies,
 * silence for longer than `timeoutMs`, and the statuses 408, 409, 425, 429 and 5xx. Not tried again: what is
 * wrong with the request (an unknown model, a wrong key).
 */
export class ChatEndpoint implements ChatModel {
  readonly name: string;
  readonly identity: string;
  readonly #options: EndpointOptions;
  readonly #url: string;
  /** The address as messages show it: some services take keys as parameters. */
  readonly #place: string;
  readonly #budget: JudgeBudget;
  readonly #limiter: Limiter;
  readonly #closed = new AbortController();

  /** @throws AnnealError for an option out of range */
  constructor(options: EndpointOptions) {
    const {
      url,
      model,
      concurrency = 8,
      retries = 4,
      timeoutMs = 120_000,
      budget = new JudgeBudget(),
    } = options;
    if (!model)
      throw new AnnealError('the judge has no model; pass the name under which the endpoint knows it');
    whole('concurrency', concurrency, 1);
    whole('retries', retries, 0);
    whole('timeoutMs', timeoutMs, 1);
    this.name = model;
    this.#url = chatUrl(url);
    this.#place = this.#url.replace(/\?.*/s, '');
    this.identity = JSON.stringify([this.#url, model, options.body ?? null]);
    this.#options = { ...options, retries, timeoutMs };
    this.#budget = budget;
    this.#limiter = new Limiter(concurrency);
  }

  /** Calls and tokens that were spent, by all that share the budget. */
  get budget(): JudgeBudget {
    return this.#budget;
  }

  complete(request: ChatRequest, call: ChatCall = {}): Promise<ChatReply> {
    return this.#limiter.run(() => this.#complete(request, call), call.signal);
  }

  async close(): Promise<void> {
    this.#closed.abort(new JudgeError('closed', `the judge ${this.name} was closed`));
  }

  /** Tries until there is a reply, or no use in trying. */
  async #complete(request: ChatRequest, call: ChatCall): Promise<ChatReply> {
    const start = performance.now();
    const { retries = 0, maxPauseMs = 60_000 } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const result = await this.#attempt(request, call);
      if (!('error' in result)) return { ...result, ms: performance.now() - start, calls: attempt };
      const { error, again, waitMs } = result;
      if (!again) throw error;
      const after = attempt === 1 ? '' : ` (${attempt} tries)`;
      if (attempt > retries) throw this.#error(error, `${error.message}${after}`);
      if (waitMs !== undefined && waitMs > maxPauseMs) {
        const seconds = Math.ceil(waitMs / 1000);
        throw this.#error(error, `${error.message}${after}; it asks to wait ${seconds} s, try again then`);
      }
      const signals = [this.#closed.signal, ...(call.signal ? [call.signal] : [])];
      await pause(waitMs ?? backoff(attempt, this.#options), AbortSignal.any(signals));
    }
  }

  /** The same error with more in its message, which names the item already. */
  #error(error: JudgeError, message: string): JudgeError {
    const same = new JudgeError(error.failure, message, { status: error.status, cause: error.cause });
    return Object.assign(same, { item: error.item });
  }

  /** One call: a reply, or what went wrong. */
  async #attempt(request: ChatRequest, { item, signal }: ChatCall): Promise<ParsedReply | Trouble> {
    signal?.throwIfAborted();
    const pay = await this.#budget.reserve(estimatePrompt(request.messages) + request.maxTokens, item);
    let used = 0;
    // No token has more characters than this, on average over a reply.
    const maxChars = 1000 + 64 * request.maxTokens;
    // A timer of our own, because with streaming each piece that arrives starts it anew.
    const silence = new AbortController();
    const { timeoutMs = 0 } = this.#options;
    const timer = setTimeout(() => silence.abort(), timeoutMs);
    const signals = [silence.signal, this.#closed.signal, ...(signal ? [signal] : [])];
    const trouble = (
      failure: JudgeError['failure'],
      why: string,
      more: { status?: number; cause?: unknown } = {},
    ) => new JudgeError(failure, `the judge ${this.name} at ${this.#place} ${why}`, { item, ...more });
    try {
      const response = await fetch(this.#url, {
        method: 'POST',
        headers: this.#headers(),
        body: JSON.stringify(this.#body(request)),
        signal: AbortSignal.any(signals),
      });
      if (!response.ok)
        return this.#refusal(response.status, response.headers, await response.text(), trouble);
      const isStream = response.headers.get('content-type')?.includes('text/event-stream') && response.body;
      const reply = isStream
        ? await parseStream(response.body!, request.messages, maxChars, () => timer.refresh())
        : parseReply(await response.text(), request.messages);
      used = reply.promptTokens + reply.replyTokens;
      return reply;
    } catch (error) {
      if (error instanceof JudgeError || error instanceof PromptTooLong) throw error;
      signal?.throwIfAborted();
      if (this.#closed.signal.aborted) throw trouble('closed', 'was closed');
      if (silence.signal.aborted)
        return { error: trouble('timeout', `has not replied for ${timeoutMs} ms`), again: true };
      if (error instanceof BadReply)
        return { error: trouble('bad-reply', `cannot be understood: ${error.message}`), again: true };
      const cause = (error as { cause?: { code?: string; message?: string } }).cause;
      const why = cause?.code ?? cause?.message ?? (error as Error).message;
      return { error: trouble('unreachable', `cannot be reached (${why})`, { cause: error }), again: true };
    } finally {
      clearTimeout(timer);
      pay(used);
    }
  }

  #headers(): Record<string, string> {
    const { apiKey, headers } = this.#options;
    return {
      'content-type': 'application/json',
      ...(apiKey && { authorization: `Bearer ${apiKey}` }),
      ...headers,
    };
  }

  #body({ messages, temperature, maxTokens, seed }: ChatRequest): Record<string, unknown> {
    const { model, stream = false, tokenField = 'max_tokens', body } = this.#options;
    return {
      model,
      messages,
      temperature,
      [tokenField]: maxTokens,
      ...(seed !== undefined && { seed }),
      ...(stream && { stream: true, stream_options: { include_usage: true } }),
      ...body,
    };
  }

  /** What a status other than 200 means. */
  #refusal(
    status: number,
    headers: Headers,
    body: string,
    trouble: (failure: JudgeError['failure'], why: string, more: { status: number }) => JudgeError,
  ): ParsedReply | Trouble {
    if (status >= 400 && status < 500 && status !== 429) {
      if (saysTooLong(body) || status === 413) throw new PromptTooLong();
      if (saysFiltered(body)) return { text: '', finish: 'filtered', promptTokens: 0, replyTokens: 0 };
    }
    const again = [408, 409, 425, 429].includes(status) || status >= 500;
    const said = body.replace(/\s+/g, ' ').trim().slice(0, 200);
    const error = trouble(
      status >= 500 ? 'unreachable' : 'refused',
      `replies with status ${status}${said ? `: ${said}` : ''}`,
      { status },
    );
    return { error, again, waitMs: retryAfter(headers) };
  }
}
