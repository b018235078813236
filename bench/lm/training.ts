/** Training against PyTorch: nanoGPT's example for a processor, and losses of a larger model after equal tokens. */
import os from 'node:os';
import type { Contestant } from '../contestant.js';
import { pythonSpec } from '../contestant.js';
import { median, type Row, type RunOptions, ratio } from '../harness.js';
import { withFolder } from '../machine.js';
import type { Answer } from '../protocol.js';
import { findFile, SHAKESPEARE } from './data.js';
import { type DuelResult, type DuelSpec, duel, oursSpec, type SideName } from './duel.js';
import { recipeLossRow } from './recipe-loss.js';
import { claimed, figure, type RowId, reasonOf, unmeasured } from './rows.js';
import { GPT6, NANOGPT, type TrainingSetup, writeTrainingJob } from './training-job.js';

type Trained = Answer & { type: 'trained'; seconds: number; losses: number[] };
type Evaluated = Answer & { type: 'evaluated'; loss: number };

const PEER = 'PyTorch eager';
const LOSS_STEPS = 10;

const trainFor = (contestant: Contestant, steps: number) =>
  contestant.ask<Trained>({ op: 'train', steps }, 'trained');

const evaluate = async (contestant: Contestant) => ({
  loss: (await contestant.ask<Evaluated>({ op: 'evaluate' }, 'evaluated')).loss,
});

/** A duel over one run; turns continue it, so nothing is warmed up but by the first of them. */
function trainingDuel(
  setup: TrainingSetup,
  options: { text: string; gate: number; sides: readonly SideName[] } & Omit<DuelSpec, 'sides'>,
  log: (line: string) => void,
): Promise<DuelResult> {
  const { text, gate, sides, ...rest } = options;
  return withFolder((folder) => {
    writeTrainingJob(folder, setup, { text, gate, threads: os.availableParallelism() });
    const specs = {
      ours: oursSpec('ours-training', folder),
      peer: pythonSpec(PEER, 'nanogpt_torch.py', [folder]),
    };
    return duel(
      { ...rest, isWarmedUp: false, sides: sides.map((side) => ({ side, spec: specs[side] })) },
      log,
    );
  });
}

/**
 * Turns of 200 steps until all 2,000 are done; a quick look takes six turns of 50 and goes on alone if the loss is
 * wanted, since that of fewer steps says nothing.
 */
async function shakespeareRows(text: string, options: RunOptions): Promise<Row[]> {
  const wantsLoss = options.wants('shakespeare-loss-exact');
  const wantsTime = options.wants('shakespeare-time');
  const { steps } = NANOGPT;
  const [perTurn, rounds] = options.quick ? [50, 6] : [200, steps / 200];
  const goesOn = wantsLoss || !options.quick;
  const result = await trainingDuel(
    NANOGPT,
    {
      text,
      gate: 50,
      sides: wantsTime ? ['ours', 'peer'] : ['ours'],
      rounds,
      turn: async (contestant) => ({ seconds: (await trainFor(contestant, perTurn)).seconds }),
      after: async (contestant, side) => {
        const rest = steps - perTurn * rounds;
        if (!goesOn || (side === 'peer' && rest > 0)) return {};
        if (rest > 0) await trainFor(contestant, rest);
        return evaluate(contestant);
      },
    },
    options.log,
  );
  const rows: Row[] = [];
  if (wantsLoss) rows.push(exactLossRow(result));
  if (wantsTime) rows.push(timeRow(result, perTurn));
  return rows;
}

const DIFFERENCES = 'as nanoGPT, but norms have a bias and GELU is the tanh form, on both sides';

