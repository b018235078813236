/** The machine around a measurement: scratch folders, pauses, and whether anything else is using the cores. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Contestant } from './contestant.js';

/**
 * Pause before a turn. OpenMP and thread-pool workers of the previous contestant spin for some milliseconds
 * before they sleep, and would do so on the next one's cores.
 */
const SETTLE_MS = 40;
/** Share of a core above which an idle contestant or the rest of the machine disturbs the figures. */
const DISTURBING_SHARE = 0.1;

/** Waits until the cores are free. */
export const settle = () => new Promise<void>((resolve) => setTimeout(resolve, SETTLE_MS));

/** Makes an empty folder, passes it on, and removes it. */
export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-bench-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Cores that are busy now, from the kernel's counters; null where there are none. */
async function busyCores(windowMs = 500): Promise<number | null> {
  const idleTicks = () => {
    const fields = readFileSync('/proc/stat', 'utf8')
      .split('\n')[0]!
      .trim()
      .split(/\s+/)
      .slice(1)
      .map(Number);
    return { idle: fields[3]! + fields[4]!, all: fields.slice(0, 8).reduce((sum, ticks) => sum + ticks, 0) };
  };
  try {
    const before = idleTicks();
    await new Promise((resolve) => setTimeout(resolve, windowMs));
    const after = idleTicks();
    const busyShare = 1 - (after.idle - before.idle) / (after.all - before.all);
    return busyShare * os.availableParallelism();
  } catch {
    return null;
  }
}

/** Warns where something else runs on the cores that are about to be measured. */
export async function warnOfDisturbance(
  contestants: Iterable<Contestant>,
  log: (line: string) => void,
): Promise<void> {
  for (const contestant of contestants) {
    const share = await contestant.idleShare();
    if (share !== null && share > DISTURBING_SHARE) {
      log(`warning: ${contestant.name} uses ${(share * 100).toFixed(0)} % of a core while idle`);
    }
  }
  const busy = await busyCores();
  if (busy !== null && busy > DISTURBING_SHARE) {
    log(`warning: ${busy.toFixed(1)} cores are busy with other work; these figures are unreliable`);
  }
}
