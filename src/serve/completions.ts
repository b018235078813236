import { type GeneratedToken, type Generation, score, scoreTop } from '../generate/index.js';
import { ApiError } from './errors.js';
import { checkPrompt, checkTextLength, finishReasonOf, type Job, requestsOf, usageOf } from './request.js';
import type { CompletionBody } from './schemas.js';
import { eventStream, merge } from './stream.js';
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

/** `POST /v1/completions` */
export async function answerCompletion(
  body: CompletionBody,
  job: Job,
  onError: (error: unknown) => void,
): Promise<Response> {
  refuseUnsupported(body);
  const { engine } = job;
  const n = body.n ?? 1;
  const top = body.logprobs ?? 0;
  const hasLogprobs = typeof body.logprobs === 'number';
  const prompts = promptsOf(body, job);
  const texts = new TokenTexts(engine.served.tokenizer);
  const promptTokens = prompts.reduce((sum, one) => sum + one.tokens.length, 0);
  const maxTokens = body.max_tokens ?? 16;
  const requests = requestsOf(
    body,
    job,
    prompts.map((one) => one.tokens),
    { maxTokens, topLogprobs: top },
  );
  const generations = maxTokens > 0 ? engine.submit(requests) : [];
  const leave = () => {
    for (const one of generations) one.cancel();
  };
  try {
    const echoed = body.echo && hasLogprobs ? await promptColumns(prompts, top, texts, job) : undefined;
    const head = {
      id: `cmpl-${crypto.randomUUID()}`,
      object: 'text_completion',
      created: Math.floor(Date.now() / 1000),
      model: engine.served.name,
      system_fingerprint: null,
    };
    const promptOf = (index: number) => prompts[Math.floor(index / n)]!;
    const columnsOf = (index: number) =>
      new LogprobColumns(texts, top, body.echo ? promptOf(index).text.length : 0);

    if (body.stream) {
      const usage = body.stream_options?.include_usage ?? false;
      const start = (index: number) =>
        body.echo
          ? { text: promptOf(index).text, logprobs: echoed?.[Math.floor(index / n)] ?? null }
          : undefined;
      const columns = hasLogprobs ? generations.map((_, index) => columnsOf(index)) : undefined;
      return eventStream(
        chunks({ head, generations, start, columns, usage, promptTokens, job }),
        leave,
        onError,
      );
    }
    const choices = await collect(generations, hasLogprobs, columnsOf, job);
    const count = Math.max(generations.length, prompts.length * n);
    return Response.json({
      ...head,
      choices: Array.from({ length: count }, (_, index) => {
        const { text = '', logprobs = null, finishReason = 'length' } = choices[index] ?? {};
        const before = echoed?.[Math.floor(index / n)];
        return {
          index,
          text: body.echo ? promptOf(index).text + text : text,
          logprobs: before ? (logprobs ? join(before, logprobs) : before) : logprobs,
          finish_reason: finishReason,
        };
      }),
      usage: usageOf(
        promptTokens,
        choices.reduce((sum, one) => sum + one.count, 0),
      ),
    });
  } catch (error) {
    leave();
    throw error;
  }
}

/** Everything that the generations produced. */
async function collect(
  generations: readonly Generation[],
  hasLogprobs: boolean,
  columnsOf: (index: number) => LogprobColumns,
  job: Job,
) {
  const tokens: GeneratedToken[][] = generations.map(() => []);
  for await (const event of merge(generations)) {
    if ('token' in event) tokens[event.index]!.push(event.token);
    else if (event.finishReason === 'cancelled') throw job.interruption();
  }
  return Promise.all(
    generations.map(async (generation, index) => {
      const { text, finishReason } = await generation.result;
      const writer = columnsOf(index);
      const logprobs = writer.empty();
      for (const one of tokens[index]!) writer.add(logprobs, one.token, one.logprob, one.top, one.text);
      return {
        text,
        logprobs: hasLogprobs ? logprobs : null,
        finishReason: finishReasonOf(finishReason),
        count: tokens[index]!.length,
      };
    }),
  );
}

interface ChunkOptions {
  head: object;
  generations: readonly Generation[];
  /** The echoed prompt of a choice. */
  start: (index: number) => { text: string; logprobs: Columns | null } | undefined;
  columns: readonly LogprobColumns[] | undefined;
  usage: boolean;
  promptTokens: number;
  job: Job;
}

async function* chunks({ head, generations, start, columns, usage, promptTokens, job }: ChunkOptions) {
  const chunk = (choices: object[], total: object | null = null) => ({
    ...head,
    choices,
    ...(usage && { usage: total }),
  });
  const choice = (index: number, text: string, logprobs: Columns | null, finish_reason: string | null) =>
    chunk([{ index, text, logprobs, finish_reason }]);
  for (const index of generations.keys()) {
    const first = start(index);
    if (first) yield choice(index, first.text, first.logprobs, null);
  }
  let count = 0;
  for await (const event of merge(generations)) {
    if ('token' in event) {
      count++;
      const { token, logprob, text, top } = event.token;
      const writer = columns?.[event.index];
      if (text === '' && !writer) continue;
      const logprobs = writer?.empty() ?? null;
      if (logprobs) writer!.add(logprobs, token, logprob, top, text);
      yield choice(event.index, text, logprobs, null);
    } else if (event.finishReason === 'cancelled') throw job.interruption();
    else yield choice(event.index, '', null, finishReasonOf(event.finishReason));
  }
  if (usage) yield chunk([], usageOf(promptTokens, count));
}
