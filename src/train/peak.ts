import { allocate } from '../core/dtype.js';
import { program } from '../core/program.js';

/** Side of the square matrices: large enough for the rate of a big product, small enough for the caches. */
const side = 768;
/** Milliseconds to spend, at most. */
const budget = 200;

let measured: Promise<number> | undefined;

async function measure(): Promise<number> {
  const shape = [side, side];
  const multiply = program({ a: shape, b: shape }, ({ a, b }) => ({ y: a.matmul(b) }), { name: 'peak' });
  const a = allocate('float32', side * side).fill(0.5);
  const b = allocate('float32', side * side).fill(0.25);
  const flops = 2 * side ** 3;
  let best = 0;
  await multiply({ a, b });
  const end = performance.now() + budget;
  while (performance.now() < end) {
    const start = performance.now();
    await multiply({ a, b });
    best = Math.max(best, (flops * 1000) / (performance.now() - start));
  }
  multiply.dispose();
  return best;
}

/**
 * The FLOP/s that the runtime reaches in a large float32 product on all its threads: the best of 0.2 s, measured once
 * per process. It is the roof of what a model can get here, a little below the processor's own peak (85-95 % of it
 * where the processor has wide vectors), so that shares of it read a little high.
 */
export function measurePeak(): Promise<number> {
  measured ??= measure();
  return measured;
}
