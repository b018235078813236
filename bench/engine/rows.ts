/** The rows that come out of a race: speeds, step times, agreement of the losses, memory, share of the peak. */
import os from 'node:os';
import { makeRow, type Row, ratio } from '../harness.js';
import type { PeakResult } from '../peak.js';
import { GPT4, GPT6, stepFlop } from './gpt.js';
import { lossDifference, type RaceResult, type RaceSpec, type Side } from './race.js';

/** The two models of the suite. */
export type Model = 'gpt6' | 'gpt4';

/** How each model is raced, and by whom. */
export const MODELS: Record<Model, Omit<RaceSpec, 'sides'> & { label: string; sides: readonly Side[] }> = {
  gpt6: {
    label: 'GPT step, 6 layers, d 384, ctx 256, batch 16',
    config: GPT6,
    sides: ['ours', 'eager', 'compile'],
    warmSteps: 3,
    rounds: 12,
    turnMs: 0,
  },
  gpt4: {
    label: 'GPT step, 4 layers, d 128, ctx 64, batch 12',
    config: GPT4,
    sides: ['ours', 'eager', 'compile', 'jaxjs', 'tfjs'],
    warmSteps: 10,
    rounds: 15,
    turnMs: 400,
  },
};

/** The promised speeds: how many steps we take in the time of the peer's one. */
export const SPEED_TARGETS: readonly { model: Model; peer: Side; target: number }[] = [
  { model: 'gpt6', peer: 'eager', target: 1.1 },
  { model: 'gpt6', peer: 'compile', target: 1.0 },
  { model: 'gpt4', peer: 'eager', target: 1.25 },
  { model: 'gpt4', peer: 'compile', target: 1.05 },
  { model: 'gpt4', peer: 'jaxjs', target: 6 },
  { model: 'gpt4', peer: 'tfjs', target: 6 },
];

const NAMES: Record<Side, string> = {
  ours: 'Anneal',
  eager: 'PyTorch eager',
  compile: 'torch.compile',
  jaxjs: 'jax-js (wasm)',
  tfjs: 'tfjs (wasm)',
};

/** Losses may drift apart by rounding, not by more: a contestant that does other work shows here. */
const LOSS_TOLERANCE = 1e-3;

/** Id of the row with a contestant's step time. */
export const msId = (model: Model, side: Side) => `${model}-ms-${side}`;
/** Id of the row that compares our speed with a peer's. */
export const speedId = (model: Model, peer: Side) => `${model}-vs-${peer}`;

/** Why a comparison of `sides` has no value. */
function reasonFor({ missing }: RaceResult, sides: readonly Side[]): string {
  return sides
    .flatMap((side) => (missing.has(side) ? [`${NAMES[side]}: ${missing.get(side)}`] : []))
    .join('; ');
}

/** Our speed against a peer's, from one race. */
export function speedRow(model: Model, peer: Side, target: number, outcome: RaceResult): Row {
  const [ours, theirs] = [outcome.results.get('ours'), outcome.results.get(peer)];
  const common = {
    id: speedId(model, peer),
    what: `${MODELS[model].label}: speed against ${NAMES[peer]}`,
    unit: 'x',
    better: 'higher',
    target,
    peer: theirs?.about ?? NAMES[peer],
  } as const;
  if (!ours || !theirs) return makeRow({ ...common, value: null, note: reasonFor(outcome, ['ours', peer]) });
  const repeats = ours.stepMs.values.length;
  return makeRow({ ...common, ...ratio(theirs.stepMs, ours.stepMs), repeats });
}

