import type { TypedArray } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { int32 } from '../core/feeds.js';
import { crossEntropy } from '../core/ops/cross-entropy.js';
import { type Program, program } from '../core/program.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import { parametersOf } from '../nn/module.js';
import { largest } from './distribution.js';
import type { GenerativeModel } from './model.js';
import { roundDown, roundUp } from './shapes.js';

/** Options of `score`. */
export interface ScoreOptions {
  /** Most tokens of a pass, padding included. Default 1024. */
  batchTokens?: number;
}

type Pass = Program<'tokens' | 'targets', 'losses' | 'logits'>;

/** A sequence's logprobs, and with each the most likely tokens at its place. */
export interface ScoredSequence {
  logprobs: Float32Array;
  top: { token: number; logprob: number }[][];
}

interface Passes {
  /** What the programs were traced over. */
  variables: readonly Variable[];
  byShape: Map<string, Pass>;
}

/** Programs of a model by shape, kept as long as the model. */
const compiled = new WeakMap<GenerativeModel, Passes>();

/** The model's programs; new ones once its variables are others, as after an adapter was applied, merged or removed. */
function passesOf(model: GenerativeModel): Map<string, Pass> {
  const variables = [...parametersOf(model).values()];
  const known = compiled.get(model);
  if (known?.variables.length === variables.length && variables.every((v, i) => v === known.variables[i]))
    return known.byShape;
  for (const pass of known?.byShape.values() ?? []) pass.dispose();
  const fresh = { variables, byShape: new Map<string, Pass>() };
  compiled.set(model, fresh);
  return fresh.byShape;
}

function passOf(
  passes: Map<string, Pass>,
  model: GenerativeModel,
  rows: number,
  length: number,
  hasLogits: boolean,
): Pass {
  const key = `${rows}x${length}${hasLogits ? ' logits' : ''}`;
  let pass = passes.get(key);
  if (!pass) {
    const shape = [rows, length];
    pass = program(
      { tokens: int32(shape), targets: int32(shape) },
      ({ tokens, targets }) => {
        const logits = model.logits(model.hidden(tokens));
        const losses = crossEntropy(logits, targets, { reduction: 'none' });
        return hasLogits ? { losses, logits } : ({ losses } as { losses: Tensor; logits: Tensor });
      },
      { name: `score ${key}` },
    );
    passes.set(key, pass);
  }
  return pass;
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

/** Runs all sequences in batches; `visit` gets the results of one, by row. */
async function scoreBatches(
  model: GenerativeModel,
  sequences: readonly ArrayLike<number>[],
  hasLogits: boolean,
  { batchTokens = 1024 }: ScoreOptions,
  visit: (sequence: number, losses: TypedArray, logits: TypedArray | undefined) => void,
): Promise<void> {
  for (const [i, sequence] of sequences.entries()) check(model, sequence, i);
  const passes = passesOf(model);
  const { context, vocabulary } = model.config;
  const lengths = sequences.map((sequence) => sequence.length - 1);
  for (const { length, rows, members } of batchesOf(lengths, context, batchTokens)) {
    const tokens = new Int32Array(rows * length);
    const targets = new Int32Array(rows * length);
    for (const [row, member] of members.entries()) {
      const sequence = sequences[member]!;
      for (let i = 0; i + 1 < sequence.length; i++) {
        tokens[row * length + i] = sequence[i]!;
        targets[row * length + i] = sequence[i + 1]!;
      }
    }
    const { losses, logits } = await passOf(passes, model, rows, length, hasLogits)({ tokens, targets });
    const part = (data: TypedArray, row: number, width: number) =>
      data.subarray(row * length * width, (row + 1) * length * width);
    for (const [row, member] of members.entries()) {
      visit(member, part(losses.data, row, 1), hasLogits ? part(logits.data, row, vocabulary) : undefined);
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
  await scoreBatches(model, sequences, false, options, (sequence, losses) => {
    const result = results[sequence]!;
    for (let i = 0; i < result.length; i++) result[i] = -losses[i]!;
  });
  return results;
}

/**
 * As `score`, with the `top` most likely tokens at every place, most likely first. Logits come to the host for
 * that, so it is slower.
 *
 * @throws AnnealError as `score`
 */
export async function scoreTop(
  model: GenerativeModel,
  sequences: readonly ArrayLike<number>[],
  top: number,
  options: ScoreOptions = {},
): Promise<ScoredSequence[]> {
  const { vocabulary } = model.config;
  const results = sequences.map((sequence) => ({
    logprobs: new Float32Array(Math.max(0, sequence.length - 1)),
    top: [] as ScoredSequence['top'],
  }));
  await scoreBatches(model, sequences, true, options, (member, losses, logits) => {
    const { logprobs, top: lists } = results[member]!;
    for (let i = 0; i < logprobs.length; i++) {
      const row = logits!.subarray(i * vocabulary, (i + 1) * vocabulary);
      logprobs[i] = -losses[i]!;
      const logNormalizer = row[sequences[member]![i + 1]!]! + losses[i]!;
      lists.push(
        largest(row, top).map(({ index, value }) => ({ token: index, logprob: value - logNormalizer })),
      );
    }
  });
  return results;
}
