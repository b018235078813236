import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Generator, score } from '../../src/generate/index.js';
import { endToken, model, served, start, stopAll, tokenizer } from './support.js';

let client: OpenAI;
let metric: Awaited<ReturnType<typeof start>>['metric'];
const reference = new Generator(model, { slots: 1, tokenizer });
beforeAll(async () => {
  ({ client, metric } = await start());
});
afterAll(async () => {
  await stopAll();
  await reference.close();
});

const name = served.name;
const messages: OpenAI.ChatCompletionMessageParam[] = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Why is the sky blue?' },
];
const rendered = 'system: Be brief.\nuser: Why is the sky blue?\nassistant: ';

async function expected(text: string, options: object) {
  const request = { prompt: tokenizer.encode(text), maxTokens: 16, stopTokens: [endToken], ...options };
  const [completion] = await reference.generate([request]);
  return completion!;
}

describe("OpenAI's client", () => {
  it('lists and fetches models', async () => {
    const { data } = await client.models.list();
    expect(data.map((one) => one.id)).toEqual([name]);
    expect(await client.models.retrieve(name)).toMatchObject({ id: name, object: 'model' });
    await expect(client.models.retrieve('other')).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
    });
  });

  it('gets a completion', async () => {
    const want = await expected('Once', { temperature: 0, maxTokens: 12 });
    const completion = await client.completions.create({
      model: name,
      prompt: 'Once',
      max_tokens: 12,
      temperature: 0,
    });
    expect(completion.object).toBe('text_completion');
    expect(completion.choices).toEqual([
      { index: 0, text: want.text, logprobs: null, finish_reason: want.finishReason },
    ]);
    expect(completion.usage).toEqual({
      prompt_tokens: 4,
      completion_tokens: want.tokens.length,
      total_tokens: 4 + want.tokens.length,
    });
  });

  it('gets n choices for each of several prompts, repeatable by seed', async () => {
    const ask = () =>
      client.completions.create({ model: name, prompt: ['ab', 'cd'], max_tokens: 8, n: 2, seed: 5 });
    const { choices, usage } = await ask();
    expect(choices.map((one) => one.index)).toEqual([0, 1, 2, 3]);
    for (const [i, seed] of [5, 6, 5, 6].entries()) {
      const want = await expected(i < 2 ? 'ab' : 'cd', { seed, maxTokens: 8 });
      expect(choices[i]!.text).toBe(want.text);
    }
    expect(usage!.prompt_tokens).toBe(4);
    expect((await ask()).choices).toEqual(choices);
  });

  it('sends token ids, alone or several', async () => {
    const ids = [...tokenizer.encode('Hey')];
    const want = await expected('Hey', { temperature: 0 });
    const one = await client.completions.create({ model: name, prompt: ids, temperature: 0 });
    const two = await client.completions.create({ model: name, prompt: [ids, ids], temperature: 0 });
    expect([one, two].flatMap(({ choices }) => choices.map((c) => c.text))).toEqual([
      want.text,
      want.text,
      want.text,
    ]);
  });

  it('gets the echo of a prompt with its logprobs', async () => {
    const text = 'It was a bright';
    const { choices } = await client.completions.create({
      model: name,
      prompt: text,
      echo: true,
      logprobs: 2,
      max_tokens: 3,
      temperature: 0,
    });
    const { logprobs } = choices[0]!;
    const want = await expected(text, { temperature: 0, maxTokens: 3 });
    const [scored] = await score(model, [[...tokenizer.encode(text), ...want.tokens]]);
    expect(choices[0]!.text).toBe(text + want.text);
    expect(logprobs!.tokens!.join('')).toBe(text + want.text);
    expect(logprobs!.token_logprobs![0]).toBeNull();
    for (const [i, value] of scored!.entries()) {
      expect(logprobs!.token_logprobs![i + 1]).toBeCloseTo(value, 4);
    }
    expect(logprobs!.text_offset).toEqual([...Array(logprobs!.tokens!.length).keys()]);
    expect(logprobs!.top_logprobs![0]).toBeNull();
    // The most likely continuation of what came before is at least as likely as what came.
    for (const [i, list] of logprobs!.top_logprobs!.slice(1).entries()) {
      expect(Object.keys(list).length).toBe(2);
      const most = Math.max(...Object.values(list));
      expect(most).toBeGreaterThanOrEqual(logprobs!.token_logprobs![i + 1]! - 1e-4);
    }
    // Scoring alone, as evaluation harnesses do.
    const only = await client.completions.create({
      model: name,
      prompt: text,
      echo: true,
      logprobs: 0,
      max_tokens: 0,
    });
    expect(only.choices[0]!.text).toBe(text);
    expect(only.choices[0]!.logprobs!.token_logprobs!.length).toBe(text.length);
    expect(only.usage!.completion_tokens).toBe(0);
  });

  it('streams a completion', async () => {
    const want = await expected('Once', { seed: 3, maxTokens: 20 });
    const stream = await client.completions.create({
      model: name,
      prompt: 'Once',
      max_tokens: 20,
      seed: 3,
      logprobs: 1,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    const tokens: string[] = [];
    let last: OpenAI.Completion | undefined;
    const reasons: string[] = [];
    for await (const chunk of stream) {
      last = chunk;
      const choice = chunk.choices[0];
      if (!choice) continue;
      text += choice.text;
      tokens.push(...(choice.logprobs?.tokens ?? []));
      if (choice.finish_reason) reasons.push(choice.finish_reason);
    }
    expect(text).toBe(want.text);
    expect(tokens.length).toBe(want.tokens.length);
    expect(reasons).toEqual([want.finishReason]);
    expect(last!.choices).toEqual([]);
    expect(last!.usage!.completion_tokens).toBe(want.tokens.length);
  });

  it('chats', async () => {
    const want = await expected(rendered, { temperature: 0, maxTokens: 10 });
    const answer = await client.chat.completions.create({
      model: name,
      messages,
      temperature: 0,
      max_tokens: 10,
    });
    expect(answer.object).toBe('chat.completion');
    expect(answer.choices[0]).toEqual({
      index: 0,
      message: { role: 'assistant', content: want.text, refusal: null },
      logprobs: null,
      finish_reason: want.finishReason,
    });
    expect(answer.usage!.prompt_tokens).toBe(rendered.length);
  });

  it('takes content in parts, and the newer names of fields', async () => {
    const want = await expected(rendered, { temperature: 0, maxTokens: 5 });
    const answer = await client.chat.completions.create({
      model: name,
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Why is ' },
            { type: 'text', text: 'the sky blue?' },
          ],
        },
      ],
      temperature: 0,
      max_completion_tokens: 5,
    });
    expect(answer.choices[0]!.message.content).toBe(want.text);
  });

  it('streams several chats at once, with logprobs and usage', async () => {
    const stream = await client.chat.completions.create({
      model: name,
      messages,
      n: 3,
      seed: 11,
      max_tokens: 15,
      logprobs: true,
      top_logprobs: 3,
      stream: true,
      stream_options: { include_usage: true },
    });
    const texts = ['', '', ''];
    const roles: string[] = [];
    const logprobs: number[][] = [[], [], []];
    let usage: OpenAI.CompletionUsage | null | undefined;
    for await (const chunk of stream) {
      expect(chunk.object).toBe('chat.completion.chunk');
      usage = chunk.usage;
      for (const { index, delta, logprobs: own } of chunk.choices) {
        texts[index] += delta.content ?? '';
        if (delta.role) roles.push(delta.role);
        for (const one of own?.content ?? []) {
          logprobs[index]!.push(one.logprob);
          expect(one.top_logprobs.length).toBe(3);
          expect(one.bytes).toEqual([...new TextEncoder().encode(one.token)]);
        }
      }
    }
    expect(roles).toEqual(['assistant', 'assistant', 'assistant']);
    let total = 0;
    for (const i of [0, 1, 2]) {
      const want = await expected(rendered, { seed: 11 + i, maxTokens: 15 });
      expect(texts[i]).toBe(want.text);
      expect(logprobs[i]!.length).toBe(want.tokens.length);
      for (const [j, value] of want.logprobs.entries()) expect(logprobs[i]![j]).toBeCloseTo(value, 4);
      total += want.tokens.length;
    }
    expect(usage).toEqual({
      prompt_tokens: rendered.length,
      completion_tokens: total,
      total_tokens: rendered.length + total,
    });
  });

  it('stops at strings and obeys penalties and biases', async () => {
    const whole = (await expected(rendered, { temperature: 0, maxTokens: 30 })).text;
    const stop = whole.slice(5, 8);
    const base = { model: name, messages, temperature: 0, max_tokens: 30 };
    const stopped = await client.chat.completions.create({ ...base, stop });
    expect(stopped.choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: whole.slice(0, whole.indexOf(stop)) },
    });
    const [first] = tokenizer.encode('Q');
    const biased = await client.chat.completions.create({
      ...base,
      max_tokens: 4,
      logit_bias: { [first!]: 100 },
    });
    expect(biased.choices[0]!.message.content).toBe('QQQQ');
    const options = { frequency_penalty: 2, presence_penalty: 1, logit_bias: { [first!]: 5 } };
    const penalised = await client.chat.completions.create({ ...base, ...options });
    const want = await expected(rendered, {
      temperature: 0,
      maxTokens: 30,
      frequencyPenalty: 2,
      presencePenalty: 1,
      logitBias: new Map([[first!, 5]]),
    });
    expect(penalised.choices[0]!.message.content).toBe(want.text);
  });

  it('ends an answer at an end token, which is no text', async () => {
    const bias = { [endToken]: 100 };
    const answer = await client.chat.completions.create({ model: name, messages, logit_bias: bias });
    expect(answer.choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: '' } });
    expect(answer.usage!.completion_tokens).toBe(1);
  });

  it.each([
    ['an unknown model', { model: 'gpt-9' }, { status: 404, code: 'model_not_found', param: 'model' }],
    ['a wrong type', { temperature: 'hot' }, { status: 400, param: 'temperature' }],
    ['a value out of range', { top_p: 0 }, { status: 400, param: 'top_p' }],
    ['no messages', { messages: [] }, { status: 400, param: 'messages' }],
    ['an image', { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, { status: 400 }],
    [
      'an unknown role',
      { messages: [{ role: 'pope', content: '' }] },
      { status: 400, param: 'messages.0.role' },
    ],
    ['tools', { tools: [{}] }, { status: 400, param: 'tools' }],
    [
      'a JSON schema',
      { response_format: { type: 'json_schema' } },
      { status: 400, param: 'response_format' },
    ],
    ['top_logprobs alone', { top_logprobs: 2 }, { status: 400, param: 'top_logprobs' }],
    ['a bias of no token', { logit_bias: { '4096': 1 } }, { status: 400 }],
    [
      'a long prompt',
      { messages: [{ role: 'user', content: 'x'.repeat(300) }] },
      { status: 400, code: 'context_length_exceeded' },
    ],
    ['too many choices', { n: 128 }, { status: 400 }],
  ])('is told about %s', async (_, fields, error) => {
    const body = { model: name, messages, max_tokens: 4, ...fields } as never;
    const failure = await client.chat.completions.create(body).catch((e: unknown) => e);
    expect(failure).toBeInstanceOf(OpenAI.APIError);
    expect(failure).toMatchObject(error);
    expect((failure as Error).message.length).toBeGreaterThan(20);
  });

  it('is counted', async () => {
    expect(await metric('anneal_requests_total{path="/v1/models",status="200"}')).toBe(1);
    expect(await metric('anneal_requests_total{path="/v1/chat/completions",status="404"}')).toBe(1);
    expect(await metric('anneal_queue_length{model="tiny/model"}')).toBe(0);
    const first = await metric('anneal_time_to_first_token_seconds_count{model="tiny/model"}');
    const between = await metric('anneal_time_between_tokens_seconds_count{model="tiny/model"}');
    expect(first + between).toBe(await metric('anneal_generated_tokens_total{model="tiny/model"}'));
  });
});
