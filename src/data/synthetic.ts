import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { Rng } from '../core/random.js';
import { Value } from '../core/value.js';
import type { BatchSource, Json } from './batch-source.js';
import type { LanguageBatch } from './token-batches.js';

/** One sequence of a task: what a model reads, what it should answer, and where an answer counts. */
export interface SyntheticSequence {
  tokens: Int32Array;
  /** Class to predict after reading each position. */
  targets: Int32Array;
  /** 1 where the answer is determined by what came before, else 0. */
  counts: Uint8Array;
}

/** A task with exact answers, made from random numbers. */
export interface SyntheticTask {
  readonly name: string;
  /** Number of token ids; classes are ids, too. */
  readonly vocabulary: number;
  sequence(length: number, rng: Rng): SyntheticSequence;
}

const empty = (length: number): SyntheticSequence => ({
  tokens: new Int32Array(length),
  targets: new Int32Array(length),
  counts: new Uint8Array(length),
});

/**
 * Flip-flop language modelling (Liu et al. 2023; PaTH, Table 1): pairs of an instruction and a bit. `write` and
 * `ignore` are followed by a random bit, `read` by the bit written last. The first instruction is `write`, the
 * last `read`. Tokens: 0 write, 1 read, 2 ignore, 3 and 4 the bits.
 *
 * `ignore` is the share of ignored bits: 0.8 in training, 0.98 makes memories long (sparse), 0.1 short (dense).
 */
export function flipFlop(ignore = 0.8): SyntheticTask {
  if (!(ignore >= 0 && ignore <= 1))
    throw new AnnealError(`flipFlop: ignore must be in [0, 1], not ${ignore}`);
  return {
    name: `flip-flop, ignore ${ignore}`,
    vocabulary: 5,
    sequence(length, rng) {
      if (length < 4 || length % 2 !== 0)
        throw new AnnealError(`flipFlop: the length must be even and at least 4, not ${length}`);
      const s = empty(length);
      const pairs = length / 2;
      const draws = rng.uniform(pairs);
      const bits = rng.bernoulli(pairs, 0.5);
      let memory = 0;
      for (let i = 0; i < pairs; i++) {
        let kind = draws[i]! < ignore ? 2 : draws[i]! < (1 + ignore) / 2 ? 0 : 1;
        if (i === 0) kind = 0;
        if (i === pairs - 1) kind = 1;
        if (kind === 0) memory = bits[i]!;
        const bit = kind === 1 ? memory : bits[i]!;
        s.tokens[2 * i] = kind;
        s.tokens[2 * i + 1] = 3 + bit;
        s.targets[2 * i] = 3 + bit;
        s.counts[2 * i] = kind === 1 ? 1 : 0;
      }
      return s;
    },
  };
}

/** The transpositions of n things, as pairs. */
const pairsOf = (n: number): [number, number][] =>
  Array.from({ length: n }, (_, i) =>
    Array.from({ length: n - i - 1 }, (_, j) => [i, i + j + 1] as [number, number]),
  ).flat();

/**
 * Cups: n places, one hides a ball (place 0 at first); every token swaps two places, and the answer after each is
 * where the ball is. One reflection a token solves it. Token 0 starts, 1 … n(n-1)/2 swap; classes are places.
 */
export function cups(places = 5): SyntheticTask {
  if (!Number.isInteger(places) || places < 2)
    throw new AnnealError(`cups: places must be at least 2, not ${places}`);
  const swaps = pairsOf(places);
  return {
    name: `cups, ${places} places`,
    vocabulary: swaps.length + 1,
    sequence(length, rng) {
      const s = empty(length);
      const draws = rng.integers(length, 0, swaps.length);
      let ball = 0;
      for (let i = 1; i < length; i++) {
        const [a, b] = swaps[draws[i]!]!;
        s.tokens[i] = draws[i]! + 1;
        ball = ball === a ? b : ball === b ? a : ball;
        s.targets[i] = ball;
        s.counts[i] = 1;
      }
      return s;
    },
  };
}

type Permutation = readonly number[];
const compose = (f: Permutation, g: Permutation): Permutation => g.map((i) => f[i]!);

/** All products of the generators, the identity first. */
function closure(generators: readonly Permutation[]): Permutation[] {
  const found: Permutation[] = [generators[0]!.map((_, i) => i)];
  const seen = new Set(found.map(String));
  for (let i = 0; i < found.length; i++)
    for (const g of generators) {
      const next = compose(found[i]!, g);
      if (seen.has(String(next))) continue;
      seen.add(String(next));
      found.push(next);
    }
  return found;
}

/**
 * The word problem of A₅ (Barrington 1986; PaTH, figure 2): tokens are the six 3-cycles (1 2 3), (1 2 4), (1 2 5) and
 * their inverses, the answer after each is their product so far, one of 60 elements. Token 6 starts.
 */
