import { type Generation, score, scoreTop } from '../generate/index.js';
import { ApiError } from './errors.js';
import { checkPrompt, checkTextLength, finishReasonOf, type Job, requestsOf, usageOf } from './request.js';
import type { CompletionBody } from './schemas.js';
import { collect, eventStream, merge } from './stream.js';
import { TokenTexts } from './token-texts.js';

/** A prompt as tokens, and as the text that `echo` repeats. */
interface Prompt {
  tokens: Int32Array;
  text: string;
}

type TopTokens = readonly { token: number; logprob: number }[];

/** Logprobs in the form of this endpoint: columns instead of a list of tokens. */
interface Columns {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[] | null;
  text_offset: number[];
}

function promptsOf(body: CompletionBody, { engine }: Job): Prompt[] {
  const { tokenizer } = engine.served;
  const { prompt } = body;
  const fromText = (text: string): Prompt => {
    checkTextLength(text.length, engine.generator.context);
    // A model needs something to continue: an empty prompt begins a document.
    if (text === '' && tokenizer.endOfText !== undefined) {
      return { tokens: Int32Array.of(tokenizer.endOfText), text };
    }
    return { tokens: tokenizer.encode(text), text };
  };
  const fromTokens = (ids: readonly number[]): Prompt => ({
    tokens: Int32Array.from(ids),
    text: tokenizer.decode(ids),
  });
  let prompts: Prompt[];
  if (typeof prompt === 'string') prompts = [fromText(prompt)];
  else if (typeof prompt[0] === 'number') prompts = [fromTokens(prompt as number[])];
  else {
    prompts = (prompt as (string | number[])[]).map((one) =>
      typeof one === 'string' ? fromText(one) : fromTokens(one),
    );
  }
  for (const { tokens } of prompts) checkPrompt(tokens, engine);
  return prompts;
}

function refuseUnsupported(body: CompletionBody): void {
  if (body.suffix) throw new ApiError(400, 'suffix is not supported', 'unsupported_parameter', 'suffix');
  if (body.best_of && body.best_of !== (body.n ?? 1)) {
    throw new ApiError(400, 'best_of is not supported beyond n', 'unsupported_parameter', 'best_of');
  }
  if (body.max_tokens === 0 && !(body.echo && !body.stream)) {
    throw new ApiError(400, 'max_tokens: 0 needs echo, without stream', 'invalid_value', 'max_tokens');
  }
}

/** Collects the columns of one choice. */
class LogprobColumns {
  readonly #texts: TokenTexts;
  readonly #top: number;
  #offset: number;

  /** @param offset length of the text before the first token */
  constructor(texts: TokenTexts, top: number, offset: number) {
    this.#texts = texts;
    this.#top = top;
    this.#offset = offset;
  }

