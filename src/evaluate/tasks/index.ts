import type { TaskKind } from '../task.js';
import { choiceKind } from './choice.js';
import { gsm8kKind } from './gsm8k.js';
import { jsonlKind } from './jsonl.js';
import { textKind } from './text.js';

export { type MultipleChoiceOptions, multipleChoice } from './choice.js';
export { type Gsm8kOptions, gsm8k } from './gsm8k.js';
export { type QuestionsOptions, questions, verifiers } from './jsonl.js';
export { type NamedText, type TextOptions, textPerplexity } from './text.js';

/** Kinds of tasks by name: a new one is a file and an entry here. */
export const tasks: Readonly<Record<string, TaskKind>> = {
  gsm8k: gsm8kKind,
  jsonl: jsonlKind,
  choice: choiceKind,
  perplexity: textKind,
};
