/** Batched sampling against PyTorch with a static KV cache. */
import os from 'node:os';
import type { Row, RunOptions } from '../harness.js';
import type { Answer } from '../protocol.js';
import { duelOnJob } from './duel.js';
import { speedRow } from './rows.js';

/** What both sides do. */
export interface SamplingJob {
  config: {
    vocabulary: number;
    dim: number;
    layers: number;
    heads: number;
    kvHeads: number;
    hidden: number;
    context: number;
  };
  sequences: number;
  /** Tokens drawn for each sequence, from a prompt of one. */
  tokens: number;
  threads: number;
}

const JOB: Omit<SamplingJob, 'threads'> = {
  config: { vocabulary: 65, dim: 256, layers: 4, heads: 4, kvHeads: 4, hidden: 704, context: 256 },
  sequences: 128,
  tokens: 128,
};

/** The row, if it was asked for. */
export async function samplingRows(options: RunOptions): Promise<Row[]> {
  if (!options.wants('sampling')) return [];
  const result = await duelOnJob(
    {
      module: 'ours-sampling',
      script: 'sample_torch.py',
      peer: 'PyTorch eager',
      job: { ...JOB, threads: os.availableParallelism() },
      rounds: options.quick ? 3 : 9,
      turn: async (contestant) => {
        const answer = await contestant.ask<Answer & { seconds: number }>({ op: 'sample' }, 'sampled');
        return { seconds: answer.seconds };
      },
    },
    options.log,
  );
  const amount = JOB.sequences * JOB.tokens;
  const common = { metric: 'seconds', peer: 'PyTorch eager', amount, unit: 'tokens/s' };
  return [
    speedRow('sampling', result, { ...common, note: 'heads of 64, SwiGLU of 704, prompts of one token' }),
  ];
}
