/** What both sides of the attention suite are given. */
export interface AttentionJob {
  heads: number;
  /** Size of a head. */
  d: number;
  lengths: readonly number[];
  /** Keys in the caches of a decoding step, and how many caches, one after the other. */
  keys: number;
  layers: number;
  threads: number;
  /** A side that only answers `memory` sets nothing else up. */
  memoryOf?: 'rope' | 'path' | 'stick-breaking';
}

/** Runs of each kind in a turn: enough that a turn takes about as long at every length. */
export const runsAt = (length: number): number => Math.max(2, Math.round((8 * 512) / length));
