import type { ChatMessage } from '../data/chat.js';
import type { Verify } from './verify.js';

/** The model writes an answer, which a verifier compares with a reference. */
export interface AnswerScore<Item> {
  kind: 'answer';
  reference(item: Item): string;
  verify: Verify;
  /** Most tokens of an answer. */
  maxTokens: number;
  /** Strings that end an answer, beside the model's own end tokens. */
  stop?: readonly string[];
}

/** The most likely of given continuations of the prompt counts as the answer; prompts are plain text. */
export interface ChoiceScore<Item> {
  kind: 'choice';
  /** Texts of two choices or more. */
  choices(item: Item): readonly string[];
  /** Index of the right one. */
  answer(item: Item): number;
  /** Between prompt and choice. Default: a space, as in lm-evaluation-harness. */
  delimiter?: string;
}

/** How well the model predicts the prompt itself. */
export interface TextScore {
  kind: 'text';
  /** Tokens that the model sees at once. Default: its context. */
  context?: number;
  /** See `perplexity`. Default: half the context. */
  stride?: number;
}

/** What a task knows of the model when it writes a prompt. */
export interface PromptOptions {
  /** The prompt goes through a chat template: return messages. False: return a text to be continued. */
  chat: boolean;
}

/** Something to measure: items, the prompt of each, and how what the model does with it is scored. */
export interface Task<Item = unknown> {
  readonly name: string;
  readonly items: readonly Item[];
  /** Text, or the messages of a conversation that the assistant answers. */
  prompt(item: Item, options: PromptOptions): string | readonly ChatMessage[];
  readonly score: AnswerScore<Item> | ChoiceScore<Item> | TextScore;
}

/** A kind of task by name, made from settings: what a command line offers. */
export interface TaskKind {
  readonly summary: string;
  readonly options: Readonly<Record<string, TaskOption>>;
  /** @throws AnnealError if a file is missing or its items do not have the fields that are named. */
  load(settings: Settings): Promise<Task>;
}

/** A setting of a kind of task. */
export interface TaskOption {
  readonly type: 'text' | 'number' | 'boolean';
  readonly description: string;
  /** Absent: it may be left out, or must be given if `required`. */
  readonly default?: string | number | boolean;
  readonly required?: boolean;
}

/** Checked settings of a task. */
export type Settings = Readonly<Record<string, string | number | boolean | undefined>>;
