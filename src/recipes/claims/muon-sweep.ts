import type { PolarPreset } from '../../optim/index.js';

/** The arms: how Muon orthogonalises, or no Muon. */
export const arms: readonly { name: string; coefficients?: PolarPreset }[] = [
  { name: 'Muon, Polar Express', coefficients: 'paper' },
  { name: 'Muon, Jordan', coefficients: 'jordan' },
  { name: 'Muon, You', coefficients: 'you5' },
  { name: 'AdamW' },
];
export type Arm = (typeof arms)[number];

/** One training. */
export interface MuonCell {
  phase: 'sweep' | 'compare';
  arm: string;
  rate: number;
  seed: number;
  /** Validation loss in nats a token; null if the training diverged. */
  loss: number | null;
  seconds: number;
}

const lossOf = ({ loss }: MuonCell) => loss ?? Number.POSITIVE_INFINITY;

/** The best rate of an arm so far. */
export function bestRate(cells: readonly MuonCell[], arm: string): number | undefined {
  const own = cells.filter((cell) => cell.phase === 'sweep' && cell.arm === arm);
  return own.sort((a, b) => lossOf(a) - lossOf(b))[0]?.rate;
}

/** The next rate that an arm's sweep needs: one of the list, then beyond an end that is the best; undefined: enough. */
export function nextRate(
  cells: readonly MuonCell[],
  arm: string,
  list: readonly number[],
  extensions: number,
): number | undefined {
  const done = cells.filter((cell) => cell.phase === 'sweep' && cell.arm === arm).map(({ rate }) => rate);
  const missing = list.find((rate) => !done.includes(rate));
  if (missing !== undefined) return missing;
  if (done.length >= list.length + extensions) return undefined;
  const best = bestRate(cells, arm);
  if (best === Math.max(...done)) return 2 * best;
  return best === Math.min(...done) ? best / 2 : undefined;
}
