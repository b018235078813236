/** The suite of reinforcement learning: whole GRPO steps against TRL, and what such a step consists of. */
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Contestant } from './contestant.js';
import type { Row, RunOptions, Suite } from './harness.js';
import { type DuelResult, duel, duelOnJob, oursSpec } from './lm/duel.js';
import { figure, reasonOf } from './lm/rows.js';
import { withFolder } from './machine.js';
import type { Answer } from './protocol.js';
import { DIMS, type GrpoJob, grpoJob } from './rl/job.js';
import { CLAIMS, claimed, ROW_IDS, type RowId, stepRow } from './rl/rows.js';

type Trained = Answer & Record<'seconds' | 'rollout' | 'update' | 'mainThread', number>;
type SizeId = keyof typeof DIMS;

const PEER = 'TRL';
/** Steps of a turn. */
const STEPS = 4;
const MODULE = '../rl/ours-grpo';
const SIZES = Object.keys(DIMS) as SizeId[];

/** Seconds of a step and of its parts; the peer tells no parts. */
async function train(contestant: Contestant, steps: number) {
  const answer = await contestant.ask<Trained>({ op: 'train', steps }, 'trained');
  const each = (name: keyof Trained & string) => Number(answer[name] ?? Number.NaN) / steps;
  return {
    seconds: each('seconds'),
    rollout: each('rollout'),
    update: each('update'),
    mainThread: each('mainThread'),
  };
}

/** A duel over whole steps; our side also samples alone. */
function stepDuel(job: GrpoJob, options: RunOptions): Promise<DuelResult> {
  return duelOnJob(
    {
      module: MODULE,
      script: 'grpo_trl.py',
      peer: PEER,
      job,
      rounds: options.quick ? 3 : 7,
      turn: async (contestant) => {
        const figures = await train(contestant, STEPS);
        if (contestant.name === PEER) return figures;
        const alone = await contestant.ask<Answer & { seconds: number }>({ op: 'sample' }, 'sampled');
        return { ...figures, alone: alone.seconds };
      },
      after: async (contestant, side) => {
        if (side === 'peer' || job.config.dim !== DIMS['grpo-4m'] || !options.wants('shared-prompts'))
          return {};
        const request = { op: 'layouts', repeats: options.quick ? 3 : 8 };
        const { shared, rows } = await contestant.ask<Answer & { shared: number; rows: number }>(
          request,
          'compared',
        );
        return { shared, rows };
      },
    },
    options.log,
  );
}

/** The worse of both models, with the figures of each. */
function worstRow(
  id: 'rollout-share' | 'js-overhead',
  results: ReadonlyMap<SizeId, DuelResult>,
  percent: (samples: Record<string, { median: number }>) => number,
): Row {
  const values = [...results].flatMap(([size, result]) => {
    const ours = result.results.get('ours');
    return ours
      ? [{ size, value: 100 * percent(ours.samples), repeats: ours.samples.seconds!.values.length }]
      : [];
  });
  const [first] = [...results.values()];
  if (values.length === 0) return claimed(id, { value: null, note: reasonOf(first!, PEER) });
  const pick = CLAIMS[id].better === 'higher' ? Math.min : Math.max;
  const value = pick(...values.map((one) => one.value));
  return claimed(id, {
    value,
    repeats: values[0]!.repeats,
    note: Number.isFinite(value)
      ? values.map((one) => `${one.size}: ${figure(one.value)} %`).join(', ')
      : 'the processor time of a thread is known on Linux only',
  });
}

function sharedRow(result: DuelResult | undefined, repeats: number): Row {
  const { shared, rows } = result?.results.get('ours')?.after ?? {};
  if (shared === undefined || rows === undefined)
    return claimed('shared-prompts', { value: null, note: 'our side of grpo-4m did not run' });
  return claimed('shared-prompts', {
    value: rows / shared,
    repeats,
    note: `fastest of ${repeats}: ${figure(1000 * shared)} ms against ${figure(1000 * rows)} ms; the same gradient`,
  });
}

/** Memory over many steps of a small model, whose completions end at different lengths. */
async function memoryRow({ quick, log }: RunOptions): Promise<Row> {
  const steps = quick ? 200 : 1000;
  const small = {
    ...grpoJob(32, os.availableParallelism()),
    prompts: 4,
    samples: 4,
    tokens: 32,
    promptLength: 12,
  };
  return withFolder(async (folder) => {
    const file = path.join(folder, 'job.json');
    writeFileSync(file, JSON.stringify({ ...small, config: { ...small.config, layers: 2 } }));
    const result = await duel(
      {
        sides: [{ side: 'ours', spec: oursSpec(MODULE, file) }],
        rounds: 0,
        after: async (contestant) => {
          const answer = await contestant.ask<Answer & { before: number; after: number }>(
            { op: 'memory', steps },
            'grown',
          );
          return { before: answer.before, after: answer.after };
        },
      },
      log,
    );
    const { before, after } = result.results.get('ours')?.after ?? {};
    if (before === undefined || after === undefined)
      return claimed('grpo-memory', { value: null, note: reasonOf(result, PEER) });
    const size = (bytes: number) => `${figure(bytes / 1e6)} MB`;
    return claimed('grpo-memory', {
      value: after / before,
      repeats: 1,
      note: `${size(before)} after ${steps / 2} steps, ${size(after)} after ${steps} more; resident, after a garbage collection; 4 prompts of 12 tokens x 4 completions of up to 32`,
    });
  });
}

async function run(options: RunOptions): Promise<Row[]> {
  const rows: Row[] = [];
  const wantsBoth = options.wants('rollout-share') || options.wants('js-overhead');
  const results = new Map<SizeId, DuelResult>();
  for (const size of SIZES) {
    const wantsLayouts = size === 'grpo-4m' && options.wants('shared-prompts');
    if (!options.wants(size) && !wantsBoth && !wantsLayouts) continue;
    results.set(size, await stepDuel(grpoJob(DIMS[size], os.availableParallelism()), options));
    if (options.wants(size)) rows.push(stepRow(size, results.get(size)!, PEER));
  }
  if (wantsBoth) {
    rows.push(worstRow('rollout-share', results, ({ rollout, alone }) => alone!.median / rollout!.median));
    rows.push(
      worstRow('js-overhead', results, ({ mainThread, seconds }) => mainThread!.median / seconds!.median),
    );
  }
  if (options.wants('shared-prompts')) rows.push(sharedRow(results.get('grpo-4m'), options.quick ? 3 : 8));
  if (options.wants('grpo-memory')) rows.push(await memoryRow(options));
  return rows.sort((a, b) => ROW_IDS.indexOf(a.id as RowId) - ROW_IDS.indexOf(b.id as RowId));
}

/** The suite of reinforcement learning. */
export const rl: Suite = { ids: ROW_IDS, run };