function exactLossRow(result: DuelResult): Row {
  const loss = result.results.get('ours')?.after.loss;
  if (loss === undefined)
    return claimed('shakespeare-loss-exact', { value: null, note: reasonOf(result, PEER) });
  const theirs = result.results.get('peer')?.after.loss;
  const beside =
    theirs === undefined ? '' : `; PyTorch from the same weights and batches ${theirs.toFixed(3)}`;
  const note = `over the whole validation text (nanoGPT: 240 random windows of it, whose mean has a standard error of 0.015); ${DIFFERENCES}${beside}`;
  return claimed('shakespeare-loss-exact', { value: loss, repeats: 1, note });
}

function timeRow(result: DuelResult, perTurn: number): Row {
  const [ours, theirs] = [result.results.get('ours'), result.results.get('peer')];
  if (!ours || !theirs) {
    return claimed('shakespeare-time', { value: null, peer: PEER, note: reasonOf(result, PEER) });
  }
  const [a, b] = [ours.samples.seconds!, theirs.samples.seconds!];
  const turns = NANOGPT.steps / perTurn;
  // A whole run is the sum of its turns; a part is extrapolated.
  const total = (values: readonly number[]) =>
    values.length === turns ? values.reduce((sum, one) => sum + one, 0) : turns * median(values);
  const how =
    a.values.length === turns ? '' : `, extrapolated from ${a.values.length} turns of ${perTurn} steps`;
  return claimed('shakespeare-time', {
    ...ratio(a, b),
    peer: theirs.about,
    repeats: a.values.length,
    note: `${figure(total(a.values))} s with the loop's batches, log and checkpoints against ${figure(total(b.values))} s of bare steps${how}`,
  });
}

/** Both sides from the same weights through the same batches. */
async function gapRow(text: string, options: RunOptions): Promise<Row> {
  const setup = options.quick ? { ...GPT6, steps: 20 } : GPT6;
  const losses = new Map<string, number[]>();
  const result = await trainingDuel(
    setup,
    {
      text,
      gate: LOSS_STEPS,
      sides: ['ours', 'peer'],
      rounds: setup.steps / LOSS_STEPS,
      turn: async (contestant) => {
        const trained = await trainFor(contestant, LOSS_STEPS);
        losses.set(contestant.name, trained.losses);
        return { seconds: trained.seconds };
      },
    },
    options.log,
  );
  const [ours, theirs] = [result.results.get('ours'), result.results.get('peer')];
  if (!ours || !theirs) {
    return claimed('gpt6-loss-gap', { value: null, peer: PEER, note: reasonOf(result, PEER) });
  }
  const mean = (values: readonly number[]) => values.reduce((sum, one) => sum + one, 0) / values.length;
  const [a, b] = ['anneal', PEER].map((name) => mean(losses.get(name)!)) as [number, number];
  const speed = ratio(theirs.samples.seconds!, ours.samples.seconds!).value;
  return claimed('gpt6-loss-gap', {
    value: Math.abs(a - b),
    peer: theirs.about,
    repeats: LOSS_STEPS,
    note: `${a.toFixed(4)} against ${b.toFixed(4)}, means of the last ${LOSS_STEPS} of ${setup.steps} steps; ${figure(speed)} x its speed`,
  });
}

const IDS = [
  'shakespeare-loss',
  'shakespeare-loss-exact',
  'shakespeare-time',
  'gpt6-loss-gap',
] as const satisfies RowId[];

/** The rows that were asked for. */
export async function trainingRows(options: RunOptions): Promise<Row[]> {
  const wanted = IDS.filter(options.wants);
  if (wanted.length === 0) return [];
  const found = findFile(options.data, SHAKESPEARE);
  if ('reason' in found) return unmeasured(wanted, found.reason);
  const { file } = found;
  const rows: Row[] = [];
  if (wanted.includes('shakespeare-loss')) rows.push(await recipeLossRow(file, options.log));
  if (wanted.includes('shakespeare-loss-exact') || wanted.includes('shakespeare-time'))
    rows.push(...(await shakespeareRows(file, options)));
  if (wanted.includes('gpt6-loss-gap')) rows.push(await gapRow(file, options));
  return rows;
}
