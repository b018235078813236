import { bucketCount, bucketOf, outOfReach } from './distribution.js';

/** The last token that a filter keeps: those with larger logits stay, of equals those with smaller ids. */
export interface Cut {
  value: number;
  token: number;
}

/**
 * Top-k and top-p without sorting the vocabulary: tokens are counted into 1/32-nat buckets of their distance from
 * the largest logit, whole buckets are kept or dropped, and only the one in which the limit falls is sorted.
 */
export class RankFilter {
  readonly #buckets: Uint16Array;
  readonly #counts = new Int32Array(bucketCount);
  readonly #masses = new Float64Array(bucketCount);
  /** Buckets that hold tokens lie below this: small vocabularies fill few. */
  #end = 0;

  constructor(vocabulary: number) {
    this.#buckets = new Uint16Array(vocabulary);
  }

  /**
   * Where to cut after the `topK` most likely tokens (0: all), and then after the smallest set of the remaining
   * distribution whose probability reaches `topP`; undefined to keep all.
   *
   * @param values logits after penalties, @param weights e^-((max - value)·scale)
   */
  cut(
    values: ArrayLike<number>,
    weights: Float64Array,
    max: number,
    scale: number,
    topK: number,
    topP: number,
  ): Cut | undefined {
    this.#count(values, weights, max, scale);
    const ofTopK = topK > 0 && topK < values.length ? this.#cutAtCount(values, weights, topK) : undefined;
    if (topP >= 1) return ofTopK?.cut;
    let total = ofTopK?.mass ?? 0;
    for (let bucket = 0; !ofTopK && bucket < this.#end; bucket++) total += this.#masses[bucket]!;
    // Rounding can leave the goal of topP ≈ 1 just out of reach: then top-k's cut holds.
    return this.#cutAtMass(values, weights, topP * total) ?? ofTopK?.cut;
  }

  #count(values: ArrayLike<number>, weights: Float64Array, max: number, scale: number): void {
    const buckets = this.#buckets;
    const counts = this.#counts.fill(0, 0, this.#end);
    const masses = this.#masses.fill(0, 0, this.#end);
    let last = 0;
    for (let i = 0; i < values.length; i++) {
      const bucket = bucketOf((max - values[i]!) * scale);
      buckets[i] = bucket;
      if (bucket === outOfReach) continue;
      if (bucket > last) last = bucket;
      counts[bucket]!++;
      masses[bucket]! += weights[i]!;
    }
    this.#end = last + 1;
  }

  /** Undefined if fewer than `count` tokens are in reach. */
  #cutAtCount(
    values: ArrayLike<number>,
    weights: Float64Array,
    count: number,
  ): { cut: Cut; mass: number } | undefined {
    let kept = 0;
    let mass = 0;
    for (let bucket = 0; bucket < this.#end; bucket++) {
      if (kept + this.#counts[bucket]! < count) {
        kept += this.#counts[bucket]!;
        mass += this.#masses[bucket]!;
        continue;
      }
      const inside = this.#ranked(values, bucket).subarray(0, count - kept);
      for (const token of inside) mass += weights[token]!;
      const last = inside.at(-1)!;
      return { cut: { value: values[last]!, token: last }, mass };
    }
    return undefined;
  }

  #cutAtMass(values: ArrayLike<number>, weights: Float64Array, goal: number): Cut | undefined {
    let mass = 0;
    for (let bucket = 0; bucket < this.#end; bucket++) {
      if (mass + this.#masses[bucket]! < goal) {
        mass += this.#masses[bucket]!;
        continue;
      }
      for (const token of this.#ranked(values, bucket)) {
        mass += weights[token]!;
        if (mass >= goal) return { value: values[token]!, token };
      }
    }
    return undefined;
  }

  /** Tokens of a bucket, most likely first. */
  #ranked(values: ArrayLike<number>, bucket: number): Int32Array {
    const tokens = new Int32Array(this.#counts[bucket]!);
    let n = 0;
    for (let i = 0; i < values.length; i++) if (this.#buckets[i] === bucket) tokens[n++] = i;
    return tokens.sort((a, b) => values[b]! - values[a]! || a - b);
  }
}
