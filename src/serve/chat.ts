import { encodeChat } from '../data/chat.js';
import type { GeneratedToken, Generation } from '../generate/index.js';
import { ApiError } from './errors.js';
import { checkPrompt, checkTextLength, finishReasonOf, type Job, requestsOf, usageOf } from './request.js';
import type { ChatBody } from './schemas.js';
import { collect, eventStream, merge } from './stream.js';
import { TokenTexts } from './token-texts.js';

/** @throws ApiError 400 for what this server cannot do, rather than ignoring it */
function refuseUnsupported(body: ChatBody): void {
  const refuse = (param: string) => {
    throw new ApiError(400, `${param} is not supported by this server`, 'unsupported_parameter', param);
  };
  if (body.tools?.length) refuse('tools');
  if (body.functions?.length) refuse('functions');
  if (body.response_format && body.response_format.type !== 'text') refuse('response_format');
  if (body.top_logprobs && !body.logprobs) {
    throw new ApiError(400, 'top_logprobs needs logprobs: true', 'invalid_value', 'top_logprobs');
  }
}

function encode(body: ChatBody, { engine }: Job): Int32Array {
  const { chatTemplate, tokenizer, name } = engine.served;
  if (chatTemplate === undefined) {
    throw new ApiError(400, `${name} has no chat template; use /v1/completions`, 'no_chat_template', 'model');
  }
  const messages = body.messages.map(({ role, content, ...rest }) => ({
    ...rest,
    // A newer name for the same thing, which templates do not know.
    role: role === 'developer' ? 'system' : role,
    content: Array.isArray(content) ? content.map((part) => part.text).join('') : (content ?? ''),
  }));
  const characters = messages.reduce((n, one) => n + one.content.length, 0);
  checkTextLength(characters, engine.generator.context);
  const { endOfText } = tokenizer;
  const eosToken = endOfText === undefined ? '' : tokenizer.decode([endOfText], { special: true });
  return encodeChat(tokenizer, chatTemplate, messages, { addGenerationPrompt: true, eosToken });
}

/** What the parts of an answer have in common. */
interface Answer {
  head: object;
  generations: readonly Generation[];
  promptTokens: number;
  job: Job;
  /** Logprobs of tokens in OpenAI's form; null if they are not wanted. */
  logprobsOf: (tokens: readonly GeneratedToken[]) => object | null;
}

/** `POST /v1/chat/completions` */
export async function answerChat(
  body: ChatBody,
  job: Job,
  onError: (error: unknown) => void,
): Promise<Response> {
  refuseUnsupported(body);
  const { engine } = job;
  const prompt = encode(body, job);
  checkPrompt(prompt, engine);
  const requests = requestsOf(body, job, [prompt], {
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? engine.generator.context,
    topLogprobs: body.top_logprobs ?? 0,
  });
  const texts = new TokenTexts(engine.served.tokenizer);
  const content = (token: GeneratedToken) => ({
    ...texts.describe(token.token, token.logprob),
    top_logprobs: (token.top ?? []).map((one) => texts.describe(one.token, one.logprob)),
  });
  const answer: Answer = {
    head: {
      id: `chatcmpl-${crypto.randomUUID()}`,
      created: Math.floor(Date.now() / 1000),
      model: engine.served.name,
      system_fingerprint: null,
    },
    generations: engine.submit(requests, job.release),
    promptTokens: prompt.length,
    job,
    logprobsOf: (tokens) => (body.logprobs ? { content: tokens.map(content), refusal: null } : null),
  };
  if (!body.stream) return whole(answer);
  const leave = () => {
    for (const one of answer.generations) one.cancel();
  };
  return eventStream(chunks(answer, body.stream_options?.include_usage ?? false), leave, onError);
}

async function* chunks({ head, generations, promptTokens, job, logprobsOf }: Answer, includeUsage: boolean) {
  const chunk = (choices: object[], usage: object | null = null) => ({
    ...head,
    object: 'chat.completion.chunk',
    choices,
    ...(includeUsage && { usage }),
  });
  const choice = (index: number, delta: object, logprobs: object | null, finish_reason: string | null) =>
    chunk([{ index, delta, logprobs, finish_reason }]);
  for (const index of generations.keys()) yield choice(index, { role: 'assistant', content: '' }, null, null);
  let count = 0;
  for await (const event of merge(generations)) {
    if ('token' in event) {
      count++;
      const { text } = event.token;
      const logprobs = logprobsOf([event.token]);
      if (text !== '' || logprobs) yield choice(event.index, { content: text }, logprobs, null);
    } else if (event.finishReason === 'cancelled') throw job.interruption();
    else yield choice(event.index, {}, null, finishReasonOf(event.finishReason));
  }
  if (includeUsage) yield chunk([], usageOf(promptTokens, count));
}

async function whole({ head, generations, promptTokens, job, logprobsOf }: Answer): Promise<Response> {
  const collected = await collect(generations, job);
  return Response.json({
    ...head,
    object: 'chat.completion',
    choices: collected.map(({ text, finishReason, tokens }, index) => ({
      index,
      message: { role: 'assistant', content: text, refusal: null },
      logprobs: logprobsOf(tokens),
      finish_reason: finishReasonOf(finishReason),
    })),
    usage: usageOf(
      promptTokens,
      collected.reduce((n, one) => n + one.tokens.length, 0),
    ),
  });
}
