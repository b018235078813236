/**
 * A language model as a verifier. What is said about the texts is a verdict; what fails on the way to it is an
 * error, so that a reward is never made of a failure.
 */
import { AnnealError } from '../../core/errors.js';
import type { Outcome, Verdict, Verifier, VerifyItem } from '../verdict.js';
import { cached, type ReplyCache } from './cache.js';
import { type ChatModel, type ChatReply, type ChatRequest, PromptTooLong } from './chat.js';
import { mapLimited } from './limit.js';
import { type ReplyRule, readReply } from './parse.js';
import { type Protocol, withReference } from './protocol.js';

/** An item with a name of its own, for errors. */
export interface JudgedItem extends VerifyItem {
  id?: string;
}

export interface JudgeOptions {
  model: ChatModel;
  /** Default: with the reference. */
  protocol?: Protocol;
  /** How replies are read. Default `closing`. */
  rule?: ReplyRule;
  /** Most tokens of a reply. Default 2048. */
  maxTokens?: number;
  /** Replies to an item; the majority of those that say something decides. Odd. Default 1. */
  votes?: number;
  /** Default 0, and 0.7 with several votes. */
  temperature?: number;
  /** Of the votes: vote `i` is drawn with `seed + i`. Default 0. */
  seed?: number;
  /** Replies are kept in it. Default: nowhere. */
  cache?: ReplyCache;
  /** Longest answer in UTF-16 units; of a longer one the judge sees the end, where the result stands. Default 60 000. */
  maxChars?: number;
  /** Shows the judge what this makes of an answer, such as its extracted result, instead of the whole answer. */
  show?: (item: VerifyItem) => string;
}

/** One reply of a judge, as it was read. */
export interface Vote {
  text: string;
  verdict: Outcome;
  finish: ChatReply['finish'];
}

/** A judge's verdict with what it rests on. */
export interface JudgeVerdict extends Verdict {
  votes: Vote[];
  /** Calls that were made; 0 where all replies came from the cache. */
  calls: number;
  /** Tokens of prompts and replies, those of the cache included. */
  tokens: number;
}

/** Options of one verification. */
export interface AskOptions {
  signal?: AbortSignal;
}

/** The answer holds a letter, a digit or a mathematical sign: something that could be a result. */
const saysSomething = (answer: string) => /[\p{L}\p{N}∞∅]/u.test(answer);

const itemName = ({ id, question, answer }: JudgedItem): string => {
  if (id !== undefined) return id;
  const text = (question ?? answer).replace(/\s+/g, ' ').trim();
  return `the item ${JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text)}`;
};

/** The end of a text, never half a character. */
function lastPart(text: string, length: number): string {
  if (text.length <= length) return text;
  const from = text.length - length;
  const isHalf = text.charCodeAt(from) >= 0xdc00 && text.charCodeAt(from) <= 0xdfff;
  return `[…]${text.slice(isHalf ? from + 1 : from)}`;
}

const reasons = { stop: 'judge-unclear', length: 'judge-cut-off', filtered: 'judge-refused' } as const;

const blank = { votes: [], calls: 0, tokens: 0, ms: 0 };

/**
 * A language model as a verifier.
 *
 * Whatever the texts are, there is a verdict: a reply that says neither Yes nor No, a refusal, or a prompt beyond
 * the model's context is an abstention. A judge that cannot be reached, talks nonsense instead of the API, or has
 * no budget left is none: `verify` then rejects with a `JudgeError` that names the item. `tolerant` makes
 * abstentions of these too.
 */
export class Judge implements Verifier {
  readonly name: string;
  readonly protocol: Protocol;
  readonly #model: ChatModel;
  readonly #options: JudgeOptions;

  /** @throws AnnealError for an option out of range */
  constructor(options: JudgeOptions) {
    const { model, protocol = withReference, votes = 1, maxTokens = 2048, maxChars = 60_000 } = options;
    const check = (name: string, value: number, least: number) => {
      if (Number.isSafeInteger(value) && value >= least) return;
      throw new AnnealError(`the judge's ${name} is ${value}; pass a whole number from ${least}`);
    };
    check('votes', votes, 1);
    check('maxTokens', maxTokens, 1);
    check('maxChars', maxChars, 1);
    if (votes % 2 === 0)
      throw new AnnealError(`the judge's votes are ${votes}; pass an odd number, so that they decide`);
    this.name = votes === 1 ? model.name : `${model.name} (majority of ${votes})`;
    this.protocol = protocol;
    this.#model = options.cache ? cached(model, options.cache) : model;
    this.#options = options;
  }

