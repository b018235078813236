/** Trains one model with several contestants in turn and gathers what the rows of the suite are made of. */
import os from 'node:os';
import { Contestant, type ContestantSpec } from '../contestant.js';
import { interleave, median, type Sample } from '../harness.js';
import { settle, warnOfDisturbance, withFolder } from '../machine.js';
import { type GptConfig, writeJob } from './gpt.js';
import { nodePeerSpec, oursSpec, torchSpec } from './specs.js';

/** Who can take part. */
export type Side = 'ours' | 'eager' | 'compile' | 'jaxjs' | 'tfjs';

/** A race: which model, who trains it, and for how long. */
export interface RaceSpec {
  config: GptConfig;
  sides: readonly Side[];
  /** Steps before timing starts; their losses are compared. */
  warmSteps: number;
  rounds: number;
  /** Length of a turn; a step that takes longer is a turn of its own. */
  turnMs: number;
}

/** What one contestant achieved. */
export interface Result {
  about: string;
  /** Median milliseconds per step of each turn. */
  stepMs: Sample;
  peakMB: number;
  compileMs: number | null;
  /** Losses of the warm-up steps, from the common initial weights. */
  losses: readonly number[];
}

/** Results, and reasons for those who have none. */
export interface RaceResult {
  results: Map<Side, Result>;
  missing: Map<Side, string>;
}

function specFor(side: Side, folder: string): ContestantSpec {
  if (side === 'ours') return oursSpec(folder);
  if (side === 'eager' || side === 'compile') return torchSpec(folder, side);
  return nodePeerSpec(folder, side);
}

/** Makes a job folder for `config`, passes it on, and removes it. */
export function withJob<T>(config: GptConfig, use: (folder: string) => Promise<T>): Promise<T> {
  return withFolder((folder) => {
    writeJob(folder, config, os.availableParallelism());
    return use(folder);
  });
}

/** Runs the race. Contestants start and warm up one after another, then take turns, and stop together. */
export function race(spec: RaceSpec, log: (line: string) => void): Promise<RaceResult> {
  return withJob(spec.config, async (folder) => {
    const running = new Map<Side, Contestant>();
    const losses = new Map<Side, number[]>();
    const missing = new Map<Side, string>();
    /** Does one thing with a contestant; if that fails, it is out of the race. */
    const attempt = async <T>(
      side: Side,
      work: (contestant: Contestant) => Promise<T>,
    ): Promise<T | undefined> => {
      const contestant = running.get(side);
      if (contestant === undefined) return undefined;
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
      for (const side of spec.sides) {
        const started = await Contestant.start(specFor(side, folder));
        if (!(started instanceof Contestant)) {
          log(`skipped ${side}: ${started.unavailable}`);
          missing.set(side, started.unavailable);
          continue;
        }
        log(`started ${started.about}`);
        running.set(side, started);
        losses.set(side, (await attempt(side, (it) => it.run(spec.warmSteps, 0)))?.losses ?? []);
      }
      await warnOfDisturbance(running.values(), log);
      const turn = (side: Side) => async () =>
        median((await attempt(side, (it) => it.run(1, spec.turnMs)))?.ms ?? []);
      const turns = Object.fromEntries([...running.keys()].map((side) => [side, turn(side)]));
      const samples: Record<string, Sample> = await interleave(turns, spec.rounds, settle);
      const results = new Map<Side, Result>();
      for (const [side, { about, compileMs }] of [...running]) {
        const peakMB = await attempt(side, (it) => it.peakMB());
        if (peakMB === undefined) continue;
        results.set(side, { about, compileMs, peakMB, stepMs: samples[side]!, losses: losses.get(side)! });
      }
      return { results, missing };
    } finally {
      await Promise.all([...running.values()].map((contestant) => contestant.stop()));
    }
  });
}

/** Largest disagreement between the contestants' losses on the same step; null with fewer than two. */
export function lossDifference({ results }: RaceResult): number | null {
  const curves = [...results.values()].map(({ losses }) => losses);
  if (curves.length < 2) return null;
  const spreads = curves[0]!.map((_, step) => {
    const atStep = curves.map((curve) => curve[step]!);
    return Math.max(...atStep) - Math.min(...atStep);
  });
  return Math.max(...spreads);
}

/** Compile times of our side in fresh processes, or why there are none. */
export async function coldCompiles(config: GptConfig, repeats: number): Promise<number[] | string> {
  return withJob(config, async (folder) => {
    const times: number[] = [];
    for (let i = 0; i < repeats; i++) {
      const started = await Contestant.start(oursSpec(folder));
      if (!(started instanceof Contestant)) return started.unavailable;
      await started.stop();
      if (started.compileMs === null) return 'our side reports no compile time';
      times.push(started.compileMs);
    }
    return times;
  });
}