  empty(): Columns {
    return { tokens: [], token_logprobs: [], top_logprobs: this.#top > 0 ? [] : null, text_offset: [] };
  }

  /** @param text what the token adds to the text, which may differ from its spelling */
  add(
    columns: Columns,
    token: number,
    logprob: number | null,
    top: TopTokens | undefined,
    text: string,
  ): void {
    columns.tokens.push(this.#texts.of(token));
    columns.token_logprobs.push(logprob);
    columns.top_logprobs?.push(
      top ? Object.fromEntries(top.map((one) => [this.#texts.of(one.token), one.logprob])) : null,
    );
    columns.text_offset.push(this.#offset);
    this.#offset += text.length;
  }
}

/** Logprobs of the prompts' own tokens, for `echo`. */
async function promptColumns(prompts: readonly Prompt[], top: number, texts: TokenTexts, { engine }: Job) {
  const { model, tokenizer } = engine.served;
  const sequences = prompts.map((one) => one.tokens);
  const scored = await engine.aside(prompts.length, async () =>
    top > 0
      ? await scoreTop(model, sequences, Math.min(top, model.config.vocabulary))
      : (await score(model, sequences)).map((logprobs) => ({ logprobs, top: undefined })),
  );
  return prompts.map(({ tokens }, i) => {
    const writer = new LogprobColumns(texts, top, 0);
    const columns = writer.empty();
    const decoder = tokenizer.decoder();
    tokens.forEach((token, at) => {
      // Nothing comes before the first token, so it has no probability.
      const logprob = at === 0 ? null : scored[i]!.logprobs[at - 1]!;
      writer.add(
        columns,
        token,
        logprob,
        at === 0 ? undefined : scored[i]!.top?.[at - 1],
        decoder.push(token),
      );
    });
    return columns;
  });
}

const join = (a: Columns, b: Columns): Columns => ({
  tokens: [...a.tokens, ...b.tokens],
  token_logprobs: [...a.token_logprobs, ...b.token_logprobs],
  top_logprobs: a.top_logprobs && b.top_logprobs ? [...a.top_logprobs, ...b.top_logprobs] : null,
  text_offset: [...a.text_offset, ...b.text_offset],
});

/** What the parts of an answer have in common; choice i continues prompt ⌊i/n⌋. */
interface Answer {
  body: CompletionBody;
  job: Job;
  head: object;
  prompts: readonly Prompt[];
  generations: readonly Generation[];
  /** Logprobs of each prompt's tokens, if they are to be echoed. */
  echoed: readonly Columns[] | undefined;
  texts: TokenTexts;
}

/** `POST /v1/completions` */
export async function answerCompletion(
  body: CompletionBody,
  job: Job,
  onError: (error: unknown) => void,
): Promise<Response> {
  refuseUnsupported(body);
  const { engine } = job;
  const prompts = promptsOf(body, job);
  const texts = new TokenTexts(engine.served.tokenizer);
  const maxTokens = body.max_tokens ?? 16;
  const tokens = prompts.map((one) => one.tokens);
  const requests = requestsOf(body, job, tokens, { maxTokens, topLogprobs: body.logprobs ?? 0 });
  const generations = maxTokens > 0 ? engine.submit(requests, job.release) : [];
  const leave = () => {
    for (const one of generations) one.cancel();
  };
  try {
    const isEchoScored = body.echo && typeof body.logprobs === 'number';
    const echoed = isEchoScored ? await promptColumns(prompts, body.logprobs ?? 0, texts, job) : undefined;
    const head = {
      id: `cmpl-${crypto.randomUUID()}`,
      object: 'text_completion',
      created: Math.floor(Date.now() / 1000),
      model: engine.served.name,
      system_fingerprint: null,
    };
    const answer = { body, job, head, prompts, generations, echoed, texts };
    if (maxTokens === 0) job.release();
    return body.stream ? eventStream(chunks(answer), leave, onError) : await whole(answer);
  } catch (error) {
    leave();
    throw error;
  }
}

const promptTokensOf = ({ prompts }: Answer): number =>
  prompts.reduce((sum, one) => sum + one.tokens.length, 0);

/** Index of the prompt that a choice continues. */
const promptIndex = ({ body }: Answer, choice: number): number => Math.floor(choice / (body.n ?? 1));

/** Writes logprobs of a choice's own tokens; undefined if they are not wanted. */
function columnsOf(answer: Answer, choice: number): LogprobColumns | undefined {
  const { body, prompts, texts } = answer;
  if (typeof body.logprobs !== 'number') return undefined;
  const start = body.echo ? prompts[promptIndex(answer, choice)]!.text.length : 0;
  return new LogprobColumns(texts, body.logprobs, start);
}

async function whole(answer: Answer): Promise<Response> {
  const { body, job, head, prompts, generations, echoed } = answer;
  const collected = await collect(generations, job);
  // Without generations (max_tokens 0) there still is a choice for each prompt.
  const count = prompts.length * (body.n ?? 1);
  const choices = Array.from({ length: count }, (_, index) => {
    const { text = '', tokens = [], finishReason = 'length' } = collected[index] ?? {};
    const writer = columnsOf(answer, index);
    const own = writer?.empty() ?? null;
    if (own) for (const one of tokens) writer!.add(own, one.token, one.logprob, one.top, one.text);
    const before = echoed?.[promptIndex(answer, index)];
    return {
      index,
      text: body.echo ? prompts[promptIndex(answer, index)]!.text + text : text,
      logprobs: before && own ? join(before, own) : own,
      finish_reason: finishReasonOf(finishReason),
    };
  });
  const generated = collected.reduce((sum, one) => sum + one.tokens.length, 0);
  return Response.json({ ...head, choices, usage: usageOf(promptTokensOf(answer), generated) });
}

async function* chunks(answer: Answer) {
  const { body, job, head, prompts, generations, echoed } = answer;
  const includeUsage = body.stream_options?.include_usage ?? false;
  const chunk = (choices: object[], usage: object | null = null) => ({
    ...head,
    choices,
    ...(includeUsage && { usage }),
  });
  const choice = (index: number, text: string, logprobs: Columns | null, finish_reason: string | null) =>
    chunk([{ index, text, logprobs, finish_reason }]);
  for (const index of body.echo ? generations.keys() : []) {
    const prompt = promptIndex(answer, index);
    yield choice(index, prompts[prompt]!.text, echoed?.[prompt] ?? null, null);
  }
  const writers = generations.map((_, index) => columnsOf(answer, index));
  let count = 0;
  for await (const event of merge(generations)) {
    if ('token' in event) {
      count++;
      const { token, logprob, text, top } = event.token;
      const writer = writers[event.index];
      if (text === '' && !writer) continue;
      const logprobs = writer?.empty() ?? null;
      if (logprobs) writer!.add(logprobs, token, logprob, top, text);
      yield choice(event.index, text, logprobs, null);
    } else if (event.finishReason === 'cancelled') throw job.interruption();
    else yield choice(event.index, '', null, finishReasonOf(event.finishReason));
  }
  if (includeUsage) yield chunk([], usageOf(promptTokensOf(answer), count));
}
