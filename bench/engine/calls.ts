/**
 * What a call of a compiled program costs above the runtime's own time: 100 small inputs, 100 outputs.
 *
 * Run as a program (`node calls.js REPEATS`) it measures in a process of its own and prints one line of JSON.
 */
import { interleave, type Sample } from '../harness.js';
import { createCallProbe } from './ours.js';

const PORTS = 100;
const FLOATS_PER_PORT = 4;
const CALLS_PER_REPEAT = 200;
const WARM_CALLS = 2000;

/** Microseconds per call, through the library (two ways) and of the runtime alone. */
export interface CallTimes {
  sync: Sample;
  async: Sample;
  bare: Sample;
}

/** What the program prints. */
export type CallReport = CallTimes | { unavailable: string };

async function microsecondsPerCall(
  call: () => void | Promise<void>,
  calls = CALLS_PER_REPEAT,
): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < calls; i++) {
    const pending = call();
    // Awaiting a synchronous call would charge it a turn of the microtask queue.
    if (pending !== undefined) await pending;
  }
  return ((performance.now() - start) * 1000) / calls;
}

async function measureCalls(repeats: number): Promise<CallTimes> {
  const probe = await createCallProbe(PORTS, FLOATS_PER_PORT);
  const contestants = {
    sync: () => microsecondsPerCall(() => probe.runSync()),
    async: () => microsecondsPerCall(() => probe.run()),
    bare: () => microsecondsPerCall(() => probe.bareSync()),
  };
  // The wrappers have to be compiled by V8 before they are timed, as they are in a training loop.
  await microsecondsPerCall(() => probe.runSync(), WARM_CALLS);
  await microsecondsPerCall(() => probe.run(), WARM_CALLS);
  await microsecondsPerCall(() => probe.bareSync(), WARM_CALLS);
  return interleave(contestants, repeats);
}

let report: CallReport;
try {
  report = await measureCalls(Number(process.argv[2] ?? 30));
} catch (error) {
  report = { unavailable: (error as Error).message };
}
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit());
