import { Template } from '@huggingface/jinja';
import { AnnealError } from '../core/errors.js';
import { Guard } from './chat-guard.js';
import type { Tokenizer } from './tokenizer.js';

/** One message of a conversation; templates may read more fields, such as `tool_calls`. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: unknown;
  readonly [field: string]: unknown;
}

export interface RenderOptions {
  /** Ends the text where an answer of the assistant begins. */
  addGenerationPrompt?: boolean;
  /** Descriptions of tools, as the template expects them. */
  tools?: readonly unknown[] | undefined;
  /** Spelling of the token that begins a text, for templates that write it. */
  bosToken?: string | undefined;
  /** Spelling of the token that ends a text, for templates that write it. */
  eosToken?: string | undefined;
  /** More variables for the template, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

/** Parsed templates by their text: parsing costs more than rendering. */
const parsed = new Map<string, Template>();

function parse(template: string): Template {
  const known = parsed.get(template);
  if (known) return known;
  try {
    const fresh = new Template(template);
    if (parsed.size >= 64) parsed.clear();
    parsed.set(template, fresh);
    return fresh;
  } catch (error) {
    throw new AnnealError(`the chat template cannot be parsed: ${(error as Error).message}`);
  }
}

/**
 * The text of a conversation under a Jinja chat template, as transformers' `apply_chat_template` renders it.
 *
 * Special tokens that a message spells out look like real ones in it: encode it with `encodeChat`.
 *
 * @throws AnnealError for a template that is no Jinja, or that refuses the messages
 */
export function renderChat(
  template: string,
  messages: readonly ChatMessage[],
  options: RenderOptions = {},
): string {
  const { addGenerationPrompt = false, tools, bosToken = '', eosToken = '', variables } = options;
  const compiled = parse(template);
  try {
    return compiled.render({
      ...variables,
      messages,
      // An absent variable and none differ for templates that ask whether tools are defined.
      ...(tools && { tools }),
      add_generation_prompt: addGenerationPrompt,
      bos_token: bosToken,
      eos_token: eosToken,
    });
  } catch (error) {
    throw new AnnealError(`the chat template refuses these messages: ${(error as Error).message}`);
  }
}

/**
 * Tokens of a conversation. Special tokens come from the template only: those that a message spells out are
 * encoded as ordinary text, so that nobody can end a turn, or begin one of the system's, from inside a message.
 * (A template that itself searches messages for special tokens does not find them.)
 */
export function encodeChat(
  tokenizer: Tokenizer,
  template: string,
  messages: readonly ChatMessage[],
  options: RenderOptions = {},
): Int32Array {
  const guard = new Guard(tokenizer);
  const text = renderChat(template, guard.hide(messages), { ...options, tools: guard.hide(options.tools) });
  return guard.encode([text])[0]!;
}
