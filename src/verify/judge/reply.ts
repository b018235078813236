/** Replies of an OpenAI-compatible API, which may be anything. */
import { estimatePrompt, estimateTokens, type JudgeMessage } from './chat.js';

/** A reply as it stands in the body of a response. */
export interface ParsedReply {
  text: string;
  finish: 'stop' | 'length' | 'filtered';
  promptTokens: number;
  replyTokens: number;
}

/** The body is no reply of the OpenAI API, or ends before the reply does; such calls are tried again. */
export class BadReply extends Error {}

// An object of a body that is not trusted to have any form.
type Json = Readonly<Record<string, unknown>>;

// Objects only: arrays and null have no fields to read.
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function parseJson(text: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new BadReply(`it replies with no JSON but ${JSON.stringify(text.slice(0, 80))}`);
  }
  if (!isObject(value)) throw new BadReply('it replies with no JSON object');
  return value;
}

/** Text of a message: a string, a list of parts, or nothing where all tokens went into reasoning. */
function contentOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (content === null || content === undefined) return '';
  if (!Array.isArray(content)) throw new BadReply('the content of its message is no text');
  return content.map((part) => (isObject(part) && typeof part.text === 'string' ? part.text : '')).join('');
}

/** Why a reply ended, in our words; whatever is unknown counts as a normal end. */
function finishOf(reason: unknown): ParsedReply['finish'] {
  if (reason === 'length' || reason === 'max_tokens') return 'length';
  return reason === 'content_filter' ? 'filtered' : 'stop';
}

function withUsage(
  text: string,
  finish: unknown,
  usage: unknown,
  messages: readonly JudgeMessage[],
): ParsedReply {
  const count = (name: string, otherwise: number) => {
    const value = isObject(usage) ? usage[name] : undefined;
    return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : otherwise;
  };
  return {
    text,
    finish: finishOf(finish),
    promptTokens: count('prompt_tokens', estimatePrompt(messages)),
    replyTokens: count('completion_tokens', estimateTokens(text)),
  };
}

/** Some servers report an error with status 200. */
function throwReported(body: Json): void {
  if (body.error === undefined || body.error === null) return;
  const message = isObject(body.error) ? body.error.message : body.error;
  throw new BadReply(`it reports "${String(message).slice(0, 200)}"`);
}

/** Reads the body of `POST /chat/completions` without streaming. @throws BadReply */
export function parseReply(body: string, messages: readonly JudgeMessage[]): ParsedReply {
  const json = parseJson(body);
  throwReported(json);
  const choice: unknown = Array.isArray(json.choices) ? json.choices[0] : undefined;
  if (!isObject(choice) || !isObject(choice.message))
    throw new BadReply('its reply has no choices[0].message');
  const { content, refusal } = choice.message;
  const isRefusal = typeof refusal === 'string' && refusal !== '';
  const finish = isRefusal ? 'content_filter' : choice.finish_reason;
  return withUsage(isRefusal ? refusal : contentOf(content), finish, json.usage, messages);
}

/** Lines of a body, as they arrive. */
async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const bytes of body as unknown as AsyncIterable<Uint8Array>) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
    rest = lines.pop()!;
    for (const line of lines) yield line.replace(/\r$/, '');
  }
  if (rest) yield rest;
}

/**
 * Reads the server-sent events of a streamed reply. Half a reply may say the opposite of the whole one, so a stream
 * that ends without a finish reason is no reply.
 * @param maxChars a longer reply is taken for a server that has run away
 * @param onProgress called whenever a piece of the reply has arrived; comments, which keep connections open, are none
 * @throws BadReply
 */
export async function parseStream(
  body: ReadableStream<Uint8Array>,
  messages: readonly JudgeMessage[],
  maxChars: number,
  onProgress: () => void,
): Promise<ParsedReply> {
  let text = '';
  let finish: unknown;
  let usage: unknown;
  for await (const line of linesOf(body)) {
    if (!line.startsWith('data:')) continue;
    onProgress();
    const data = line.slice(5).trim();
    if (data === '[DONE]') break;
    const json = parseJson(data);
    throwReported(json);
    if (json.usage) usage = json.usage;
    const choice: unknown = Array.isArray(json.choices) ? json.choices[0] : undefined;
    // The chunk with the usage has no choices.
    if (!isObject(choice)) continue;
    if (isObject(choice.delta)) text += contentOf(choice.delta.content);
    if (text.length > maxChars) throw new BadReply(`its reply is longer than ${maxChars} characters`);
    finish = choice.finish_reason ?? finish;
  }
  if (finish === undefined) throw new BadReply('its stream ended before the reply did');
  return withUsage(text, finish, usage, messages);
}
