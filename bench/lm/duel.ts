/** Two sides, each in a process of its own, that take turns at the same work. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Contestant, type ContestantSpec, pythonSpec } from '../contestant.js';
import { interleave, type Sample, summarise } from '../harness.js';
import { settle, warnOfDisturbance, withFolder } from '../machine.js';

/** Who stands on a side. */
export type SideName = 'ours' | 'peer';

/** Figures of a turn, by name, such as seconds. */
export type Figures = Readonly<Record<string, number>>;

/** A comparison. */
export interface DuelSpec {
  sides: readonly { side: SideName; spec: ContestantSpec }[];
  rounds: number;
  /** One turn; round -1 is the warm-up, whose figures are dropped. Left out: no warm-up and no turns. */
  turn?: (contestant: Contestant, round: number) => Promise<Figures>;
  /** Whether there is a warm-up. Default true; false where every turn continues the one before. */
  isWarmedUp?: boolean;
  /** What is asked once, after the turns. */
  after?: (contestant: Contestant, side: SideName) => Promise<Figures>;
}

/** What one side achieved. */
export interface SideResult {
  about: string;
  samples: Readonly<Record<string, Sample>>;
  after: Figures;
}

/** Results, and reasons for a side that has none. */
export interface DuelResult {
  results: ReadonlyMap<SideName, SideResult>;
  missing: ReadonlyMap<SideName, string>;
}

/** Our side: a module of this folder and the job that it opens. */
export function oursSpec(module: string, job: string): ContestantSpec {
  const file = (name: string) => fileURLToPath(new URL(`./${name}.js`, import.meta.url));
  return { name: 'anneal', command: process.execPath, args: [file('child'), file(module), job] };
}

/** Runs the duel. A side that fails is out, and the other goes on alone. */
export async function duel(spec: DuelSpec, log: (line: string) => void): Promise<DuelResult> {
  const { turn, rounds, isWarmedUp = true, after } = spec;
  const running = new Map<SideName, Contestant>();
  const missing = new Map<SideName, string>();
  const figures = new Map<SideName, Figures[]>(spec.sides.map(({ side }) => [side, []]));
  const attempt = async (side: SideName, work: (contestant: Contestant) => Promise<Figures>) => {
    const contestant = running.get(side);
    if (!contestant) return undefined;
    try {
      return await work(contestant);
    } catch (error) {
      running.delete(side);
      await contestant.stop();
      missing.set(side, (error as Error).message);
      return undefined;
    }
  };
  try {
    for (const { side, spec: one } of spec.sides) {
      const started = await Contestant.start(one);
      if (!(started instanceof Contestant)) {
        log(`skipped ${one.name}: ${started.unavailable}`);
        missing.set(side, started.unavailable);
        continue;
      }
      log(`started ${started.about}`);
      running.set(side, started);
      if (turn && isWarmedUp) await attempt(side, (it) => turn(it, -1));
    }
    await warnOfDisturbance(running.values(), log);
    for (let round = 0; turn && round < rounds; round++) {
      await interleave(
        Object.fromEntries(
          [...running.keys()].map((side) => [
            side,
            async () => {
              const got = await attempt(side, (it) => turn(it, round));
              if (got) figures.get(side)!.push(got);
              return 0;
            },
          ]),
        ),
        1,
        settle,
      );
    }
    const results = new Map<SideName, SideResult>();
    for (const side of [...running.keys()]) {
      const last = after ? await attempt(side, (it) => after(it, side)) : {};
      if (!last) continue;
      const { about } = running.get(side)!;
      results.set(side, { about, samples: samplesOf(figures.get(side)!), after: last });
    }
    return { results, missing };
  } finally {
    await Promise.all([...running.values()].map((contestant) => contestant.stop()));
  }
}

function samplesOf(turns: readonly Figures[]): Record<string, Sample> {
  const names = Object.keys(turns[0] ?? {});
  return Object.fromEntries(names.map((name) => [name, summarise(turns.map((turn) => turn[name]!))]));
}

/** A duel of a module of ours and a script of bench/peers, both given the same job as a JSON file. */
export function duelOnJob(
  options: Omit<DuelSpec, 'sides'> & { module: string; script: string; peer: string; job: object },
  log: (line: string) => void,
): Promise<DuelResult> {
  return withFolder((folder) => {
    const file = path.join(folder, 'job.json');
    writeFileSync(file, JSON.stringify(options.job));
    const sides = [
      { side: 'ours', spec: oursSpec(options.module, file) },
      { side: 'peer', spec: pythonSpec(options.peer, options.script, [file]) },
    ] as const;
    return duel({ ...options, sides }, log);
  });
}
