/**
 * The suite of language models: training, sampling, a pretrained model in float32 and with 4-bit weights, the server,
 * and how soon a run begins. Texts and models come from `--data`; rows whose file or peer is missing say so.
 */
import type { Row, RunOptions, Suite } from './harness.js';
import { firstStepRows } from './lm/first-step.js';
import { pretrainedRows } from './lm/pretrained.js';
import { ROW_IDS, type RowId } from './lm/rows.js';
import { samplingRows } from './lm/sampling.js';
import { servingRows } from './lm/serving.js';
import { trainingRows } from './lm/training.js';

async function run(options: RunOptions): Promise<Row[]> {
  const rows: Row[] = [];
  for (const part of [trainingRows, samplingRows, pretrainedRows, servingRows, firstStepRows]) {
    rows.push(...(await part(options)));
  }
  return rows.sort((a, b) => ROW_IDS.indexOf(a.id as RowId) - ROW_IDS.indexOf(b.id as RowId));
}

/** The suite of language models. */
export const lm: Suite = { ids: ROW_IDS, run };