  /**
   * Judges one item.
   * @throws JudgeError where the judge fails, not the item
   */
  async verify(item: JudgedItem, { signal }: AskOptions = {}): Promise<JudgeVerdict> {
    const { show, maxChars = 60_000 } = this.#options;
    if (
      typeof item?.answer !== 'string' ||
      (this.protocol.usesReference && typeof item.reference !== 'string')
    )
      return { verdict: 'abstain', reason: 'not-a-text', ...blank };
    const shown = show ? show(item) : item.answer;
    // Models are known to wave such answers through, so they do not get to see them.
    if (!saysSomething(shown)) return { verdict: 'incorrect', reason: 'empty-answer', ...blank };
    const messages = this.protocol.messages({ ...item, answer: lastPart(shown, maxChars) });
    const call = { item: itemName(item), ...(signal && { signal }) };
    try {
      const replies = await this.#votes((vote) => this.#model.complete(this.#request(messages, vote), call));
      return this.#decide(replies);
    } catch (error) {
      if (error instanceof PromptTooLong) return { verdict: 'abstain', reason: 'prompt-too-long', ...blank };
      throw error;
    }
  }

  /**
   * Judges many items together, as many at once as the model takes.
   * @throws JudgeError at the first item where the judge fails
   */
  verifyAll(items: readonly JudgedItem[], options: AskOptions = {}): Promise<JudgeVerdict[]> {
    return mapLimited(items, 256, (item) => this.verify(item, options));
  }

  /** Frees what the model holds. */
  close(): Promise<void> {
    return this.#model.close();
  }

  #request(messages: ChatRequest['messages'], vote: number): ChatRequest {
    const { votes = 1, maxTokens = 2048, seed = 0 } = this.#options;
    const { temperature = votes > 1 ? 0.7 : 0 } = this.#options;
    // Without a seed where none is needed: not every server knows the field.
    return { messages, temperature, maxTokens, ...(temperature > 0 && { seed: seed + vote }) };
  }

  /** Just as many replies as are needed for a majority: of three, two that agree make the third needless. */
  async #votes(ask: (vote: number) => Promise<ChatReply>): Promise<ChatReply[]> {
    const { votes = 1 } = this.#options;
    const replies: ChatReply[] = [];
    while (replies.length < votes) {
      const words = replies.map((reply) => this.#read(reply).verdict);
      const lead = Math.max(
        ...(['correct', 'incorrect'] as const).map((one) => words.filter((w) => w === one).length),
      );
      const missing = (votes + 1) / 2 - lead;
      if (missing <= 0) break;
      const from = replies.length;
      const count = Math.min(missing, votes - from);
      replies.push(...(await Promise.all(Array.from({ length: count }, (_, i) => ask(from + i)))));
    }
    return replies;
  }

  #read({ text, finish }: ChatReply): Vote {
    const { rule = 'closing' } = this.#options;
    // A refusal is none, whatever words it holds; and the last word of half a reply is in the midst of its reasoning.
    const counts = finish === 'stop' || (finish === 'length' && rule !== 'lenient');
    const isRight = counts || rule === 'paper' ? readReply(text, rule) : readReply(text, 'closing');
    const word =
      isRight === undefined || finish === 'filtered' ? 'abstain' : isRight ? 'correct' : 'incorrect';
    return { text, verdict: word, finish };
  }

  #decide(replies: readonly ChatReply[]): JudgeVerdict {
    const votes = replies.map((reply) => this.#read(reply));
    const count = (outcome: Outcome) => votes.filter(({ verdict }) => verdict === outcome).length;
    const [yes, no] = [count('correct'), count('incorrect')];
    const cost = {
      votes,
      calls: replies.reduce((sum, { calls }) => sum + calls, 0),
      tokens: replies.reduce((sum, { promptTokens, replyTokens }) => sum + promptTokens + replyTokens, 0),
      ms: replies.reduce((sum, { ms }) => sum + ms, 0),
    };
    if (yes > no) return { verdict: 'correct', reason: 'judge-yes', ...cost };
    if (no > yes) return { verdict: 'incorrect', reason: 'judge-no', ...cost };
    return { verdict: 'abstain', reason: yes > 0 ? 'judge-tie' : reasons[votes[0]!.finish], ...cost };
  }
}