export function alternatingGroup(): SyntheticTask {
  const cycles: Permutation[] = [2, 3, 4].flatMap((c) => {
    const turn = (order: number[]) =>
      [0, 1, 2, 3, 4].map((i) => (order.includes(i) ? order[(order.indexOf(i) + 1) % 3]! : i));
    return [turn([0, 1, c]), turn([c, 1, 0])];
  });
  const elements = closure(cycles);
  const index = new Map(elements.map((p, i) => [String(p), i]));
  const table = elements.map((p) => cycles.map((g) => index.get(String(compose(p, g)))!));
  return {
    name: 'word problem of A5',
    vocabulary: elements.length,
    sequence(length, rng) {
      const s = empty(length);
      const draws = rng.integers(length, 0, cycles.length);
      s.tokens[0] = cycles.length;
      let product = 0;
      for (let i = 1; i < length; i++) {
        product = table[product]![draws[i]!]!;
        s.tokens[i] = draws[i]!;
        s.targets[i] = product;
        s.counts[i] = 1;
      }
      return s;
    },
  };
}

/**
 * Multi-query repeated associative recall (Tan et al. 2024; PaTH, figure 2): pairs of a key and a value; at a key,
 * recall the value that it had at its `back`-th last occurrence; then a fresh random value follows. Tokens: keys 0 …
 * keys-1, then as many values.
 */
export function repeatedRecall(back = 1, keys = 8): SyntheticTask {
  if (!Number.isInteger(back) || back < 1 || !Number.isInteger(keys) || keys < 1)
    throw new AnnealError(`repeatedRecall: back and keys must be positive integers, not ${back} and ${keys}`);
  return {
    name: `repeated recall, ${back} back, ${keys} keys`,
    vocabulary: 2 * keys,
    sequence(length, rng) {
      if (length < 2 || length % 2 !== 0)
        throw new AnnealError(`repeatedRecall: the length must be even, not ${length}`);
      const s = empty(length);
      const pairs = length / 2;
      const ks = rng.integers(pairs, 0, keys);
      const vs = rng.integers(pairs, 0, keys);
      const history: number[][] = Array.from({ length: keys }, () => []);
      for (let i = 0; i < pairs; i++) {
        const past = history[ks[i]!]!;
        s.tokens[2 * i] = ks[i]!;
        s.tokens[2 * i + 1] = keys + vs[i]!;
        if (past.length >= back) {
          s.targets[2 * i] = past.at(-back)!;
          s.counts[2 * i] = 1;
        }
        past.push(keys + vs[i]!);
      }
      return s;
    },
  };
}

/** Options of `SyntheticBatches`. */
export interface SyntheticOptions {
  batch: number;
  length: number;
  seed?: number;
}

/** Endless fresh batches of a task. Batch n depends on the task, the options and n alone. */
export class SyntheticBatches implements BatchSource<LanguageBatch> {
  #taken = 0;
  readonly #rng: Rng;

  constructor(
    readonly task: SyntheticTask,
    readonly options: SyntheticOptions,
  ) {
    this.#rng = new Rng(options.seed ?? 0).split('synthetic');
  }

  next(): LanguageBatch {
    const rng = this.#rng.split(this.#taken++);
    return syntheticBatch(this.task, this.options, rng);
  }

  state(): Json {
    return { taken: this.#taken, task: this.task.name };
  }

  restore(state: Json): void {
    const { taken, task } = state as { taken: number; task: string };
    if (task !== this.task.name)
      throw new AnnealError(`the state is of the task "${task}", not of "${this.task.name}"`);
    this.#taken = taken;
  }
}

/** One batch of a task; `weights` are scaled to a mean of 1, as everywhere. */
export function syntheticBatch(
  task: SyntheticTask,
  { batch, length }: Pick<SyntheticOptions, 'batch' | 'length'>,
  rng: Rng,
): LanguageBatch {
  const size = batch * length;
  const ints = () => allocate('int32', size) as Int32Array;
  const [tokens, targets] = [ints(), ints()];
  const weights = allocate('float32', size) as Float32Array;
  for (let row = 0; row < batch; row++) {
    const sequence = task.sequence(length, rng);
    tokens.set(sequence.tokens, row * length);
    targets.set(sequence.targets, row * length);
    weights.set(sequence.counts, row * length);
  }
  const counted = weights.reduce((sum, weight) => sum + weight, 0);
  if (counted > 0) for (let i = 0; i < size; i++) weights[i]! *= size / counted;
  const shape = [batch, length];
  return {
    tokens: new Value(tokens, shape, 'int32'),
    targets: new Value(targets, shape, 'int32'),
    weights: new Value(weights, shape, 'float32'),
  };
}
