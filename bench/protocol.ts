/**
 * The line protocol between a suite and a contestant: one JSON object a line, requests on the child's stdin,
 * replies on its stdout. Lines that are no JSON object are a library's chatter and are ignored. What a contestant
 * can be asked depends on the suite; every one understands `stop`.
 */
import { readFileSync } from 'node:fs';

/** What a suite asks. */
export type Request = { op: string; [field: string]: unknown };

/** What a contestant answers to a request. */
export type Answer = { type: string; [field: string]: unknown };

/** What a contestant says: `ready` or `unavailable` comes first, unasked, then one answer a request. */
export type Reply =
  | { type: 'ready'; about: string; compileMs?: number | null }
  | { type: 'unavailable'; reason: string }
  | Answer;

/** The engine suite's requests. A burst runs at least `steps` steps and goes on until `budgetMs` have passed. */
export type TrainRequest = { op: 'run'; steps: number; budgetMs: number } | { op: 'memory' } | { op: 'stop' };

/** Answer to `run`: what each step took, and its loss. */
export type Ran = { type: 'ran'; ms: number[]; losses: number[] };

/** Answer to `memory`. */
export type Memory = { type: 'memory'; peakMB: number };

/** Parses a line of a contestant's stdout; null for chatter. */
export function parseReply(line: string): Reply | null {
  if (!line.startsWith('{')) return null;
  try {
    const value = JSON.parse(line) as Reply;
    return typeof value.type === 'string' ? value : null;
  } catch {
    return null;
  }
}

/**
 * Peak resident memory of this process in MB (10^6 bytes). From VmHWM, because `maxRSS` of a fresh child
 * starts at what its parent had when it forked.
 */
export function peakMemoryMB(): number {
  try {
    const kib = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    if (kib !== undefined) return (Number(kib) * 1024) / 1e6;
  } catch {
    // No /proc on this system: the coarser figure below is all there is.
  }
  return (process.resourceUsage().maxRSS * 1024) / 1e6;
}
