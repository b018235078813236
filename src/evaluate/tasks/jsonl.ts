import { AnnealError } from '../../core/errors.js';
import type { ChatMessage } from '../../data/chat.js';
import { answerVerifier } from '../../verify/answer.js';
import { choiceVerifier } from '../../verify/choice.js';
import { mathVerifier } from '../../verify/math/verify-math.js';
import { type JsonItem, mapped, readItems } from '../items.js';
import type { Task, TaskKind } from '../task.js';
import { contains, exactMatch, sameNumber, type Verify, verifyWith } from '../verify.js';

/** Verifiers by the word that settings name them with. */
export const verifiers: Readonly<Record<string, Verify>> = {
  exact: exactMatch(),
  contains: contains(),
  number: sameNumber,
  math: verifyWith(mathVerifier()),
  choice: verifyWith(choiceVerifier()),
  rules: verifyWith(answerVerifier()),
};

/** Options of `questions`. */
export interface QuestionsOptions {
  name?: string;
  items: readonly JsonItem[];
  /** A field, or a text with {{field}} in it. A field may also hold a list of messages. Default `question`. */
  prompt?: string;
  /** The same for the reference. Default `answer`. */
  reference?: string;
  /** Default: exact match but for case and white space. */
  verify?: Verify;
  /** A message before the prompt, for chat models. */
  system?: string;
  /** Default 256. */
  maxTokens?: number;
  stop?: readonly string[];
}

const isMessages = (value: unknown): value is readonly ChatMessage[] =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((one) => typeof (one as ChatMessage | null)?.role === 'string');

/** Questions of the user's own with reference answers. */
export function questions(options: QuestionsOptions): Task<JsonItem> {
  const { name = 'jsonl', items, prompt = 'question', reference = 'answer', system, stop } = options;
  const { verify = exactMatch(), maxTokens = 256 } = options;
  return {
    name,
    items,
    prompt(item, { chat }) {
      const before = system === undefined ? [] : [{ role: 'system', content: system }];
      const conversation = item[prompt];
      if (isMessages(conversation)) return [...before, ...conversation];
      const text = mapped(item, prompt);
      return chat ? [...before, { role: 'user', content: text }] : text;
    },
    score: {
      kind: 'answer',
      reference: (item) => mapped(item, reference),
      verify,
      maxTokens,
      ...(stop && { stop }),
    },
  };
}

export const jsonlKind: TaskKind = {
  summary: 'questions of your own with reference answers',
  options: {
    file: { type: 'text', required: true, description: 'JSONL of questions' },
    prompt: { type: 'text', default: 'question', description: 'field, or text with {{field}} in it' },
    reference: { type: 'text', default: 'answer', description: 'field, or text with {{field}} in it' },
    match: { type: 'text', default: 'exact', description: Object.keys(verifiers).join(', ') },
    system: { type: 'text', description: 'a message before the prompt, for chat models' },
    maxTokens: { type: 'number', default: 256, description: 'most tokens of an answer' },
    stop: { type: 'text', description: 'a string that ends an answer, such as a line break' },
  },
  async load({ file, prompt, reference, match, system, maxTokens, stop }) {
    const verify = Object.hasOwn(verifiers, match as string) ? verifiers[match as string] : undefined;
    if (!verify)
      throw new AnnealError(
        `jsonl: match is "${match}"; it must be one of ${Object.keys(verifiers).join(', ')}`,
      );
    return questions({
      items: await readItems(file as string),
      prompt: prompt as string,
      reference: reference as string,
      verify,
      maxTokens: maxTokens as number,
      ...(system !== undefined && { system: system as string }),
      ...(stop !== undefined && { stop: [stop as string] }),
    }) as Task;
  },
};
