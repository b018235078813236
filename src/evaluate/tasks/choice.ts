import { AnnealError } from '../../core/errors.js';
import { type JsonItem, mapped, readItems } from '../items.js';
import type { Task, TaskKind } from '../task.js';

/** Options of `multipleChoice`. */
export interface MultipleChoiceOptions {
  name?: string;
  items: readonly JsonItem[];
  /** A field, or a text with {{field}} in it. Default `question`. */
  prompt?: string;
  /** Field with the texts of the choices: a list, or {text: […], label: […]} as ARC has it. Default `choices`. */
  choices?: string;
  /** Field with the right choice: its index from 0, its label or letter, or its text. Default `answer`. */
  answer?: string;
  /** Between prompt and choice. Default: a space. */
  delimiter?: string;
}

const isTexts = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every((one) => typeof one === 'string');

function readChoices(item: JsonItem, name: string): { texts: readonly string[]; labels: readonly string[] } {
  const value = item[name];
  const texts = isTexts(value) ? value : (value as { text?: unknown } | null | undefined)?.text;
  if (!isTexts(texts)) {
    throw new AnnealError(
      `the field "${name}" of an item is ${JSON.stringify(value) ?? 'missing'}; it must be a list of texts`,
    );
  }
  const labels = (value as { label?: unknown }).label;
  return { texts, labels: isTexts(labels) ? labels : texts.map((_, i) => String.fromCharCode(65 + i)) };
}

function answerIndex(item: JsonItem, name: string, choices: string): number {
  const { texts, labels } = readChoices(item, choices);
  const value = item[name];
  const byName = typeof value === 'string' ? [labels.indexOf(value), texts.indexOf(value)] : [];
  // Digits in a string are an index only where no label or text is called so.
  const byNumber =
    typeof value === 'number' || (typeof value === 'string' && /^\d+$/.test(value)) ? [Number(value)] : [];
  const found = [...byName, ...byNumber].find((i) => Number.isInteger(i) && i >= 0 && i < texts.length);
  if (found !== undefined) return found;
  throw new AnnealError(
    `the field "${name}" of an item is ${JSON.stringify(value) ?? 'missing'}, which is none of its ${texts.length} choices (${labels.join(', ')})`,
  );
}

/** Questions of which the most likely of some continuations is the answer, by log-likelihood. */
export function multipleChoice(options: MultipleChoiceOptions): Task<JsonItem> {
  const {
    name = 'choice',
    items,
    prompt = 'question',
    choices = 'choices',
    answer = 'answer',
    delimiter,
  } = options;
  return {
    name,
    items,
    prompt: (item) => mapped(item, prompt),
    score: {
      kind: 'choice',
      choices: (item) => readChoices(item, choices).texts,
      answer: (item) => answerIndex(item, answer, choices),
      ...(delimiter !== undefined && { delimiter }),
    },
  };
}

export const choiceKind: TaskKind = {
  summary: 'multiple choice by log-likelihood',
  options: {
    file: { type: 'text', required: true, description: 'JSONL of questions with choices' },
    prompt: { type: 'text', default: 'question', description: 'field, or text with {{field}} in it' },
    choices: { type: 'text', default: 'choices', description: 'field with the list of choices' },
    answer: {
      type: 'text',
      default: 'answer',
      description: 'field with the index, label or text of the right one',
    },
    delimiter: { type: 'text', default: ' ', description: 'text between prompt and choice' },
  },
  async load({ file, prompt, choices, answer, delimiter }) {
    return multipleChoice({
      items: await readItems(file as string),
      prompt: prompt as string,
      choices: choices as string,
      answer: answer as string,
      delimiter: delimiter as string,
    }) as Task;
  },
};
