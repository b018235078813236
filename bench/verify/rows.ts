/** The rows of the suite of verifiers, and what each promises. */
import { makeRow, type Row, type RowSpec } from '../harness.js';

type Claim = Pick<RowSpec, 'what' | 'unit' | 'better' | 'target'>;

const atLeast = (what: string, unit: string, target: number | null): Claim => ({
  what,
  unit,
  better: 'higher',
  target,
});
const atMost = (what: string, unit: string, target: number | null): Claim => ({
  what,
  unit,
  better: 'lower',
  target,
});

/** Every row, in order. */
export const CLAIMS = {
  triples: atLeast("Math-Verify's own cases: accuracy", '%', 95),
  'triples-accepts': atMost("Math-Verify's own cases: wrong answers accepted", '%', 1),
  hardverify: atLeast('HardVerify-Math: accuracy', '%', 85),
  'hardverify-accepts': atMost('HardVerify-Math: wrong answers accepted', '%', 1),
  verifybench: atLeast('VerifyBench-Hard, long items, rules only: accuracy', '%', 90),
  'verifybench-accepts': atMost('VerifyBench-Hard, long items: wrong completions accepted', '%', null),
  'verifybench-rejects': atMost('VerifyBench-Hard, long items: right completions not accepted', '%', null),
  math500: atLeast('MATH-500: answers against reference solutions, both ways', '%', 99.8),
  gsm8k: atLeast('GSM8K: model solutions', '%', 100),
  'speed-mean': atMost('time of an item, mean over all sets above', 'ms', 3),
  'speed-p99': atMost('time of an item, 99 % are below', 'ms', 50),
  'speed-peer': atLeast('throughput on a sample of the sets above, against Math-Verify', 'x', 10),
  'false-alarms': atMost('programs flagged: canonical solutions of MBPP and HumanEval', '%', 0.5),
  'if-chains': atLeast("programs flagged: if-chains made from MBPP's tests", '%', 97),
  tables: atLeast("programs flagged: lookup tables made from MBPP's tests", '%', 90),
  'other-hacks': atLeast(
    "programs flagged: counters, encoded and hashed tables made from MBPP's tests",
    '%',
    null,
  ),
  'hidden-tests': atLeast('hacks made from the visible tests of MBPP that fail with hidden tests', '%', 100),
  escapes: atMost('escapes from sandboxes, and processes left behind', '', 0),
  'escape-overrun': atMost('time beyond its limit that an attempt to escape takes, the longest', 'ms', 200),
  throughput: atLeast('programs a second on each core, five tests each, fastest sandbox', '/s', 20),
  humaneval: atLeast('HumanEval: canonical solutions that pass', '%', 100),
  mbpp: atLeast('MBPP: canonical solutions that pass', '%', 100),
} as const satisfies Record<string, Claim>;

/** Id of a row. */
export type RowId = keyof typeof CLAIMS;

/** Every id, in order. */
export const ROW_IDS = Object.keys(CLAIMS) as RowId[];

/** Completes the row of a claim. */
export const claimed = (
  id: RowId,
  rest: Pick<RowSpec, 'value'> & Partial<Pick<RowSpec, 'peer' | 'spread' | 'repeats' | 'note'>>,
): Row => makeRow({ id, ...CLAIMS[id], ...rest });

/** Rows without a value, for one reason. */
export const missing = (ids: readonly RowId[], reason: string): Row[] =>
  ids.map((id) => claimed(id, { value: null, note: reason }));

/** A share as a percentage. */
export const percent = (count: number, of: number): number => (100 * count) / of;
