import { AnnealError } from '../../core/errors.js';

/** One message to a judging model. */
export interface JudgeMessage {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** How a judging model is to answer. */
export interface ChatRequest {
  messages: readonly JudgeMessage[];
  /** 0 takes the likeliest token. */
  temperature: number;
  /** Most tokens of the reply. */
  maxTokens: number;
  /** Same seed, same reply, where the model honours it. */
  seed?: number;
}

/** A model's reply. */
export interface ChatReply {
  text: string;
  /** `length` where the reply was cut at `maxTokens`; `filtered` where the model's host or the model refused. */
  finish: 'stop' | 'length' | 'filtered';
  /** Tokens of the prompt and of the reply; estimated from characters where the model does not say. */
  promptTokens: number;
  replyTokens: number;
  /** Milliseconds from the start of the work, waiting for a free place not included. */
  ms: number;
  /** Calls that it took, failed ones included; 0 where it came from a cache. */
  calls: number;
}

/** How a call is made. */
export interface ChatCall {
  /** What the call is for; errors name it. */
  item?: string;
  /** Ends the call; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** A model that judges: an endpoint or a local model. */
export interface ChatModel {
  readonly name: string;
  /** All that replies depend on besides the request: part of the key under which they are cached. */
  readonly identity: string;
  /**
   * @throws JudgeError where no reply can be had
   * @throws PromptTooLong where the request does not fit into the model's context
   */
  complete(request: ChatRequest, call?: ChatCall): Promise<ChatReply>;
  /** Frees what the model holds. */
  close(): Promise<void>;
}

/** Why no reply could be had. */
export type JudgeFailure = 'unreachable' | 'refused' | 'bad-reply' | 'timeout' | 'budget' | 'closed';

/**
 * The judge itself failed, as against the answer that it judges: nothing is known about the item, and a run that
 * went on in silence would learn from the gaps. The message names the item.
 */
export class JudgeError extends AnnealError {
  override name = 'JudgeError';
  readonly failure: JudgeFailure;
  /** The item that was to be judged. */
  readonly item: string | undefined;
  /** HTTP status of the last reply, where there was one. */
  readonly status: number | undefined;

  constructor(
    failure: JudgeFailure,
    message: string,
    { item, status, cause }: { item?: string | undefined; status?: number | undefined; cause?: unknown } = {},
  ) {
    super(`${item === undefined ? '' : `${item}: `}${message}`);
    this.failure = failure;
    this.item = item;
    this.status = status;
    if (cause !== undefined) this.cause = cause;
  }
}

/** The request does not fit into the model's context: a property of the item, so its verdict is an abstention. */
export class PromptTooLong extends Error {}

/** Tokens that a text has at most, roughly: English has four characters a token, mathematics about two. */
export const estimateTokens = (text: string): number => Math.ceil(text.length / 2);

/** The same of a whole request, with a few tokens around each message. */
export const estimatePrompt = (messages: readonly JudgeMessage[]): number =>
  messages.reduce((sum, { content }) => sum + estimateTokens(content) + 8, 8);
