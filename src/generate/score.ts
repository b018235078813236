import { AnnealError } from '../core/errors.js';
import { int32 } from '../core/feeds.js';
import { crossEntropy } from '../core/ops/cross-entropy.js';
import { type Program, program } from '../core/program.js';
import type { GenerativeModel } from './model.js';
import { roundDown, roundUp } from './shapes.js';

/** Options of `score`. */
export interface ScoreOptions {
  /** Most tokens of a pass, padding included. Default 1024. */
  batchTokens?: number;
}

type Pass = Program<'tokens' | 'targets', 'losses'>;

/** Programs of a model by shape, kept as long as the model. */
const compiled = new WeakMap<GenerativeModel, Map<string, Pass>>();

function passOf(model: GenerativeModel, rows: number, length: number): Pass {
  let passes = compiled.get(model);
  if (!passes) {
    passes = new Map();
    compiled.set(model, passes);
  }
  const key = `${rows}x${length}`;
  let pass = passes.get(key);
  if (!pass) {
    const shape = [rows, length];
    pass = program(
      { tokens: int32(shape), targets: int32(shape) },
      ({ tokens, targets }) => ({
        losses: crossEntropy(model.logits(model.hidden(tokens)), targets, { reduction: 'none' }),
      }),
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
  for (const [i, sequence] of sequences.entries()) check(model, sequence, i);
  const results = sequences.map((sequence) => new Float32Array(Math.max(0, sequence.length - 1)));
  const lengths = results.map((result) => result.length);
  for (const { length, rows, members } of batchesOf(
    lengths,
    model.config.context,
    options.batchTokens ?? 1024,
  )) {
    const tokens = new Int32Array(rows * length);
    const targets = new Int32Array(rows * length);
    for (const [row, member] of members.entries()) {
      const sequence = sequences[member]!;
      for (let i = 0; i + 1 < sequence.length; i++) {
        tokens[row * length + i] = sequence[i]!;
        targets[row * length + i] = sequence[i + 1]!;
      }
    }
    const { losses } = await passOf(model, rows, length)({ tokens, targets });
    for (const [row, member] of members.entries()) {
      const result = results[member]!;
      for (let i = 0; i < result.length; i++) result[i] = -losses.data[row * length + i]!;
    }
  }
  return results;
}
