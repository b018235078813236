import { AnnealError } from '../../core/errors.js';
import type { ChatMessage } from '../../data/chat.js';
import { type JsonItem, mapped, readItems } from '../items.js';
import type { Task, TaskKind } from '../task.js';
import { sameNumber, type Verify } from '../verify.js';

/** How a chat model is asked; the answer's form is the data set's, so that the final number can be found. */
const instruction =
  'Solve the problem step by step. End with a line that holds "####" and the final number, and nothing else.';

/** Options of `gsm8k`. */
export interface Gsm8kOptions {
  items: readonly JsonItem[];
  /** Solved problems that are shown first. Default: none. */
  examples?: readonly JsonItem[];
  /** Default 512. */
  maxTokens?: number;
  /** Default: final numbers are compared by value. */
  verify?: Verify;
}

/**
 * Grade-school mathematics (Cobbe et al. 2021). Items have `question` and `answer`, a solution that ends with
 * "#### number". Plain prompts are those of lm-evaluation-harness ("Question: …\nAnswer:"); chat models get an
 * instruction, and examples as earlier turns.
 */
export function gsm8k(options: Gsm8kOptions): Task<JsonItem> {
  const { items, examples = [], maxTokens = 512, verify = sameNumber } = options;
  const question = (item: JsonItem) => mapped(item, 'question');
  const answer = (item: JsonItem) => mapped(item, 'answer');
  // A problem must not be shown solved before it is asked.
  const shown = (item: JsonItem) => examples.filter((one) => question(one) !== question(item));
  const turns = (item: JsonItem): ChatMessage[] => [
    { role: 'system', content: instruction },
    ...shown(item).flatMap((one) => [
      { role: 'user', content: question(one) },
      { role: 'assistant', content: answer(one) },
    ]),
    { role: 'user', content: question(item) },
  ];
  const plain = (item: JsonItem) =>
    [...shown(item).map((one) => `Question: ${question(one)}\nAnswer: ${answer(one)}\n\n`)].join('') +
    `Question: ${question(item)}\nAnswer:`;
  return {
    name: 'gsm8k',
    items,
    prompt: (item, { chat }) => (chat ? turns(item) : plain(item)),
    score: { kind: 'answer', reference: answer, verify, maxTokens, stop: ['Question:'] },
  };
}

export const gsm8kKind: TaskKind = {
  summary: 'grade-school mathematics: the final number counts',
  options: {
    file: { type: 'text', required: true, description: 'JSONL of {question, answer "… #### 18"}' },
    shots: { type: 'number', default: 0, description: 'solved problems that are shown first' },
    shotsFile: { type: 'text', description: 'JSONL that the shown problems are the first of' },
    maxTokens: { type: 'number', default: 512, description: 'most tokens of an answer' },
  },
  async load({ file, shots, shotsFile, maxTokens }) {
    const items = await readItems(file as string);
    let examples: readonly JsonItem[] = [];
    if (shots) {
      if (!shotsFile)
        throw new AnnealError(
          `gsm8k: shots=${shots} needs shotsFile=…, a file of solved problems that are not asked`,
        );
      examples = (await readItems(shotsFile as string)).slice(0, shots as number);
      if (examples.length < (shots as number))
        throw new AnnealError(`gsm8k: ${shotsFile} has ${examples.length} problems, not ${shots}`);
    }
    return gsm8k({ items, examples, maxTokens: maxTokens as number }) as Task;
  },
};
