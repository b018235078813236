/**
 * What every benchmark suite shares: the row that is reported, the statistics behind it, and the
 * alternation of contestants.
 */

/** One measured figure. `met` follows from `value`, `better` and `target`; nothing sets it by hand. */
export interface Row {
  id: string;
  what: string;
  /** What the target speaks of; null when it could not be measured (the reason is in `note`). */
  value: number | null;
  unit: string;
  better: 'higher' | 'lower';
  /** Null for a figure that is reported beside the claims and promises nothing itself. */
  target: number | null;
  met: boolean | null;
  /** Who stood on the other side of a comparison, with its version. */
  peer: string | null;
  /** Interquartile range over the median, as a fraction. */
  spread: number | null;
  repeats: number;
  note: string;
  /** Where they differ from the report's: the row was measured apart from the others. */
  commit?: string;
  date?: string;
  machine?: Machine;
}

/** A row as a suite states it: `met` is left to `makeRow`, the rest has defaults. */
export type RowSpec = Pick<Row, 'id' | 'what' | 'value' | 'unit' | 'better'> &
  Partial<Pick<Row, 'target' | 'peer' | 'spread' | 'repeats' | 'note'>>;

/** The machine that figures belong to. */
export interface Machine {
  cpu: string;
  cores: number;
  memoryGiB: number;
  os: string;
  node: string;
}

/** A suite's result, as it is printed and written. */
export interface Report {
  suite: string;
  machine: Machine;
  commit: string;
  /** Day of the run, YYYY-MM-DD. */
  date?: string;
  rows: Row[];
}

/** How the command line asks a suite to run. */
export interface RunOptions {
  /** Fewer repeats: a look, not a result. */
  quick: boolean;
  /** Whether a row was asked for; a suite skips work that only unwanted rows need. */
  wants(id: string): boolean;
  /** Folder with the texts and models that some rows need; null where there is none. */
  data: string | null;
  /** Prints a line of progress. */
  log(line: string): void;
}

/** A named set of measurements. */
export interface Suite {
  /** Every row id that the suite can report, in order. */
  ids: readonly string[];
  run(options: RunOptions): Promise<Row[]>;
}

/** Completes a row; the only place where `met` comes from. */
export function makeRow(spec: RowSpec): Row {
  const { id, what, unit, better, target = null, peer = null, spread = null, repeats = 0, note = '' } = spec;
  const value = spec.value !== null && Number.isFinite(spec.value) ? spec.value : null;
  if (value === null && note === '') throw new Error(`row ${id} has no value and no note that says why`);
  let met: boolean | null = null;
  if (value !== null && target !== null) met = better === 'higher' ? value >= target : value <= target;
  return { id, what, value, unit, better, target, met, peer, spread, repeats, note };
}

/** Repeats of one measurement, in the order they were taken. */
export interface Sample {
  values: readonly number[];
  median: number;
  /** Interquartile range over the median. */
  spread: number;
}

/** Linear-interpolated quantile of unsorted values. */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)]!;
  const high = sorted[Math.ceil(at)]!;
  return low + (high - low) * (at - Math.floor(at));
}

/** Middle value of unsorted values. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Summarises repeats. */
export function summarise(values: readonly number[]): Sample {
  const middle = median(values);
  const spread = values.length < 2 ? 0 : (quantile(values, 0.75) - quantile(values, 0.25)) / middle;
  return { values, median: middle, spread };
}

/**
 * `numerator` over `denominator`: the ratio of the medians. The spread is that of the ratios within each
 * round, so that drift which hits both sides alike does not count.
 */
export function ratio(numerator: Sample, denominator: Sample): { value: number; spread: number } {
  const rounds = Math.min(numerator.values.length, denominator.values.length);
  const paired = Array.from({ length: rounds }, (_, i) => numerator.values[i]! / denominator.values[i]!);
  return { value: numerator.median / denominator.median, spread: summarise(paired).spread };
}

/**
 * Lets contestants take turns (A B C A B C …) so that drift of the machine falls on all of them, and
 * summarises each one's figures.
 */
export async function interleave<K extends string>(
  contestants: Record<K, () => number | Promise<number>>,
  repeats: number,
  between: () => Promise<void> = async () => {},
): Promise<Record<K, Sample>> {
  const names = Object.keys(contestants) as K[];
  const values = new Map<K, number[]>(names.map((name) => [name, []]));
  for (let round = 0; round < repeats; round++) {
    for (const name of names) {
      await between();
      values.get(name)!.push(await contestants[name]());
    }
  }
  return Object.fromEntries(names.map((name) => [name, summarise(values.get(name)!)])) as Record<K, Sample>;
}
