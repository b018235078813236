/** A judge in this process: items share the model's batch. */
import { AnnealError } from '../../core/errors.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import type { GenerativeModel } from '../../generate/model.js';
import { type ChatModel, type ChatReply, JudgeError, PromptTooLong } from './chat.js';

/** A model of our own with all that judging needs of it; what `loadLanguageModel` returns is one. */
export interface LocalBundle {
  readonly model: GenerativeModel;
  readonly tokenizer: Tokenizer;
  /** Jinja template that turns messages into a prompt. */
  readonly chatTemplate?: string | undefined;
  /** Tokens that end a reply. */
  readonly endTokens: readonly number[];
  readonly name: string;
}

export interface LocalOptions {
  /** Replies that are written together. Default 8. */
  slots?: number;
  /** Most tokens of a prompt and its reply. Default: the model's context. */
  capacity?: number;
  /** Variables for the chat template, such as `{ enable_thinking: false }`. */
  templateVariables?: Readonly<Record<string, unknown>>;
  /** Tells models of the same name apart in a cache of replies, such as a path or a step. Default: the name. */
  identity?: string;
}

/**
 * A language model in this process as a judge. Replies are written in one batch that items join and leave
 * (continuous batching).
 * @throws AnnealError if the model has no chat template
 */
export async function localModel(bundle: LocalBundle, options: LocalOptions = {}): Promise<ChatModel> {
  // On first use: who judges by rules or over the network loads no engine.
  const { Generator } = await import('../../generate/generator.js');
  const { encodeChat } = await import('../../data/chat.js');
  const { tokenizer, chatTemplate, endTokens, name } = bundle;
  const { slots = 8, capacity, templateVariables: variables, identity = name } = options;
  if (chatTemplate === undefined)
    throw new AnnealError(
      `the model ${name} has no chat template, so it cannot judge; choose one that chats`,
    );
  const generator = new Generator(bundle.model, { slots, tokenizer, ...(capacity && { capacity }) });
  const { endOfText } = tokenizer;
  const eosToken = endOfText === undefined ? undefined : tokenizer.decode([endOfText], { special: true });
  let isClosed = false;
  return {
    name,
    identity: JSON.stringify(['local', identity, variables ?? null]),
    async complete(
      { messages, temperature, maxTokens, seed = 0 },
      { item, signal } = {},
    ): Promise<ChatReply> {
      if (isClosed) throw new JudgeError('closed', `the judge ${name} was closed`, { item });
      const prompt = encodeChat(
        tokenizer,
        chatTemplate,
        messages.map(({ role, content }) => ({ role, content })),
        { addGenerationPrompt: true, eosToken, ...(variables && { variables }) },
      );
      // A prompt that is cut would lose the instructions or the answer, and what is left is another question.
      if (prompt.length >= generator.context) throw new PromptTooLong();
      const generation = generator.submit({
        prompt,
        maxTokens,
        temperature,
        seed,
        stopTokens: endTokens,
        ...(signal && { signal }),
      });
      // Waiting for a slot is no work: the clock starts at the first token.
      let start = performance.now();
      let isFirst = true;
      for await (const _ of generation) {
        if (isFirst) start = performance.now();
        isFirst = false;
      }
      const { text, tokens, finishReason } = await generation.result;
      signal?.throwIfAborted();
      if (finishReason === 'cancelled')
        throw new JudgeError('closed', `the judge ${name} was closed`, { item });
      return {
        text,
        finish: finishReason,
        promptTokens: prompt.length,
        replyTokens: tokens.length,
        ms: performance.now() - start,
        calls: 1,
      };
    },
    async close() {
      isClosed = true;
      await generator.close({ cancel: true });
    },
  };
}

/**
 * Loads a run directory, a model directory or a `.gguf` file as a judge.
 * @throws AnnealError if it is none, or has no chat template
 */
export async function loadLocalModel(
  path: string,
  { packed = false, ...options }: LocalOptions & { packed?: boolean } = {},
): Promise<ChatModel> {
  // Registers the devices of Node.
  await import('../../index.js');
  const { loadLanguageModel } = await import('../../models/lm/load.js');
  const bundle = await loadLanguageModel(path, { weights: packed ? 'packed' : 'float32' });
  return localModel(bundle, { identity: path, ...options });
}
