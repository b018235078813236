import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { NodeTime } from '../backend.js';
import { check, type Ort, type Pointer, resultOf } from './ort-api.js';

/** One record of ONNX Runtime's profile, in Chrome's trace format. Times are in microseconds. */
interface TraceEvent {
  cat?: string;
  name?: string;
  ts?: number;
  dur?: number;
  args?: { op_name?: string };
}

const kernelSuffix = '_kernel_time';

/**
 * Calls `record` with a path prefix for a profile, then reads what was written there and removes it.
 * `record` must have ended profiling when its promise settles.
 */
export async function withProfile(record: (prefix: string) => Promise<void>): Promise<NodeTime[]> {
  // A folder of its own: ONNX Runtime completes the file's name by a time stamp.
  const folder = await mkdtemp(path.join(tmpdir(), 'anneal-profile-'));
  try {
    await record(path.join(folder, 'run'));
    const [file] = await readdir(folder);
    if (file === undefined) throw new Error(`ONNX Runtime wrote no profile into ${folder}`);
    return summarize(JSON.parse(await readFile(path.join(folder, file), 'utf8')) as TraceEvent[]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Closes the profile of a session, which writes the file. */
export function endProfiling({ api }: Ort, session: Pointer): void {
  const allocator = resultOf(api, (out) => api.GetAllocatorWithDefaultOptions(out));
  const name = resultOf(api, (out) => api.SessionEndProfiling(session, allocator, out));
  check(api, api.AllocatorFree(allocator, name));
}

/** Kernel times by node, the slowest first; the first run of the trace is a warm-up and left out. */
function summarize(events: readonly TraceEvent[]): NodeTime[] {
  const runs = events.filter(({ cat, name }) => cat === 'Session' && name === 'model_run');
  const warmUp = runs.reduce((first, run) => ((run.ts ?? 0) < (first.ts ?? 0) ? run : first), runs[0] ?? {});
  const start = (warmUp.ts ?? 0) + (warmUp.dur ?? 0);
  const nodes = new Map<string, NodeTime>();
  for (const { cat, name = '', ts = 0, dur = 0, args } of events) {
    if (cat !== 'Node' || !name.endsWith(kernelSuffix) || ts < start) continue;
    const node = name.slice(0, -kernelSuffix.length);
    const op = args?.op_name ?? '';
    // Nodes without a name share one; their operator tells them apart at least by kind.
    const key = `${node}\n${op}`;
    const time = nodes.get(key) ?? { node, op, calls: 0, ms: 0 };
    time.calls++;
    time.ms += dur / 1000;
    nodes.set(key, time);
  }
  return [...nodes.values()].sort((a, b) => b.ms - a.ms);
}
