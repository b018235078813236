/** The rows of the suite, and how a duel becomes one. */
import { makeRow, type Row, type RowSpec, ratio } from '../harness.js';
import type { DuelResult } from '../lm/duel.js';
import { figure, reasonOf } from '../lm/rows.js';

type Claim = Pick<RowSpec, 'what' | 'unit' | 'better' | 'target'>;

const work = '8 prompts of 44 tokens x 8 completions of 64';

/** Every row of the suite, in order. */
export const CLAIMS = {
  'grpo-1m': {
    what: `GRPO step, 1.07 M parameters, ${work}: speed against TRL`,
    unit: 'x',
    better: 'higher',
    target: 3.5,
  },
  'grpo-4m': {
    what: `GRPO step, 4.25 M parameters, ${work}: speed against TRL`,
    unit: 'x',
    better: 'higher',
    target: 2.5,
  },
  'rollout-share': {
    what: 'rollouts of these steps: share of the throughput of the sampler alone on prompts of one token (the lower of both models)',
    unit: '%',
    better: 'higher',
    target: 60,
  },
  'js-overhead': {
    what: 'JavaScript of these steps: share of the time in which it keeps the main thread busy (the higher of both models)',
    unit: '%',
    better: 'lower',
    target: 10,
  },
  'shared-prompts': {
    what: 'the update of 4.25 M parameters with each prompt computed once: speed against whole rows',
    unit: 'x',
    better: 'higher',
    target: null,
  },
  'grpo-memory': {
    what: 'memory after 1,000 more GRPO steps of a small model, completions of uneven length, over that after 500',
    unit: 'x',
    better: 'lower',
    target: 1.05,
  },
} as const satisfies Record<string, Claim>;

/** Id of a row. */
export type RowId = keyof typeof CLAIMS;

/** Every id, in order. */
export const ROW_IDS = Object.keys(CLAIMS) as RowId[];

/** Completes the row of a claim. */
export const claimed = (
  id: RowId,
  rest: Pick<RowSpec, 'value' | 'peer' | 'spread' | 'repeats' | 'note'>,
): Row => makeRow({ id, ...CLAIMS[id], ...rest });

/** Time of the peer's step over that of ours, from seconds a step. */
export function stepRow(id: RowId, result: DuelResult, peer: string): Row {
  const [ours, theirs] = [result.results.get('ours'), result.results.get('peer')];
  if (!ours || !theirs) return claimed(id, { value: null, peer, note: reasonOf(result, peer) });
  const [a, b] = [ours.samples.seconds!, theirs.samples.seconds!];
  const part = (name: string) => figure(1000 * ours.samples[name]!.median);
  return claimed(id, {
    ...ratio(b, a),
    peer: theirs.about,
    repeats: a.values.length,
    note: `${figure(1000 * a.median)} ms (rollouts ${part('rollout')}, update ${part('update')}) against ${figure(1000 * b.median)} ms`,
  });
}
