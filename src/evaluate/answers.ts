import { AnnealError } from '../core/errors.js';
import { Rng } from '../core/random.js';
import { encodeChat } from '../data/chat.js';
import { Generator } from '../generate/generator.js';
import type { FinishReason } from '../generate/request.js';
import { bootstrap, passAtK, wilson } from './metrics.js';
import type { EvaluatedModel } from './model.js';
import type { EvaluateOptions, Metrics } from './options.js';
import type { AnswerScore, Task } from './task.js';
import type { Verdict } from './verify.js';

/** One answer of the model. */
export interface ScoredAnswer extends Verdict {
  text: string;
  /** Generated tokens. */
  tokens: number;
  finishReason: FinishReason;
}

/** What is written of an item of a task with answers. */
export interface AnswerRecord {
  task: string;
  /** Index among the task's items. */
  item: number;
  reference: string;
  answers: ScoredAnswer[];
}

type AnswerTask = Task & { score: AnswerScore<unknown> };

/** Tokens of an item's prompt, cut at the beginning where they would leave no room for an answer. */
function encodePrompt(
  { tokenizer, chatTemplate, model }: EvaluatedModel,
  task: AnswerTask,
  item: unknown,
  chat: boolean,
): { tokens: Int32Array; isCut: boolean } {
  const prompt = task.prompt(item, { chat });
  let tokens: Int32Array;
  if (typeof prompt === 'string') tokens = tokenizer.encode(prompt);
  else {
    if (chatTemplate === undefined)
      throw new AnnealError(`${task.name}: the items are conversations, but the model has no chat template`);
    const { endOfText } = tokenizer;
    const eosToken = endOfText === undefined ? undefined : tokenizer.decode([endOfText], { special: true });
    tokens = encodeChat(tokenizer, chatTemplate, prompt, { addGenerationPrompt: true, eosToken });
  }
  if (tokens.length === 0) throw new AnnealError(`${task.name}: the prompt of an item has no tokens`);
  const { context } = model.config;
  // As lm-evaluation-harness does: the question is at the end, examples are lost first.
  const room = Math.max(1, context - Math.min(task.score.maxTokens, context - 1));
  return { tokens: tokens.subarray(Math.max(0, tokens.length - room)), isCut: tokens.length > room };
}

/** Seeds of an item's samples: the same for all items, whose prompts differ. */
function sampleSeeds(seed: number, samples: number): number[] {
  return [...new Rng(seed).split('samples').integers(samples, 0, 2 ** 31 - 1)];
}

/** Lets the model answer every item, `samples` times each, and verifies the answers. */
export async function scoreAnswers(
  bundle: EvaluatedModel,
  task: AnswerTask,
  items: readonly unknown[],
  options: EvaluateOptions,
  onRecord: (record: AnswerRecord) => void,
): Promise<{ metrics: Metrics; notes: string[] }> {
  const { samples = 1, slots = 16, seed = 0, topP = 1 } = options;
  // Several samples at temperature 0 would be one and the same.
  const { temperature = samples > 1 ? 0.8 : 0 } = options;
  const chat = options.chat ?? bundle.chatTemplate !== undefined;
  const maxTokens = options.maxTokens ?? task.score.maxTokens;
  const { verify, reference, stop = [] } = task.score;
  const limited = { ...task, score: { ...task.score, maxTokens } };
  const prompts = items.map((item) => encodePrompt(bundle, limited, item, chat));
  const generator = new Generator(bundle.model, { slots, tokenizer: bundle.tokenizer });
  const seeds = sampleSeeds(seed, samples);
  const answer = async (item: unknown, prompt: Int32Array, seed: number): Promise<ScoredAnswer> => {
    const { text, tokens, finishReason } = await generator.submit({
      prompt,
      maxTokens,
      stop,
      stopTokens: bundle.endTokens,
      temperature,
      topP,
      seed,
      ...(options.signal && { signal: options.signal }),
    }).result;
    options.signal?.throwIfAborted();
    return { text, tokens: tokens.length, finishReason, ...(await verify(text, reference(item), item)) };
  };
  try {
    const records = await Promise.all(
      items.map(async (item, i): Promise<AnswerRecord> => {
        const answers = await Promise.all(seeds.map((one) => answer(item, prompts[i]!.tokens, one)));
        const record = { task: task.name, item: i, reference: reference(item), answers };
        onRecord(record);
        return record;
      }),
    );
    const cut = prompts.filter(({ isCut }) => isCut).length;
    const notes =
      cut > 0 ? [`${cut} prompts were longer than the model's context and lost their beginning`] : [];
    return { metrics: answerMetrics(records, samples, options), notes };
  } finally {
    await generator.close({ cancel: true });
  }
}

/** Accuracy and pass@k over items of which the verifier could judge at least one answer. */
export function answerMetrics(
  records: readonly AnswerRecord[],
  samples: number,
  { k, confidence = 0.95 }: EvaluateOptions,
): Metrics {
  const all = records.flatMap(({ answers }) => answers);
  const counts = records.flatMap(({ answers }) => {
    const judged = answers.filter(({ verdict }) => verdict !== 'abstain');
    const correct = judged.filter(({ verdict }) => verdict === 'correct').length;
    return judged.length === 0 ? [] : [{ judged: judged.length, correct }];
  });
  const share = (test: (one: ScoredAnswer) => boolean) => ({ value: all.filter(test).length / all.length });
  const shares: Metrics = {
    abstained: share(({ verdict }) => verdict === 'abstain'),
    // Answers that did not end by themselves: many of them mean that maxTokens is too small.
    cutOff: share(({ finishReason }) => finishReason === 'length'),
    answerTokens: { value: all.reduce((n, { tokens }) => n + tokens, 0) / all.length },
  };
  if (samples === 1) {
    const correct = counts.reduce((n, one) => n + one.correct, 0);
    return { accuracy: wilson(correct, counts.length, confidence), ...shares };
  }
  if (counts.length === 0) return { accuracy: { value: Number.NaN }, ...shares };
  const metrics: Metrics = {
    accuracy: bootstrap(
      counts.map(({ judged, correct }) => correct / judged),
      { confidence },
    ),
  };
  for (const one of k ?? [1, samples]) {
    // Where the verifier abstained, fewer than k judged samples may be left: such items say nothing about pass@k.
    const estimates = counts.filter(({ judged }) => judged >= one);
    if (estimates.length > 0)
      metrics[`pass@${one}`] = bootstrap(
        estimates.map(({ judged, correct }) => passAtK(judged, correct, one)),
        { confidence },
      );
  }
  return { ...metrics, ...shares };
}
