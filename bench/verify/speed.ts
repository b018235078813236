/** What verifying an item costs, and how that stands to Math-Verify. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { Contestant, pythonSpec } from '../contestant.js';
import { interleave, quantile, type Row, type RunOptions, ratio, summarise } from '../harness.js';
import { settle, warnOfDisturbance, withFolder } from '../machine.js';
import { type Case, casesOf, SETS } from './cases.js';
import { claimed, missing } from './rows.js';

/** Cases for the comparison: every set, thinned out, because the peer takes a hundred times as long. */
const SAMPLE = 60;

/** Milliseconds of each item in one pass. */
function pass(cases: readonly Case[]): number[] {
  return cases.map((one) => {
    const start = performance.now();
    one.verifier.verify(one);
    return performance.now() - start;
  });
}

const mean = (values: readonly number[]) => values.reduce((sum, one) => sum + one, 0) / values.length;

function ownRows(cases: readonly Case[], { quick, wants }: RunOptions): Row[] {
  // The first pass compiles; a service or a run of training is long past it.
  pass(cases);
  const passes = Array.from({ length: quick ? 2 : 5 }, () => pass(cases));
  const means = summarise(passes.map(mean));
  const p99 = summarise(passes.map((one) => quantile(one, 0.99)));
  const longest = Math.max(...passes.map((one) => Math.max(...one)));
  const rest = ({ median, spread, values }: typeof means, note: string) => ({
    value: median,
    spread,
    repeats: values.length,
    note,
  });
  const rows = [
    claimed('speed-mean', rest(means, `${cases.length} items in one thread`)),
    claimed('speed-p99', rest(p99, `the longest of all took ${longest.toFixed(1)} ms`)),
  ];
  return rows.filter(({ id }) => wants(id));
}

type Verified = { type: string; seconds: number; agreed: number };

async function peerRow(sets: readonly (readonly Case[])[], { quick, log }: RunOptions): Promise<Row> {
  // Whole solutions as references are what VerifyBench and the second half of MATH-500 ask; the peer extracts, too.
  const sample = sets.flatMap((cases) => {
    const step = Math.max(1, Math.floor(cases.length / SAMPLE));
    return cases.filter((_, i) => i % step === 0).slice(0, SAMPLE);
  });
  return withFolder(async (folder) => {
    const job = path.join(folder, 'job.json');
    const items = sample.map(({ reference, answer, isRight }) => ({
      gold: reference,
      answer,
      expected: isRight,
    }));
    writeFileSync(job, JSON.stringify({ items }));
    const peer = await Contestant.start(pythonSpec('Math-Verify', 'verify_math_verify.py', [job]));
    if ('unavailable' in peer) return claimed('speed-peer', { value: null, note: peer.unavailable });
    try {
      await warnOfDisturbance([peer], log);
      let agreed = 0;
      const turns = await interleave(
        {
          // Seconds; ours is repeated until it can be timed.
          ours: () => {
            const start = performance.now();
            for (let i = 0; i < 5; i++) for (const one of sample) one.verifier.verify(one);
            return (performance.now() - start) / 5000;
          },
          peer: async () => {
            const answer = await peer.ask<Verified>({ op: 'verify' }, 'verified');
            agreed = answer.agreed;
            return answer.seconds;
          },
        },
        quick ? 1 : 3,
        settle,
      );
      const own = sample.filter(
        (one) => (one.verifier.verify(one).verdict === 'correct') === one.isRight,
      ).length;
      const rate = (seconds: number) => (sample.length / seconds).toFixed(0);
      const { value, spread } = ratio(turns.peer, turns.ours);
      return claimed('speed-peer', {
        value,
        spread,
        peer: peer.about,
        repeats: turns.ours.values.length,
        note: `${rate(turns.ours.median)} against ${rate(turns.peer.median)} items a second, one thread each; ${sample.length} items, of which ${own} and ${agreed} verdicts are as expected`,
      });
    } finally {
      await peer.stop();
    }
  });
}

/** The rows of speed. */
export async function speedRows(options: RunOptions): Promise<Row[]> {
  const ids = (['speed-mean', 'speed-p99', 'speed-peer'] as const).filter(options.wants);
  if (ids.length === 0) return [];
  options.log('verify: speed');
  const found = SETS.map((set) => casesOf(options.data, set));
  const sets = found.flatMap((one) => ('cases' in one ? [one.cases] : []));
  const reason = found.find((one) => 'reason' in one);
  if (reason && 'reason' in reason) return missing(ids, reason.reason);
  const rows = ids.some((id) => id !== 'speed-peer') ? ownRows(sets.flat(), options) : [];
  if (ids.includes('speed-peer')) rows.push(await peerRow(sets, options));
  return rows;
}
