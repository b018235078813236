/**
 * The suite of optimisers: what Muon costs in the training step of the engine suite's larger model, what small side first,
 * stacks and symmetric products save, and torch.optim.Muon on the same matrices.
 */
import os from 'node:os';
import type { Contestant } from './contestant.js';
import {
  makeRow,
  type Row,
  type RowSpec,
  type RunOptions,
  ratio,
  type Sample,
  type Suite,
} from './harness.js';
import { type DuelResult, duelOnJob } from './lm/duel.js';
import { optimJob } from './optim/job.js';

const MODEL = '10.7 M parameters, 6 layers, d 384, ctx 256, batch 16';
const PEER = 'torch.optim.Muon';

/** What our side times, beside the step: Muon, and Muon without what makes it quick. */
const OURS = ['step', 'muon', 'adamw', 'longSide', 'single', 'plain'] as const;
const PEERS = ['muon', 'adamw'] as const;
type Work = (typeof OURS)[number];

/** The rows: what they say, and the works of our side that they need. */
const ROWS = {
  'muon-share': {
    what: `${MODEL}: Muon's share of the training step`,
    needs: ['step', 'muon', 'adamw'],
    target: 10,
  },
  'muon-share-long-side': {
    what: `${MODEL}: the same share without the small side first`,
    needs: ['step', 'muon', 'longSide'],
  },
  'muon-share-single': {
    what: `${MODEL}: the same share one matrix at a time`,
    needs: ['step', 'muon', 'single'],
  },
  'muon-share-plain': { what: `${MODEL}: the same share without either`, needs: ['step', 'muon', 'plain'] },
  'muon-share-saving': {
    what: `${MODEL}: the share without either over Muon's`,
    needs: ['step', 'muon', 'plain'],
  },
  'muon-ms': { what: "Muon's update of the model's matrices", needs: ['muon'] },
  'muon-ms-torch': { what: 'torch.optim.Muon on the same matrices', needs: [] },
  'muon-vs-torch': { what: `Muon's update: speed against ${PEER}`, needs: ['muon'] },
  'adamw-ms': { what: "AdamW's update of the same matrices", needs: ['adamw'] },
} as const satisfies Record<string, { what: string; needs: readonly Work[]; target?: number }>;
type RowId = keyof typeof ROWS;

/** Ids of all rows, in order. */
export const ROW_IDS = Object.keys(ROWS) as RowId[];
const NEEDS_PEER: readonly RowId[] = ['muon-ms-torch', 'muon-vs-torch'];

const sampleOf = (result: DuelResult, side: 'ours' | 'peer', work: string): Sample | undefined =>
  result.results.get(side)?.samples[work];

/** Percent of a step that an update takes which stands in the place of Muon's. */
export function shareOf(update: Sample, muon: Sample, step: Sample): { value: number; spread: number } {
  const rounds = step.values.map((ms, i) => ms - muon.values[i]! + update.values[i]!);
  const middle = step.median - muon.median + update.median;
  const whole: Sample = { values: rounds, median: middle, spread: 0 };
  const { value, spread } = ratio(update, whole);
  return { value: 100 * value, spread };
}

const text = (sample: Sample) => sample.median.toFixed(sample.median < 10 ? 1 : 0);

/** A row from what was measured; without a value, and with the reason, where a side is missing. */
export function rowOf(id: RowId, result: DuelResult): Row {
  const { what, needs, ...bounds } = ROWS[id] as { what: string; needs: readonly Work[]; target?: number };
  const isPeers = NEEDS_PEER.includes(id);
  const common = { id, what, ...bounds, peer: isPeers ? (result.results.get('peer')?.about ?? PEER) : null };
  const row = (rest: Pick<RowSpec, 'value' | 'unit' | 'better'> & Partial<RowSpec>) =>
    makeRow({ ...common, ...rest });
  const found = new Map(needs.map((work) => [work, sampleOf(result, 'ours', work)]));
  const theirs = sampleOf(result, 'peer', 'muon');
  const lacks = [...found.values()].some((sample) => !sample) || (isPeers && !theirs);
  const unit = id.includes('share-saving') || id.includes('vs') ? 'x' : id.includes('share') ? '%' : 'ms';
  const better = unit === 'x' ? 'higher' : 'lower';
  if (lacks) {
    const reasons = [...result.missing].map(([side, why]) => `${side === 'ours' ? 'anneal' : PEER}: ${why}`);
    return row({ value: null, unit, better, note: reasons.join('; ') || 'not measured' });
  }
  const of = (work: Work) => found.get(work)!;
  const repeats = (of(needs[0] ?? 'muon') ?? theirs)!.values.length;
  const plain = (sample: Sample, note = '') =>
    row({ value: sample.median, unit, better, spread: sample.spread, repeats, note });
  switch (id) {
    case 'muon-ms':
      return plain(of('muon'), 'float32, five steps of the Polar Express');
    case 'adamw-ms':
      return plain(of('adamw'));
    case 'muon-ms-torch':
      return plain(theirs!, 'five steps of Newton–Schulz in bfloat16');
    case 'muon-vs-torch':
      return row({
        ...ratio(theirs!, of('muon')),
        unit,
        better,
        repeats,
        note: `${text(of('muon'))} against ${text(theirs!)} ms`,
      });
    case 'muon-share': {
      const note = `${text(of('muon'))} ms of ${text(of('step'))} ms; AdamW's update of the same matrices takes ${text(of('adamw'))} ms`;
      return row({ ...shareOf(of('muon'), of('muon'), of('step')), unit, better, repeats, note });
    }
    case 'muon-share-saving': {
      const [slow, fast] = [
        shareOf(of('plain'), of('muon'), of('step')),
        shareOf(of('muon'), of('muon'), of('step')),
      ];
      return row({ value: slow.value / fast.value, unit, better, target: 5, spread: slow.spread, repeats });
    }
    default: {
      const work = needs[2]!;
      return row({
        ...shareOf(of(work), of('muon'), of('step')),
        unit,
        better,
        repeats,
        note: `${text(of(work))} ms; direct form, ordinary products`,
      });
    }
  }
}

async function run({ quick, wants, log }: RunOptions): Promise<Row[]> {
  const ids = ROW_IDS.filter(wants);
  if (ids.length === 0) return [];
  const works = OURS.filter((work) => ids.some((id) => (ROWS[id].needs as readonly Work[]).includes(work)));
  const turn = async (contestant: Contestant) => {
    const figures: Record<string, number> = {};
    for (const work of contestant.name === 'anneal' ? works : PEERS) {
      figures[work] = (await contestant.ask<{ type: string; ms: number }>({ op: 'time', work }, 'timed')).ms;
    }
    return figures;
  };
  const result = await duelOnJob(
    {
      module: '../optim/ours',
      script: 'muon_torch.py',
      peer: PEER,
      job: optimJob(os.availableParallelism()),
      rounds: quick ? 3 : 11,
      turn,
    },
    log,
  );
  return ids.map((id) => rowOf(id, result));
}

/** The suite of optimisers. */
export const optim: Suite = { ids: ROW_IDS, run };
