/** Every program is compiled for fixed shapes, so sizes are rounded up to a few: powers of two, up to a limit. */

/** Shortest piece of a prompt that has a program of its own. */
const smallestPiece = 16;
/** Up to this length a pass takes as long as reading the weights, whatever its padding. */
const cheapPiece = 64;

/** The smallest power of two that is at least `n`, or `limit` if that is smaller. */
export const roundUp = (n: number, limit: number): number =>
  Math.min(limit, 2 ** Math.ceil(Math.log2(Math.max(1, n))));

/** The largest power of two up to `n`. */
export const roundDown = (n: number): number => 2 ** Math.floor(Math.log2(n));

/** Length to which a short prompt is padded where several are read together; at most `chunk`. */
export const paddedLength = (length: number, chunk: number): number =>
  Math.max(Math.min(smallestPiece, chunk), roundUp(length, chunk));

/**
 * Length of the next piece of a prompt of which `left` tokens are still to be read: it depends on the prompt only,
 * so that a prompt gives the same numbers whenever it comes. A short piece is padded, a longer one where that wastes
 * less than a quarter of it; otherwise it is the largest that can be filled.
 */
export function pieceLength(left: number, chunk: number): number {
  const above = paddedLength(left, chunk);
  if (left >= above || above <= cheapPiece || left > above * 0.75) return above;
  return roundDown(left);
}
