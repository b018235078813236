/**
 * The suite of kinds of attention: forward and backward passes of PaTH and of stick-breaking against our own attention with
 * rotary positions, that against PyTorch's scaled_dot_product_attention, a step of decoding, and memory.
 */
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { AttentionJob } from './attention/job.js';
import { Contestant, type ContestantSpec, pythonSpec } from './contestant.js';
import { makeRow, type Row, type RunOptions, ratio, type Suite } from './harness.js';
import { type DuelResult, duel, type Figures } from './lm/duel.js';
import { withFolder } from './machine.js';
import type { Answer } from './protocol.js';

const LENGTHS = [256, 512, 1024, 2048] as const;
const JOB: Omit<AttentionJob, 'threads'> = { heads: 8, d: 64, lengths: LENGTHS, keys: 2048, layers: 4 };
const PEER = 'PyTorch';

const ids: readonly string[] = [
  ...LENGTHS.map((length) => `path-${length}`),
  ...LENGTHS.map((length) => `stick-breaking-${length}`),
  ...LENGTHS.map((length) => `sdpa-${length}`),
  'path-decode',
  'path-memory',
  'stick-breaking-memory',
  'rope-memory',
];

function oursSpec(job: string): ContestantSpec {
  const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));
  const args = [file('./lm/child.js'), file('./attention/ours.js'), job];
  return { name: 'anneal', command: process.execPath, args };
}

const writeJob = (folder: string, job: object): string => {
  const file = path.join(folder, 'job.json');
  writeFileSync(file, JSON.stringify({ ...JOB, threads: os.availableParallelism(), ...job }));
  return file;
};

/** All passes and steps, our side and the peer taking turns at each length. */
function race({ quick, log, wants }: RunOptions): Promise<DuelResult> {
  return withFolder((folder) => {
    const job = writeJob(folder, {});
    const sides = [
      { side: 'ours', spec: oursSpec(job) },
      { side: 'peer', spec: pythonSpec(PEER, 'attention_torch.py', [job]) },
    ] as const;
    const turn = async (contestant: Contestant): Promise<Figures> => {
      const figures: Record<string, number> = {};
      const ask = async (request: { op: string; length?: number }) => {
        const answer = await contestant.ask<Answer & { figures: Figures }>(request, 'timed');
        Object.assign(figures, answer.figures);
      };
      for (const length of LENGTHS) await ask({ op: 'passes', length });
      if (contestant.name === 'anneal') await ask({ op: 'steps' });
      return figures;
    };
    const isTimed = ids.some((id) => !id.endsWith('memory') && wants(id));
    if (!isTimed) return duel({ sides: [], rounds: 0 }, log);
    return duel({ sides, rounds: quick ? 2 : 7, turn }, log);
  });
}

/** `above` over `below`, both of our side unless a side is named. */
function ratioRow(
  id: string,
  what: string,
  target: number,
  result: DuelResult,
  [above, below]: readonly [string, string],
  below_: 'ours' | 'peer' = 'ours',
): Row {
  const common = { id, what, unit: 'x', better: 'lower', target } as const;
  const [ours, other] = [result.results.get('ours'), result.results.get(below_)];
  const missing = result.missing.get('ours') ?? result.missing.get(below_);
  const [a, b] = [ours?.samples[above], other?.samples[below]];
  if (!a || !b) return makeRow({ ...common, value: null, note: missing ?? 'not measured' });
  const note = `${a.median.toFixed(2)} against ${b.median.toFixed(2)} ms`;
  const peer = below_ === 'peer' ? other!.about : null;
  return makeRow({ ...common, ...ratio(a, b), peer, repeats: a.values.length, note });
}

const label = (length: number) => `forward and backward, ${JOB.heads} heads of ${JOB.d}, length ${length}`;

/** What a pass at the longest length needs beyond a short one, in a fresh process, by the matrix of probabilities. */
async function memoryRow(kind: 'rope' | 'path' | 'stick-breaking', target: number | null): Promise<Row> {
  const length = LENGTHS.at(-1)!;
  const name = { rope: 'RoPE', path: 'PaTH', 'stick-breaking': 'stick-breaking' }[kind];
  const common = {
    id: `${kind}-memory`,
    what: `${name}: memory of ${label(length)}, operands and results included, in matrices of all probabilities`,
    unit: 'x',
    better: 'lower',
    target,
  } as const;
  return withFolder(async (folder) => {
    const started = await Contestant.start(oursSpec(writeJob(folder, { lengths: [length], memoryOf: kind })));
    if (!(started instanceof Contestant))
      return makeRow({ ...common, value: null, note: started.unavailable });
    const peakMB = await started.peakMB();
    await started.stop();
    const matrixMB = (4 * JOB.heads * length * length) / 1e6;
    const note = `${peakMB.toFixed(0)} MB; such a matrix has ${matrixMB.toFixed(0)}`;
    return makeRow({ ...common, value: peakMB / matrixMB, repeats: 1, note });
  });
}

async function run(options: RunOptions): Promise<Row[]> {
  const result = await race(options);
  const rows = LENGTHS.flatMap((length) => [
    ratioRow(`path-${length}`, `PaTH against RoPE: ${label(length)}`, 1.8, result, [
      `path-${length}`,
      `rope-${length}`,
    ]),
    ratioRow(`stick-breaking-${length}`, `stick-breaking against RoPE: ${label(length)}`, 1.8, result, [
      `stick-breaking-${length}`,
      `rope-${length}`,
    ]),
    ratioRow(
      `sdpa-${length}`,
      `RoPE and attention against PyTorch's rotation and scaled_dot_product_attention: ${label(length)}`,
      1,
      result,
      [`rope-${length}`, `sdpa-${length}`],
      'peer',
    ),
  ]);
  const what = `a step of decoding PaTH against RoPE: ${JOB.layers} layers, ${JOB.heads} heads of ${JOB.d}, ${JOB.keys} keys`;
  rows.push(ratioRow('path-decode', what, 1.5, result, ['path-step', 'rope-step']));
  for (const [kind, target] of [
    ['path', 1.5],
    ['stick-breaking', 1.5],
    ['rope', null],
  ] as const) {
    if (options.wants(`${kind}-memory`)) rows.push(await memoryRow(kind, target));
  }
  return rows.sort((a, b) => ids.indexOf(a.id) - ids.indexOf(b.id));
}

/** The suite of kinds of attention. */
export const attention: Suite = { ids, run };
