import type { Segment } from './rows.js';

/** Rows that are open at a time: more waste less space and keep documents that came together further apart. */
const openRows = 64;

/**
 * Puts segments into rows of `capacity`, in order of arrival: each into the open row that it fills best; where it
 * fits into none, a row is opened, and beyond 64 of them the fullest is closed. Best-fit packing (Ding et al.:
 * Fewer Truncations Improve Language Modeling, 2024), over a bounded number of rows so that arrival orders rows.
 */
export function packBestFit(segments: readonly Segment[], capacity: number): Segment[][] {
  const closed: Segment[][] = [];
  const open: { free: number; row: Segment[] }[] = [];
  for (const segment of segments) {
    let best: (typeof open)[number] | undefined;
    for (const candidate of open)
      if (candidate.free >= segment.length && (!best || candidate.free < best.free)) best = candidate;
    if (!best) {
      best = { free: capacity, row: [] };
      open.push(best);
    }
    best.row.push(segment);
    best.free -= segment.length;
    const fullest = open.reduce((a, b) => (b.free < a.free ? b : a));
    if (fullest.free === 0 || open.length > openRows) {
      open.splice(open.indexOf(fullest), 1);
      closed.push(fullest.row);
    }
  }
  return [...closed, ...open.map(({ row }) => row)];
}
