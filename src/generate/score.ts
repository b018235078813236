import type { TypedArray } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import type { GenerativeModel } from './model.js';
import { passesOf, passFor } from './score-pass.js';
import { roundDown, roundUp } from './shapes.js';

/** Options of `score`. */
export interface ScoreOptions {
  /** Most tokens of a pass, padding included. Default 1024. */
  batchTokens?: number;
}

/** A sequence's logprobs, and with each the most likely tokens at its place. */
export interface ScoredSequence {
  logprobs: Float32Array;
  top: { token: number; logprob: number }[][];
}

function check(model: GenerativeModel, sequence: ArrayLike<number>, index: number): void {
  const { vocabulary, context } = model.config;
  if (sequence.length > context) {
    throw new AnnealError(
      `sequence ${index} has ${sequence.length} tokens, the model's context ${context}; cut it`,
    );
  }
  for (let i = 0; i < sequence.length; i++) {
    const token = sequence[i]!;
    if (!(Number.isInteger(token) && token >= 0 && token < vocabulary)) {
      throw new AnnealError(
        `token ${i} of sequence ${index} is ${token}; ids go from 0 to ${vocabulary - 1}`,
      );
    }
  }
}

/** Indices of sequences, cut into batches of one padded length each. */
function batchesOf(lengths: readonly number[], context: number, batchTokens: number) {
  const byLength = new Map<number, number[]>();
  for (const [i, length] of lengths.entries()) {
    if (length < 1) continue;
    const padded = Math.max(Math.min(16, context), roundUp(length, context));
    byLength.set(padded, [...(byLength.get(padded) ?? []), i]);
  }
  const batches: { length: number; rows: number; members: number[] }[] = [];
  for (const [length, members] of byLength) {
    const most = roundDown(Math.max(1, batchTokens / length));
    for (let at = 0; at < members.length; at += most) {
      const part = members.slice(at, at + most);
      batches.push({ length, rows: roundUp(part.length, most), members: part });
    }
  }
  return batches;
}

/** What a pass says of one sequence, padding included. */
interface RowScores {
  losses: TypedArray;
  /** [length, top] each; empty without `top`. */
  values: TypedArray;
  indices: TypedArray;
}

/** Runs all sequences in batches; `visit` gets the results of one. */
async function scoreBatches(
  model: GenerativeModel,
  sequences: readonly ArrayLike<number>[],
  top: number,
  { batchTokens = 1024 }: ScoreOptions,
  visit: (sequence: number, scores: RowScores) => void,
): Promise<void> {
  for (const [i, sequence] of sequences.entries()) check(model, sequence, i);
  const passes = passesOf(model);
  const lengths = sequences.map((sequence) => sequence.length - 1);
  for (const { length, rows, members } of batchesOf(lengths, model.config.context, batchTokens)) {
    const tokens = new Int32Array(rows * length);
    const targets = new Int32Array(rows * length);
    for (const [row, member] of members.entries()) {
      const sequence = sequences[member]!;
      for (let i = 0; i + 1 < sequence.length; i++) {
        tokens[row * length + i] = sequence[i]!;
        targets[row * length + i] = sequence[i + 1]!;
      }
    }
    const { losses, values, indices } = await passFor(passes, model, rows, length, top)({ tokens, targets });
    const none = new Float32Array(0);
    const part = (data: TypedArray, row: number, width: number) =>
      data.subarray(row * length * width, (row + 1) * length * width);
    for (const [row, member] of members.entries()) {
      visit(member, {
        losses: part(losses.data, row, 1),
        values: top > 0 ? part(values.data, row, top) : none,
        indices: top > 0 ? part(indices.data, row, top) : none,
      });
    }
  }
}

/**
 * Log-probabilities of given sequences under the model at temperature 1: entry i of a result is that of token
 * i + 1 given all before it, so a sequence of n tokens has n - 1 of them. Sequences are padded to a few lengths and
 * computed in batches, without a cache.
 *
 * @throws AnnealError if a token is no id, or a sequence is longer than the model's context
 */
export async function score(
  model: GenerativeModel,
  sequences: readonly ArrayLike<number>[],
  options: ScoreOptions = {},
): Promise<Float32Array[]> {
  const results = sequences.map((sequence) => new Float32Array(Math.max(0, sequence.length - 1)));
  await scoreBatches(model, sequences, 0, options, (sequence, { losses }) => {
    const result = results[sequence]!;
    for (let i = 0; i < result.length; i++) result[i] = -losses[i]!;
  });
  return results;
}

/**
 * As `score`, with the `top` most likely tokens at every place, most likely first.
 *
 * @throws AnnealError as `score`, and if `top` is no positive number of tokens of the vocabulary
 */
export async function scoreTop(
  model: GenerativeModel,
  sequences: readonly ArrayLike<number>[],
  top: number,
  options: ScoreOptions = {},
): Promise<ScoredSequence[]> {
  const { vocabulary } = model.config;
  if (!Number.isInteger(top) || top < 1 || top > vocabulary) {
    throw new AnnealError(`scoreTop: top is ${top}; it must be a whole number from 1 to ${vocabulary}`);
  }
  const results = sequences.map((sequence) => ({
    logprobs: new Float32Array(Math.max(0, sequence.length - 1)),
    top: [] as ScoredSequence['top'],
  }));
  await scoreBatches(model, sequences, top, options, (member, { losses, values, indices }) => {
    const { logprobs, top: lists } = results[member]!;
    for (let i = 0; i < logprobs.length; i++) {
      logprobs[i] = -losses[i]!;
      const entry = (_: unknown, j: number) => ({
        token: indices[i * top + j]!,
        logprob: values[i * top + j]!,
      });
      lists.push(Array.from({ length: top }, entry));
    }
  });
  return results;
}
