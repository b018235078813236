import { AnnealError } from '../core/errors.js';
import { scoreAnswers } from './answers.js';
import { type ChoicePredictions, encodeChoices, predictChoices, scoreChoices } from './choice.js';
import { wilson } from './metrics.js';
import { type EvaluatedModel, modelScorer } from './model.js';
import type { EvaluateOptions, Metrics } from './options.js';
import { perplexity } from './perplexity.js';
import { resolveSettings } from './settings.js';
import type { AnswerScore, ChoiceScore, Task, TextScore } from './task.js';
import { tasks } from './tasks/index.js';

/** What a task measured. */
export interface TaskResult {
  task: string;
  /** How it was scored. */
  kind: 'answer' | 'choice' | 'text';
  /** Number of items. */
  items: number;
  metrics: Metrics;
  /** What a reader of the numbers should know, e.g. prompts that were cut. */
  notes: string[];
  seconds: number;
}

/** What an evaluation measured: JSON. */
export interface EvaluationResult {
  model: string;
  tasks: TaskResult[];
  seconds: number;
}

type Scored = { metrics: Metrics; notes: string[] };
type ItemRecord = Readonly<Record<string, unknown>> & { item: number };

/** Items whose sequences go to the scorer together: enough to fill batches of equal lengths. */
const choiceBatch = 64;

const unitOf: Record<keyof ChoicePredictions, string> = {
  raw: 'accuracy',
  perCharacter: 'accuracyPerCharacter',
  perByte: 'accuracyPerByte',
  perToken: 'accuracyPerToken',
};

async function scoreChoiceTask(
  { model, tokenizer }: EvaluatedModel,
  task: Task & { score: ChoiceScore<unknown> },
  items: readonly unknown[],
  options: EvaluateOptions,
  onRecord: (record: ItemRecord) => void,
): Promise<Scored> {
  const { score } = task;
  const scorer = modelScorer(model);
  const read = items.map((item) => {
    const prompt = task.prompt(item, { chat: false });
    if (typeof prompt !== 'string')
      throw new AnnealError(`${task.name}: prompts of choices are texts, not messages`);
    const choices = score.choices(item);
    const delimiter = prompt === '' ? '' : (score.delimiter ?? ' ');
    const texts = choices.map((choice) => delimiter + choice);
    const encoded = encodeChoices(tokenizer, prompt, texts, { limit: model.config.context });
    return { choices, answer: score.answer(item), encoded };
  });
  const right: Record<string, number> = {};
  for (let at = 0; at < read.length; at += choiceBatch) {
    options.signal?.throwIfAborted();
    const part = read.slice(at, at + choiceBatch);
    const scores = await scoreChoices(
      scorer,
      part.map(({ encoded }) => encoded),
    );
    part.forEach(({ choices, answer }, i) => {
      const picks = predictChoices(choices, scores[i]!);
      for (const [key, pick] of Object.entries(picks))
        right[key] = (right[key] ?? 0) + (pick === answer ? 1 : 0);
      onRecord({ task: task.name, item: at + i, answer, choices, ...scores[i]!, picks });
    });
  }
  const entries = Object.entries(unitOf).map(([key, name]) => [
    name,
    wilson(right[key]!, read.length, options.confidence),
  ]);
  return { metrics: Object.fromEntries(entries) as Metrics, notes: [] };
}

async function scoreTexts(
  { model, tokenizer }: EvaluatedModel,
  task: Task & { score: TextScore },
  items: readonly unknown[],
  options: EvaluateOptions,
  onRecord: (record: ItemRecord) => void,
): Promise<Scored> {
  const { context, stride } = task.score;
  const scorer = modelScorer(model);
  const results: { nats: number; tokens: number; bitsPerByte: number; bytes: number }[] = [];
  for (const [i, item] of items.entries()) {
    const text = task.prompt(item, { chat: false });
    if (typeof text !== 'string')
      throw new AnnealError(`${task.name}: perplexity is of texts, not of messages`);
    const bytes = new TextEncoder().encode(text).length;
    const result = await perplexity(scorer, tokenizer.encode(text), {
      bytes,
      ...(context !== undefined && { context }),
      ...(stride !== undefined && { stride }),
      onProgress: () => options.signal?.throwIfAborted(),
    });
    const { name } = item as { name?: unknown };
    onRecord({ task: task.name, item: i, ...(typeof name === 'string' && { name }), ...result, bytes });
    results.push({ ...result, bitsPerByte: result.bitsPerByte!, bytes });
  }
  // Over all tokens, and all bytes: a long text counts for more than a short one.
  const total = (of: (one: (typeof results)[number]) => number) =>
    results.reduce((sum, one) => sum + of(one), 0);
  const tokens = total((one) => one.tokens);
  const nats = total((one) => one.nats * one.tokens) / tokens;
  const metrics: Metrics = {
    perplexity: { value: Math.exp(nats) },
    nats: { value: nats },
    bitsPerByte: { value: total((one) => one.bitsPerByte * one.bytes) / total((one) => one.bytes) },
    tokens: { value: tokens },
  };
  return { metrics, notes: [] };
}

