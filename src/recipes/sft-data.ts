import { AnnealError } from '../core/errors.js';
import { Value } from '../core/value.js';
import { encodeConversation } from '../data/conversation.js';
import {
  type ChatMessage,
  type Conversation,
  type LanguageBatch,
  TokenDataset,
  type Tokenizer,
} from '../data/index.js';
import { packBestFit } from '../data/pack.js';
import { documentSegments, type Segment } from '../data/rows.js';
import { fillBatch } from '../data/token-batches.js';
import { type JsonItem, mapped } from '../evaluate/items.js';
import { Rng } from '../index.js';
import { type HubSettings, recordsAt } from './hub-data.js';
import type { SftConfig } from './sft-settings.js';

/** Conversations from files, and what a person should know about the reading. */
export interface ReadConversations {
  conversations: Conversation[];
  /** Lines that were left out: how many, and why the first ones. */
  notes: string[];
}

type Fields = SftConfig['fields'];

function messagesOf(value: unknown): readonly ChatMessage[] {
  const isList = Array.isArray(value) && value.length > 0;
  if (!isList || !value.every((one) => typeof (one as ChatMessage | null)?.role === 'string'))
    throw new AnnealError('"messages" is no list of {role, content}');
  if (!value.some((one: ChatMessage) => one.role === 'assistant'))
    throw new AnnealError('no message is of the assistant, so there is nothing to learn');
  return value as readonly ChatMessage[];
}

/** The fields that hold prompt and answer, if an item has both. */
const knownPairs = [
  ['prompt', 'completion'],
  ['question', 'answer'],
] as const;

/**
 * An item as a conversation: its `messages`, or a prompt and an answer.
 * @throws AnnealError that says which fields are missing
 */
export function conversationOf(item: JsonItem, fields: Fields = {}): Conversation {
  const { prompt, completion, system } = fields;
  if (prompt === undefined && completion === undefined && item.messages !== undefined) {
    const tools = item.tools;
    return { messages: messagesOf(item.messages), ...(Array.isArray(tools) && { tools }) };
  }
  const pair = knownPairs.find(([p, c]) => item[p] !== undefined && item[c] !== undefined);
  const from = prompt ?? pair?.[0];
  const to = completion ?? pair?.[1];
  if (from === undefined || to === undefined) {
    throw new AnnealError(
      `it has neither messages, nor prompt and completion, nor question and answer, but ${Object.keys(item).join(', ') || 'nothing'}; set fields.prompt and fields.completion`,
    );
  }
  return {
    messages: [
      ...(system === undefined ? [] : [{ role: 'system', content: system }]),
      { role: 'user', content: mapped(item, from) },
      { role: 'assistant', content: mapped(item, to) },
    ],
  };
}

/** At most this many bad records are named; the rest are counted. */
const named = 3;

/**
 * Reads conversations from JSONL (also .gz) and Parquet files, globs among them, and from datasets on the Hub. A line
 * that is no JSON, and a record that is no conversation, is left out, counted and named.
 * @throws AnnealError if a file cannot be read, or nothing in the files can be used
 */
export async function readConversations(
  paths: string | readonly string[],
  fields: Fields = {},
  limit = Number.POSITIVE_INFINITY,
  hub: HubSettings = { offline: false },
): Promise<ReadConversations> {
  const conversations: Conversation[] = [];
  const bad: string[] = [];
  const sources = recordsAt(paths, hub, {
    maxCorrupt: Number.POSITIVE_INFINITY,
    onSkip: ({ file, line, reason }) => bad.push(`line ${line} of ${file}: ${reason}`),
  });
  let count = 0;
  for (const source of sources) {
    if (conversations.length >= limit) break;
    for await (const record of source) {
      count++;
      try {
        conversations.push(conversationOf(record, fields));
      } catch (error) {
        bad.push(`record ${count}: ${(error as Error).message}`);
      }
      if (conversations.length >= limit) break;
    }
  }
  const reasons = bad.slice(0, named).join('; ') + (bad.length > named ? '; …' : '');
  if (conversations.length === 0) {
    throw new AnnealError(
      `${String(paths)} holds no conversations${bad.length > 0 ? ` that can be used (${reasons})` : ''}`,
    );
  }
  return {
    conversations,
    notes: bad.length > 0 ? [`${bad.length} items of the data are left out (${reasons})`] : [],
  };
}

/** Conversations to train on, and those kept for validation: chosen at random, but the same for the same seed. */
export function splitConversations(
  all: readonly Conversation[],
  share: number,
  seed: number,
): { training: Conversation[]; validation: Conversation[] } {
  if (all.length < 2)
    throw new AnnealError(`${all.length} conversations are too few to keep some for validation; give more`);
  const count = Math.min(all.length - 1, Math.max(1, Math.round(all.length * share)));
  const chosen = new Set(new Rng(seed).split('validation').permutation(all.length).subarray(0, count));
  return {
    training: all.filter((_, i) => !chosen.has(i)),
    validation: all.filter((_, i) => chosen.has(i)),
  };
}

/**
 * The tokens of conversations with the mask of what the assistant writes, cut off at `context` targets: rows cannot
 * hold more, and the rest of an answer without its beginning would teach nothing sensible.
 */
export function encodeAll(
  conversations: readonly Conversation[],
  tokenizer: Tokenizer,
  template: string,
  context: number,
  eosToken: string | undefined,
): { dataset: TokenDataset; cut: number } {
  let cut = 0;
  const documents = conversations.map(({ messages, tools }, i) => {
    try {
      const { tokens, mask } = encodeConversation(tokenizer, template, messages, { tools, eosToken });
      if (tokens.length > context + 1) cut++;
      return { tokens: tokens.subarray(0, context + 1), mask: mask.subarray(0, context + 1) };
    } catch (error) {
      throw new AnnealError(`conversation ${i + 1}: ${(error as Error).message}`);
    }
  });
  return { dataset: TokenDataset.fromDocuments(documents, tokenizer.size), cut };
}

/** Number of tokens that are learnt. */
export const countAnswerTokens = ({ mask }: TokenDataset): number =>
  mask ? mask.reduce((sum, one) => sum + one, 0) : 0;

/**
 * All of a dataset once, as batches whose plain mean is the mean over its answer tokens: the weights of a batch
 * with fewer targets are smaller in proportion.
 */
export function validationBatches(
  dataset: TokenDataset,
  options: { batch: number; context: number; packing: boolean; limit?: number | undefined },
): LanguageBatch[] {
  const { batch, context, packing, limit } = options;
  const counted = ({ from, length }: Segment) =>
    dataset.mask!.subarray(from + 1, from + length + 1).reduce((sum, one) => sum + one, 0);
  const segments = documentSegments(dataset, context).filter((segment) => counted(segment) > 0);
  const rows = packing ? packBestFit(segments, context) : segments.map((segment) => [segment]);
  const cutRows: Segment[][][] = [];
  for (let at = 0; at < rows.length && cutRows.length < (limit ?? Number.POSITIVE_INFINITY); at += batch)
    cutRows.push(Array.from({ length: batch }, (_, i) => rows[at + i] ?? []));
  const counts = cutRows.map((some) => some.flat().reduce((sum, segment) => sum + counted(segment), 0));
  const average = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  return cutRows.map((some, i) => {
    const filled = fillBatch(dataset, some, context, packing);
    const weights = (filled.weights.data as Float32Array).map((weight) => (weight * counts[i]!) / average);
    return { ...filled, weights: new Value(weights, filled.weights.shape, 'float32') };
  });
}
