import { AnnealError } from '../core/errors.js';
import { gather } from '../core/ops/indexing.js';
import { constant } from '../core/ops/leaf.js';
import { reshape } from '../core/ops/view.js';
import type { Tensor } from '../core/tensor.js';
import { Variable } from '../core/variable.js';

/** Scaling of rotary angles beyond the trained context, as in Hugging Face's `rope_scaling`. */
export type RopeScaling =
  /** Positions divided by `factor` (Chen et al. 2023). */
  | { type: 'linear'; factor: number }
  /** Llama 3.1: long wavelengths divided by `factor`, short ones kept, those between interpolated. */
  | {
      type: 'llama3';
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      originalContext: number;
    }
  /** YaRN (Peng et al. 2023). */
  | {
      type: 'yarn';
      factor: number;
      originalContext: number;
      /** Rotations within the original context from which on a frequency is kept. Default 32. */
      betaFast?: number;
      /** Rotations up to which a frequency is divided by `factor`. Default 1. */
      betaSlow?: number;
      /** Factor on cosines and sines. Default 0.1 ln(factor) + 1. */
      attentionFactor?: number;
    };

/** What rotary tables are made of. */
export interface RopeOptions {
  headDim: number;
  /** Default 10000. */
  base?: number;
  scaling?: RopeScaling | undefined;
}

/** Angles per position, one for each pair of coordinates, and the factor on cosines and sines. */
export interface RopeFrequencies {
  frequencies: Float64Array;
  factor: number;
}

function llama3(frequency: number, scaling: RopeScaling & { type: 'llama3' }): number {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContext } = scaling;
  // How often the angle turns around within the original context.
  const turns = (originalContext * frequency) / (2 * Math.PI);
  if (turns < low) return frequency / factor;
  if (turns > high) return frequency;
  const smooth = (turns - low) / (high - low);
  return (1 - smooth) * (frequency / factor) + smooth * frequency;
}

/** The share of each frequency that YaRN keeps unscaled: 1 for fast ones, 0 for slow ones, a ramp between. */
function yarnKept(
  size: number,
  base: number,
  scaling: RopeScaling & { type: 'yarn' },
): (i: number) => number {
  const { originalContext, betaFast = 32, betaSlow = 1 } = scaling;
  const dimensionOf = (rotations: number) =>
    (size * Math.log(originalContext / (rotations * 2 * Math.PI))) / (2 * Math.log(base));
  const low = Math.max(Math.floor(dimensionOf(betaFast)), 0);
  const high = Math.min(Math.ceil(dimensionOf(betaSlow)), size - 1);
  // A ramp without width would divide by zero.
  const width = high === low ? 0.001 : high - low;
  return (i) => 1 - Math.min(Math.max((i - low) / width, 0), 1);
}

/**
 * Frequencies of rotary embedding: base^(-2i/headDim) for i < headDim/2, scaled as transformers'
 * modeling_rope_utils scales them.
 * @throws AnnealError if the head size is odd.
 */
export function ropeFrequencies({ headDim, base = 10000, scaling }: RopeOptions): RopeFrequencies {
  if (headDim % 2 !== 0)
    throw new AnnealError(`rotary embedding turns pairs of coordinates; the head size ${headDim} is odd`);
  const plain = Float64Array.from({ length: headDim / 2 }, (_, i) => base ** ((-2 * i) / headDim));
  switch (scaling?.type) {
    case undefined:
      return { frequencies: plain, factor: 1 };
    case 'linear':
      return { frequencies: plain.map((f) => f / scaling.factor), factor: 1 };
    case 'llama3':
      return { frequencies: plain.map((f) => llama3(f, scaling)), factor: 1 };
    case 'yarn': {
      const kept = yarnKept(headDim, base, scaling);
      const frequencies = plain.map((f, i) => f * kept(i) + (f / scaling.factor) * (1 - kept(i)));
      const standard = scaling.factor > 1 ? 0.1 * Math.log(scaling.factor) + 1 : 1;
      return { frequencies, factor: scaling.attentionFactor ?? standard };
    }
    default:
      throw new AnnealError(
        `rotary scaling "${(scaling as { type: string }).type}" is unknown; use linear, llama3 or yarn`,
      );
  }
}

/** Cosines and sines as `rotary` takes them. */
export interface RopeTables {
  cos: Tensor;
  sin: Tensor;
  /** The tables of all positions, [positions, headDim/2], if `cos` and `sin` are rows of them. */
  all?: { cos: Tensor; sin: Tensor };
}

/** Rotary tables of a model; made once per length, in float64, and rounded at the end. */
export class Rope {
  // Private, so that a walk over the model's variables does not meet the tables.
  readonly #frequencies: RopeFrequencies;
  readonly #size: number;
  readonly #tables = new Map<number, { cos: Variable; sin: Variable }>();

  constructor(options: RopeOptions) {
    this.#frequencies = ropeFrequencies(options);
    this.#size = options.headDim / 2;
  }

  /** Tables [length, headDim/2] of positions 0 … length-1. */
  upTo(length: number): RopeTables {
    const table = (f: (angle: number) => number) =>
      constant(this.#fill(length, f), [length, this.#size], 'float32');
    return { cos: table(Math.cos), sin: table(Math.sin) };
  }

  /** Tables [B, 1, T, headDim/2] of int32 `positions` [B, T], which must be less than `limit`. */
  at(positions: Tensor, limit: number): RopeTables {
    const [b, t] = positions.shape as [number, number];
    const { cos, sin } = this.#table(limit);
    const rows = (table: Variable) => reshape(gather(table, positions), [b, 1, t, this.#size]);
    return { cos: rows(cos), sin: rows(sin), all: { cos, sin } };
  }

  /** The table that `at` reads: variables, so that programs share it instead of each holding a copy. */
  #table(limit: number): { cos: Variable; sin: Variable } {
    let found = this.#tables.get(limit);
    if (!found) {
      const make = (name: string, f: (angle: number) => number) =>
        new Variable(this.#fill(limit, f), 'float32', [limit, this.#size], { name, trainable: false });
      found = { cos: make('rope.cos', Math.cos), sin: make('rope.sin', Math.sin) };
      this.#tables.set(limit, found);
    }
    return found;
  }

  #fill(length: number, f: (angle: number) => number): Float32Array {
    const { frequencies, factor } = this.#frequencies;
    const data = new Float32Array(length * this.#size);
    for (let i = 0; i < data.length; i++) {
      data[i] = factor * f(Math.floor(i / this.#size) * frequencies[i % this.#size]!);
    }
    return data;
  }
}