/** Calls `emit` in the order of the items, whatever the order in which they are done. */
function inItemOrder(emit: (record: ItemRecord) => void): (record: ItemRecord) => void {
  const waiting = new Map<number, ItemRecord>();
  let next = 0;
  return (record) => {
    waiting.set(record.item, record);
    for (let found = waiting.get(next); found; found = waiting.get(++next)) {
      waiting.delete(next);
      emit(found);
    }
  };
}

function checkOptions({ limit, samples = 1, k = [], temperature }: EvaluateOptions): void {
  const isCount = (n: number) => Number.isInteger(n) && n >= 1;
  if (limit !== undefined && !isCount(limit))
    throw new AnnealError(`evaluate: limit is ${limit}; pass a positive integer`);
  if (!isCount(samples)) throw new AnnealError(`evaluate: samples is ${samples}; pass a positive integer`);
  for (const one of k) {
    if (!isCount(one) || one > samples)
      throw new AnnealError(
        `evaluate: pass@${one} needs ${one} samples or more of each item, not ${samples}`,
      );
  }
  if (samples > 1 && temperature === 0)
    throw new AnnealError(
      `evaluate: ${samples} samples at temperature 0 are all the same; raise the temperature`,
    );
}

/**
 * Measures a model on a task. Deterministic: the same model, task, options and machine give the same numbers.
 * @throws AnnealError for a task without items, items that do not fit, or impossible options
 */
export async function evaluateTask<Item>(
  bundle: EvaluatedModel,
  task: Task<Item>,
  options: EvaluateOptions = {},
): Promise<TaskResult> {
  checkOptions(options);
  const start = performance.now();
  const items = task.items.slice(0, options.limit ?? Number.POSITIVE_INFINITY);
  if (items.length === 0) throw new AnnealError(`${task.name}: there are no items`);
  const inOrder = inItemOrder((record) => options.onRecord?.(record));
  let done = 0;
  const onRecord = (record: ItemRecord) => {
    inOrder(record);
    options.onProgress?.({ task: task.name, done: ++done, total: items.length });
  };
  const { kind } = task.score;
  const untyped = task as unknown as Task;
  const { metrics, notes } =
    kind === 'answer'
      ? await scoreAnswers(
          bundle,
          untyped as Task & { score: AnswerScore<unknown> },
          items,
          options,
          (record) => onRecord({ ...record }),
        )
      : kind === 'choice'
        ? await scoreChoiceTask(
            bundle,
            untyped as Task & { score: ChoiceScore<unknown> },
            items,
            options,
            onRecord,
          )
        : await scoreTexts(bundle, untyped as Task & { score: TextScore }, items, options, onRecord);
  const seconds = (performance.now() - start) / 1000;
  return { task: task.name, kind, items: items.length, metrics, notes, seconds };
}

/** A task by the name of its kind (see `tasks`) and its settings, which may be texts. */
export interface TaskSpec {
  task: string;
  settings?: Readonly<Record<string, unknown>>;
}

/**
 * Makes a task from the name of its kind and its settings.
 * @throws AnnealError if there is no such kind, or a setting is wrong
 */
export async function loadTask({ task, settings = {} }: TaskSpec): Promise<Task> {
  const kind = Object.hasOwn(tasks, task) ? tasks[task] : undefined;
  if (!kind) throw new AnnealError(`there is no task "${task}"; there are ${Object.keys(tasks).join(', ')}`);
  return kind.load(resolveSettings(task, kind, settings));
}

/**
 * Measures a model on several tasks. All are loaded before the first one runs, so that a mistake in the last costs nothing.
 */
export async function evaluate(
  bundle: EvaluatedModel,
  specs: readonly (TaskSpec | Task)[],
  options: EvaluateOptions = {},
): Promise<EvaluationResult> {
  const start = performance.now();
  if (specs.length === 0) throw new AnnealError(`evaluate: name a task: ${Object.keys(tasks).join(', ')}`);
  const loaded: Task[] = [];
  for (const spec of specs) loaded.push('task' in spec ? await loadTask(spec) : spec);
  const results: TaskResult[] = [];
  for (const task of loaded) results.push(await evaluateTask(bundle, task, options));
  return { model: bundle.name, tasks: results, seconds: (performance.now() - start) / 1000 };
}
