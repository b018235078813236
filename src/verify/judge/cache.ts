import type { ChatCall, ChatModel, ChatReply, ChatRequest } from './chat.js';

/** Replies by the hash of what was asked. */
export interface ReplyCache {
  get(key: string): Promise<ChatReply | undefined>;
  set(key: string, reply: ChatReply): Promise<void>;
}

/** A cache that lasts as long as the process. */
export function memoryCache(): ReplyCache {
  const replies = new Map<string, ChatReply>();
  return {
    get: async (key) => replies.get(key),
    set: async (key, reply) => void replies.set(key, reply),
  };
}

/** SHA-256 of what a reply depends on, as 64 hexadecimal digits: the model, its address and the whole request. */
export async function replyKey(identity: string, request: ChatRequest): Promise<string> {
  const { messages, temperature, maxTokens, seed = null } = request;
  const what = [identity, messages.map(({ role, content }) => [role, content]), temperature, maxTokens, seed];
  // JSON writes a lone surrogate as an escape, so different texts never have the same bytes.
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(JSON.stringify(what)));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * A model whose replies are kept: what was asked before is not asked again, and what is being asked is asked once.
 * Failures are not kept.
 */
export function cached(model: ChatModel, cache: ReplyCache): ChatModel {
  const running = new Map<string, Promise<ChatReply>>();
  const ask = async (key: string, request: ChatRequest, call?: ChatCall): Promise<ChatReply> => {
    const known = await cache.get(key);
    if (known) return { ...known, ms: 0, calls: 0 };
    const reply = await model.complete(request, call);
    await cache.set(key, reply);
    return reply;
  };
  return {
    name: model.name,
    identity: model.identity,
    close: () => model.close(),
    async complete(request, call) {
      const key = await replyKey(model.identity, request);
      const same = running.get(key);
      if (same) {
        // Where the one that asks gives up or fails, the others still want to know.
        const reply = await same.catch(() => undefined);
        call?.signal?.throwIfAborted();
        if (reply) return { ...reply, ms: 0, calls: 0 };
      }
      const asked = ask(key, request, call);
      running.set(key, asked);
      try {
        return await asked;
      } finally {
        if (running.get(key) === asked) running.delete(key);
      }
    },
  };
}
