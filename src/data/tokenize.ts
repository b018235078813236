import { AnnealError } from '../core/errors.js';
import type { ChatMessage, RenderOptions } from './chat.js';
import { type EncodedConversation, encodeConversation } from './conversation.js';
import { TokenDataset } from './token-dataset.js';
import type { Tokenizer } from './tokenizer.js';

export interface TokenizeOptions {
  /**
   * Where the token that ends documents is put: 'after' each, 'around' each (packed documents then also learn how
   * to begin), or 'none'. By default 'after' where the vocabulary has such a token.
   */
  delimit?: 'after' | 'around' | 'none';
}

/** Ids of documents, one after the other. */
export async function tokenize(
  documents: Iterable<{ text: string } | string> | AsyncIterable<{ text: string } | string>,
  tokenizer: Tokenizer,
  options: TokenizeOptions = {},
): Promise<TokenDataset> {
  const { endOfText } = tokenizer;
  const { delimit = endOfText === undefined ? 'none' : 'after' } = options;
  if (delimit !== 'none' && endOfText === undefined) {
    throw new AnnealError(
      `delimit is "${delimit}", but the vocabulary has no token that ends documents; pass "none", or a tokenizer with one`,
    );
  }
  if (typeof documents === 'string') throw new AnnealError('pass a list of documents, not one string');
  const before = delimit === 'around' ? [endOfText!] : [];
  const after = delimit === 'none' ? [] : [endOfText!];
  const encoded: { tokens: Int32Array }[] = [];
  for await (const document of documents) {
    const ids = tokenizer.encode(typeof document === 'string' ? document : document.text);
    if (!ids.length) continue;
    const tokens = new Int32Array(before.length + ids.length + after.length);
    tokens.set(before);
    tokens.set(ids, before.length);
    tokens.set(after, before.length + ids.length);
    encoded.push({ tokens });
  }
  return TokenDataset.fromDocuments(encoded, tokenizer.size);
}

/**
 * Conversations, with a mask of the tokens that the assistant writes (see `encodeConversation`).
 *
 * @throws AnnealError that numbers the conversation whose answers cannot be told apart
 */
export async function tokenizeConversations(
  conversations: Iterable<Partial<Conversation>> | AsyncIterable<Partial<Conversation>>,
  tokenizer: Tokenizer,
  template: string,
  options: Omit<RenderOptions, 'addGenerationPrompt'> = {},
): Promise<TokenDataset> {
  const encoded: EncodedConversation[] = [];
  for await (const { messages, tools = options.tools } of conversations) {
    if (!isConversation(messages)) {
      throw new AnnealError(
        `conversation ${encoded.length} has no "messages": a list of objects with a role, such as { "role": "user", "content": "Hi" }`,
      );
    }
    try {
      encoded.push(encodeConversation(tokenizer, template, messages, { ...options, tools }));
    } catch (error) {
      throw new AnnealError(`conversation ${encoded.length}: ${(error as Error).message}`);
    }
  }
  return TokenDataset.fromDocuments(encoded, tokenizer.size);
}

function isConversation(messages: unknown): messages is readonly ChatMessage[] {
  return (
    Array.isArray(messages) && messages.every((one) => typeof (one as ChatMessage | null)?.role === 'string')
  );
}

export interface Conversation {
  readonly messages: readonly ChatMessage[];
  readonly tools?: readonly unknown[] | undefined;
}