/** A contestant's step time, with its version, memory and compile time as a note. */
export function stepTimeRow(model: Model, side: Side, outcome: RaceResult): Row {
  const result = outcome.results.get(side);
  const what = `${MODELS[model].label}: ${NAMES[side]}`;
  const common = { id: msId(model, side), what, unit: 'ms', better: 'lower' } as const;
  if (!result) return makeRow({ ...common, value: null, note: reasonFor(outcome, [side]) });
  const { about, stepMs, peakMB, compileMs } = result;
  const compile = compileMs === null ? '' : `, ready to train after ${Math.round(compileMs)} ms of compiling`;
  return makeRow({
    ...common,
    value: stepMs.median,
    spread: stepMs.spread,
    repeats: stepMs.values.length,
    note: `${about}; fastest turn ${Math.min(...stepMs.values).toFixed(1)} ms, peak memory ${Math.round(peakMB)} MB${compile}`,
  });
}

/** Whether all contestants did the same work, by their losses. */
export function lossRow(model: Model, outcome: RaceResult): Row {
  const value = lossDifference(outcome);
  const steps = MODELS[model].warmSteps;
  return makeRow({
    id: `${model}-loss-difference`,
    what: `${MODELS[model].label}: largest difference of loss between contestants, first ${steps} steps`,
    value,
    unit: '',
    better: 'lower',
    target: LOSS_TOLERANCE,
    repeats: value === null ? 0 : steps,
    note: value === null ? 'fewer than two contestants ran' : `between ${outcome.results.size} contestants`,
  });
}

/** Our peak memory against PyTorch's. */
export function memoryRow(outcome: RaceResult): Row {
  const [ours, eager] = [outcome.results.get('ours'), outcome.results.get('eager')];
  const common = {
    id: 'gpt6-memory',
    what: `${MODELS.gpt6.label}: peak memory against PyTorch eager`,
    unit: 'x',
    better: 'lower',
    target: 0.6,
    peer: eager?.about ?? NAMES.eager,
  } as const;
  if (!ours || !eager)
    return makeRow({ ...common, value: null, note: reasonFor(outcome, ['ours', 'eager']) });
  const note = `${Math.round(ours.peakMB)} MB against ${Math.round(eager.peakMB)} MB`;
  return makeRow({ ...common, value: ours.peakMB / eager.peakMB, repeats: 1, note });
}

/** The machine's FMA peak, measured before and after a race; the better of the two counts. */
export function peakRows(before: PeakResult, after: PeakResult): { rows: Row[]; gflops: number | null } {
  const better = after.peak && (!before.peak || after.peak.all > before.peak.all) ? after : before;
  const single = Math.max(before.peak?.single ?? 0, after.peak?.single ?? 0);
  const { peak } = better;
  const row = (id: string, threads: number, value: number | null) =>
    makeRow({
      id,
      what: `fp32 FMA peak, ${threads} thread${threads === 1 ? '' : 's'}`,
      value,
      unit: 'GFLOP/s',
      better: 'higher',
      note: peak ? peak.instructionSet : better.note,
    });
  const rows = [
    row('fma-peak', os.availableParallelism(), peak?.all ?? null),
    row('fma-peak-1', 1, peak ? single : null),
  ];
  return { rows, gflops: peak?.all ?? null };
}

/** Arithmetic rate of our step over the peak. */
export function peakShareRow(outcome: RaceResult, peakGflops: number | null): Row {
  const ours = outcome.results.get('ours');
  const flop = stepFlop(GPT6);
  const common = {
    id: 'gpt6-peak-share',
    what: `${MODELS.gpt6.label}: share of the FMA peak`,
    unit: '%',
    better: 'higher',
    target: 58,
  } as const;
  if (!ours) return makeRow({ ...common, value: null, note: reasonFor(outcome, ['ours']) });
  if (peakGflops === null) return makeRow({ ...common, value: null, note: 'the peak could not be measured' });
  const gflops = flop / ours.stepMs.median / 1e6;
  return makeRow({
    ...common,
    value: (100 * gflops) / peakGflops,
    spread: ours.stepMs.spread,
    repeats: ours.stepMs.values.length,
    note: `${(flop / 1e9).toFixed(1)} GFLOP a step: ${Math.round(gflops)} of ${Math.round(peakGflops)} GFLOP/s`,
  });
}
