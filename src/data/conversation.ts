import { AnnealError } from '../core/errors.js';
import { type ChatMessage, type RenderOptions, renderChat } from './chat.js';
import { border, Guard } from './chat-guard.js';
import type { Tokenizer } from './tokenizer.js';

/** A conversation as tokens. */
export interface EncodedConversation {
  tokens: Int32Array;
  /** 1 for tokens that the assistant has to produce: its answers and the tokens that end them; 0 for the rest. */
  mask: Uint8Array;
}

/**
 * Tokens of a conversation, and which of them the assistant writes.
 *
 * A template that marks answers with `{% generation %}` is taken at its word. For others an answer is what the
 * conversation up to it has more than the conversation before it with a generation prompt, up to its last
 * special token; white space after that belongs to the template. This needs a template that only ever appends
 * (one that drops the reasoning of earlier answers does not), and one that asks for answers as it writes them.
 * Where an answer begins, tokens are cut: the tokens before it are those that a model is given when it has to answer.
 *
 * @throws AnnealError where it cannot be determined which tokens are the assistant's
 */
export function encodeConversation(
  tokenizer: Tokenizer,
  template: string,
  messages: readonly ChatMessage[],
  options: Omit<RenderOptions, 'addGenerationPrompt'> = {},
): EncodedConversation {
  const guard = new Guard(tokenizer);
  const safe = guard.hide(messages);
  const render = (until: number, addGenerationPrompt = false) =>
    renderChat(template, safe.slice(0, until), {
      ...options,
      tools: guard.hide(options.tools),
      addGenerationPrompt,
    });
  const parts = generationTag.test(template)
    ? markedParts(template, safe, { ...options, tools: guard.hide(options.tools) })
    : appendedParts(safe, guard, render);
  const encoded = guard.encode(parts);
  const length = encoded.reduce((sum, part) => sum + part.length, 0);
  const tokens = new Int32Array(length);
  const mask = new Uint8Array(length);
  let at = 0;
  encoded.forEach((part, index) => {
    tokens.set(part, at);
    // Parts alternate, and the first is the template's.
    if (index % 2 === 1) mask.fill(1, at, at + part.length);
    at += part.length;
  });
  return { tokens, mask };
}

const generationTag = /\{%-?\s*generation\s*-?%\}/;

/**
 * Cuts at `{% generation %}` … `{% endgeneration %}`: the tags become blocks that write a border, and keep the
 * white space control that they have.
 */
function markedParts(template: string, messages: readonly ChatMessage[], options: RenderOptions): string[] {
  const marked = template.replace(
    /\{%(-?)\s*(?:end)?generation\s*(-?)%\}/g,
    (_, left: string, right: string) => `{%${left} if true %}${border}{% endif ${right}%}`,
  );
  const parts = renderChat(marked, messages, options).split(border);
  if (parts.join('') !== renderChat(template, messages, options) || parts.length % 2 === 0) {
    throw new AnnealError(
      'the chat template changes the text that it marks with {% generation %}, so the answers cannot be located; ' +
        'move the tags to where the answer is written',
    );
  }
  return parts;
}

/** Cuts where the conversation before an answer, and with it, end. */
function appendedParts(
  messages: readonly ChatMessage[],
  guard: Guard,
  render: (until: number, addGenerationPrompt?: boolean) => string,
): string[] {
  const whole = render(messages.length);
  const parts: string[] = [];
  let end = 0;
  messages.forEach((message, index) => {
    if (message.role !== 'assistant') return;
    const prompt = render(index, true);
    const answered = render(index + 1);
    if (!answered.startsWith(prompt) || !whole.startsWith(answered) || prompt.length < end) {
      throw new AnnealError(
        `the chat template writes message ${index} differently once more messages follow, so it cannot be told ` +
          'which tokens are the answer; mark answers with {% generation %}, or train on the last answer alone',
      );
    }
    const answer = answered.slice(prompt.length);
    if (prompt === render(index)) expectContent(message, index, answer, guard);
    const length = answerLength(answer, index, guard);
    parts.push(whole.slice(end, prompt.length), whole.slice(prompt.length, prompt.length + length));
    end = prompt.length + length;
  });
  return [...parts, whole.slice(end)];
}

/** Without a generation prompt a header of the answer would pass for the answer: it must begin with its content. */
function expectContent(message: ChatMessage, index: number, answer: string, guard: Guard): void {
  const { content } = message;
  const begins = typeof content === 'string' && answer.trimStart().startsWith(content.trim());
  if (begins && content.trim()) return;
  throw new AnnealError(
    `the chat template has no generation prompt, and what it writes for message ${index} begins with ` +
      `${JSON.stringify(guard.show(answer).slice(0, 40))}; mark answers with {% generation %}`,
  );
}

/** Length of an answer with its end token, without the white space that the template writes after it. */
function answerLength(answer: string, index: number, guard: Guard): number {
  const end = guard.endOfLastSpecial(answer);
  // Where no token ends answers, all of what is written does.
  if (end === 0) return answer.length;
  if (answer.slice(end).trim() === '') return end;
  throw new AnnealError(
    `the chat template writes ${JSON.stringify(guard.show(answer.slice(end)).slice(0, 40))} after the token that ends ` +
      `message ${index}; mark answers with {% generation %}`,
  );
}
