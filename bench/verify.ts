/**
 * The suite of verifiers: how often rules agree with people and what they cost, what detectors of reward hacking find,
 * and what sandboxes hold and how fast they are. The data come from `--data`; rows whose file is missing say so.
 */
import type { Row, RunOptions, Suite } from './harness.js';
import { accuracyRows } from './verify/accuracy.js';
import { hackRows } from './verify/hacks.js';
import { ROW_IDS, type RowId } from './verify/rows.js';
import { sandboxRows } from './verify/sandboxes.js';
import { speedRows } from './verify/speed.js';

async function run(options: RunOptions): Promise<Row[]> {
  const rows: Row[] = [];
  for (const part of [accuracyRows, speedRows, hackRows, sandboxRows]) rows.push(...(await part(options)));
  return rows.sort((a, b) => ROW_IDS.indexOf(a.id as RowId) - ROW_IDS.indexOf(b.id as RowId));
}

/** The suite of verifiers. */
export const verify: Suite = { ids: ROW_IDS, run };
